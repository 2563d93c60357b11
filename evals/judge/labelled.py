"""Pairs with a known answer to "which is better?": labels of people in a file, or the generator's truth.

Two forms of file, `.jsonl` or `.jsonl.gz`:

- our own, as `gorn raters import` writes it: {id, cluster, question, ours, theirs, reference, votes: {rater:
  ours | theirs | tie}}. `ours` and `theirs` are texts, so that a judge can be asked about them at any time.
- LLMBar's (2310.07641): {id, input, output_1, output_2, label: 1 | 2}, one vote of a rater called `gold`. One
  of its 1,200 pairs has two equal answers; in our own form such a pair is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from evals.errors import EvalError
from evals.judge.labels import Labels
from evals.judge.layout import tidy
from evals.judge.verdicts import Outcome, Pair
from evals.records import read_jsonl

VALUE: dict[Outcome | None, float] = {"ours": 1.0, "theirs": 0.0, "tie": 0.5, None: 0.5}
GOLD = "gold"
_OWN = ("id", "cluster", "question", "ours", "theirs", "votes")
_LLMBAR = ("id", "input", "output_1", "output_2", "label")


@dataclass(frozen=True)
class Labelled:
    """A pair and what each rater said of it: (rater, outcome), sorted by rater."""

    pair: Pair
    votes: tuple[tuple[str, Outcome], ...]

    @property
    def truth(self) -> Outcome:
        """The outcome with the most votes; a tie where two share that place."""
        (first, most), *others = Counter(outcome for _, outcome in self.votes).most_common()
        return "tie" if others and others[0][1] == most else first

    @property
    def texts(self) -> tuple[str, str, str]:
        """What the same comparison has in common wherever it stands."""
        return _texts(self.pair)

    def turned(self) -> Labelled:
        """The same with the two answers exchanged."""
        pair, swap = self.pair, {"ours": "theirs", "theirs": "ours", "tie": "tie"}
        return Labelled(
            replace(pair, ours=pair.theirs, theirs=pair.ours),
            tuple((rater, swap[outcome]) for rater, outcome in self.votes),  # type: ignore[misc]
        )


def _texts(pair: Pair) -> tuple[str, str, str]:
    return tidy(pair.question), tidy(pair.ours), tidy(pair.theirs)


def generated(pairs: Iterable[Pair]) -> list[Labelled]:
    """Pairs of a right (`ours`) and a wrong answer as labelled ones; every other is turned, by its id.

    Without that, nothing could be said of pairs whose `theirs` is the better answer.
    """
    found = []
    for pair in pairs:
        known = Labelled(pair, ((GOLD, "ours"),))
        odd = hashlib.sha256(pair.id.encode()).digest()[0] % 2
        found.append(known.turned() if odd else known)
    return found


def labels_of(known: Sequence[Labelled], pairs: Sequence[Pair]) -> list[float | None]:
    """What people say of `pairs`: 1 where ours is better, 0 for theirs, .5 for a tie, None where unlabelled.

    Pairs are recognised by their texts, in either order of the answers.
    """
    by_texts: dict[tuple[str, str, str], float] = {}
    for item in known:
        for way in (item, item.turned()):
            _, ours, theirs = way.texts
            by_texts[way.texts] = VALUE["tie" if ours == theirs else way.truth]
    return [by_texts.get(_texts(pair)) for pair in pairs]


def read(paths: Sequence[Path]) -> list[Labelled]:
    """The labelled pairs of all files. Raises `EvalError` that names file and line of what is wrong."""
    found: dict[str, Labelled] = {}
    for path in paths:
        for where, value in read_jsonl(path):
            item = _read(value, where)
            if item.pair.id in found:
                raise EvalError(
                    f"{where}: item {item.pair.id} is there twice; give each pair an id of its own"
                )
            found[item.pair.id] = item
    if not found:
        raise EvalError(f"{', '.join(map(str, paths))}: no labelled pair there; correct `judge.labels`")
    return list(found.values())


def _read(value: Any, where: str) -> Labelled:
    if not isinstance(value, dict):
        raise EvalError(f"{where}: expected an object with the fields {', '.join(_OWN)}")
    if "output_1" in value:
        _fields(value, _LLMBAR, where)
        if value["label"] not in (1, 2) or isinstance(value["label"], bool):
            raise EvalError(f"{where}: `label` is {value['label']!r}; it must be 1 or 2")
        # Many of its pairs share an instruction.
        cluster = hashlib.sha256(value["input"].encode()).hexdigest()[:16]
        pair = Pair(value["id"], cluster, value["input"], value["output_1"], value["output_2"])
        return Labelled(pair, ((GOLD, "ours" if value["label"] == 1 else "theirs"),))
    _fields(value, _OWN, where)
    votes = value["votes"]
    allowed = get_args(Outcome)
    if not isinstance(votes, dict) or not votes or not all(vote in allowed for vote in votes.values()):
        raise EvalError(f"{where}: `votes` must map one rater or more to {', '.join(allowed)}")
    texts = {name: value[name] for name in _OWN[:5]}
    if tidy(texts["ours"]) == tidy(texts["theirs"]):
        raise EvalError(f"{where}: the two answers are equal, so no label can be right; remove the pair")
    return Labelled(Pair(**texts, reference=value.get("reference")), tuple(sorted(votes.items())))


def _fields(value: dict[str, Any], names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in value:
            raise EvalError(f"{where}: field `{name}` is missing; a labelled pair has {', '.join(names)}")
        if name not in ("votes", "label") and not isinstance(value[name], str):
            raise EvalError(f"{where}: field `{name}` must be text")


def of_raters(found: Labels, name: str) -> list[Labelled]:
    """Labels of the export `name` with the texts that its key keeps; ids begin with the name.

    Two exports ask about the same questions. Raises `EvalError` for grades and keys without texts.
    """
    items: dict[str, Labelled] = {}
    for label in found.labels:
        if label.value not in get_args(Outcome):
            raise EvalError(f"item {label.id}: a grade is no comparison; export with a rubric of pairs")
        told = found.texts.get(label.id)
        if told is None:
            raise EvalError(f"item {label.id}: the key of the export has no texts; export it again")
        pair = Pair(f"{name}/{label.id}", label.cluster, **told)
        votes = items[label.id].votes if label.id in items else ()
        items[label.id] = Labelled(pair, (*votes, (label.rater, label.value)))  # type: ignore[arg-type]
    return list(items.values())


def text(items: Sequence[Labelled]) -> str:
    """`items` as lines of our own form."""
    lines = []
    for item in items:
        pair = item.pair
        told = {name: getattr(pair, name) for name in ("id", "cluster", "question", "ours", "theirs")}
        lines.append({**told, "reference": pair.reference, "votes": dict(item.votes)})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
