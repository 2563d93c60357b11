"""From block `judge` to judges that can be asked: who sits, who is left out for this comparison, and why."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stages.common import checkpoint, judges
from stages.common.atomic import read_json
from stages.common.errors import UserError
from stages.common.judges import Weights
from stages.common.manifest import CHECKPOINT_MANIFEST

if TYPE_CHECKING:
    from evals.judge.juries import Ballot
    from evals.judge.lineage import Origin
    from evals.judge.protocol import Identity, Judge, RubricJudge
    from evals.judge.rubrics import Rubric
    from evals.judge.verdicts import Grade, Missing, Pair, Single, Verdict

    Member: TypeAlias = "RubricJudge | Outside"

CALLS = Path(".gorn/judge")  # finished calls of judges behind an address, outside the outs
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Side:
    """One of the compared models: `candidate` or `champion`, the digest of its weights, its manifest."""

    name: str
    digest: str
    manifest: Path

    def origin(self, families: Mapping[str, Sequence[str]]) -> Origin:
        """What it descends from, by its manifest."""
        from evals.judge import lineage

        return lineage.origin(self.name, _lineage(self.manifest), self.digest, families)


@dataclass(frozen=True)
class Seat:
    """A declared judge: what it descends from, and how to get it (loading takes time and memory)."""

    name: str
    origin: Origin
    make: Callable[[Advance], Member]


@dataclass(frozen=True)
class Bench:
    """The judges of one comparison; `witnesses` do not vote, being kin of one side alone (`sides`)."""

    members: tuple[Member, ...]
    witnesses: tuple[Member, ...]
    sides: Mapping[str, str]

    @property
    def judge(self) -> Judge:
        """The one judge, or the jury of all. Raises `EvalError` when two members are the same judge."""
        return _together(self.members)

    def ballots(self, pairs: Sequence[Pair]) -> list[Ballot[Verdict]]:
        """The verdict on every pair, and who voted what."""
        from evals.judge.juries import Ballot, Jury

        judge = self.judge
        if isinstance(judge, Jury):
            return judge.pair_ballots(pairs)
        return [Ballot(result, ((judge.identity.name, result),)) for result in judge.pairs(pairs)]

    def grades(self, rubric: Rubric, items: Sequence[Single]) -> list[Ballot[Grade]]:
        """The grade of every answer by `rubric`, and who gave which. Raises `EvalError`."""
        from evals.judge.juries import Ballot, Jury

        judge = _together([member.under(rubric) for member in self.members])
        if isinstance(judge, Jury):
            return judge.grade_ballots(items)
        return [Ballot(result, ((judge.identity.name, result),)) for result in judge.grades(items)]


def _together(members: Sequence[Judge]) -> Judge:
    from evals.judge.juries import Jury

    return members[0] if len(members) == 1 else Jury("jury", tuple(members))


def seats(params: Any, folder: Path) -> tuple[list[Seat], dict[str, str]]:
    """The declared judges that can be asked at all, and why the others cannot; `folder`: out/judge_model.

    Raises `UserError` when weights are absent or have changed, `EvalError` for a rubric that is not of pairs.
    """
    from evals.errors import EvalError
    from evals.judge import rubrics

    rubric = rubrics.load(params.judge.rubric)
    if rubric.form != "pair":
        raise EvalError(f"`judge.rubric`: `{rubric.name}` is for single answers; name it in `judge.grades`")
    known, found, left_out = judges.read(folder), [], {}
    for declared in params.judge.judges:
        if declared.type == "endpoint":
            found.append(_endpoint(declared, rubric, params.judge))
            continue
        weights = known.get(declared.name)
        if weights is None:
            raise UserError(f"{folder}: knows no judge `{declared.name}`; run `dvc repro judge_model`")
        if weights.reason:
            left_out[declared.name] = weights.reason
        else:
            found.append(_local(declared, weights, folder, rubric, params))
    return found, left_out


def seated(
    found: Sequence[Seat], sides: tuple[Side, Side], families: Mapping[str, Sequence[str]], advance: Advance
) -> tuple[Bench, dict[str, str]]:
    """Who may judge between `sides`, and why the others may not (evals/judge/lineage.py)."""
    from evals.judge import lineage

    origins = [side.origin(families) for side in sides]
    members, witnesses, left_out, kin = [], [], {}, {}
    for seat in found:
        own = [side.name for side, origin in zip(sides, origins, strict=True) if seat.origin.kin(origin)]
        if same := [side.name for side in sides if f"digest:{side.digest}" in seat.origin.marks]:
            left_out[seat.name] = f"it is the {same[0]} itself, which would judge its own answers"
        elif why := lineage.refusal(seat.origin, *origins):
            left_out[seat.name] = why
            if len(own) == 1:
                kin[seat.name] = own[0]
                witnesses.append(seat)
        else:
            members.append(seat)
    # Without a judge that may vote there is nobody to compare a witness with.
    asked = witnesses if members else []
    voting, watching = (tuple(seat.make(advance) for seat in group) for group in (members, asked))
    return Bench(voting, watching, kin), left_out


def _lineage(path: Path) -> dict[str, Any]:
    """The lineage in a checkpoint's manifest; empty for a checkpoint that is not ours and has none."""
    return dict(read_json(path).get("lineage") or {}) if path.exists() else {}


