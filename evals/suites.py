"""Which tasks a suite gives: the embedded world's, a folder in MERA's form, MERA's data set on the hub, or
minimal pairs.

A folder in MERA's form holds `<task>/test.jsonl` (and `train.jsonl` or `public_test.jsonl`), or
`<task>.jsonl`. What a task is (choices, metric, layout) says its `index.json` or, for MERA's own tasks,
evals/tasks/mera. A task that neither describes is refused by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from evals import index
from evals import shots as shots_of
from evals import tasks as declarations
from evals.errors import EvalError
from evals.mera import dialogue
from evals.minimal_pairs import PAIR_FILES, Pair, read_pairs
from evals.records import Layout, Record, check, is_record
from evals.sources import HUB, Split, digest, folder_splits, hub_splits

_LAYOUT = tuple(place.name for place in fields(Layout))
Mode = Literal["choice", "generate"]


@dataclass(frozen=True)
class Task:
    """One task ready to run. `test` is what is asked, `shots` what is shown before each item, or `shown`
    before each by the item's id.

    `choices` are the possible outputs. In the cloze formulation `options` names, in the same order, the
    fields of `inputs` whose texts stand for them as continuations: small models cannot bind letters to
    options (OLMES, arXiv 2406.08446, section 3); without `options` the choices themselves are continuations.
    `unanswered`: records left out for having no answer. `declared`: it has a YAML in evals/tasks/mera, whose
    `metadata` are `spec`; a twin of those is written out and has `choices` in its spec alone.
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
    shown: Mapping[str, tuple[Record, ...]] | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)

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
        return index.METRICS[self.kind]

    @property
    def config(self) -> dict[str, Any]:
        """Its YAML, functions resolved: its own, or the template of its kind."""
        own = declarations.declaration(self.name) if self.declared else None
        return own or declarations.template(self.kind)

    @property
    def scored(self) -> tuple[Record, ...]:
        """The items that have an answer: all but some turns of a dialogue, which are asked all the same."""
        return tuple(record for record in self.test if record.outputs)

    def before(self, record: Record) -> tuple[Record, ...]:
        """The shots shown before an item."""
        return self.shots if self.shown is None else self.shown[record.id]

    def turn(self, record: Record) -> str:
        """The turn of a tested item; of a dialogue the prompt before its context is known.

        Raises `EvalError` when the item lacks a field that its template names.
        """
        if self.spec.get("dialogue"):
            return dialogue.template(record)
        return self.layout.later_turn(record) if self.framed else self.layout.full(record)

    def cluster(self, record: Record) -> str:
        """What the result on `record` shares with others: its dialogue, the fact that it names, or nothing.

        An id means nothing outside its task, so the task's name stands before it; a fact may be asked about
        by several tasks.
        """
        if self.spec.get("dialogue"):
            return f"{self.name}:{dialogue.dialogue(record)}"
        return f"{self.name}:{record.id}" if record.cluster is None else record.cluster

    @property
    def framed(self) -> bool:
        """Whether an item stands in its task's short frame, because shots carry the instruction."""
        return bool(self.shots) or self.shown is not None


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

    def take(self, task: Task, test: Split, train: Split | None, settings: Settings) -> None:
        """Read the records of a task; it is refused by name when none has an answer. Raises `EvalError`."""
        read = _with_records(task, test, train, settings)
        if not read.test:
            self.refused[task.name] = f"none of its {read.unanswered} records has an answer"
            return
        self.tasks.append(read)
        self.digests |= {split.key: split.digest for split in (test, train) if split is not None}


@dataclass(frozen=True)
class Settings:
    """What a suite is read with.

    `shots`: how many before each item, None = MERA's own number; drawn as `draw`. `limit` keeps the first
    items of each task, `pairs_per_phenomenon` the minimal pairs of each phenomenon. In the mode `generate`
    MERA's choice tasks run as their twins, which write the answer. `ask_unanswered`: items without an answer
    are asked too, for a submission; they are never scored.
    """

    shots: int | None = 0
    limit: int | None = None
    pairs_per_phenomenon: int | None = None
    mode: Mode = "choice"
    draw: shots_of.Draw = "first"
    ask_unanswered: bool = False


def load(
    folders: Iterable[Path | str],
    shots: int | None = 0,
    limit: int | None = None,
    pairs_per_phenomenon: int | None = None,
    mode: Mode = "choice",
    draw: shots_of.Draw = "first",
    ask_unanswered: bool = False,
) -> Suite:
    """Read the suites in `folders` (absolute or resolvable paths, or `hub:NAME` for a data set of the hub).

    The settings are those of `Settings`. Raises `EvalError` on bad records (file, line, field), on a folder
    without any task, and on equal task names.
    """
    settings = Settings(shots, limit, pairs_per_phenomenon, mode, draw, ask_unanswered)
    suite = Suite()
    for folder in folders:
        if str(folder).startswith(HUB):
            suite.add(_load_hub(str(folder).removeprefix(HUB), settings))
        else:
            suite.add(_load_folder(Path(folder).resolve(), settings))
    if not suite.tasks and not suite.pairs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(suite.refused.items()))
        raise EvalError(
            f"`evaluate.suites` holds no task that can be scored{': ' + reasons if reasons else ''}"
        )
    return suite


