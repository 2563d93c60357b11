"""`gorn raters`: a candidate's and the champion's answers for people to compare, and their labels back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.atomic import write_text
from stages.common.errors import UserError
from stages.common.params import Params
from stages.common.stage import OUT

if TYPE_CHECKING:
    from evals.judge.labelled import Labelled

KEY = ".key.json"


def export(params: Params, cell: str, folder: Path) -> str:
    """Write the pairs of `cell` that differ into `folder`, blinded, and the key beside it; a sentence on it.

    Raises `UserError` for an unknown cell or without answers, `EvalError` when there is nothing to compare.
    """
    from evals.judge import people, rubrics
    from stages.judge import tables

    if cell not in params.candidates:
        raise UserError(f"no cell `{cell}`; params.yaml declares {', '.join(params.candidates)}")
    ours, theirs = (
        tables.read_answers(OUT / "evaluate" / name / "answers.parquet", params.judge.pairs)
        for name in (cell, "champion")
    )
    pairs = [pair for pair in tables.compared(ours, theirs, OUT / "evaluate" / cell) if not pair.equal]
    people.export(folder, pairs, rubrics.load(params.judge.rubric), params.seed)
    return (
        f"{folder}: {len(pairs)} pairs ({len(ours) - len(pairs)} more are equal); give the folder away and "
        f"keep {people.key_path(folder)}, without which nobody knows whose answer is whose"
    )


def bring(files: Sequence[Path], key: Path | None) -> str:
    """Write the labels of `files` beside the key and say how far the raters agree.

    `key`: None when the files lie in the exported folder. Raises `UserError` without a key, `EvalError` for
    labels that cannot be.
    """
    from evals.judge import labelled, labels, people

    key = key or next((path for file in files if (path := people.key_path(file.parent)).exists()), None)
    if key is None:
        raise UserError(f"{files[0]}: no key beside its folder; name the one of the export: --key NAME{KEY}")
    name = key.name.removesuffix(KEY)
    found = labels.read(files, key)
    items = labelled.of_raters(found, name)
    if not items:
        raise UserError(f"{files[0]}: no label in it; nothing was written")
    target = key.with_name(f"{name}.labels.jsonl")
    write_text(target, labelled.text(items))
    return "\n".join([*_agreement(items, found.empty), f"{target}: name it in params.yaml, `judge.labels`"])


def _agreement(items: Sequence[Labelled], empty: int) -> list[str]:
    """Who labelled how much and what, and Krippendorff's alpha where two or more did."""
    from evals.errors import EvalError
    from evals.stats import agreement

    votes = [(item.pair.id, rater, outcome) for item in items for rater, outcome in item.votes]
    raters = Counter(rater for _, rater, _ in votes)
    outcomes = Counter(item.truth for item in items)
    told = [
        f"{len(votes)} labels of {len(raters)} raters on {len(items)} pairs, {empty} left empty",
        "raters: " + ", ".join(f"{name} {count}" for name, count in sorted(raters.items())),
        f"candidate better in {outcomes['ours']}, champion in {outcomes['theirs']}, tie in {outcomes['tie']}",
    ]
    shared = [item for item in items if len(item.votes) > 1]
    if not shared:
        return [*told, "no pair has two labels: agreement is not known"]
    same = sum(len({outcome for _, outcome in item.votes}) == 1 for item in shared)
    told.append(f"all agree on {same} of {len(shared)} pairs with two labels or more")
    try:
        alpha = agreement.krippendorff_alpha([row[0] for row in votes], [row[2] for row in votes])
        told.append(f"Krippendorff's alpha {alpha.mean:.3f}, 95 % {alpha.lo:.3f} to {alpha.hi:.3f}")
    except EvalError as error:
        told.append(str(error))
    return told
