"""Stage judge: reads answers, asks a real tiny model, writes its verdicts; refuses what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.common import judges
from stages.common.atomic import read_json, write_json
from stages.common.bpe import train_tokenizer
from stages.common.checkpoint import digest, save_model
from stages.common.errors import UserError
from stages.common.params import Params, load
from stages.common.stage import execute
from stages.judge.stage import STAGE

CELL = "adapt-bf16"
COLUMNS = ["id", "cluster", "p_first", "p_second", "preference", "consistent"]


def answers(folder: Path, sign: str, texts: list[str]) -> None:
    """answers.parquet and scores.json of one model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "scores.json", {"model": {"digest": sign}})
    rows = [
        {"id": f"q{i}", "cluster": f"c{i}", "question": f"Вопрос: что {i}?\nОтвет:", "answer": text,
         "reference": f"верно {i}", "wrong": f"неверно {i}"}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "answers.parquet")


@pytest.fixture
def params(root: Path) -> Params:
    whole = load(root / "params.yaml")
    return whole.model_copy(update={"threads": 1, "device": "cpu"})


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers of a candidate and of the champion, and an untrained judge."""
    from stages.common.training.shape import derive_shape, new_model

    monkeypatch.chdir(tmp_path)
    answers(tmp_path / "out/evaluate" / CELL, "candidate-digest", ["да", "нет", " верно 2 ", ""])
    answers(tmp_path / "out/evaluate/champion", "champion-digest", ["нет", "да", "верно 2", "да"])
    folder = tmp_path / "out/judge_model"
    tokenizer = train_tokenizer(["Вопрос: что 1? Ответ: да нет верно неверно Лучший"], 300)
    shape = derive_shape(160_000, len(tokenizer))
    save_model(new_model(shape, tokenizer.eos_token_id, 3), tokenizer, folder)
    judges.Judge("embedded", digest(folder)).write(folder)
    return tmp_path / "out"


def run(params: Params, out: Path, **changes: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """summary.json and verdicts.parquet of one cell."""
    block = params.judge.model_copy(update=changes)
    execute(STAGE, params.model_copy(update={"judge": block}), CELL)
    folder = out / "judge" / CELL
    return dict(read_json(folder / "summary.json")), pd.read_parquet(folder / "verdicts.parquet")


def test_verdicts_and_summary_have_the_contracted_form(params: Params, out: Path) -> None:
    summary, table = run(params, out)
    assert list(table.columns) == COLUMNS
    assert list(table["id"]) == ["q0", "q1", "q2", "q3"]
    assert ((table["preference"] - (table["p_first"] + table["p_second"]) / 2).abs() < 1e-12).all()
    assert table["preference"][2] == 0.5 and table["consistent"][2] is None
    assert (summary["pairs"], summary["asked"], summary["enabled"]) == (4, 3, True)
    assert (summary["candidate"], summary["champion"]) == ("candidate-digest", "champion-digest")
    assert summary["judge"] == {"kind": "embedded", "digest": digest(out / "judge_model")}
    assert summary["truth"] == "generator"


def test_a_judge_that_failed_its_examination_is_not_asked(params: Params, out: Path) -> None:
    folder = out / "judge_model"
    judges.Judge("embedded", digest(folder), reason="it failed its own examination").write(folder)
    summary, table = run(params, out)
    assert (summary["votes"], summary["reason"]) == (False, "it failed its own examination")
    assert table.empty


def test_an_untrained_judge_does_not_vote(params: Params, out: Path) -> None:
    summary, _ = run(params, out)
    assert summary["votes"] is False
    assert "coin" in summary["reason"]


def test_swapping_candidate_and_champion_mirrors_the_preference(params: Params, out: Path) -> None:
    _, forward = run(params, out)
    candidate, champion = out / "evaluate" / CELL, out / "evaluate/champion"
    candidate.rename(out / "aside")
    champion.rename(candidate)
    (out / "aside").rename(champion)
    _, backward = run(params, out)
    assert list(forward["preference"] + backward["preference"]) == pytest.approx([1.0] * 4)
    assert list(forward["consistent"]) == list(backward["consistent"])


def test_the_same_inputs_give_the_same_bytes(params: Params, out: Path) -> None:
    run(params, out)
    first = [file.read_bytes() for file in sorted((out / "judge" / CELL).iterdir())]
    run(params, out)
    assert [file.read_bytes() for file in sorted((out / "judge" / CELL).iterdir())] == first


def test_only_the_declared_number_of_pairs_is_judged(params: Params, out: Path) -> None:
    summary, table = run(params, out, pairs=2)
    assert (summary["pairs"], len(table)) == (2, 2)


def test_a_switched_off_judge_asks_nothing_and_does_not_vote(params: Params, out: Path) -> None:
    summary, table = run(params, out, enabled=False)
    assert (summary["enabled"], summary["votes"], summary["preference"], len(table)) == (
        False,
        False,
        None,
        0,
    )
    assert "judge.enabled" in summary["reason"]


def test_a_judge_does_not_judge_its_own_answers(params: Params, out: Path) -> None:
    write_json(out / "evaluate/champion/scores.json", {"model": {"digest": digest(out / "judge_model")}})
    summary, _ = run(params, out)
    assert summary["votes"] is False and "champion itself" in summary["reason"]


def test_different_questions_are_refused_and_the_earlier_out_stays(params: Params, out: Path) -> None:
    before, _ = run(params, out)
    answers(out / "evaluate/champion", "champion-digest", ["один"])
    with pytest.raises(UserError, match="different questions"):
        run(params, out)
    assert read_json(out / "judge" / CELL / "summary.json") == before


def test_a_table_that_is_not_ours_is_refused(params: Params, out: Path) -> None:
    (out / "evaluate" / CELL / "answers.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"answers\.parquet"):
        run(params, out)


def test_without_questions_there_is_nothing_to_judge(params: Params, out: Path) -> None:
    for name in (CELL, "champion"):
        path = out / "evaluate" / name / "answers.parquet"
        pd.read_parquet(path).iloc[:0].to_parquet(path)
    summary, table = run(params, out)
    assert (summary["votes"], summary["pairs"], len(table)) == (False, 0, 0)
    assert "nothing to judge" in summary["reason"]
