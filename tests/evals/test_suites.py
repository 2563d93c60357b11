"""Which tasks a suite gives, what it refuses by name, and what it leaves out and counts."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals import tasks as declarations
from evals.errors import EvalError
from evals.suites import Task, load

CHOICE = {
    "language": "ru",
    "type": "choice",
    "choices": ["да", "нет"],
    "metric": "acc",
    "test": 3,
    "train": 2,
}
GENERATE = {
    "language": "en",
    "type": "generate",
    "choices": None,
    "metric": "exact_match",
    "test": 3,
    "train": 2,
}


def _records(path: Path, answers: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "instruction": "{inputs}",
            "inputs": f"в{i}",
            "outputs": answer,
            "meta": {"id": i, "cluster": f"f{i // 2}"},
        }
        for i, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _world(folder: Path, index: dict[str, Any] | None = None) -> Path:
    entries = {"kinship": CHOICE, "plural": GENERATE} if index is None else index
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    _records(folder / "kinship/test.jsonl", ["да", "нет", "да"])
    _records(folder / "kinship/train.jsonl", ["нет", "да"])
    _records(folder / "plural/test.jsonl", ["cats", "dogs", "mice"])
    _records(folder / "plural/train.jsonl", ["cows", "oxen"])
    return folder


def _names(tasks: list[Task]) -> dict[str, Task]:
    return {task.name: task for task in tasks}


def test_the_index_describes_the_worlds_tasks(tmp_path: Path) -> None:
    found = _names(load([_world(tmp_path)]).tasks)
    kinship, plural = found["kinship"], found["plural"]
    assert (kinship.kind, kinship.metric, kinship.choices, len(kinship.test)) == (
        "choice",
        "acc",
        ("да", "нет"),
        3,
    )
    assert (plural.kind, plural.metric, plural.language, plural.choices) == (
        "generate",
        "exact_match",
        "en",
        None,
    )
    assert [record.cluster for record in plural.test] == ["f0", "f0", "f1"]
    assert kinship.shots == ()


def test_shots_come_from_train_and_limit_keeps_the_first_items(tmp_path: Path) -> None:
    task = _names(load([_world(tmp_path)], shots=2, limit=1).tasks)["plural"]
    assert [record.outputs for record in task.shots] == ["cows", "oxen"]
    assert [record.outputs for record in task.test] == ["cats"]
    with pytest.raises(EvalError, match=r"2 answered records, but `evaluate\.shots` asks for 3"):
        load([tmp_path], shots=3)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {**CHOICE, "type": "essay"},
            "task `kinship`: key `type` is \"essay\"; Input should be 'choice' or 'generate'",
        ),
        ({**CHOICE, "choices": None}, "a choice task needs `choices`"),
        ({**GENERATE, "metric": "bleu"}, "metric `bleu` is not built for type generate"),
        ({"language": "ru"}, "task `kinship`: key `type` is missing"),
        ({**CHOICE, "metrc": "acc"}, "task `kinship`: key `metrc` is unknown; an entry has language, type"),
        ({**CHOICE, "choices": "AB"}, 'key `choices` is "AB"; Input should be a valid list'),
        ({**CHOICE, "choices": [1, 2]}, r"key `choices\.0` is 1; Input should be a valid string"),
        ({**CHOICE, "choices": ["да"]}, "`choices` must hold two texts or more"),
        ({**CHOICE, "choices": ["да", "да"]}, "`choices` holds one text twice"),
        ({**CHOICE, "options": ["a"]}, "`options` must name one field of inputs for each"),
        (None, "task `kinship`: expected an object with the keys language and type, found NoneType"),
        (["language", "type"], "expected an object with the keys language and type, found list"),
        (
            {**CHOICE, "choices": ["да", "не"]},
            r"kinship/test\.jsonl:2: answer `нет` is not among the choices",
        ),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(EvalError, match=message):
        load([_world(tmp_path, {"kinship": entry, "plural": GENERATE})])


def test_an_indexed_task_without_file_is_missing_by_name(tmp_path: Path) -> None:
    suite = load([_world(tmp_path, {"kinship": CHOICE, "plural": GENERATE, "calendar": CHOICE})])
    assert list(suite.refused) == ["calendar"]


def test_a_task_nobody_describes_is_refused_and_no_task_at_all_is_an_error(tmp_path: Path) -> None:
    _records(tmp_path / "mystery.jsonl", ["1"])
    with pytest.raises(EvalError, match=r"no task that can be scored: mystery"):
        load([tmp_path])
    with pytest.raises(EvalError, match="no such folder"):
        load([tmp_path / "absent"])


def test_equal_names_in_two_suites_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="task `kinship` stands in two suites"):
        load([_world(tmp_path / "a"), _world(tmp_path / "b")])


def test_digests_follow_the_data_not_the_place(tmp_path: Path) -> None:
    first, second = load([_world(tmp_path / "a")]), load([_world(tmp_path / "b")])
    assert first.digests == second.digests
    _records(tmp_path / "b/plural/test.jsonl", ["cats", "dogs", "rats"])
    assert load([tmp_path / "b"]).digests != first.digests


def test_unanswered_records_are_counted_and_without_train_shots_leave_the_test(tmp_path: Path) -> None:
    _records(tmp_path / "bps.jsonl", ["", "1", "0", "1", "", "0"])
    (task,) = load([tmp_path], shots=2).tasks
    assert task.unanswered == 2
    assert [record.id for record in task.shots] == ["1", "2"]
    assert [record.id for record in task.test] == ["3", "5"]
    with pytest.raises(EvalError, match="no answered record is left"):
        load([tmp_path], shots=4)


def test_lcs_may_answer_a_number_outside_its_choices_others_not(tmp_path: Path) -> None:
    _records(tmp_path / "lcs.jsonl", ["3", "11"])
    assert len(load([tmp_path]).tasks[0].test) == 2
    _records(tmp_path / "lcs.jsonl", ["3", "foo"])
    with pytest.raises(EvalError, match=r"lcs\.jsonl:2: answer `foo`"):
        load([tmp_path])
    (tmp_path / "lcs.jsonl").rename(tmp_path / "rcb.jsonl")
    _records(tmp_path / "rcb.jsonl", ["3", "11"])
    with pytest.raises(EvalError, match=r"rcb\.jsonl:2: answer `11`"):
        load([tmp_path])


def _one(folder: Path, index: dict[str, Any], **record: Any) -> Path:
    """A folder with the task `asked`, of two items of which the second is changed."""
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(json.dumps({"asked": index}), encoding="utf-8")
    good: dict[str, Any] = {"instruction": "{q}", "inputs": {"q": "?", "a": "x", "b": "y"}, "outputs": "A"}
    rows = [{**good, "meta": {"id": 0}}, {**good, "meta": {"id": 1}, **record}]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"inputs": {"q": None, "a": "x", "b": "y"}}, "names `{q}`, but `inputs` has no such field"),
        ({"inputs": {"a": "x", "b": "y"}}, "names `{q}`, but `inputs` has no such field"),
        ({"inputs": {"q": " ", "a": "x", "b": "y"}}, "the prompt is empty"),
        ({"inputs": {"q": "?", "a": "x"}}, "item 1: inputs lack the option `b`"),
        ({"inputs": {"q": "?", "a": "x", "b": "x"}}, "item 1: two options are the same text"),
    ],
)
def test_an_item_that_cannot_be_asked_is_refused_when_it_is_read(
    tmp_path: Path, record: dict[str, Any], message: str
) -> None:
    index = {"language": "ru", "type": "choice", "choices": ["A", "B"], "options": ["a", "b"]}
    with pytest.raises(EvalError, match=message):
        load([_one(tmp_path, index, **record)])


def test_a_shot_that_cannot_be_shown_is_refused_when_it_is_read(tmp_path: Path) -> None:
    index = {"language": "ru", "type": "generate"}
    _one(tmp_path, index)
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked.jsonl").rename(tmp_path / "asked/test.jsonl")
    shot = {"instruction": "{lost}", "inputs": {}, "outputs": "A", "meta": {"id": 0}}
    (tmp_path / "asked/train.jsonl").write_text(json.dumps(shot) + "\n", encoding="utf-8")
    assert len(load([tmp_path]).tasks[0].test) == 2
    with pytest.raises(EvalError, match=r"train\.jsonl:1: the instruction names `\{lost\}`"):
        load([tmp_path], shots=1)


def test_ids_of_two_tasks_are_two_clusters_and_a_fact_of_two_tasks_is_one(tmp_path: Path) -> None:
    index = {"language": "ru", "type": "generate"}
    one = load([_one(tmp_path, index, meta={"id": 1, "cluster": "fact"})]).tasks[0]
    other = replace(one, name="other")
    assert [one.cluster(record) for record in one.test] == ["asked:0", "fact"]
    assert [other.cluster(record) for record in other.test] == ["other:0", "fact"]


def test_a_meta_field_that_a_task_reads_must_be_there(tmp_path: Path) -> None:
    _records(tmp_path / "ruhhh.jsonl", ["1", "2"])
    with pytest.raises(EvalError, match=r"ruhhh\.jsonl:1: field `meta\.criteria` is missing; task `ruhhh`"):
        load([tmp_path])


def test_choice_tasks_have_a_generative_twin_and_written_ones_have_not(tmp_path: Path) -> None:
    _records(tmp_path / "bps.jsonl", ["1", "0"])
    _records(tmp_path / "rumodar.jsonl", ["11", "12"])
    found = _names(load([tmp_path], mode="generate").tasks)
    assert set(found) == {"bps_gen", "rumodar"}
    assert (found["bps_gen"].kind, found["bps_gen"].choices) == ("generate", None)
    assert declarations.declaration("rumodar_gen") is None


def test_a_closed_test_is_refused_and_asked_for_a_submission(tmp_path: Path) -> None:
    _records(tmp_path / "bps.jsonl", ["", ""])
    _records(tmp_path / "simplear.jsonl", ["", "1", "2", "3"])
    assert load([tmp_path]).refused == {"bps": "none of its 2 records has an answer"}
    asked = _names(load([tmp_path], ask_unanswered=True).tasks)
    assert (len(asked["bps"].test), asked["bps"].scored) == (2, ())
    assert (len(asked["simplear"].test), len(asked["simplear"].scored)) == (4, 3)


def test_minimal_pairs_are_capped_per_phenomenon_whatever_their_order(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "good": f"он шёл {i}", "bad": f"он шла {i}", "phenomenon": "AB"[i % 2], "level": "x"}
        for i in range(20)
    ]
    for name, order in (("one", rows), ("two", rows[::-1])):
        (tmp_path / name).mkdir()
        with gzip.open(tmp_path / name / "pairs_wiki.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in order)
    one, two = (
        load([tmp_path / "one"], pairs_per_phenomenon=3),
        load([tmp_path / "two"], pairs_per_phenomenon=3),
    )
    assert one.pairs == two.pairs
    assert [pair.phenomenon for pair in one.pairs] == ["A"] * 3 + ["B"] * 3
    assert len(load([tmp_path / "one"]).pairs) == 20


def test_a_pair_without_a_field_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"id": "1", "good": "а", "phenomenon": "A"}\n', encoding="utf-8")
    with pytest.raises(EvalError, match=r"pairs\.jsonl:1: field `bad`"):
        load([tmp_path])


def test_mera_human_as_its_source_says(shared_data: Path) -> None:
    suite = load([shared_data / "mera_human"])
    sizes = {task.name: len(task.scored) + task.unanswered for task in suite.tasks}
    exact = {"bps": 130, "lcs": 119, "simplear": 230, "rumultiar": 514}
    assert sizes == {**exact, "rcb": 468, "ruhhh": 168, "rutie": 430, "ruethics": 645}
    tasks = _names(suite.tasks)
    assert (tasks["rcb"].unanswered, tasks["rutie"].unanswered, len(tasks["rutie"].test)) == (22, 6, 430)
    assert not suite.refused
    assert suite.ignored == ["votes.jsonl"]
    clusters = [{task.cluster(record) for record in task.test} for task in suite.tasks]
    # The turns of ruTiE's one dialogue hang together; equal ids of different tasks mean nothing.
    assert len(set.union(*clusters)) == sum(sizes.values()) - 430 - 22 + 1
    assert {tasks["rutie"].cluster(record) for record in tasks["rutie"].test} == {"rutie:0"}


def test_rublimp_has_twelve_phenomena(shared_data: Path) -> None:
    suite = load([shared_data / "rublimp"], pairs_per_phenomenon=5)
    assert len(suite.pairs) == 60
    assert len({pair.phenomenon for pair in suite.pairs}) == 12


def test_a_broken_declaration_does_not_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declarations.manager.cache_clear()
    monkeypatch.setattr(declarations, "FOLDER", tmp_path)
    (tmp_path / "broken.yaml").write_text("task: [unclosed", encoding="utf-8")
    try:
        with pytest.raises(EvalError, match=r"broken\.yaml: lm-eval cannot read"):
            declarations.manager()
    finally:
        declarations.manager.cache_clear()
