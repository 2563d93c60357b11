"""`python -m stages.evaluate CELL` in a small project: its outs, its determinism, what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from evals.mera import submission
from stages.common import manifest
from stages.common.checkpoint import digest, tokenizer_sha256
from stages.common.hashing import sha256_path
from stages.common.stage import main
from stages.evaluate.stage import STAGE

OUT = Path("out/evaluate/adapt-bf16")


def _scores(cell: str = "adapt-bf16") -> dict[str, Any]:
    return dict(json.loads(Path(f"out/evaluate/{cell}/scores.json").read_text(encoding="utf-8")))


def _set(**changes: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")


def test_the_outs_hold_what_the_architecture_says(project: Path) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    scores = _scores()
    assert set(scores["tasks"]) == {"kinship", "plural"}
    checkpoint = project / "out/quantize/adapt-bf16"
    assert scores["model"] == {"digest": digest(checkpoint), "tokenizer": tokenizer_sha256(checkpoint)}
    assert scores["total"]["value"] == pytest.approx(
        sum(task["value"] for task in scores["tasks"].values()) / 2
    )
    assert scores["tasks"]["kinship"]["majority"] == pytest.approx(8 / 12)
    assert (scores["tasks"]["kinship"]["n"], scores["tasks"]["kinship"]["clusters"]) == (12, 6)
    assert scores["conditions"]["bpc_window"] == 32
    items = pq.read_table(OUT / "items.parquet")
    assert items.column_names == ["task", "doc_hash", "prompt_hash", "cluster", "metric", "value"]
    assert [str(field.type) for field in items.schema] == ["string"] * 5 + ["double"]
    rows = items.to_pylist()
    for name, task in scores["tasks"].items():
        values = [row["value"] for row in rows if row["task"] == name]
        assert (len(values), sum(values) / len(values)) == (12, task["value"])
    for language, part in scores["bpc"].items():
        sums = {
            metric: math.fsum(
                r["value"] for r in rows if (r["task"], r["metric"]) == (f"bpc_{language}", metric)
            )
            for metric in ("bits", "chars")
        }
        assert sums["bits"] / sums["chars"] == pytest.approx(part["value"])
        assert 400 <= sums["chars"] == part["characters"] < 600
    answers = pq.read_table(OUT / "answers.parquet")
    assert answers.column_names == ["id", "cluster", "question", "answer", "reference", "wrong"]
    assert answers.num_rows == 5
    assert all(
        row["question"].endswith("?\nОтвет:") and "\n" not in row["answer"] for row in answers.to_pylist()
    )


def test_the_manifest_names_what_went_in_and_what_came_out(project: Path) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    about = manifest.read(OUT)
    assert set(about["inputs"]) == {"out/corpus", "out/quantize/adapt-bf16", "out/sources"}
    assert set(about["files"]) == {"answers.parquet", "items.parquet", "scores.json"}
    assert main(STAGE, ["champion"]) == 0
    assert set(manifest.read(Path("out/evaluate/champion"))["inputs"]) == {
        "champion.json",
        "out/base",
        "out/corpus",
        "out/sources",
    }


def test_the_held_out_documents_are_those_scored(project: Path) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    rows = pq.read_table(OUT / "items.parquet").to_pylist()
    documents = {row["id"]: row for row in pq.read_table("out/corpus/documents.parquet").to_pylist()}
    scored = {row["cluster"] for row in rows if row["task"] == "bpc_en"}
    assert scored
    assert {(documents[name]["split"], documents[name]["language"]) for name in scored} == {("heldout", "en")}


def test_a_second_run_and_another_folder_give_the_same_bytes(
    project: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    first = sha256_path(OUT), sha256_path(OUT.with_name("adapt-bf16.manifest.json"))
    moved = tmp_path / "elsewhere/deeper"
    moved.parent.mkdir()
    project.rename(moved)
    monkeypatch.chdir(moved)
    shutil.rmtree(".gorn/cache")
    assert main(STAGE, ["adapt-bf16"]) == 0
    assert (sha256_path(OUT), sha256_path(OUT.with_name("adapt-bf16.manifest.json"))) == first


def test_the_champion_is_comparable_with_a_candidate(project: Path) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    assert main(STAGE, ["champion"]) == 0
    candidate, champion = _scores(), _scores("champion")
    assert candidate["conditions"] == champion["conditions"]
    assert candidate["model"] != champion["model"]
    keys = [
        [(row["task"], row["doc_hash"], row["prompt_hash"], row["metric"]) for row in table.to_pylist()]
        for table in (
            pq.read_table(f"out/evaluate/{cell}/items.parquet") for cell in ("adapt-bf16", "champion")
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == len(keys[0])


def test_a_champion_of_another_digest_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = digest(project / "out/base")
    champion = {"version": 3, "digest": right, "path": "out/base"}
    Path("champion.json").write_text(json.dumps(champion), encoding="utf-8")
    assert main(STAGE, ["champion"]) == 0
    before = sha256_path(Path("out/evaluate/champion"))
    Path("champion.json").write_text(json.dumps({**champion, "digest": "0" * 64}), encoding="utf-8")
    assert main(STAGE, ["champion"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "gorn champion fetch" in error
    assert right[:12] in error
    assert sha256_path(Path("out/evaluate/champion")) == before


def test_a_weight_that_differs_changes_scores_and_digest(project: Path) -> None:
    from evaluation_models import make_model

    from stages.common.checkpoint import load_tokenizer

    assert main(STAGE, ["adapt-bf16"]) == 0
    first = _scores()
    make_model(load_tokenizer(Path("out/quantize/adapt-bf16")), seed=9).save_pretrained(
        "out/quantize/adapt-bf16"
    )
    assert main(STAGE, ["adapt-bf16"]) == 0
    second = _scores()
    assert second["model"] != first["model"]
    assert second["bpc"]["ru"]["value"] != first["bpc"]["ru"]["value"]
    assert second["conditions"] == first["conditions"]


@pytest.mark.parametrize(
    ("key", "value"), [("shots", 1), ("limit", 6), ("batch_size", 4), ("bpc_window", 16), ("questions", 2)]
)
def test_conditions_follow_what_moves_a_result(project: Path, key: str, value: int) -> None:
    assert main(STAGE, ["adapt-bf16"]) == 0
    before = _scores()["conditions"]
    _set(**{key: value})
    assert main(STAGE, ["adapt-bf16"]) == 0
    assert _scores()["conditions"] != before


def _cut_field(project: Path) -> str:
    path = project / "out/corpus/tasks/kinship/test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    del rows[3]["outputs"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return "kinship/test.jsonl:4: field `outputs` is missing"


def _foreign_answer(project: Path) -> str:
    path = project / "out/corpus/tasks/kinship/test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[1]["outputs"] = "наверное"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return "kinship/test.jsonl:2: answer `наверное` is not among the choices of task `kinship` (да, нет)"


def _wrong_field(project: Path) -> str:
    path = project / "out/corpus/tasks/plural/test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["inputs"] = 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return "plural/test.jsonl:1: field `inputs` is int, expected an object or text"


def _foreign_tokenizer(project: Path) -> str:
    from stages.common.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(project / "out/quantize/adapt-bf16")
    tokenizer.add_tokens([f"слово{n}" for n in range(300)])
    tokenizer.save_pretrained(project / "out/quantize/adapt-bf16")
    return "foreign tokenizer"


def _foreign_tokenizer_of_equal_size(project: Path) -> str:
    folder = project / "out/quantize/adapt-bf16"
    about = manifest.build("quantize", "adapt-bf16", {}, {}, folder, manifest.Facts())
    (folder / manifest.CHECKPOINT_MANIFEST).write_text(json.dumps(about), encoding="utf-8")
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = described["model"]["vocab"]
    described["model"]["vocab"] = dict(zip(vocab, reversed(vocab.values()), strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    return "foreign tokenizer (tokenizer.json is not the one that gorn.json lists)"


def _undecodable(project: Path) -> str:
    path = project / "out/corpus/tasks/kinship/test.jsonl"
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1251"))
    return "kinship/test.jsonl: not readable as UTF-8 text"


def _truncated(project: Path) -> str:
    weights = project / "out/quantize/adapt-bf16/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return "model.safetensors"


def _not_finite(project: Path) -> str:
    import torch
    from safetensors.torch import load_file, save_file

    path = project / "out/quantize/adapt-bf16/model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("inf"))
    save_file(tensors, path, metadata={"format": "pt"})
    return "not finite"


def _empty_split(project: Path) -> str:
    (project / "out/corpus/tasks/plural/test.jsonl").write_text("", encoding="utf-8")
    return "the split is empty"


def _no_questions(project: Path) -> str:
    (project / "out/corpus/questions.jsonl").write_text("", encoding="utf-8")
    return "evaluate.questions: 0"


def _no_heldout(project: Path) -> str:
    table = pq.read_table("out/corpus/documents.parquet")
    pq.write_table(table.slice(0, 1), "out/corpus/documents.parquet")
    return "corpus.heldout_share"


def _no_documents(project: Path) -> str:
    Path("out/corpus/documents.parquet").write_bytes(b"PAR1 this is no table")
    return "documents.parquet: not the documents table"


def _no_suite(project: Path) -> str:
    _set(suites=["../absent"])
    return "no such folder; mend `evaluate.suites`"


@pytest.mark.parametrize(
    "harm",
    [
        _cut_field,
        _foreign_answer,
        _wrong_field,
        _foreign_tokenizer,
        _foreign_tokenizer_of_equal_size,
        _undecodable,
        _truncated,
        _not_finite,
        _empty_split,
        _no_questions,
        _no_heldout,
        _no_documents,
        _no_suite,
    ],
)
def test_bad_input_is_one_line_and_leaves_earlier_outs(project: Path, harm: Any, capsys: Any) -> None:
    OUT.mkdir(parents=True)
    (OUT / "scores.json").write_text("{}", encoding="utf-8")
    expected = harm(project)
    capsys.readouterr()
    assert main(STAGE, ["adapt-bf16"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("evaluate: ")
    assert expected in lines[0]
    assert "internal error" not in lines[0]
    assert [path.name for path in Path("out/evaluate").rglob("*")] == ["adapt-bf16", "scores.json"]


def test_no_questions_are_asked_when_none_are_wanted(project: Path) -> None:
    Path("out/corpus/questions.jsonl").unlink()
    _set(questions=0)
    assert main(STAGE, ["adapt-bf16"]) == 0
    answers = pq.read_table(OUT / "answers.parquet")
    assert (answers.num_rows, len(answers.column_names)) == (0, 6)


def test_real_suites_from_the_shared_data(project: Path, shared_data: Path) -> None:
    suites = ["world", str(shared_data / "mera_human"), str(shared_data / "rublimp")]
    _set(suites=suites, limit=4, pairs_per_phenomenon=2)
    assert main(STAGE, ["adapt-bf16"]) == 0
    scores = _scores()
    names = {"kinship", "plural", "bps", "lcs", "rcb", "ruhhh", "simplear", "rumultiar", "rublimp", "rutie"}
    assert set(scores["tasks"]) == names
    assert scores["total"]["missing"] == []
    assert set(scores["portraits"]) == {"ruethics"}
    assert scores["mera"]["tasks"] == ["LCS", "RCB", "ruMultiAr", "ruTiE"]
    assert scores["total"]["value"] == pytest.approx(
        sum(t["value"] for t in scores["tasks"].values()) / len(names)
    )
    assert len(scores["tasks"]["rublimp"]["phenomena"]) == 12
    assert scores["tasks"]["ruhhh"]["cut_prompts"] > 0
    faults = submission.validate(OUT / "submission/submission.zip")
    assert {fault.kind for fault in faults} == {"no_task"}
    assert {fault.task for fault in faults} == set(scores["mera"]["not_submitted"])
    assert "ruTiE" not in scores["mera"]["not_submitted"]


def _behind(address: str) -> None:
    named = {"api": {"address": address, "model": "m"}}
    _set(mode="generate", texts_may_leave=True, endpoints=named, questions=2)


def test_a_model_behind_an_address_is_one_more_cell(project: Path) -> None:
    from judge_server import Writing, serve

    path = project / "out/corpus/tasks/plural/test.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("номер", "почта a.b@mail.ru, номер"), encoding="utf-8")
    with serve(Writing(answer=lambda prompt: "дом" if "дом" in prompt else "лес\nи ещё")) as server:
        _behind(server.address)
        assert main(STAGE, ["api"]) == 0
        asked, first = server.attempts.total(), sha256_path(Path("out/evaluate/api"))
        assert asked == 14
        assert not [prompt for prompt in server.attempts if "mail.ru" in prompt]
        assert main(STAGE, ["api"]) == 0
        assert server.attempts.total() == asked
    assert sha256_path(Path("out/evaluate/api")) == first
    scores = _scores("api")
    assert set(scores["tasks"]) == {"plural"}
    assert scores["refused"] == {"kinship": "an endpoint gives no log-probabilities of its choices"}
    assert scores["tasks"]["plural"]["cut_prompts"] is None
    assert (scores["model"]["endpoint"], scores["model"]["tokenizer"], scores["bpc"]) == ("m", None, {})
    assert pq.read_table("out/evaluate/api/answers.parquet").column("answer").to_pylist()[0] in ("дом", "лес")