def _local(declared: Any, weights: Weights, folder: Path, rubric: Rubric, params: Any) -> Seat:
    from evals.judge import lineage

    place = judges.checkpoint(weights, folder)
    families, bases = params.judge.families, getattr(declared, "bases", [])
    origin = lineage.origin(declared.name, _lineage(place / CHECKPOINT_MANIFEST), weights.digest, families)
    if bases:
        said = lineage.declared(declared.name, bases, families)
        origin = lineage.Origin(declared.name, origin.marks | said.marks)

    def make(advance: Advance) -> Member:
        import torch

        from evals.judge import local
        from evals.judge.protocol import RubricJudge

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[getattr(declared, "precision", "fp32")]
        model = checkpoint.load_model(place, dtype, checkpoint.pick_device(params.device))
        tokenizer = checkpoint.load_tokenizer(place)
        if weights.kind == "embedded":
            return local.embedded(model, tokenizer, weights.digest, advance=advance)
        back = local.LocalModel(model, tokenizer, weights.digest, declared.batch_size, advance=advance)
        return RubricJudge(declared.name, back, rubric)

    return Seat(declared.name, origin, make)


def _endpoint(declared: Any, rubric: Rubric, block: Any) -> Seat:
    from evals.judge import lineage

    def make(advance: Advance) -> Member:
        from evals.judge.endpoint import Endpoint, Settings
        from evals.judge.protocol import RubricJudge
        from stages.corpus import personal

        told = declared.model_dump(exclude={"type", "name", "bases"})
        back = Endpoint(
            Settings(**told),
            redact=lambda text: personal.redact(text, rubric.language)[0],
            texts_may_leave=block.texts_may_leave,
            cache=CALLS / f"{declared.name}.jsonl",
            advance=advance,
        )
        return Outside(RubricJudge(declared.name, back, rubric))

    return Seat(declared.name, lineage.declared(declared.name, declared.bases, block.families), make)


@dataclass(frozen=True)
class Outside:
    """A judge behind an address that has to answer: a stage that went on without it would be cached so."""

    inner: RubricJudge

    @property
    def identity(self) -> Identity:
        """That of the judge itself."""
        return self.inner.identity

    def under(self, rubric: Rubric) -> Outside:
        """The same judge, asked by `rubric`."""
        return Outside(self.inner.under(rubric))

    def pairs(self, items: Sequence[Pair]) -> list[Verdict | Missing]:
        """Its verdicts. Raises `EvalError` when it stopped answering; what it had answered is kept."""
        with _alone():
            results = self.inner.pairs(items)
        self._whole(results, "pairs have no verdict")
        return results

    def grades(self, items: Sequence[Single]) -> list[Grade | Missing]:
        """Its grades. Raises `EvalError` when it stopped answering; what it had answered is kept."""
        with _alone():
            results = self.inner.grades(items)
        self._whole(results, "answers have no grade")
        return results

    def _whole(self, results: Sequence[Verdict | Grade | Missing], lacking: str) -> None:
        from evals.errors import EvalError
        from evals.judge.verdicts import Missing

        lost = [result for result in results if isinstance(result, Missing)]
        if any(result.kind == "given_up" for result in lost):
            first = next(result for result in lost if result.kind != "given_up")
            raise EvalError(
                f"judge `{self.identity.name}` stopped answering ({first.reason}), {len(lost)} of "
                f"{len(results)} {lacking}; what it answered is kept in {CALLS}, run again later"
            )


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for other cells: together they would ask everything twice, and beyond `concurrency`."""
    CALLS.mkdir(parents=True, exist_ok=True)
    with (CALLS / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
