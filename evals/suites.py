"""Which tasks a suite gives: the embedded world's, a folder in MERA's form, or minimal pairs.

A folder in MERA's form holds `<task>/test.jsonl` (and `train.jsonl`), or `<task>.jsonl`. What a task is
(choices, metric, layout) says its `index.json` or, for MERA's own tasks, evals/tasks/mera. A task that
neither describes is refused by name, never guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evals import tasks as declarations
from evals.errors import EvalError
from evals.minimal_pairs import PAIR_FILES, Pair, read_pairs
from evals.records import Layout, Record, is_record, read_jsonl, read_records

METRICS = {"choice": "acc", "generate": "exact_match"}
NEEDS_OWN_MACHINE = {
    "rutie": "it is one dialogue in which every turn shows the model's own earlier answers; not built yet",
    "ruethics": "five labels an item and 15 correlations, never one score; not built yet",
}


@dataclass(frozen=True)
class Task:
    """One task ready to run. `test` is what is scored, `shots` what is shown before each item.

    `choices` are the possible outputs. In the cloze formulation `options` names, in the same order, the
    fields of `inputs` whose texts stand for them as continuations: small models cannot bind letters to
    options (OLMES, arXiv 2406.08446, section 3); without `options` the choices themselves are continuations.
    `unanswered`: records left out for having no answer. `declared`: it has a YAML in evals/tasks/mera.
    """

    name: str
    language: str
    kind: Literal["choice", "generate"]
    choices: tuple[str, ...] | None
    layout: Layout
    version: str
    test: tuple[Record, ...]
    shots: tuple[Record, ...] = ()
    unanswered: int = 0
    declared: bool = False
    options: tuple[str, ...] | None = None

    def continuations(self, record: Record) -> list[str]:
        """What a model may answer to `record`, in the order of `choices`. Raises `EvalError`."""
        if self.options is None:
            return list(self.choices or ())
        inputs = record.inputs if isinstance(record.inputs, dict) else {}
        if missing := [name for name in self.options if name not in inputs]:
            raise EvalError(f"task `{self.name}`, item {record.id}: inputs lack the option `{missing[0]}`")
        texts = [inputs[name] for name in self.options]
        if len(set(texts)) < len(texts):
            raise EvalError(f"task `{self.name}`, item {record.id}: two options are the same text")
        return texts

    @property
    def metric(self) -> str:
        """The metric of its kind: `acc` or `exact_match`."""
        return METRICS[self.kind]

    @property
    def config(self) -> dict[str, Any]:
        """Its YAML, functions resolved: its own, or the template of its kind."""
        own = declarations.declaration(self.name) if self.declared else None
        return own or declarations.template(self.kind)


@dataclass
class Suite:
    """What the named suites hold together.

    `refused`: task name -> why it was not scored. `ignored`: files that hold no tasks. `digests`: file ->
    SHA-256.
    """

    tasks: list[Task] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, other: Suite) -> None:
        """Take in another suite. Raises `EvalError` when two suites have a task of the same name."""
        known = {task.name for task in self.tasks} | self.refused.keys()
        for name in sorted(known & ({task.name for task in other.tasks} | other.refused.keys())):
            raise EvalError(f"task `{name}` stands in two suites of `evaluate.suites`; rename or drop one")
        if self.pairs and other.pairs:
            raise EvalError("two suites of `evaluate.suites` hold minimal pairs; drop one")
        self.tasks += other.tasks
        self.pairs += other.pairs
        self.refused |= other.refused
        self.ignored += other.ignored
        self.digests |= other.digests


def load(
    folders: Iterable[Path], shots: int = 0, limit: int | None = None, pairs_per_phenomenon: int | None = None
) -> Suite:
    """Read the suites in `folders` (absolute or resolvable paths).

    `limit` keeps the first items of each task, `pairs_per_phenomenon` the minimal pairs of each phenomenon.
    Raises `EvalError` on bad records (file, line, field), on a folder without any task, and on equal task
    names.
    """
    suite = Suite()
    for folder in folders:
        suite.add(_load_folder(folder.resolve(), shots, limit, pairs_per_phenomenon))
    if not suite.tasks and not suite.pairs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(suite.refused.items()))
        raise EvalError(
            f"`evaluate.suites` holds no task that can be scored{': ' + reasons if reasons else ''}"
        )
    return suite


def _load_folder(folder: Path, shots: int, limit: int | None, pairs_per_phenomenon: int | None) -> Suite:
    if not folder.is_dir():
        raise EvalError(f"{folder}: no such folder; mend `evaluate.suites` in params.yaml")
    suite = Suite()
    for pair_file in sorted({found for name in PAIR_FILES for found in folder.glob(name)}):
        suite.pairs += read_pairs(pair_file, pairs_per_phenomenon)
        suite.digests[pair_file.name] = digest(pair_file)
    for name, (test, train) in _splits(folder).items():
        task = _describe(name, folder)
        if name.lower() in NEEDS_OWN_MACHINE:
            suite.refused[name] = NEEDS_OWN_MACHINE[name.lower()]
        elif task is not None:
            suite.tasks.append(_with_records(task, test, train, shots, limit))
            suite.digests |= {
                f"{name}/{path.name}": digest(path) for path in (test, train) if path is not None
            }
        elif any(is_record(value) for _, value in read_jsonl(test)):
            known = "neither an index.json beside it nor evals/tasks/mera"
            suite.refused[name] = f"{known} says whether its answers are chosen or written"
        else:
            suite.ignored.append(test.name)
    for name in sorted(_index(folder).keys() - _splits(folder).keys()):
        suite.refused[name] = f"{folder.name}/index.json names it, but its test.jsonl is missing"
    return suite


def _splits(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Task name -> (test file, train file or None), sorted by name."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for path in folder.glob("*.jsonl"):
        if not any(path.match(pattern) for pattern in PAIR_FILES):
            found[path.stem] = (path, None)
    for path in folder.glob("*/test.jsonl"):
        train = path.with_name("train.jsonl")
        found[path.parent.name] = (path, train if train.exists() else None)
    return dict(sorted(found.items()))


def _index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        return {}
    import json

    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvalError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(index, dict):
        raise EvalError(f"{path}: expected an object of tasks, found {type(index).__name__}")
    return index


def _describe(name: str, folder: Path) -> Task | None:
    """The task without its records, from the folder's index or from evals/tasks; None if neither has it."""
    entry = _index(folder).get(name)
    if entry is not None:
        where = f"{folder}/index.json: task `{name}`"
        for key in ("language", "type"):
            if key not in entry:
                raise EvalError(f"{where}: key `{key}` is missing")
        template, choices = declarations.template(entry["type"]), entry.get("choices")
        if (entry["type"] == "choice") != bool(choices):
            raise EvalError(f"{where}: a choice task needs `choices`, a generate task has none")
        options = entry.get("options")
        if options is not None and len(options) != len(choices or ()):
            raise EvalError(f"{where}: `options` must name one field of inputs for each of `choices`")
        if entry.get("metric", METRICS[entry["type"]]) != METRICS[entry["type"]]:
            raise EvalError(f"{where}: metric `{entry['metric']}` is not built for type {entry['type']}")
        task = _task(name, entry["language"], template, choices)
        return replace(task, options=tuple(options) if options else None)
    config = declarations.declaration(name)
    return (
        None
        if config is None
        else replace(_task(name, "ru", config, config.get("doc_to_choice")), declared=True)
    )


