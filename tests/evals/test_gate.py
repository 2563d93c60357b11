"""The gate's rules on simulated items: planted models get the right verdict, nothing missing passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gate_models import CHAMPION, CONDITIONS, SILENT, model

from evals.errors import EvalError
from evals.gate.decide import Entry, Vote, decide
from evals.gate.policy import Policy, Rule, worst
from evals.gate.rules import verdict_of
from evals.gate.tables import COLUMNS, Evaluation
from evals.judge.winrate import Evidence
from evals.stats.correction import Known
from evals.stats.intervals import Difference

POLICY = Policy(
    against_champion=(Rule("total", 0.02), Rule("bpc_ru", 0.03, relative=True)),
    against_parent=(Rule("total", 0.03), Rule("bpc_ru", 0.03, relative=True)),
)


def verdict(
    candidate: Evaluation, champion: Evaluation = CHAMPION, policy: Policy = POLICY
) -> dict[str, Any]:
    """The decision's entry of one candidate without a parent."""
    decision = decide({"one": Entry(candidate, None, 1000, SILENT)}, champion, policy)
    return dict(decision["candidates"]["one"])


def test_a_truly_better_model_passes_and_wins() -> None:
    decision = decide({"better": Entry(model("better", 0.8, 0.8), None, 1000, SILENT)}, CHAMPION, POLICY)
    assert decision["candidates"]["better"]["verdict"] == "pass"
    assert decision["winner"] == "better"
    assert "only candidate that passed" in decision["winner_reason"]


def talking(evaluation: Evaluation, right: float) -> Evaluation:
    """With a third task, of one dialogue: all of its 40 turns hang together."""
    rows = [("rutie", f"turn{i}", f"turn{i}", "rutie:0", "acc", float(i < 40 * right)) for i in range(40)]
    items = pd.concat([evaluation.items, pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)
    return dataclasses.replace(evaluation, items=items)


def test_a_single_dialogue_is_left_out_of_the_total_and_named() -> None:
    with_it = verdict(talking(model("better", 0.8, 0.8), 0.1), talking(CHAMPION, 0.9))
    without = verdict(model("better", 0.8, 0.8))
    assert with_it["checks"] == without["checks"]
    said = "the total is without rutie: one cluster, so its spread is not known"
    assert said in with_it["reasons"] and said not in without["reasons"]
    policy = dataclasses.replace(POLICY, against_champion=(Rule("rutie", 0.05),))
    alone = verdict(talking(model("better", 0.8, 0.8), 1.0), talking(CHAMPION, 0.9), policy)
    assert alone["verdict"] == "not enough data"
    assert "only 1 independent clusters" in alone["reasons"][0]


def test_random_weights_fail_for_task_scores_and_for_bits() -> None:
    found = verdict(model("random", 0.25, 6.0, seed=9))
    assert found["verdict"] == "fail"
    assert {check["metric"]: check["verdict"] for check in found["checks"]} == {
        "total": "fail",
        "bpc_ru": "fail",
    }
    assert any("significantly worse" in reason for reason in found["reasons"])


def test_damage_by_noise_is_held_for_being_worse() -> None:
    assert verdict(model("damaged", 0.6, 1.2, damage=0.2))["verdict"] == "fail"


def test_a_swapped_tokenizer_reads_the_same_text_and_fails_by_its_numbers() -> None:
    found = verdict(model("swapped", 0.3, 9.0, seed=4))
    assert found["verdict"] == "fail"
    assert "bits per character" in " ".join(found["reasons"])


@pytest.mark.parametrize(("theirs", "named"), [("b", True), ("a", False), (None, False)])
def test_another_tokenizer_is_named(theirs: str | None, named: bool) -> None:
    ours, champion = (
        dataclasses.replace(one, tokenizer=tokenizer)
        for one, tokenizer in ((model("better", 0.8, 0.8), "a"), (CHAMPION, theirs))
    )
    found = verdict(ours, champion)
    assert found["verdict"] == "pass"
    assert ("champion has another tokenizer" in " ".join(found["reasons"])) is named


def test_an_equal_model_with_enough_items_passes() -> None:
    assert verdict(model("equal", 0.6, items=3000), model("champion", 0.6, items=3000))["verdict"] == "pass"


def test_too_few_items_is_no_decision_and_says_how_many_are_needed() -> None:
    small = Policy((Rule("total", 0.001),), (Rule("total", 0.01),))
    found = verdict(model("equal", 0.61), policy=small)
    assert found["verdict"] == "not enough data"
    assert "even an equal model could not pass" in found["reasons"][0]


def test_too_few_clusters_is_no_decision_even_when_the_difference_is_large() -> None:
    policy = Policy((Rule("cities", 0.01),), (Rule("total", 0.01),), min_clusters=200)
    assert verdict(model("better", 0.99), policy=policy)["verdict"] == "not enough data"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shots": 5}, "shots (5 here, 0 there)"),
        ({"task_versions": {"cities": "2"}}, "task_versions.cities (2 here, 1 there)"),
        ({"harness": "lm-eval 9"}, "harness (lm-eval 9 here, nothing there)"),
    ],
)
def test_other_conditions_are_not_comparable_and_named(change: dict[str, Any], said: str) -> None:
    better = model("better", 0.9, 0.5)
    found = verdict(dataclasses.replace(better, conditions={**CONDITIONS, **change}))
    assert found["verdict"] == "not comparable"
    assert all(said in reason for reason in found["reasons"][:2])


