"""Every kind of rule at the level of decide(): what holds, what does not, and what nobody knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gate_models import CHAMPION, SILENT, model

from evals.errors import EvalError
from evals.gate.absolute import OWN_STUDENTS
from evals.gate.decide import Entry, Reference, Vote, decide
from evals.gate.plan import of_all, of_rate, plan
from evals.gate.policy import Budget, Check, Floor, Policy, Rule, Slices
from evals.gate.tables import Evaluation
from evals.judge.winrate import Evidence
from evals.stats.correction import Known, corrected_rate
from evals.stats.intervals import Difference
from evals.stats.noninferiority import compare

POLICY = Policy((Rule("total", 0.1),), (Rule("total", 0.1),))
BETTER = model("better", 0.8, 0.8)
LINEAGE = {"base": {"licence": "Apache-2.0"}, "data": {"world-ru": ["CC0-1.0"]}}
MEASURES = {
    "peak_rss_bytes": 500_000_000,
    "prompts": {"512": {"latency_ms": {"p50": 100.0, "p95": 180.0, "ci": [95.0, 120.0]}}},
}


def judged(
    candidate: Evaluation = BETTER, reference: Reference | None = None, **rules: Any
) -> dict[str, Any]:
    """The decision's entry of one candidate under `rules` beside an easy one."""
    entry = Entry(candidate, None, 1000, SILENT, MEASURES, LINEAGE)
    policy = dataclasses.replace(POLICY, **rules)
    return dict(decide({"one": entry}, CHAMPION, policy, reference)["candidates"]["one"])


def last(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["checks"][-1])


@pytest.mark.parametrize(
    ("candidate", "margin", "expected", "said"),
    [
        (model("better", 0.8), 0.0, "pass", "shown to be better"),
        (model("better", 0.8), 0.3, "fail", "not better by so much"),
        (model("same", 0.61), 0.0, "not enough data", "better here, but not shown"),
        (model("worse", 0.4), 0.0, "fail", "significantly worse"),
    ],
)
def test_superiority_must_be_shown(candidate: Evaluation, margin: float, expected: str, said: str) -> None:
    found = judged(candidate, against_champion=(Rule("total", margin, kind="superiority"),))
    assert found["verdict"] == expected
    assert said in found["checks"][0]["text"]
    assert found["checks"][0]["rule"] == "superiority"


def test_superiority_of_bits_is_a_fall() -> None:
    rules = (Rule("bpc_ru", 0.1, relative=True, kind="superiority"),)
    assert judged(model("better", 0.8, 0.8), against_champion=rules)["verdict"] == "pass"
    assert judged(model("hardly", 0.8, 0.95), against_champion=rules)["verdict"] == "fail"


def test_every_comparison_tells_what_its_items_can_see() -> None:
    check = judged()["checks"][0]
    assert 0 < check["power"]["visible"] < 0.2
    assert "can see a margin of" in check["plan"] and "needs" in check["plan"]
    assert check["method"] == "t"


def test_single_right_or_wrong_items_are_planned_by_the_published_figures() -> None:
    """10 % discordant pairs, one-sided .05, power .8: 1,546 items for two points, 247 for five."""
    theirs = np.r_[np.ones(500), np.zeros(500)]
    ours = np.r_[np.ones(450), np.zeros(50), np.ones(50), np.zeros(450)]
    found = compare(ours, theirs, range(1000))
    assert found.method == "tango"
    assert plan(found, 0.02, 0.05).items == pytest.approx(1546, abs=4)
    assert plan(found, 0.05, 0.05).items == pytest.approx(247, abs=2)
    assert plan(found, 0.02, 0.05).visible == pytest.approx(0.02 * np.sqrt(1546 / 1000), rel=0.01)