def _task(name: str, language: str, config: dict[str, Any], choices: Sequence[str] | None) -> Task:
    metadata = config.get("metadata") or {}
    kind: Literal["choice", "generate"] = (
        "choice" if config["output_type"] == "multiple_choice" else "generate"
    )
    layout = Layout(metadata.get("strip", True), metadata.get("frame"), metadata.get("shot_suffix", ""))
    return Task(
        name=name,
        language=language,
        kind=kind,
        choices=tuple(choices) if choices else None,
        layout=layout,
        version=str(metadata.get("version", 1)),
        test=(),
    )


def _with_records(task: Task, test: Path, train: Path | None, shots: int, limit: int | None) -> Task:
    records = read_records(test)
    answered = [record for record in records if record.outputs]
    _check_gold(task, answered)
    shown = [record for record in read_records(train) if record.outputs] if train and shots else []
    scored = answered
    if shots and train is None:
        shown, scored = answered[:shots], answered[shots:]
    if len(shown) < shots:
        raise EvalError(
            f"{train or test}: {len(shown)} answered records, but `evaluate.shots` asks for {shots}"
        )
    if not scored:
        raise EvalError(f"{test}: no answered record is left to score; add items or lower `evaluate.shots`")
    _check_gold(task, shown[:shots])
    return replace(
        task, test=tuple(scored[:limit]), shots=tuple(shown[:shots]), unanswered=len(records) - len(answered)
    )


def _check_gold(task: Task, records: Sequence[Record]) -> None:
    if task.choices is None:
        return
    if task.config["metadata"].get("gold_outside_choices") == "wrong":
        return
    for record in records:
        if record.outputs not in task.choices:
            raise EvalError(
                f"{record.where}: answer `{record.outputs}` is not among the choices of task"
                f" `{task.name}` ({', '.join(task.choices)}); mend `outputs`"
            )


def digest(path: Path) -> str:
    """Hex SHA-256 of a data file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
