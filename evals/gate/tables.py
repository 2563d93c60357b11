"""Joining the items of two models: same documents, prompts and conditions, or no comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evals.errors import EvalError
from evals.gate.policy import BPC, TOTAL

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("task", "doc_hash", "prompt_hash", "cluster", "metric", "value")
KEY = ["task", "doc_hash", "metric", "copy"]
Groups = Mapping[str, tuple[str, ...]]
NO_GROUPS: Groups = MappingProxyType({})
# What scores are worth nothing without; `prompt_hash` stands beside every item.
STATED = ("task_versions", "data", "shots", "precision", "batch_size")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found out about one model: scores.json's digests and conditions, and items.parquet."""

    name: str
    digest: str
    conditions: dict[str, Any]
    items: pd.DataFrame
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if missing := [column for column in COLUMNS if column not in self.items.columns]:
            raise EvalError(
                f"items of {self.name}: columns {', '.join(missing)} are missing; evaluate it again"
            )


class IncomparableError(Exception):
    """The two models were not scored alike; the message says what differs."""


class MissingError(Exception):
    """A number that a rule names is absent, not a number, or comes from an empty slice."""


def differing_conditions(candidate: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """`key (candidate's value, other's value)` for everything that differs, nested keys with dots."""
    found = []
    for key in sorted(candidate.keys() | other.keys()):
        ours, theirs = candidate.get(key), other.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += [f"{key}.{item}" for item in differing_conditions(ours, theirs)]
        elif ours != theirs:
            found.append(f"{key} ({_short(ours)} here, {_short(theirs)} there)")
    return found


def check_conditions(candidate: Evaluation, other: Evaluation) -> None:
    """Raises `IncomparableError` unless both were scored under the same conditions, and say which."""
    for model in (candidate, other):
        if silent := [key for key in STATED if key not in model.conditions]:
            raise IncomparableError(f"the conditions of {model.name} do not say {', '.join(silent)}")
    if differences := differing_conditions(candidate.conditions, other.conditions):
        raise IncomparableError(f"the conditions differ: {'; '.join(differences)}")


def paired(candidate: Evaluation, other: Evaluation, metric: str, groups: Groups = NO_GROUPS) -> pd.DataFrame:
    """Rows of both models for `metric`, joined by document: columns task, metric, cluster, candidate, other.

    Raises `IncomparableError` when conditions, documents, prompts or clusters differ, `MissingError` when
    a task of the metric was scored for one of them or for none, or a value is not finite, `EvalError` when
    a task has two metrics.
    """
    check_conditions(candidate, other)
    ours, theirs = rows_of(candidate, metric, groups), rows_of(other, metric, groups)
    _same_tasks(candidate.name, ours, other.name, theirs)
    joined = ours.merge(theirs, on=KEY, how="outer", suffixes=("", "_other"), indicator=True)
    lonely = joined[joined["_merge"] != "both"]
    if len(lonely):
        raise IncomparableError(
            f"{len(lonely)} of {len(joined)} items of {_tasks(lonely)} were scored for one of the two models"
        )
    for column, what in (("prompt_hash", "prompts"), ("cluster", "clusters")):
        differing = joined[joined[column] != joined[f"{column}_other"]]
        if len(differing):
            raise IncomparableError(f"{len(differing)} of {len(joined)} {what} of {_tasks(differing)} differ")
    joined = joined.rename(columns={"value": "candidate", "value_other": "other"})
    return joined.sort_values(KEY, ignore_index=True)[
        ["task", "metric", "doc_hash", "cluster", "candidate", "other"]
    ]


def bits_and_characters(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired rows of `bpc_<language>` as one row a document: cluster, candidate and other (bits), chars.

    Raises `MissingError` when a document lacks bits or characters or there is no text, `IncomparableError`
    when the two models read texts of different length.
    """
    bits, chars = (rows[rows["metric"] == name].reset_index(drop=True) for name in ("bits", "chars"))
    if len(bits) != len(chars) or not (bits["doc_hash"] == chars["doc_hash"]).all():
        raise MissingError(f"{_tasks(rows)}: bits or characters of some documents")
    if not (chars["candidate"] == chars["other"]).all():
        raise IncomparableError(f"the held-out documents of {_tasks(rows)} differ in length")
    if chars["other"].sum() <= 0 or bits["other"].sum() <= 0:
        raise MissingError(f"{_tasks(rows)}: there is no text behind it")
    return bits.assign(chars=chars["other"])[["cluster", "candidate", "other", "chars"]]


def rows_of(model: Evaluation, metric: str, groups: Groups = NO_GROUPS) -> pd.DataFrame:
    """The rows of one model that `metric` is made of, each repeated document numbered (`copy`). The total is
    without tasks that are one cluster alone (see `single`).

    `groups` are the tasks of metrics that are made of several. Raises `MissingError` when there are no rows,
    none of one task of a group, or a value is not finite, `EvalError` when a task has two metrics or the
    name of a group, or a share lies outside 0..1.
    """
    import numpy as np

    items = model.items
    bpc = items["task"].str.startswith(BPC)
    if metric in groups and (items["task"] == metric).any():
        raise EvalError(f"`{metric}` is both a task and a group of gate.groups; call the group otherwise")
    if metric == TOTAL:
        rows = items[~bpc & ~items["task"].isin(single(model))]
    else:
        rows = items[items["task"].isin(groups.get(metric, (metric,)))]
    if rows.empty:
        raise MissingError(f"{metric} of {model.name} is missing: it has no items")
    if absent := sorted(set(groups.get(metric, ())) - set(rows["task"])):
        raise MissingError(f"{metric} of {model.name} is missing: {', '.join(absent)} has no items")
    bad = int((~np.isfinite(rows["value"].to_numpy(dtype=float))).sum())
    if bad:
        raise MissingError(
            f"{metric} of {model.name} is missing: {bad} of {len(rows)} values are no finite numbers"
        )
    if metric.startswith(BPC) and (lacking := {"bits", "chars"} - set(rows["metric"])):
        raise MissingError(f"{metric} of {model.name} is missing: it has no {' and '.join(sorted(lacking))}")
    several = rows.groupby("task")["metric"].nunique()
    if not metric.startswith(BPC) and (several > 1).any():
        raise EvalError(
            f"items of {model.name}: task {several.idxmax()} has several metrics; keep the one that counts"
        )
    if not metric.startswith(BPC) and not rows["value"].between(0, 1).all():
        wrong = rows[~rows["value"].between(0, 1)]["task"].iloc[0]
        raise EvalError(f"items of {model.name}: task {wrong} has values outside 0..1; evaluate it again")
    rows = rows.sort_values(["task", "doc_hash", "metric", "prompt_hash"], kind="stable")
    return rows.assign(copy=rows.groupby(["task", "doc_hash", "metric"]).cumcount())[[*COLUMNS, "copy"]]


def single(model: Evaluation) -> list[str]:
    """Tasks whose items all hang together, such as the turns of one dialogue: nothing tells their spread, so
    a total with them could not be judged. None where no task has more.
    """
    items = model.items
    clusters = items[~items["task"].str.startswith(BPC)].groupby("task")["cluster"].nunique()
    return sorted(clusters.index[clusters == 1]) if (clusters > 1).any() else []


def _same_tasks(name: str, ours: pd.DataFrame, other: str, theirs: pd.DataFrame) -> None:
    for who, lacking in (
        (name, set(theirs["task"]) - set(ours["task"])),
        (other, set(ours["task"]) - set(theirs["task"])),
    ):
        if lacking:
            raise MissingError(f"{', '.join(sorted(lacking))} of {who} is missing: it has no items")


def _tasks(rows: pd.DataFrame) -> str:
    names = sorted(set(rows["task"]))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more tasks" if len(names) > 3 else "")


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