def test_a_plan_holds_what_it_promises() -> None:
    """The margin that the items can see, seen as the rule's, needs just these clusters."""
    values = np.random.default_rng(0).normal(0, 0.2, 300).clip(-1, 1)
    found = compare(values, np.zeros(300), np.arange(300) // 3)
    seen = plan(found, 0.05, 0.05).visible
    assert seen is not None
    again = plan(found, seen, 0.05)
    assert again.clusters == pytest.approx(100, abs=1)
    assert again.equal_passes == pytest.approx(0.8, abs=0.01)
    assert again.items == 3 * (again.clusters or 0)


def test_a_judge_needs_more_pairs_or_with_few_labels_no_number_of_them_would_do() -> None:
    """Right in 90 % of either kind; an even rate, by the variance of `corrected_rate` on as many pairs."""

    def rate(pairs: int, labels: int) -> tuple[Difference, float]:
        verdicts = np.tile([1.0, 0.0], pairs // 2)
        right = [i % 10 > 0 for i in range(labels)]
        known = [
            Known(float(hit == bool(side)), side, f"{side}-{i}")
            for side in (1.0, 0.0)
            for i, hit in enumerate(right)
        ]
        found = corrected_rate(verdicts, known)
        shown = Difference(found.mean - 0.5, found.lo - 0.5, found.hi - 0.5, found.se, pairs, pairs)
        return shown, float(verdicts.std(ddof=1)) / 0.8

    found, spread = rate(200, 4000)
    planned = of_rate(found, spread, 0.05, 0.05)
    assert planned.clusters is not None and planned.clusters > 200 and planned.items == planned.clusters
    assert planned.equal_passes is not None and planned.equal_passes < 0.8
    # What it asks for is enough, and no more than that.
    then = of_rate(*rate(planned.clusters + planned.clusters % 2, 4000), 0.05, 0.05)
    assert then.equal_passes == pytest.approx(0.8, abs=0.02)
    assert then.visible == pytest.approx(0.05, abs=0.002)
    assert of_rate(found, spread, planned.visible or 0, 0.05).clusters == pytest.approx(200, abs=3)
    few = of_rate(*rate(200, 40), 0.05, 0.05)
    assert few.clusters is None and few.items is None and (few.visible or 0) > 0.05


def test_without_a_differing_pair_the_plan_is_that_of_none_in_so_many() -> None:
    found = compare([1.0] * 80, [1.0] * 80, range(80))
    assert plan(found, 0.05, 0.05).clusters == 59
    assert plan(found, 0.05, 0.05).equal_passes == 1.0
    assert plan(found, 0.02, 0.05).equal_passes == 0.0
    assert plan(found, 0.0, 0.05).clusters is None


def test_the_power_of_all_rules_is_bounded() -> None:
    assert of_all([0.9, 0.8]) == (pytest.approx(0.7), 0.8)
    assert of_all([0.9, None]) is None
    low, high = judged(against_champion=(Rule("total", 0.05), Rule("cities", 0.05)))["equal_passes_all"]
    assert 0 <= low <= high <= 1


EMPTY = tuple(f"empty{index}" for index in range(19))
FAMILY = Slices("tasks", ("cities", "sums"), 0.05)


def damaged(task: str, share: float) -> Evaluation:
    """The champion's answers, of which one task loses a share."""
    items = CHAMPION.items.copy()
    rows = items.index[(items["task"] == task) & (items["value"] == 1.0)]
    items.loc[rows[: int(share * len(rows))], "value"] = 0.0
    return dataclasses.replace(CHAMPION, name="damaged", digest="other", items=items)


def test_a_slice_that_lost_is_found_although_the_total_holds() -> None:
    broken = damaged("sums", 0.25)
    found = judged(broken, against_champion=(Rule("total", 0.2),), slices=(FAMILY,))
    verdicts = {check["metric"]: check["verdict"] for check in found["checks"]}
    assert verdicts == {"total": "pass", "cities": "pass", "sums": "fail"}
    assert "shown to be worse by more than 0.050 (p 0.00" in last(found)["text"]
    assert "corrected for 2 slices" in last(found)["text"]
    assert "a drop of" in found["checks"][1]["plan"]


def test_one_bad_slice_among_many_may_be_luck() -> None:
    """An alarm alone, no news among twenty that are looked at: the same p-value, corrected by Holm."""
    alone, among = (
        judged(damaged("sums", 0.25), against_champion=(Rule("total", 0.2),), slices=(family,))
        for family in (Slices("one", ("sums",), 0.08), Slices("many", ("sums", *EMPTY), 0.08))
    )
    alarm, luck = last(alone), next(check for check in among["checks"] if check["metric"] == "sums")
    assert alarm["verdict"] == "fail" and luck["verdict"] == "pass"
    assert luck["p"] == pytest.approx(20 * alarm["p"])


def test_a_slice_without_items_closes_the_gate_and_still_counts() -> None:
    found = judged(slices=(Slices("tasks", ("cities", "poems"), 0.05),))
    assert found["verdict"] == "fail"
    assert "poems of better is missing" in last(found)["text"]
    assert "corrected for 2 slices" in found["checks"][1]["text"]


@pytest.mark.parametrize("rounds", [200, 2000])
def test_an_alarm_sounds_however_many_slices_there_are(rounds: int) -> None:
    """A task that falls to zero, among 150 slices: exact p-values go below 1 / rounds."""
    many = Slices("many", ("sums", *(f"empty{index}" for index in range(149))), 0.05)
    found = judged(damaged("sums", 1.0), slices=(many,), rounds=rounds)
    assert next(check for check in found["checks"] if check["metric"] == "sums")["verdict"] == "fail"


def test_a_slice_of_several_tasks_is_their_plain_mean() -> None:
    """`total` and a group weigh tasks equally, as the rules do, whatever their sizes."""
    items = BETTER.items
    fewer = dataclasses.replace(
        BETTER, items=items[~items["doc_hash"].isin([f"sums{i}" for i in range(200)])]
    )
    kept = dataclasses.replace(CHAMPION, items=CHAMPION.items[CHAMPION.items.index.isin(fewer.items.index)])
    family = Slices("all", ("total", "both"), 0.05)
    policy = dataclasses.replace(POLICY, slices=(family,), groups={"both": ("cities", "sums")})
    checks = decide({"one": Entry(fewer, None, 1, SILENT)}, kept, policy)["candidates"]["one"]["checks"]
    assert [check["metric"] for check in checks] == ["total", "total", "both"]
    assert len({check["difference"] for check in checks}) == 1


SAFETY = {"safety": ("cities", "sums")}


@pytest.mark.parametrize(
    ("rules", "expected", "said"),
    [
        ({"floors": (Floor("safety", 0.7),)}, "pass", "safety 0.8"),
        ({"floors": (Floor("safety", 0.95),)}, "fail", "not above the floor of 0.950"),
        ({"against_champion": (Rule("safety", 0.02),)}, "pass", "safety 0.8"),
        ({"slices": (Slices("harm", ("safety",), 0.02),)}, "pass", "slice safety of harm"),
    ],
)
def test_a_group_of_tasks_is_held_like_a_task(rules: dict[str, Any], expected: str, said: str) -> None:
    found = judged(groups=SAFETY, **rules)
    assert last(found)["verdict"] == expected
    assert said in last(found)["text"]


def test_a_group_that_lacks_a_task_closes_the_gate() -> None:
    found = judged(groups={"safety": ("cities", "harm")}, floors=(Floor("safety", 0.1),))
    assert last(found)["verdict"] == "fail"
    assert "safety of better is missing: harm has no items" in last(found)["text"]


def test_a_group_with_the_name_of_a_task_is_refused() -> None:
    with pytest.raises(EvalError, match="`cities` is both a task and a group"):
        judged(groups={"cities": ("sums",)}, floors=(Floor("cities", 0.1),))


def test_bits_of_few_or_uneven_documents_are_no_evidence() -> None:
    """One document that holds most of the text: what would do is said, and nothing passes."""
    items = [one.items.copy() for one in (BETTER, CHAMPION)]
    for rows, bits in zip(items, (0.9, 1.0), strict=True):
        giant = rows["doc_hash"] == "doc0"
        rows.loc[giant & (rows["metric"] == "chars"), "value"] = 1e6
        rows.loc[giant & (rows["metric"] == "bits"), "value"] = 1e6 * bits
    ours, theirs = (
        dataclasses.replace(one, items=rows) for one, rows in zip((BETTER, CHAMPION), items, strict=True)
    )
    policy = dataclasses.replace(POLICY, against_champion=(Rule("bpc_ru", 0.03, relative=True),))
    check = decide({"one": Entry(ours, None, 1, SILENT)}, theirs, policy)["candidates"]["one"]["checks"][0]
    assert (check["verdict"], check["method"]) == ("not enough data", "none")
    assert check["power"]["clusters"] > 200
    assert f"about {check['power']['clusters']:,} are needed" in check["text"]


@pytest.mark.parametrize(
    ("floor", "expected", "said"),
    [
        (Floor("cities", 0.5), "pass", "at or above the floor of 0.500"),
        (Floor("cities", 0.9), "fail", "not above the floor of 0.900"),
        (Floor("cities", 0.78), "not enough data", "too few to show more"),
        (Floor("total", 0.6), "pass", "total 0.8"),
        (Floor("harm", 0.5), "fail", "harm of better is missing"),
    ],
)
def test_a_floor_is_held_by_the_lower_bound(floor: Floor, expected: str, said: str) -> None:
    found = judged(floors=(floor,))
    assert last(found)["verdict"] == expected
    assert said in last(found)["text"]


def test_a_floor_is_never_traded() -> None:
    """Far better than the champion in everything, below the floor: held."""
    assert judged(floors=(Floor("cities", 0.95),))["verdict"] == "fail"


def test_forgetting_is_held_against_the_anchor_too() -> None:
    """Many small steps: better than the champion, worse than the base."""
    anchor = model("base", 0.8, 0.5)
    rules = {"base": (Rule("bpc_ru", 0.05, relative=True),)}
    found = judged(reference=Reference({"base": anchor}), against_anchor=rules)
    assert [check["verdict"] for check in found["checks"]] == ["pass", "fail"]
    assert last(found)["against"] == "base"
    absent = judged(against_anchor=rules)
    assert last(absent)["verdict"] == "fail"
    assert "was not evaluated; a missing number closes the gate" in last(absent)["text"]


@pytest.mark.parametrize(
    ("budget", "expected", "said"),
    [
        (Budget("latency_ms", 125.0, 512), "pass", "latency (p50, prompt of 512 tokens) 100.0 ms"),
        (Budget("latency_ms", 110.0, 512), "fail", "at most 120.0 ms over repeats, over the budget of 110.0"),
        (Budget("latency_ms", 181.0, 512, "p95"), "pass", "180.0 ms, within"),
        (Budget("latency_ms", 400.0, 1), "fail", "is missing; a missing number closes the gate"),
        (Budget("ttft_ms", 400.0, 512), "fail", "time to the first token"),
        (Budget("peak_rss_bytes", 4e8), "fail", "500.00 MB, over the budget of 400.00 MB"),
        (Budget("peak_device_bytes", 4e8), "fail", "is missing"),
    ],
)
def test_budgets_are_absolute(budget: Budget, expected: str, said: str) -> None:
    found = last(judged(budgets=(budget,)))
    assert found["verdict"] == expected
    assert said in found["text"]


def licences(lineage: dict[str, Any]) -> dict[str, Any]:
    policy = dataclasses.replace(POLICY, licences=("Apache-2.0", "CC0-1.0"))
    entry = Entry(BETTER, None, 1, SILENT, MEASURES, lineage)
    return last(decide({"one": entry}, CHAMPION, policy)["candidates"]["one"])


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        ({}, "the base, the data"),
        ({**LINEAGE, "base": {}}, "the base"),
        ({**LINEAGE, "base": {"licence": "Qwen-Research"}}, "the base (Qwen-Research); allowed: Apache-2.0"),
        ({**LINEAGE, "data": {"web": ["CC0-1.0", "CC-BY-NC-4.0"]}}, "subset web (CC-BY-NC-4.0)"),
        ({**LINEAGE, "data": {"web": []}}, "subset web"),
        ({**LINEAGE, "student": "models/small"}, "the student models/small"),
    ],
)
def test_licences_that_are_not_allowed_or_not_known_close_the_gate(
    lineage: dict[str, Any], said: str
) -> None:
    found = licences(lineage)
    assert found["verdict"] == "fail"
    assert said in found["text"]


