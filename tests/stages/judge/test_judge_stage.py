"""Stage judge with the embedded judge, a real tiny model: its files, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from judge_stage_fakes import CELL, write_answers, write_lineage

from evals.errors import EvalError
from stages.common import judges
from stages.common.atomic import write_json
from stages.common.bpe import train_tokenizer
from stages.common.checkpoint import digest, save_model
from stages.common.errors import UserError
from stages.gate import reading

COLUMNS = [
    *("id", "cluster", "question", "candidate_answer", "champion_answer"),
    *("p_first", "p_second", "preference", "asked", "consistent"),
    *("outcome", "missing", "reason", "label", "votes"),
]
Run = Callable[..., Any]


@pytest.fixture
def weights(out: Path) -> Path:
    """An untrained embedded judge, and four answers of each model."""
    from stages.common.training.shape import derive_shape, new_model

    write_answers(out / "evaluate" / CELL, "candidate", ["да", "нет", " верно 2 ", ""])
    write_answers(out / "evaluate/champion", "champion", ["нет", "да", "верно 2", "да"])
    folder = out / "judge_model"
    tokenizer = train_tokenizer(["Вопрос: что 1? Ответ: да нет верно неверно Лучший"], 300)
    shape = derive_shape(160_000, len(tokenizer))
    save_model(new_model(shape, tokenizer.eos_token_id, 3), tokenizer, folder)
    write_lineage(folder, {"source": "scratch"})
    judges.write(folder, {"embedded": judges.Weights("embedded", digest(folder))})
    return folder


def test_verdicts_and_summary_have_the_contracted_form(judge: Run, weights: Path) -> None:
    done = judge()
    summary, table = done.summary, done.verdicts
    assert list(table.columns) == COLUMNS
    assert list(table["id"]) == ["q0", "q1", "q2", "q3"]
    assert ((table["preference"] - (table["p_first"] + table["p_second"]) / 2).abs() < 1e-12).all()
    assert table["preference"][2] == 0.5 and table["consistent"][2] is None
    assert list(table["asked"]) == [True, True, False, True]
    assert (summary["pairs"], summary["asked"], summary["enabled"]) == (4, 3, True)
    assert (summary["candidate"], summary["champion"]) == ("candidate", "champion")
    assert summary["judge"]["digest"] == done.passport["judge"]["digest"]
    assert done.passport["judge"]["model"] == digest(weights)
    assert summary["truth"] == done.passport["truth"] == "generator"
    assert set(done.passport["probes"]) >= {"injection_ru", "authority", "markdown", "length"}


def test_an_untrained_judge_does_not_vote(judge: Run, weights: Path) -> None:
    done = judge()
    assert done.summary["votes"] is False
    assert "the lower bound of accuracy is" in done.summary["reason"]
    assert not reading.vote(done.folder, "candidate", "champion").votes


def test_a_judge_that_failed_its_examination_is_not_asked(judge: Run, weights: Path) -> None:
    reason = "it failed its own examination"
    judges.write(weights, {"embedded": judges.Weights("embedded", digest(weights), reason=reason)})
    done = judge()
    assert (done.summary["votes"], done.summary["reason"]) == (False, reason)
    assert done.verdicts.empty and done.passport["reasons"] == [reason]


def test_swapping_candidate_and_champion_mirrors_the_preference(judge: Run, weights: Path, out: Path) -> None:
    forward = judge().verdicts
    candidate, champion = out / "evaluate" / CELL, out / "evaluate/champion"
    candidate.rename(out / "aside")
    champion.rename(candidate)
    (out / "aside").rename(champion)
    backward = judge().verdicts
    assert list(forward["preference"] + backward["preference"]) == pytest.approx([1.0] * 4)
    assert list(forward["consistent"]) == list(backward["consistent"])


def test_the_same_inputs_give_the_same_bytes(judge: Run, weights: Path) -> None:
    first = judge().bytes
    assert set(first) == {"labelled.parquet", "passport.json", "summary.json", "verdicts.parquet"}
    assert judge().bytes == first


def test_only_the_declared_number_of_pairs_is_judged(judge: Run, weights: Path) -> None:
    done = judge(pairs=2)
    assert (done.summary["pairs"], len(done.verdicts)) == (2, 2)


def test_a_switched_off_judge_asks_nothing_and_does_not_vote(judge: Run, out: Path) -> None:
    done = judge(enabled=False)
    summary = done.summary
    assert (summary["enabled"], summary["votes"], summary["preference"]) == (False, False, None)
    assert "judge.enabled" in summary["reason"] and done.verdicts.empty


def test_a_judge_does_not_judge_its_own_answers(judge: Run, weights: Path, out: Path) -> None:
    write_json(out / "evaluate/champion/scores.json", {"model": {"digest": digest(weights)}})
    summary = judge().summary
    assert summary["votes"] is False and "champion itself" in summary["reason"]


def test_a_side_of_unknown_origin_is_not_judged(judge: Run, weights: Path, out: Path) -> None:
    write_json(out / "quantize" / CELL / "gorn.json", {"lineage": {}})
    assert "nobody says what candidate descends from" in judge().summary["reason"]


def test_broken_weights_end_in_one_line_and_leave_nothing(judge: Run, weights: Path, out: Path) -> None:
    from stages.common.checkpoint import load_model, load_tokenizer

    model = load_model(weights)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    save_model(model, load_tokenizer(weights), weights)
    judges.write(weights, {"embedded": judges.Weights("embedded", digest(weights))})
    with pytest.raises(EvalError, match="log-probabilities that are not finite; its weights are broken"):
        judge()
    assert not (out / "judge" / CELL).exists()


def test_changed_weights_are_refused(judge: Run, weights: Path) -> None:
    judges.write(weights, {"embedded": judges.Weights("embedded", "0" * 64)})
    with pytest.raises(UserError, match="weights have changed"):
        judge()


def test_different_questions_are_refused_and_the_earlier_out_stays(
    judge: Run, weights: Path, out: Path
) -> None:
    before = judge()
    summary = before.summary
    write_answers(out / "evaluate/champion", "champion", ["один"])
    with pytest.raises(UserError, match="different questions"):
        judge()
    assert before.summary == summary


def test_a_table_that_is_not_ours_is_refused(judge: Run, weights: Path, out: Path) -> None:
    (out / "evaluate" / CELL / "answers.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"answers\.parquet"):
        judge()


def test_without_questions_there_is_nothing_to_judge(judge: Run, weights: Path, out: Path) -> None:
    for name in (CELL, "champion"):
        path = out / "evaluate" / name / "answers.parquet"
        pd.read_parquet(path).iloc[:0].to_parquet(path)
    done = judge()
    assert (done.summary["votes"], done.summary["pairs"], len(done.verdicts)) == (False, 0, 0)
    assert "there is no such pair" in done.summary["reason"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a"}', "field `cluster` is missing"),
        ('{"id": "a", "input": "?", "output_1": "x", "output_2": "y", "label": 3}', "must be 1 or 2"),
        (
            '{"id": "a", "cluster": "a", "question": "?", "ours": "x", "theirs": "y", "votes": {"b": "x"}}',
            "votes",
        ),
    ],
)
def test_a_broken_file_of_labels_is_one_line(
    judge: Run, weights: Path, tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / "labels.jsonl").write_text(line)
    with pytest.raises(EvalError, match=said):
        judge(labels=["labels.jsonl"])