@pytest.mark.parametrize(("column", "said"), [("prompt_hash", "prompts"), ("cluster", "clusters")])
def test_other_prompts_or_clusters_are_not_comparable(column: str, said: str) -> None:
    better = model("better", 0.9, 0.5)
    better.items.loc[better.items.index[0], column] = "another"
    found = verdict(better)
    assert found["verdict"] == "not comparable"
    assert f"1 of 600 {said} of cities differ" in found["reasons"][0]


def test_other_documents_are_not_comparable() -> None:
    better = model("better", 0.9, 0.5)
    better.items.loc[better.items.index[0], "doc_hash"] = "another"
    assert verdict(better)["verdict"] == "not comparable"


def broken(kind: str) -> Evaluation:
    """A far better model whose table lacks something that a rule names."""
    better = model("better", 0.95, 0.5)
    items = better.items
    match kind:
        case "nan":
            items.loc[items.index[5], "value"] = float("nan")
        case "infinite":
            items.loc[items["metric"] == "bits", "value"] = float("inf")
        case "task":
            items = items[items["task"] != "sums"]
        case "bits":
            items = items[items["metric"] != "bits"]
        case "language":
            items = items[items["task"] != "bpc_ru"]
        case "everything":
            items = items.iloc[:0]
    return dataclasses.replace(better, items=items.reset_index(drop=True))


@pytest.mark.parametrize("kind", ["nan", "infinite", "task", "bits", "language", "everything"])
def test_a_missing_number_closes_the_gate(kind: str) -> None:
    found = verdict(broken(kind))
    assert found["verdict"] == "fail"
    assert any("missing" in reason for reason in found["reasons"])


def test_a_number_missing_for_both_models_closes_the_gate_too() -> None:
    policy = Policy((Rule("bpc_en", 0.05, relative=True),), (Rule("total", 0.1),))
    found = verdict(model("better", 0.9), policy=policy)
    assert found["verdict"] == "fail"
    assert "bpc_en of better is missing" in found["reasons"][0]


def test_a_compressed_candidate_must_hold_against_its_own_parent() -> None:
    parent, ternary = model("adapt-bf16", 0.95, 0.5), model("adapt-ternary", 0.7, 0.9)
    entries = {
        "adapt-bf16": Entry(parent, None, 4000, SILENT),
        "adapt-ternary": Entry(ternary, "adapt-bf16", 500, SILENT),
    }
    decision = decide(entries, CHAMPION, POLICY)
    checks = decision["candidates"]["adapt-ternary"]["checks"]
    assert [check["verdict"] for check in checks if check["against"] == "champion"] == ["pass", "pass"]
    assert [check["verdict"] for check in checks if check["against"] == "adapt-bf16"] == ["fail", "fail"]
    assert decision["winner"] == "adapt-bf16"
    assert decision["candidates"]["adapt-bf16"]["parent"] is None


def two(first: int | None, second: int, policy: Policy) -> dict[str, Any]:
    """The decision between two passing models of these sizes; the first has the better total."""
    entries = {
        "a-first": Entry(model("a-first", 0.95, 0.5), None, first, SILENT),
        "b-second": Entry(model("b-second", 0.85, 0.5), None, second, SILENT),
    }
    return decide(entries, CHAMPION, policy)


def test_the_declared_rule_picks_the_winner() -> None:
    best = dataclasses.replace(POLICY, winner="best")
    assert two(2000, 1000, POLICY)["winner"] == "b-second"
    assert two(2000, 1000, best)["winner"] == "a-first"
    assert two(1000, 1000, POLICY)["winner"] == "a-first"
    assert "smallest (1.00 kB)" in two(2000, 1000, POLICY)["winner_reason"]


def test_a_size_that_is_missing_closes_the_gate_where_a_rule_needs_it() -> None:
    assert two(None, 1000, POLICY)["candidates"]["a-first"]["verdict"] == "fail"
    best = dataclasses.replace(POLICY, winner="best")
    assert two(None, 1000, best)["winner"] == "a-first"
    budget = dataclasses.replace(best, max_bytes=5000)
    assert two(None, 1000, budget)["candidates"]["a-first"]["verdict"] == "fail"


def test_the_budget_on_disk_is_absolute() -> None:
    decision = two(2000, 1000, dataclasses.replace(POLICY, max_bytes=1500))
    assert decision["candidates"]["a-first"]["verdict"] == "fail"
    assert "2.00 kB on disk, over the budget of 1.50 kB" in decision["candidates"]["a-first"]["reasons"]


