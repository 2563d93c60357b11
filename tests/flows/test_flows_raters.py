"""`gorn raters`: blinded pairs out, labels back in the form that `judge.labels` takes, agreement told."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from evals.errors import EvalError
from evals.judge import labelled
from flows import raters
from stages.common.errors import UserError
from stages.common.params import Params, load

CELL = "adapt-bf16"


@pytest.fixture
def params(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """In a folder with answers to ten questions; two of the answers are equal."""
    monkeypatch.chdir(tmp_path)
    for name, word in ((CELL, "наш"), ("champion", "их")):
        folder = tmp_path / "out/evaluate" / name
        folder.mkdir(parents=True)
        rows = [
            {"id": f"q{i}", "cluster": f"c{i}", "question": f"Вопрос {i}?", "reference": "р", "wrong": "н",
             "answer": "одно" if i < 2 else f"{word} {i}"}
            for i in range(10)
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(folder / "answers.parquet")
    return load(root / "params.yaml")


def fill(folder: Path, rater: str, wrong: int = 0) -> Path:
    """The sheet of a rater who prefers ours, but for the first `wrong` items."""
    text = (folder / "items.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for place, row in enumerate(rows):
        ours = row["answer_1"].startswith("наш")
        row |= {"label": "1" if ours != (place < wrong) else "2", "rater": rater}
    path = folder / f"{rater}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_labels_come_back_as_labelled_pairs_with_their_texts(params: Params, tmp_path: Path) -> None:
    folder = tmp_path / "round1"
    assert "8 pairs (2 more are equal)" in raters.export(params, CELL, folder)
    files = [fill(folder, "anna"), fill(folder, "boris", wrong=2)]
    told = raters.bring(files, None)
    assert "16 labels of 2 raters on 8 pairs, 0 left empty" in told
    assert "candidate better in 6, champion in 0, tie in 2" in told
    assert "all agree on 6 of 8" in told and "Krippendorff's alpha" in told
    found = labelled.read([tmp_path / "round1.labels.jsonl"])
    assert {item.pair.id for item in found} == {f"round1/q{i}" for i in range(2, 10)}
    assert all(item.pair.ours.startswith("наш") and item.pair.theirs.startswith("их") for item in found)
    assert sorted(item.truth for item in found) == ["ours"] * 6 + ["tie"] * 2


def test_two_exports_can_be_named_together(params: Params, tmp_path: Path) -> None:
    for name in ("one", "two"):
        raters.export(params, CELL, tmp_path / name)
        raters.bring([fill(tmp_path / name, "anna")], tmp_path / f"{name}.key.json")
    assert len(labelled.read([tmp_path / "one.labels.jsonl", tmp_path / "two.labels.jsonl"])) == 16


def test_labels_of_unknown_items_are_one_line_and_write_nothing(params: Params, tmp_path: Path) -> None:
    folder = tmp_path / "round1"
    raters.export(params, CELL, folder)
    path = fill(folder, "anna")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, "feedbeef0000" + lines[1][12:]]), encoding="utf-8")
    with pytest.raises(EvalError, match=r"anna\.csv, line 10: item `feedbeef0000` was not exported"):
        raters.bring([path], None)
    assert not (tmp_path / "round1.labels.jsonl").exists()


def test_what_is_not_there_is_named(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cell `adapt`"):
        raters.export(params, "adapt", tmp_path / "x")
    with pytest.raises(UserError, match="no key beside its folder"):
        raters.bring([tmp_path / "lost" / "a.csv"], None)
