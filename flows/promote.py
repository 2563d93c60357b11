"""Who becomes champion, and back: acts on the gate's decision, under a lock, undone when a step fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows import champion
from flows.registry import Registry, Version, promotion_lock
from flows.results import read_decision
from stages.common.errors import UserError, one_line


class NotPromotedError(UserError):
    """The decision stands, but nothing moves: no winner, not approved yet, or rolled back before."""


@dataclass(frozen=True)
class Promotion:
    """What happened: `promoted`, `already` (it is the champion), `rolled back`; and one sentence about it."""

    state: str
    version: int
    text: str


def promote(registry: Registry, manual: bool, number: int | None = None) -> Promotion:
    """Make the winner of out/gate/decision.json the champion, or version `number` if it passed in that
    decision.

    Raises `UserError` when the decision was made against another champion than the registry's, and
    `NotPromotedError` when there is no winner, when it waits for the tag `approved=true` (`manual`), or when
    it was rolled back and nobody names it by number.
    """
    with promotion_lock():
        decision = read_decision()
        current = registry.alias("champion")
        refuse_stale(decision, current)
        name, version = _chosen(registry, decision, number)
        if current is not None and version.digest == current.digest:
            return Promotion(
                "already", current.number, f"{name} is the champion already (version {current.number})"
            )
        _refuse_held(registry, name, version, manual, named=number is not None)
        champion.keep(version.digest)

        def still_valid() -> int | None:
            now = registry.alias("champion")
            refuse_stale(decision, now)
            _refuse_held(registry, name, registry.version(version.number), manual, named=number is not None)
            return now.number if now else None

        _move(registry, "promote", current, version, still_valid)
        before = f"version {current.number}" if current else "the base model"
        return Promotion(
            "promoted",
            version.number,
            f"{name} is the new champion: version {version.number}, after {before}",
        )


def refuse_stale(decision: dict[str, Any], current: Version | None) -> None:
    """Raise `UserError` unless `decision` was made against the champion now in the registry."""
    judged = decision["champion"]
    now = (current.number, current.digest) if current else (None, None)
    if judged.get("version") == now[0] and (current is None or judged.get("digest") == now[1]):
        return
    raise UserError(
        f"stale decision: the gate compared with {_named(judged.get('version'), judged.get('digest'))}, "
        f"the registry's champion is {_named(*now)}; `gorn run` decides anew"
    )


def _named(version: int | None, digest: str | None) -> str:
    return "the base model" if version is None else f"version {version} ({(digest or 'no digest')[:12]})"


def _chosen(registry: Registry, decision: dict[str, Any], number: int | None) -> tuple[str, Version]:
    """Name and version of the winner, or of the passing candidate registered as version `number`."""
    if number is None:
        name = decision["winner"]
        if name is None:
            raise NotPromotedError(
                f"no winner: {decision.get('winner_reason') or 'no candidate passed the gate'}"
            )
        digest = decision["candidates"][name]["digest"]
        version = registry.by_digest(digest)
        if version is None:
            raise UserError(f"{name}: checkpoint {digest[:12]} is not registered; run `gorn publish` first")
        return name, version
    version = registry.version(number)
    for name, entry in sorted(decision["candidates"].items()):
        if entry.get("digest") == version.digest:
            if entry.get("verdict") != "pass":
                raise UserError(
                    f"version {number} ({name}): the gate says `{entry['verdict']}`; only `pass` is promoted"
                )
            return name, version
    raise UserError(
        f"version {number}: not among the candidates of the gate's decision; `gorn run` decides anew"
    )


def _refuse_held(registry: Registry, name: str, version: Version, manual: bool, named: bool) -> None:
    """Raise `NotPromotedError` when `version` was rolled back and nobody `named` it, or needs a person."""
    if "rolled_back" in version.tags and not named:
        raise NotPromotedError(
            f"{name} (version {version.number}) was rolled back on {version.tags['rolled_back']}; "
            f"`gorn promote --version {version.number}` promotes it all the same"
        )
    if manual and not version.approved:
        registry.point("challenger", version.number)
        raise NotPromotedError(
            f"{name} (version {version.number}) waits as challenger: set its tag approved=true in MLflow "
            "(`gorn ui`), then `gorn promote`"
        )


def rollback(registry: Registry) -> Promotion:
    """Make `previous` the champion again: one step. The version that leaves is marked, so that no flow
    promotes it again.

    Raises `UserError` when there is no previous champion or its bytes are not to be found.
    """
    with promotion_lock():
        current, previous = registry.alias("champion"), registry.alias("previous")
        if current is None or previous is None:
            raise UserError("nothing to roll back to: the registry has no alias `previous`")
        seen = current.number, previous.number

        def still_valid() -> None:
            now = registry.aliases()
            if (now["champion"], now["previous"]) != seen:
                raise UserError(
                    "somebody else moved the champion meanwhile; nothing was rolled back, look into `gorn ui`"
                )

        _move(registry, "rollback", current, previous, still_valid)
        return Promotion(
            "rolled back",
            previous.number,
            f"version {previous.number} is the champion again; version {current.number} is out",
        )


def today() -> str:
    """The date in UTC, for tags that people read."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def _move(
    registry: Registry,
    action: str,
    current: Version | None,
    target: Version,
    still_valid: Callable[[], int | None],
) -> None:
    """Move the aliases and champion.json to `target` in one Prefect transaction.

    `still_valid` is asked under the claim, because another machine may have moved the champion since: it
    raises, or names the version for `previous`. Any error puts all of it back.
    """
    from prefect.transactions import transaction

    # Before the claim: copying takes its time, and nobody believes in a claim that is too old.
    champion.fetch(target.digest)
    before: dict[str, int | None] = {}
    told = champion.read()
    undone: list[str] = []

    def restore_aliases(_: Any) -> None:
        for alias, pointed in before.items():
            registry.point(alias, pointed)
        undone.append("aliases")

    def restore_file(_: Any) -> None:
        champion.write(told)
        undone.append("file")

    started: list[str] = []
    try:
        with registry.claim(action, current.number if current else None, target.number) as run, transaction():
            previous = still_valid()
            before.update(registry.aliases())
            with transaction() as step:
                step.stage(None, on_rollback_hooks=[restore_file])
                started.append("file")
                champion.write(champion.of(target))
            with transaction() as step:
                step.stage(None, on_rollback_hooks=[restore_aliases])
                started.append("aliases")
                registry.point("previous", previous)
                if before["challenger"] == target.number:
                    registry.point("challenger", None)
                registry.point("champion", target.number)
            _verify(registry, target)
            _mark(registry, action, current, target, run)
    except Exception as error:
        # Prefect only logs a rollback hook that fails; a half-moved champion must not go unnoticed.
        stuck = [name for name in started if name not in undone]
        if stuck:
            raise UserError(
                f"{action} failed ({one_line(error)}) and could not be undone ({', '.join(stuck)}): "
                f"set the aliases in the MLflow UI to {before} and run `gorn champion fetch`"
            ) from error
        raise


def _mark(registry: Registry, action: str, current: Version | None, target: Version, run: str) -> None:
    """Say in the tags who came and who left; last, because tags are not put back."""
    origin = str(current.number) if current else "base"
    tags = {"promoted_from": origin, "promoted_on": today(), "promotion_run": run}
    if target.approved:
        tags["approved_on"] = today()
    registry.tag(target.number, tags)
    if action == "rollback" and current is not None:
        registry.tag(current.number, {"rolled_back": today()})
        registry.untag(current.number, "approved")
    registry.untag(target.number, "rolled_back")
    # An approval is good for one promotion; the next one wants a person again.
    registry.untag(target.number, "approved")


def _verify(registry: Registry, target: Version) -> None:
    now = registry.alias("champion")
    if now is None or now.number != target.number:
        raise UserError(
            "somebody else moved the champion during the promotion; ours was put back, look into `gorn ui`"
        )