@pytest.mark.parametrize("student", OWN_STUDENTS)
def test_allowed_licences_hold(student: str) -> None:
    assert licences({**LINEAGE, "student": student})["verdict"] == "pass"


def counts(**contaminated: int) -> dict[str, Any]:
    return {
        "ngram": 13,
        "tasks": {
            task: {"items": 300, "contaminated": bad, "too_short": 0} for task, bad in contaminated.items()
        },
    }


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        (counts(cities=0, sums=3), "pass", "at most 1.0 % of the items of any of 2 tasks"),
        (counts(cities=0, sums=4), "fail", "13-grams of sums (1.3 % of its items); at most 1 % is allowed"),
        (counts(cities=0), "fail", "contamination of sums is missing"),
        ({**counts(), "tasks": {"cities": {"items": 0, "contaminated": 0}}}, "fail", "is missing"),
        ({**counts(), "tasks": [1]}, "fail", "was not looked for"),
        (None, "fail", "was not looked for"),
    ],
)
def test_contamination_is_limited_for_every_scored_task(
    found: dict[str, Any] | None, expected: str, said: str
) -> None:
    check = last(judged(reference=Reference(contamination=found), max_contamination=0.01))
    assert check["verdict"] == expected
    assert said in check["text"]


@pytest.mark.parametrize(
    ("bad", "short", "allowed", "expected", "said"),
    [
        (
            0,
            100,
            0.5,
            "pass",
            "1 % is allowed; too short to tell: 100 of 300 items of sums",
        ),
        (
            0,
            151,
            0.5,
            "fail",
            "; sums: more than 50 % (max_too_short) cannot be judged, which closes",
        ),
        (0, 300, 1.0, "pass", "too short to tell: 300 of 300 items of sums"),
        # Of the items that can be judged: 3 of 200.
        (3, 100, 0.5, "fail", "13-grams of sums (1.5 % of its items)"),
        (0, None, 1.0, "fail", "contamination of sums is missing"),
    ],
)
def test_items_that_are_too_short_to_tell_are_not_called_clean(
    bad: int, short: int | None, allowed: float, expected: str, said: str
) -> None:
    found = counts(cities=0, sums=bad)
    found["tasks"]["sums"]["too_short"] = short
    rules = {"max_contamination": 0.01, "max_too_short": allowed}
    check = last(judged(reference=Reference(contamination=found), **rules))
    assert check["verdict"] == expected
    assert said in check["text"]


