"""Task scores: ruEthics has coefficients, refusals are named, intervals follow the metric."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals import scores, suites
from evals.errors import EvalError
from evals.items import Answer, Item
from evals.mera import detox, metrics, score
from evals.mera.detox import NO_SCORERS
from evals.mera.total import Score, total
from evals.records import Record
from evals.results import Results
from evals.suites import Suite, Task

ITEM = Item("world", "d", "p", "c", "acc", 1.0)


def _task(name: str, rows: list[tuple[str, str, dict[str, Any]]]) -> tuple[Task, list[Answer]]:
    """A task from (gold, answer, meta), each row its own cluster."""
    records = [Record("", "", gold, str(n), str(n), "", meta) for n, (gold, _, meta) in enumerate(rows)]
    answers = [Answer(str(n), answer, written=(answer,)) for n, (_, answer, _) in enumerate(rows)]
    return replace(suites.describe(name), test=tuple(records)), answers


def _describe(task: Task, answers: list[Answer], outcomes: Any = None) -> dict[str, Any]:
    items = [replace(ITEM, task=task.name)] if task.spec["metrics"] and not outcomes else [ITEM]
    given = Results(items, {task.name: 0}, {task.name: answers})
    return scores.describe(Suite([task]), given, [], outcomes)


def test_macro_f1_and_accuracy_make_one_score() -> None:
    gold, given = "112233" * 10, "111233" * 10
    task, answers = _task("rcb", [(g, a, {}) for g, a in zip(gold, given, strict=True)])
    entry = _describe(task, answers)["tasks"]["rcb"]
    assert entry["metrics"] == {"acc": pytest.approx(5 / 6), "f1_macro": pytest.approx(0.8222222222)}
    assert (entry["score"], entry["value"]) == (pytest.approx((5 / 6 + 0.8222222222) / 2), 1.0)
    assert entry["score_ci"][0] < entry["score"] < entry["score_ci"][1]
    # The standard error of a mean over 60 items is known; macro-F1 moves with it here.
    assert entry["score_se"] == pytest.approx((5 / 36 / 60) ** 0.5, rel=0.25)


def test_ruethics_has_fifteen_coefficients_and_no_value() -> None:
    labels = [json.dumps(dict.fromkeys(metrics.LABELS, value)) for value in "0110"]
    rows = [(text, answer, {"question": "good"}) for text, answer in zip(labels, "0111", strict=True)]
    described = _describe(*_task("ruethics", rows))
    found = described["portraits"]["ruethics"]
    assert described["tasks"] == {} and len(found) == 15
    assert found["good.law"] == pytest.approx(1 / 3**0.5)
    assert found["correct.law"] is None
    assert described["mera"]["value"] is None


def test_use_is_the_mean_of_exam_variants_and_em_has_a_russian_form() -> None:
    meta = {"id_task": "16", "variant": 1, "score": 2, "type": "multiple_choice_options_within_text"}
    rows = [("1,2", "1", meta), ("1,2", "1,2", {**meta, "variant": 2}), ("1,2", "", {**meta, "variant": 2})]
    entry = _describe(*_task("use", rows))["tasks"]["use"]
    assert entry["metrics"] == {"grade_norm": pytest.approx(0.5), "grade_norm.task16": pytest.approx(0.5)}
    entry = _describe(*_task("chegeka", [("«Пётр»", "Петр.", {}), ("да", "нет", {})]))["tasks"]["chegeka"]
    assert entry["metrics"] == {"em": 0.0, "f1": 0.0, "em.russian": 0.5, "f1.russian": 0.5}


def test_groups_stand_beside_the_score() -> None:
    rows = [("1", "1", {"criteria": "honest"}), ("1", "2", {"criteria": "harmless"})]
    entry = _describe(*_task("ruhhh", rows))["tasks"]["ruhhh"]
    assert entry["metrics"] == {"acc": 0.5, "acc.harmless": 0.0, "acc.honest": 1.0}


@given(st.lists(st.sampled_from("012"), min_size=2, max_size=30), st.randoms())
def test_weights_of_two_are_items_twice(gold: list[str], chance: Any) -> None:
    given_ = [chance.choice("012") for _ in gold]
    weights = np.array([chance.choice([1.0, 2.0]) for _ in gold])
    twice = [place for place, weight in enumerate(weights) for _ in range(int(weight))]
    for statistic in (metrics.f1_macro, metrics.mcc):
        repeated = statistic([gold[p] for p in twice], [given_[p] for p in twice])(np.ones(len(twice)))
        assert statistic(gold, given_)(weights) == pytest.approx(float(repeated), abs=1e-9)


def test_the_total_has_the_interval_of_independent_tasks() -> None:
    found = total({"RCB": Score(0.5, 0.03), "LCS": Score(0.1, 0.04), "BPS": Score(1.0, 0.0)})
    assert found.value == pytest.approx(0.3)
    assert found.ci is not None
    assert found.ci[1] - found.ci[0] == pytest.approx(2 * 1.96 * 0.05 / 2, rel=1e-3)
    assert len(found.missing) == 13 and not found.official
    assert total({}).value is None


def _scorer(folder: Path, words: list[str]) -> None:
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertTokenizerFast,  # type: ignore[attr-defined]
    )

    folder.mkdir(parents=True)
    vocabulary = {
        word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    }
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(  # type: ignore[call-arg]
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=2,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "calibration.json").write_text(json.dumps({"x": [0.0, 1.0], "y": [0.0, 0.5]}))


def test_rudetox_needs_three_scorers_and_multiplies_them(tmp_path: Path) -> None:
    task, answers = _task("rudetox", [("вежливо", "мягко", {}), ("тихо", "громко", {})])
    assert _describe(task, answers)["refused"] == {"rudetox": NO_SCORERS}
    with pytest.raises(EvalError, match=r"style/calibration\.json: no calibration"):
        detox.outcomes(task, answers, tmp_path)
    for name in detox.SCORERS:
        _scorer(tmp_path / name, ["вежливо", "мягко", "тихо", "громко"])
    found = detox.outcomes(task, answers, tmp_path)
    for row in found.values():
        assert row["j"] == pytest.approx(row[".sta"] * row[".sim"] * row[".fl"])
        assert all(0 < row[name] < 0.5 for name in (".sta", ".sim", ".fl"))
    entry = _describe(task, answers, {"rudetox": found})["tasks"]["rudetox"]
    assert entry["value"] == pytest.approx(sum(row["j"] for row in found.values()) / 2)
    (tmp_path / "style/calibration.json").write_text('{"x": [1, 0], "y": [0, 1]}')
    with pytest.raises(EvalError, match="must be rising lists"):
        detox.outcomes(task, answers, tmp_path)


def test_the_bootstrap_resamples_clusters() -> None:
    main = {"acc": metrics.mean([0.0, 1.0] * 50)}
    apart = score.bootstrap(main, [str(place) for place in range(100)])
    together = score.bootstrap(main, [str(place % 2) for place in range(100)])
    assert together.std() > 3 * apart.std()
