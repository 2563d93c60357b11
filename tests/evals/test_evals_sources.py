"""Where records come from: adapters make the golden records, the hub is refused when offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals import suites
from evals.errors import EvalError
from evals.mera import adapter
from evals.suites import load


def test_crowd_items_become_the_golden_records(shared_data: Path) -> None:
    rows = (shared_data / "mera_golden/records.jsonl").read_text(encoding="utf-8").splitlines()
    seen: dict[str, int] = {}
    for row in map(json.loads, rows):
        if row["task"] not in adapter.TASKS:
            continue
        path = shared_data / Path(*Path(row["source_file"]).parts[2:])
        adapted = {
            record["meta"]["id"]: record for _, record in adapter.rows(row["task"], path, adapter.cards(path))
        }
        assert adapted[row["item_id"]] == row["record"]
        seen[row["task"]] = seen.get(row["task"], 0) + 1
    assert seen == {"parus": 10, "ruethics": 5}


def test_both_crowd_folders_are_suites(shared_data: Path) -> None:
    suite = load([shared_data / "mera_human", shared_data / "rsg_human"], shots=None)
    tasks = {task.name: task for task in suite.tasks}
    assert len(tasks) == 9
    assert set(suite.refused) == {"lidirus", "russe"}
    # MERA's own numbers of shots; the shots are the first answered records, and not scored.
    assert (len(tasks["parus"].test), len(tasks["simplear"].test), len(tasks["ruhhh"].test)) == (
        499,
        228,
        168,
    )
    assert [shot.id for shot in tasks["simplear"].shots] == ["0", "1"]


def test_without_cards_adapted_tasks_are_refused_by_name(tmp_path: Path) -> None:
    record = {"inputs": {"premise": "x", "question": "cause"}, "outputs": "1", "meta": {"id": 0}}
    folder = tmp_path / "crowd"
    folder.mkdir()
    (folder / "parus.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(
        EvalError, match=r"parus: its records have no instruction, and .*prompts\.json is absent"
    ):
        load([folder])
    with pytest.raises(EvalError, match=r"f:1: inputs\.question is `why`"):
        adapter.adapt("parus", {**record, "inputs": {"question": "why"}}, ["a", "b", "c"], "f:1")


def test_the_hub_is_refused_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(EvalError, match=r"hub:MERA-evaluation/MERA, but HF_\w+_OFFLINE forbids the network"):
        load(["hub:MERA-evaluation/MERA"])


class _Hub:
    """What datasets.load_dataset gives, without a network."""

    def __init__(self, golden: Path) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for line in (golden / "records.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "mera_human/rutie" not in row["source_file"]:
                self.rows.setdefault(row["task"], []).append(row["record"])

    def load_dataset(self, name: str, task: str) -> dict[str, list[dict[str, Any]]]:
        assert name == "MERA-evaluation/MERA"
        rows = self.rows.get(task) or [_made_up(task)]
        closed = [{**row, "outputs": type(row["outputs"])()} for row in rows]
        alike = suites.describe(task).spec.get("shots_alike")
        return {"test": rows if alike or task == "ruhatespeech" else closed, "train": rows}


def _made_up(task: str) -> dict[str, Any]:
    answer = {"rwsd": "Да", "ruworldtree": "A"}[task]
    return {"instruction": "{text}", "inputs": {"text": "x"}, "outputs": answer, "meta": {"id": 1}}


def test_all_tasks_of_the_hub_are_read(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    hub = _Hub(shared_data / "mera_golden")
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    suite = load(["hub:MERA-evaluation/MERA"])
    # Closed tests have no answers: they are refused for scoring, and asked for a submission.
    assert {"rcb", "lcs", "rwsd"} <= set(suite.refused)
    assert "none of its 10 records has an answer" in suite.refused["rcb"]
    asked = load(["hub:MERA-evaluation/MERA"], ask_unanswered=True, shots=0)
    assert len(asked.tasks) == 23
    rcb = next(task for task in asked.tasks if task.name == "rcb")
    assert (len(rcb.test), rcb.scored, rcb.unanswered) == (10, (), 10)

    def broken(*_: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(EvalError, match=r"configuration `bps` cannot be read \(no route to host\)"):
        load(["hub:MERA-evaluation/MERA"])