@pytest.mark.parametrize("key", ["task_versions", "data", "shots", "precision", "batch_size"])
def test_conditions_that_nobody_states_are_not_comparable(key: str) -> None:
    silent = [
        dataclasses.replace(one, conditions={k: v for k, v in one.conditions.items() if k != key})
        for one in (BETTER, CHAMPION)
    ]
    entry = Entry(silent[0], None, 1, SILENT)
    found = decide({"one": entry}, silent[1], POLICY)["candidates"]["one"]
    assert found["verdict"] == "not comparable"
    assert f"the conditions of better do not say {key}" in found["reasons"][0]


def test_shares_outside_zero_and_one_are_refused() -> None:
    wrong = model("wrong", 0.8)
    wrong.items.loc[3, "value"] = 100.0
    with pytest.raises(EvalError, match=r"task cities has values outside 0\.\.1"):
        judged(wrong)


def always_a() -> Evaluation:
    """A model that always names the first choice: right on a quarter of the items, whatever they ask."""
    return model("always-a", 0.25, 1.0, seed=11)


@pytest.mark.parametrize(
    "planted",
    [lambda: model("random", 0.25, 8.0, seed=9), lambda: model("swapped", 0.1, 20.0, seed=5), always_a],
    ids=["random weights", "swapped tokenizer", "always A"],
)
def test_planted_regressions_are_never_promoted(planted: Callable[[], Evaluation]) -> None:
    policy = dataclasses.replace(POLICY, slices=(FAMILY,), floors=(Floor("total", 0.3),), winner="best")
    judge = Vote(True, "", Evidence([0.9] * 100, [str(index) for index in range(100)]))
    decision = decide({"planted": Entry(planted(), None, 1, judge)}, CHAMPION, policy)
    assert decision["winner"] is None
    assert decision["candidates"]["planted"]["verdict"] == "fail"


def test_a_check_is_plain_json() -> None:
    assert set(judged()["checks"][0]) == set(Check("r", None, "m", None, "pass", "t").as_json())