def test_the_champion_itself_never_wins() -> None:
    same = model("again", 0.6, digest=CHAMPION.digest, items=300)
    same = dataclasses.replace(same, items=CHAMPION.items)
    decision = decide({"again": Entry(same, None, 10, SILENT)}, CHAMPION, POLICY)
    assert decision["candidates"]["again"]["verdict"] == "pass"
    assert decision["winner"] is None
    assert "again: the only candidate that passed; it is the champion already" in decision["winner_reason"]


def test_a_run_that_changes_nothing_does_not_promote_the_second_best() -> None:
    same = dataclasses.replace(model("small", 0.6, digest=CHAMPION.digest, items=300), items=CHAMPION.items)
    larger = model("large", 0.62, items=300)
    entries = {"small": Entry(same, None, 10, SILENT), "large": Entry(larger, None, 20, SILENT)}
    decision = decide(entries, CHAMPION, POLICY)
    assert {item["verdict"] for item in decision["candidates"].values()} == {"pass"}
    assert decision["winner"] is None
    assert "the smallest (10 B) of 2 that passed; it is the champion" in decision["winner_reason"]
    best = decide(entries, CHAMPION, dataclasses.replace(POLICY, winner="best"))
    assert best["winner"] == "large"


@pytest.mark.parametrize(("preference", "expected"), [(0.2, "fail"), (0.7, "pass"), (0.5, "pass")])
def test_the_judge_counts_where_it_votes(preference: float, expected: str) -> None:
    rng = np.random.default_rng(0)
    preferences = list(np.clip(rng.normal(preference, 0.1, 200), 0, 1))
    errors = [(0.9, 1.0)] * 60 + [(0.2, 1.0)] * 5 + [(0.1, 0.0)] * 60 + [(0.8, 0.0)] * 5
    known = [Known(*error, f"known {place}") for place, error in enumerate(errors)]
    vote = Vote(True, "", Evidence(preferences, [f"q{i}" for i in range(200)], known=known))
    decision = decide({"one": Entry(model("better", 0.8, 0.8), None, 10, vote)}, CHAMPION, POLICY)
    found = decision["candidates"]["one"]
    assert found["verdict"] == expected
    assert found["checks"][-1]["rule"] == "judge"
    assert "(corrected for its errors)" in found["checks"][-1]["text"]
    assert "200 items in 200 clusters can see a margin of" in found["checks"][-1]["plan"]
    assert found["checks"][-1]["power"]["visible"] > 0


def test_the_gate_goes_on_without_a_judge_and_says_so() -> None:
    found = verdict(model("better", 0.8, 0.8))
    assert all(check["rule"] != "judge" for check in found["checks"])
    assert "the judge does not vote: it is switched off" in found["reasons"]


def test_a_voting_judge_without_verdicts_closes_the_gate() -> None:
    entry = Entry(model("better", 0.8, 0.8), None, 10, Vote(True, ""))
    assert decide({"one": entry}, CHAMPION, POLICY)["candidates"]["one"]["verdict"] == "fail"


def test_a_judge_whose_errors_are_not_known_closes_the_gate() -> None:
    vote = Vote(True, "", Evidence([0.9] * 50, [str(i) for i in range(50)]))
    entry = Entry(model("better", 0.8, 0.8), None, 10, vote)
    found = decide({"one": entry}, CHAMPION, POLICY)["candidates"]["one"]
    assert found["verdict"] == "fail" and "errors are not known" in found["reasons"][0]


@pytest.mark.parametrize(
    ("mean", "lower", "upper", "expected"),
    [
        (0.0, -0.009, 0.009, "pass"),
        (-0.05, -0.06, -0.04, "fail"),
        (-0.005, -0.007, -0.003, "pass"),
        (-0.05, -0.12, 0.02, "not enough data"),
        (0.0, -0.02, 0.02, "not enough data"),
        (-0.006, -0.012, 0.001, "fail"),
    ],
)
def test_verdicts_for_a_margin_of_one_point(mean: float, lower: float, upper: float, expected: str) -> None:
    assert verdict_of(Difference(mean, lower, upper, 0.01, 500, 500), 0.01, 30) == expected


def test_the_gravest_verdict_is_the_candidates() -> None:
    assert worst(["pass", "not enough data", "fail", "not comparable"]) == "fail"
    assert worst(["pass", "not enough data", "not comparable"]) == "not comparable"
    with pytest.raises(EvalError, match="without a single check"):
        worst([])


def test_sentences_are_rounded_and_name_what_was_compared() -> None:
    text = verdict(model("better", 0.8, 0.8))["reasons"][1]
    assert text.startswith("total 0.8") and "of the champion: +0.1" in text
    assert "(95 % confidence), above the margin of -0.020 and significantly better" in text


def test_two_metrics_of_one_task_are_refused() -> None:
    better = model("better", 0.9)
    extra = better.items[better.items["task"] == "sums"].assign(metric="acc_norm")
    both = dataclasses.replace(better, items=pd.concat([better.items, extra]))
    with pytest.raises(EvalError, match="several metrics"):
        verdict(both)


def test_relative_margins_are_for_bits_only() -> None:
    with pytest.raises(EvalError, match="relative margin"):
        Rule("total", 0.02, relative=True)