def _load_folder(folder: Path, settings: Settings) -> Suite:
    if not folder.is_dir():
        raise EvalError(f"{folder}: no such folder; mend `evaluate.suites` in params.yaml")
    suite = Suite()
    for pair_file in sorted({found for name in PAIR_FILES for found in folder.glob(name)}):
        suite.pairs += read_pairs(pair_file, settings.pairs_per_phenomenon)
        suite.digests[pair_file.name] = digest(pair_file)
    entries, splits = index.read(folder), folder_splits(folder)
    for name, (test, train) in splits.items():
        task = _describe(name, entries.get(name), settings.mode)
        if task is not None and test.refused:
            suite.refused[name] = test.refused
        elif task is not None:
            suite.take(task, test, train, settings)
        elif any(is_record(value) for _, value in test.rows()):
            known = "neither an index.json beside it nor evals/tasks/mera"
            suite.refused[name] = f"{known} says whether its answers are chosen or written"
        else:
            suite.ignored.append(f"{name}.jsonl")
    for name in sorted(entries.keys() - splits.keys()):
        suite.refused[name] = f"{folder.name}/index.json names it, but its test.jsonl is missing"
    return suite


def _load_hub(dataset: str, settings: Settings) -> Suite:
    suite = Suite()
    for name in declarations.mera():
        task = describe(name, settings.mode)
        test, train = hub_splits(dataset, name)
        suite.take(task, test, train, settings)
    return suite


def _describe(name: str, entry: index.Entry | None, mode: Mode) -> Task | None:
    """The task without its records, from the folder's index or from evals/tasks; None if neither has it."""
    if entry is None:
        return None if declarations.declaration(name) is None else describe(name, mode)
    task = _task(name, entry.language, declarations.template(entry.type), entry.choices)
    return replace(task, options=tuple(entry.options) if entry.options else None)


def describe(name: str, mode: Mode = "choice") -> Task:
    """A task of evals/tasks/mera without its records, or in the mode `generate` its twin.

    Raises `EvalError` when none is declared under this name.
    """
    twin = name + declarations.TWIN
    if mode == "generate" and declarations.declaration(twin) is not None:
        name = twin
    config = declarations.declaration(name)
    if config is None:
        raise EvalError(f"task `{name}`: evals/tasks/mera declares no such task")
    return replace(_task(name, "ru", config, config.get("doc_to_choice")), declared=True)


def _task(name: str, language: str, config: dict[str, Any], choices: Sequence[str] | None) -> Task:
    metadata = config.get("metadata") or {}
    kind: Literal["choice", "generate"] = (
        "choice" if config["output_type"] == "multiple_choice" else "generate"
    )
    given = {key: metadata[key] for key in _LAYOUT if key in metadata}
    return Task(
        name=name,
        language=language,
        kind=kind,
        choices=tuple(choices) if choices else None,
        layout=Layout(**given),
        version=str(metadata.get("version", 1)),
        test=(),
        spec=metadata,
    )


def _with_records(task: Task, test: Split, train: Split | None, settings: Settings) -> Task:
    """The task with its records, shots chosen; without items where none has an answer and none is asked."""
    shape = task.spec.get("answer", "text")
    records = check(test.rows(), test.label, shape)
    _check_records(task, records)
    if task.spec.get("dialogue"):
        turns = dialogue.ordered(records, test.label)[: settings.limit]
        unanswered = sum(not record.outputs for record in turns)
        return _asked(replace(task, test=tuple(turns), unanswered=unanswered))
    answered = [record for record in records if record.outputs]
    unanswered = len(records) - len(answered)
    items = records if settings.ask_unanswered else answered
    if task.declared and not items:
        return replace(task, unanswered=unanswered)
    rule = _rule(task, settings)
    pool = None
    if train is not None and rule.count and not rule.own_test:
        pool = check(train.rows(), train.label, shape)
    shown = shots_of.choose(items, pool, rule, (train or test).label)
    if not shown.scored:
        raise EvalError(
            f"{test.label}: no answered record is left to score; add items or lower `evaluate.shots`"
        )
    _check_records(task, shown.shots)
    test_records = shown.scored[: settings.limit]
    return _asked(
        replace(task, test=test_records, shots=shown.fixed, shown=shown.by_item, unanswered=unanswered)
    )


def _asked(task: Task) -> Task:
    """`task`, when every item and shot of it can be asked: places are filled, and something remains."""
    for record in task.test:
        if not task.turn(record).strip():
            raise EvalError(f"{record.where}: the prompt is empty; mend `instruction` or `inputs`")
        task.continuations(record)
    for shot in {shot.where: shot for record in task.test for shot in task.before(record)}.values():
        task.layout.first_shot(shot)
        task.continuations(shot)
    return task


def _rule(task: Task, settings: Settings) -> shots_of.Rule:
    own = int(task.spec.get("shots", 0))
    return shots_of.Rule(
        own if settings.shots is None else settings.shots,
        alike=task.spec.get("shots_alike"),
        own_test=task.spec.get("shots_from") == "test",
        draw=settings.draw,
    )


def _check_records(task: Task, records: Sequence[Record]) -> None:
    """Meta fields that the task reads are there, and answers are among its choices."""
    allowed: Sequence[str] = task.choices or task.spec.get("choices") or ()
    free = not allowed or task.spec.get("answer", "text") != "text"
    numbers = "gold_outside_choices" in task.spec  # beyond the choices: LCS, of 10 and more
    for record in records:
        for name in task.spec.get("meta", ()):
            if record.meta.get(name) is None:
                raise EvalError(
                    f"{record.where}: field `meta.{name}` is missing; task `{task.name}` needs it"
                )
        if free or not record.outputs or (numbers and record.outputs.isdecimal()):
            continue
        if record.outputs not in allowed:
            raise EvalError(
                f"{record.where}: answer `{record.outputs}` is not among the choices of task"
                f" `{task.name}` ({', '.join(allowed)}); mend `outputs`"
            )
