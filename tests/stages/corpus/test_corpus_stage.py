"""The stage as a whole, on files, on the embedded world and on public data, and how it fails."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from stages.common.hashing import sha256_bytes, sha256_path
from stages.common.stage import main
from stages.corpus.stage import STAGE
from stages.corpus.tables import DOCUMENTS, LEDGER, TRUTH
from stages.validate.contamination import overlaps

RunCorpus = Callable[..., Path]
Jsonl = Callable[[Path, list[str]], dict[str, Any]]
WORDS = re.findall(
    r"\w+",
    "город река мост дом лес поле дорога утро вечер зима лето ветер снег дождь солнце звезда море "
    "берег лодка рыба хлеб  стол окно дверь печь книга письмо слово голос песня брат сестра отец мать "
    "друг сосед гость старик мальчик девочка  идёт стоит лежит поёт молчит смотрит слушает помнит "
    "знает думает говорит пишет читает строит несёт ведёт находит  старый новый тихий тёмный светлый "
    "высокий далёкий тёплый холодный зелёный белый чёрный красный первый последний  быстро медленно "
    "снова всегда никогда здесь там потом скоро давно вместе рядом далеко и в на не что как за у из ",
)


def _sentences(number: int) -> str:
    """Ten sentences of Russian words that no other number gives."""
    rng = random.Random(number)
    return " ".join(" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(10))


def _ledger(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}


def test_every_step_has_its_row_in_the_ledger(tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl) -> None:
    good = [_sentences(number) for number in range(30)]
    secret = "ivan.petrov@mail-example.ru"
    item = "Какой из двух городов стоит на берегу большой северной реки Мокла у самых гор?"
    (tmp_path / "task.jsonl").write_text(json.dumps({"inputs": item}, ensure_ascii=False), encoding="utf-8")
    texts = [
        *good,
        good[0].upper(),
        f"Однажды {good[1]}",
        f"{_sentences(100)} Пишите на {secret}.",
        _sentences(101).encode().decode("latin-1"),
        "\n".join(["Нажмите здесь."] * 10),
        "The town stands on a river, and many people live in it. Every day they go to the market.",
        f"{_sentences(102)} {item} Не знаю.",
        "Мало",
        f"  {_sentences(103)}\r\n",
    ]
    out = run_corpus([jsonl(tmp_path / "own.jsonl", texts)], protect=["task.jsonl"])
    rows = [_ledger(out)[f"own.jsonl:{number}"] for number in range(1, len(texts) + 1)]
    assert all((row["action"], row["reasons"]) == ("kept", []) for row in rows[:30])
    assert [(row["action"], row["reasons"]) for row in rows[30:]] == [
        ("dropped", ["exact_duplicate"]),
        ("dropped", ["near_duplicate"]),
        ("changed", ["redacted"]),
        ("changed", ["repaired"]),
        ("dropped", ["junk"]),
        ("dropped", ["language"]),
        ("dropped", ["contaminated"]),
        ("dropped", ["too_short"]),
        ("changed", ["normalised"]),
    ]
    assert rows[30]["detail"] == "own.jsonl:1"
    assert rows[32]["detail"] == "email=1"
    documents = {row["id"]: row for row in pq.read_table(out / "documents.parquet").to_pylist()}
    assert documents["own.jsonl:33"]["text"] == f"{_sentences(100)} Пишите на [ПОЧТА]."
    assert documents["own.jsonl:34"]["text"] == _sentences(101)
    for file in out.rglob("*"):
        assert secret.encode() not in (file.read_bytes() if file.is_file() else b"")


def test_texts_that_differ_in_personal_data_alone_are_duplicates(
    tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl
) -> None:
    texts = [f"{_sentences(number)} Пишите на {number}@mail-example.ru." for number in range(20)]
    texts.append(texts[0].replace("0@mail", "other@mail"))
    rows = _ledger(run_corpus([jsonl(tmp_path / "own.jsonl", texts)]))
    assert rows["own.jsonl:21"]["reasons"] == ["redacted", "exact_duplicate"]
    assert rows["own.jsonl:21"]["detail"] == "own.jsonl:1"


def test_items_of_the_suites_that_score_may_not_be_learnt(
    tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl
) -> None:
    item = "Какой из двух городов стоит на берегу большой северной реки Мокла у самых гор?"
    shot = "В каком месяце жители старого города празднуют день рыбы и выходят все на площадь?"
    good = "Старый мальчик долго и тихо читает сестре большое письмо от далёкого друга из города."
    for name, record in (
        ("suite/task/test.jsonl", {"inputs": {"question": item}, "instruction": "{question}"}),
        ("suite/task/train.jsonl", {"inputs": shot}),
        ("suite/pairs.jsonl", {"id": "1", "good": good, "bad": "Плохо", "phenomenon": "p"}),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    texts = [f"{_sentences(number)} {text}" for number, text in enumerate((item, shot, good, "Вот и всё."))]
    rows = _ledger(run_corpus([jsonl(tmp_path / "own.jsonl", texts)]))
    found = [rows[f"own.jsonl:{number}"]["reasons"] for number in range(1, 5)]
    assert found == [["contaminated"], [], ["contaminated"], []]


def test_tables_hold_what_the_architecture_says(tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl) -> None:
    out = run_corpus([jsonl(tmp_path / "own.jsonl", [_sentences(number) for number in range(60)])])
    table = pq.read_table(out / "documents.parquet")
    assert table.schema.equals(DOCUMENTS)
    assert pq.read_schema(out / "ledger.parquet").equals(LEDGER)
    assert pq.read_schema(out / "truth.parquet").equals(TRUTH)
    rows = table.to_pylist()
    assert {row["split"] for row in rows} == {"train", "heldout"}
    for row in rows:
        assert row["sha256"] == sha256_bytes(row["text"].encode())
        assert (row["n_chars"], row["lang"], row["pii"]) == (len(row["text"]), "ru", 0)
        assert 0.5 < row["cyrillic_share"] < 0.95
        assert row["digit_share"] == pytest.approx(sum(map(str.isdigit, row["text"])) / len(row["text"]))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["actions"] == {"changed": 0, "dropped": 0, "kept": 60}
    assert summary["subsets"]["own"]["heldout"]["documents"] == sum(row["split"] == "heldout" for row in rows)
    assert (summary["truth"], summary["unreadable"]) == (None, {"count": 0, "first": []})
    assert json.loads((out / "tasks/index.json").read_text()) == {}
    assert (out / "questions.jsonl").read_text() == ""
    manifest = json.loads(out.with_name("corpus.manifest.json").read_text(encoding="utf-8"))
    assert manifest["lineage"] == {"data": {"own": ["MIT"]}}


def test_a_long_work_is_cut_and_stays_on_one_side(
    tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl
) -> None:
    novels = ["\n\n".join(_sentences(40 * novel + part) for part in range(8)) for novel in range(12)]
    out = run_corpus([jsonl(tmp_path / "own.jsonl", novels)], max_chars=1500, heldout_share=0.1)
    splits: dict[str, set[str]] = {}
    for row in pq.read_table(out / "documents.parquet").to_pylist():
        assert row["n_chars"] <= 1500
        splits.setdefault(row["id"].partition("#")[0], set()).add(row["split"])
    assert len(splits) == 12
    assert all(len(split) == 1 for split in splits.values())
    assert _ledger(out)["own.jsonl:1#001"]["reasons"] == ["cut"]


def test_personal_data_may_stay_but_is_counted(tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl) -> None:
    text = f"{_sentences(1)} Пишите на ivan@mail-example.ru или звоните +7 912 345-67-89."
    out = run_corpus([jsonl(tmp_path / "own.jsonl", [_sentences(2), text])], redact=False)
    rows = pq.read_table(out / "documents.parquet").to_pylist()
    assert [(row["text"] == text, row["pii"]) for row in rows] == [(False, 0), (True, 2)]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["pii"] == {"email": 1, "phone": 1}


def test_the_same_bytes_twice(tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl) -> None:
    source = jsonl(tmp_path / "own.jsonl", [_sentences(number) for number in range(40)])
    first = sha256_path(run_corpus([source]))
    assert sha256_path(run_corpus([source])) == first


GOOD = json.dumps({"text": _sentences(1)}, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n' * 2, "nothing is left of 2 documents after cleaning (too_short 2); check"),
        (b"", "nothing is left of 0 documents after cleaning (no record was read); check"),
        (GOOD * 3 + b"{broken\n", "own.jsonl, line 4: not JSON"),
        (
            GOOD + GOOD.decode().encode("cp1251"),
            "own.jsonl: not UTF-8 text (invalid continuation byte at byte",
        ),
        (None, "params.yaml: corpus.sources.0.paths.0: own.jsonl does not exist or holds no file; correct"),
    ],
    ids=["all dropped", "empty file", "broken line", "undecodable", "no file"],
)
def test_bad_files_are_one_line_and_leave_the_earlier_out(
    tmp_path: Path,
    run_corpus: RunCorpus,
    jsonl: Jsonl,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    message: str,
) -> None:
    source = jsonl(tmp_path / "own.jsonl", [_sentences(number) for number in range(5)])
    before = sha256_path(run_corpus([source]))
    if content is None:
        (tmp_path / "own.jsonl").unlink()
    else:
        (tmp_path / "own.jsonl").write_bytes(content)
    capsys.readouterr()
    assert main(STAGE, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"corpus: {message}")
    assert sha256_path(tmp_path / "out/corpus") == before
    assert not list((tmp_path / "out").glob(".*partial"))


def test_tolerated_broken_lines_are_counted_and_told(
    tmp_path: Path, run_corpus: RunCorpus, jsonl: Jsonl, capsys: pytest.CaptureFixture[str]
) -> None:
    source = jsonl(tmp_path / "own.jsonl", [_sentences(number) for number in range(9)])
    with (tmp_path / "own.jsonl").open("ab") as file:
        file.write(b"{broken\n")
    out = run_corpus([source], broken_lines_share=0.1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("corpus: own.jsonl, line 10: not JSON")
    assert "1 of 10 records are unreadable, which corpus.broken_lines_share = 0.1 allows" in line
    unreadable = json.loads((out / "summary.json").read_text(encoding="utf-8"))["unreadable"]
    assert unreadable["count"] == 1
    assert (unreadable["first"][0]["file"], unreadable["first"][0]["line"]) == ("own.jsonl", 10)


@pytest.mark.slow
def test_cleaning_meets_the_planted_defects_of_the_world(run_corpus: RunCorpus) -> None:
    """Another seed than the one that the filters were tuned on."""
    out = run_corpus([{"type": "world", "seed": 8, "size": 0.2, "tasks_per_kind": 20}])
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    for defect, counts in summary["truth"]["recall"].items():
        assert counts["recall"] >= 0.95, (defect, counts)
    for reason, counts in summary["truth"]["precision"].items():
        assert counts["precision"] is None or counts["precision"] >= 0.9, (reason, counts)
    planted = pq.read_table(out / "truth.parquet").num_rows
    assert summary["actions"]["dropped"] < 2 * planted
    assert summary["foreign_documents"] == 0
    assert summary["mojibake_documents"] == 0
    index = json.loads((out / "tasks/index.json").read_text(encoding="utf-8"))
    assert len(index) >= 8
    for name, task in index.items():
        lines = (out / "tasks" / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == task["test"] == 20
        assert set(json.loads(lines[0])) >= {"instruction", "inputs", "outputs", "meta"}
    assert (out / "questions.jsonl").read_text(encoding="utf-8").count("\n") > 0
    found = overlaps(SimpleNamespace(suites=["world"], mode="choice"), out)["tasks"]
    assert {name: task["items"] for name, task in found.items()} == dict.fromkeys(index, 20)
    assert not any(task["contaminated"] for task in found.values())


@pytest.mark.slow
def test_real_books_pass(run_corpus: RunCorpus, shared_data: Path) -> None:
    sources = [
        {
            "type": "files",
            "paths": [str(shared_data / path)],
            "subset": subset,
            "language": language,
            "licence": "Public domain",
        }
        for path, subset, language in (
            ("ru_classics/lermontov.jsonl.gz", "russian", "ru"),
            ("ru_classics/nekrasov.jsonl.gz", "russian", "ru"),
            ("tech_rustbook/rustbook_en.jsonl.gz", "english", "en"),
        )
    ]
    begun = time.process_time()
    out = run_corpus(sources, protect=[str(shared_data / "mera_human/rcb.jsonl")])
    seconds = time.process_time() - begun
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["subsets"]["russian"]["dropped"] == {}
    assert summary["actions"]["dropped"] <= 0.05 * summary["documents_read"]
    assert summary["languages"].keys() == {"ru", "en"}
    megabytes = summary["characters_kept"] / 1e6
    assert seconds < 15 + 10 * megabytes


def test_gutenberg_books_in_compressed_jsonl(
    run_corpus: RunCorpus, shared_data: Path, tmp_path: Path
) -> None:
    import gzip

    with gzip.open(shared_data / "en_gutenberg/gutenberg_en.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"][:40_000] for line in file]
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "books.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    source = {"type": "files", "paths": ["*.gz"], "subset": "english", "language": "en", "licence": "PD"}
    out = run_corpus([source], redact=True)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["records"] == {"books.jsonl.gz": len(texts)}
    assert summary["actions"]["dropped"] <= 1
    assert summary["languages"] == {"en": summary["documents_kept"]}
