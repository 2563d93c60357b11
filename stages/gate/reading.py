"""Reads what the stages before the gate wrote. Broken or stale is refused; what is absent stays absent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import manifest
from stages.common.atomic import read_json
from stages.common.errors import UserError, one_line

if TYPE_CHECKING:
    import pandas as pd

    from evals.gate.judged import Vote
    from evals.gate.policy import Policy
    from evals.gate.tables import Evaluation

VERDICTS = ("preference", "asked", "cluster", "label")
LABELLED = ("preference", "asked", "truth", "cluster")


def champion(path: Path) -> dict[str, Any]:
    """`version` and `digest` of champion.json, both null before the first promotion. Raises `UserError`."""
    value = read_json(path)
    if not isinstance(value, dict) or not {"version", "digest"} <= value.keys():
        raise UserError(f"{path}: needs the keys version, digest and path; restore it from git")
    return {"version": value["version"], "digest": value["digest"]}


def evaluation(name: str, folder: Path) -> Evaluation:
    """scores.json (digest, conditions) and items.parquet of one model. Raises `UserError` when unreadable."""
    from evals.gate.tables import COLUMNS, Evaluation

    path = folder / "scores.json"
    scores = _object(path)
    model, conditions = scores.get("model"), scores.get("conditions")
    if not isinstance(model, dict) or "digest" not in model or not isinstance(conditions, dict):
        raise UserError(f"{path}: needs `model` with its digest, and `conditions`; run `dvc repro`")
    items = _table(folder / "items.parquet", COLUMNS)
    return Evaluation(name, str(model["digest"]), conditions, items, model.get("tokenizer"))


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, found {type(value).__name__}; run `dvc repro`")
    return value


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({one_line(error)}); run `dvc repro`") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"{path}: columns {', '.join(missing)} are missing; run `dvc repro`")
    return table


def same_champion(evaluated: str, named: str | None, folder: Path) -> None:
    """Raise `UserError` when another champion was evaluated than champion.json names."""
    if named is not None and evaluated != named:
        raise UserError(
            f"{folder}: scores of {evaluated[:12]}, but champion.json names {named[:12]}; run `dvc repro`"
        )


def same_checkpoint(evaluation: Evaluation, checkpoint: Path, folder: Path) -> None:
    """Raise `UserError` when the scores are those of another checkpoint than would be promoted."""
    from stages.common.checkpoint import digest

    found = digest(checkpoint)
    if found != evaluation.digest:
        raise UserError(
            f"{folder}: scores of {evaluation.digest[:12]}, but {checkpoint} is {found[:12]}; run `dvc repro`"
        )


def measures(folder: Path) -> dict[str, Any]:
    """measures.json of one candidate. Raises `UserError` when it is no object."""
    return _object(folder / "measures.json")


def bytes_on_disk(measured: dict[str, Any]) -> int | None:
    """`bytes` of measures.json; None when it is absent or no positive number."""
    value: Any = measured.get("bytes")
    known = (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    )
    return int(value) if known else None


def lineage(checkpoint: Path) -> dict[str, Any]:
    """What the candidate descends from, with licences, by its manifest. Raises `UserError` without one."""
    return dict(manifest.read(checkpoint).get("lineage", {}))


def contamination(folder: Path) -> dict[str, Any] | None:
    """contamination.json of stage validate; None when training text was not searched for test items."""
    path = folder / "contamination.json"
    return _object(path) if path.exists() else None


def vote(folder: Path, candidate: str, champion: str) -> Vote:
    """Whether the judge votes, and its verdicts. Raises `UserError` for verdicts on other models.

    A judge with the passport of another one, or for another rubric, does not vote.
    """
    from evals.gate.judged import Vote
    from evals.judge import passport
    from evals.judge.labelled import VALUE
    from evals.judge.winrate import Evidence
    from evals.stats.correction import Known

    summary = _object(folder / "summary.json")
    if not summary.get("votes"):
        return Vote(False, str(summary.get("reason") or "no reason given"))
    about = (summary.get("candidate"), summary.get("champion"))
    if about != (candidate, champion):
        raise UserError(f"{folder}: verdicts about other checkpoints than those at the gate; run `dvc repro`")
    judge = summary.get("judge")
    judge = judge if isinstance(judge, dict) else {}
    why = passport.refusal(read_json(folder / "passport.json"), judge.get("digest"), judge.get("rubric"))
    if why:
        return Vote(False, why)
    rows = _table(folder / "verdicts.parquet", VERDICTS).dropna(subset=["preference"])
    labelled = _table(folder / "labelled.parquet", LABELLED).dropna(subset=["preference"])
    labelled = labelled[labelled["asked"].astype(bool)]
    columns = (labelled[name] for name in ("preference", "truth", "cluster"))
    known = [Known(verdict, VALUE[truth], cluster) for verdict, truth, cluster in zip(*columns, strict=True)]
    labels = [None if math.isnan(label) else float(label) for label in rows["label"]]
    said = (
        list(rows["preference"]),
        list(rows["cluster"]),
        [bool(asked) for asked in rows["asked"]],
        labels,
        known,
    )
    return Vote(True, "", Evidence(*said, sequential=summary.get("sequential") is True))


def check_validation(folder: Path) -> None:
    """Raise `UserError` when the data contract was broken: nothing that came out of such data may ship."""
    verdict = _object(folder / "verdict.json")
    if verdict.get("passed") is not True:
        raise UserError(
            f"{folder / 'verdict.json'}: the corpus did not pass validation; mend it, then `dvc repro`"
        )


def policy(params: Any) -> Policy:
    """The block `gate` and the seed as the gate's policy."""
    from evals.gate.policy import Budget, Floor, Policy, Rule, Slices

    block = params.gate

    def rules(declared: Any) -> tuple[Rule, ...]:
        return tuple(Rule(rule.metric, rule.margin, rule.relative, rule.kind) for rule in declared)

    return Policy(
        against_champion=rules(block.against_champion),
        against_parent=rules(block.against_parent),
        against_anchor={name: rules(declared) for name, declared in block.against_anchor.items()},
        groups={name: tuple(tasks) for name, tasks in block.groups.items()},
        slices=tuple(Slices(rule.name, tuple(rule.metrics), rule.margin) for rule in block.slices),
        floors=tuple(Floor(rule.metric, rule.at_least) for rule in block.floors),
        budgets=tuple(
            Budget(rule.measure, rule.at_most, rule.prompt_tokens, rule.quantile or "p50")
            for rule in block.budgets
        ),
        licences=None if block.licences is None else tuple(block.licences),
        max_contamination=block.max_contamination,
        max_too_short=block.max_too_short,
        alpha=block.alpha,
        rounds=block.bootstrap_rounds,
        min_clusters=block.min_clusters,
        max_bytes=block.max_bytes,
        judge_margin=block.judge_margin,
        winner=block.winner,
        seed=params.seed,
    )
