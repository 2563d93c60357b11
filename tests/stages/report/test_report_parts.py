"""Rows, words, labels and provenance on their own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import report_fake_out as fake
from hypothesis import given
from hypothesis import strategies as st
from report_fake_out import Project

from stages.report import labels, wording
from stages.report.models import Estimate
from stages.report.provenance import flat, read_provenance


def test_rows_hold_the_numbers_of_the_stages(finished: Project) -> None:
    table = finished.table
    assert [row["name"] for row in table["rows"]] == list(fake.MODELS)
    assert table["rows"][0]["role"] == "champion" and table["rows"][0]["verdict"] is None
    assert table["winner"] == fake.WINNER and table["machine"] == fake.MACHINE
    assert table["speed_prompt_tokens"] == 512
    for row in table["rows"]:
        scores, measures = (
            fake.scores(row["name"], fake.MODELS[row["name"]]),
            fake.measures(fake.MODELS[row["name"]]),
        )
        assert row["total"] == {key: scores["total"][key] for key in ("value", "ci")}
        assert row["bpc"]["ru"]["value"] == scores["bpc"]["ru"]["value"]
        assert row["bytes"] == measures["bytes"]
        assert row["decode_tokens_per_s"] == pytest.approx(
            measures["prompts"]["512"]["decode_tokens_per_s"]["p50"]
        )
        assert row["winner"] is (row["name"] == fake.WINNER)
        assert set(row["tasks"]) == set(fake.TASKS)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (5.831, "5.83"),
        (203.4, "203"),
        (6570.2, "6,570"),
        (0.01234, "0.0123"),
        (999.6, "1,000"),
        (None, "–"),
    ],
)
def test_three_significant_digits(value: float | None, shown: str) -> None:
    assert wording.significant(value) == shown


@given(st.floats(1e-6, 1e12))
def test_significant_digits_lose_less_than_half_a_per_cent(value: float) -> None:
    assert float(wording.significant(value).replace(",", "")) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("bytes_", "largest", "shown"),
    [
        (999, None, "999 B"),
        (1000, None, "1.00 kB"),
        (812_000, None, "812 kB"),
        (812_000, 2_320_000, "0.812 MB"),
        (15e9, None, "15.0 GB"),
        (None, 5, "–"),
    ],
)
def test_sizes_keep_to_the_unit_of_their_column(
    bytes_: float | None, largest: float | None, shown: str
) -> None:
    assert wording.size(bytes_, largest) == shown


def test_intervals() -> None:
    assert wording.interval(Estimate(0.784, 0.77, 0.798), "percent") == "[77.0, 79.8]"
    assert wording.interval(Estimate(1.0, None, 2.0), "number") == "[–, 2.00]"
    assert wording.interval(None, "number") == ""


@given(st.lists(st.floats(-1000, 1000), max_size=8), st.floats(0.5, 50))
def test_labels_at_line_ends_stand_apart_in_their_order(positions: list[float], least: float) -> None:
    moved = labels.apart(positions, least)
    ordered = sorted(range(len(positions)), key=lambda index: (positions[index], index))
    gaps = [moved[b] - moved[a] for a, b in pairwise(ordered)]
    assert all(gap >= least - 1e-6 for gap in gaps)


def test_labels_that_have_room_stay() -> None:
    assert labels.apart([0.0, 50.0, 20.0], 13.0) == pytest.approx([0.0, 50.0, 20.0])
    assert labels.apart([10.0, 10.0], 13.0) == pytest.approx([3.5, 16.5])


def test_labels_of_crowded_points_do_not_cover_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 10), ylim=(0, 100))
    points = [(5.0, 50.0), (5.3, 51.0), (4.7, 50.0), (9.6, 50.0)]
    labels.place(
        figure,
        axes,
        [labels.Label(f"candidate-{x}\n100 tokens/s", x, y, y - 2, y + 2, 9, "black") for x, y in points],
    )
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(points)
    frame = axes.get_window_extent()
    for index, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert all(labels.overlap(box, other) == 0 for other in boxes[index + 1 :])


def test_nested_lineage_is_flattened() -> None:
    value = {"base": {"licence": "MIT", "id": None}, "data": {"a": ["X", "Y"]}, "list": [{"k": 1}]}
    assert flat(value) == [("base.licence", "MIT"), ("data.a", "X, Y"), ("list.0.k", "1")]


def test_manifests_that_disagree_are_told_apart(tmp_path: Path) -> None:
    for name, torch, licence in (("a", "2.13", "MIT"), ("b", "2.11", "MIT"), ("c", "2.13", "MIT")):
        manifest = {"seed": 1, "versions": {"torch": torch}, "lineage": {"licence": licence}}
        (tmp_path / name).write_text(json.dumps(manifest))
    found = read_provenance({name: tmp_path / name for name in "abc"})
    assert found.versions == [("torch (b)", "2.11"), ("torch (a, c)", "2.13")]
    assert found.lineage == [("licence", "MIT")]
    assert found.seeds == [("training", "1")]


def test_seeds_of_world_and_training_are_told_apart(finished: Project) -> None:
    markdown = finished.read("report.md")
    assert "| seed, embedded world | 7 |" in markdown and "| seed, training | 1 |" in markdown
    assert "| base.licence | Apache-2.0 |" in markdown and "| data.world-ru | CC0-1.0 |" in markdown
