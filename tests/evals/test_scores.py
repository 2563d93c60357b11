"""scores.json from items: means, totals, what stands beside them."""

from __future__ import annotations

import pytest

from evals import scores
from evals.bpc import Bits, Document
from evals.items import Item
from evals.minimal_pairs import TASK, Pair
from evals.records import Layout, Record
from evals.results import Results
from evals.suites import Suite, Task


def _items(task: str, values: list[float], metric: str = "acc") -> list[Item]:
    return [Item(task, f"d{i}", f"p{i}", f"f{i // 2}", metric, value) for i, value in enumerate(values)]


def _task(name: str, answers: list[str], choices: tuple[str, ...] | None) -> Task:
    records = tuple(Record("", "", answer, str(i), str(i), "") for i, answer in enumerate(answers))
    return Task(
        name, "ru", "choice" if choices else "generate", choices, Layout(), "1", records, unanswered=2
    )


def test_the_total_is_the_plain_mean_of_tasks_of_any_size() -> None:
    large, small = (
        _task("large", ["1"] * 75 + ["2"] * 25, ("1", "2", "3", "4")),
        _task("small", ["a", "a", "b", "c"], None),
    )
    items = [*_items("large", [1.0] * 90 + [0.0] * 10), *_items("small", [1.0, 0.0, 0.0, 0.0], "exact_match")]
    suite = Suite([large, small], refused={"rutie": "sequential"}, ignored=["votes.jsonl"])
    found = scores.describe(suite, Results(items, {"large": 3, "small": 0}), [])
    assert found["total"]["value"] == pytest.approx((0.9 + 0.25) / 2)
    assert (found["total"]["tasks"], found["total"]["missing"], found["total"]["n"]) == (2, ["rutie"], 104)
    lo, hi = found["total"]["ci"]
    assert lo < found["total"]["value"] < hi
    first, second = found["tasks"]["large"], found["tasks"]["small"]
    assert (first["value"], first["majority"], first["chance"], first["cut_prompts"]) == (0.9, 0.75, 0.25, 3)
    assert (first["n"], first["clusters"], first["metric"], first["unanswered"]) == (100, 50, "acc", 2)
    assert (second["majority"], second["chance"], second["metric"]) == (0.5, 0.0, "exact_match")
    assert found["refused"] == {"rutie": "sequential"}
    assert found["ignored"] == ["votes.jsonl"]


def test_intervals_count_clusters_not_items() -> None:
    values = [float(i % 20 < 10) for i in range(200)]
    apart = [Item("t", str(i), "", str(i), "acc", value) for i, value in enumerate(values)]
    together = [Item("t", str(i), "", str(i // 10), "acc", value) for i, value in enumerate(values)]
    widths = [hi - lo for lo, hi in (scores.total(items, [])["ci"] for items in (apart, together))]
    assert widths[1] > 2 * widths[0]


def test_pairs_stand_by_phenomenon() -> None:
    pairs = [Pair(str(i), "a", "b", "AB"[i // 4]) for i in range(8)]
    items = _items(TASK, [1, 1, 1, 0, 0, 0, 0, 1])
    found = scores.describe(Suite(pairs=pairs), Results(), items)["tasks"][TASK]
    assert found["value"] == 0.5
    assert {name: part["value"] for name, part in found["phenomena"].items()} == {"A": 0.75, "B": 0.25}
    assert (found["majority"], found["chance"]) == (0.5, 0.5)


def test_bits_per_character_weigh_documents_by_length() -> None:
    bits = Bits((Document("a", "x" * 10), Document("b", "y" * 90)), (40.0, 90.0), (10, 90), 0)
    found = scores.describe_bits({"ru": bits})["ru"]
    assert found["value"] == pytest.approx(1.3)
    assert (found["documents"], found["characters"], found["unknown_tokens"]) == (2, 100, 0)
    assert found["ci"][0] <= 1.3 <= found["ci"][1]
