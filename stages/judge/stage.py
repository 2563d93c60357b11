"""Judges a candidate's open answers against the champion's, after examining the judge on labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import champion
from stages.common.atomic import read_json, write_json
from stages.common.champion import CHAMPION_FILE
from stages.common.manifest import CHECKPOINT_MANIFEST, Facts
from stages.common.params import Params
from stages.common.progress import progress
from stages.common.stage import OUT, Paths, Stage

if TYPE_CHECKING:
    from evals.judge.juries import Ballot
    from evals.judge.labelled import Labelled
    from evals.judge.verdicts import Pair, Verdict
    from stages.judge.bench import Bench
    from stages.judge.summary import Examined

BATCH = 8  # clusters judged between two looks at a sequential decision


def locate(_params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Answers and lineage of the candidate `cell` and of the champion, and the judges."""
    inputs = {
        "candidate": OUT / "evaluate" / str(cell),
        "champion": OUT / "evaluate" / "champion",
        "candidate_manifest": OUT / "quantize" / str(cell) / CHECKPOINT_MANIFEST,
        "champion_manifest": champion.folder() / CHECKPOINT_MANIFEST,
        "champion_file": CHAMPION_FILE,
        "judge": OUT / "judge_model",
        "sources": OUT / "sources",
    }
    return inputs, {"judge": OUT / "judge" / str(cell)}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Examine the judge, ask it about every pair of answers in both orders, and say whether it may vote."""
    from stages.judge import bench, grades, summary, tables
    from stages.judge.bench import Side

    out, settings = outputs["judge"], params.judge
    candidate, rival = (
        Side(
            name,
            str(read_json(inputs[name] / "scores.json")["model"]["digest"]),
            inputs[f"{name}_manifest"],
        )
        for name in ("candidate", "champion")
    )
    about = {"candidate": candidate.digest, "champion": rival.digest, "enabled": settings.enabled}
    if not settings.enabled:
        return _silent(out, about, "it is switched off (`judge.enabled: false`)")
    found, left_out = bench.seats(params, inputs["judge"])
    rubrics = grades.load(settings.grades)
    ours, theirs = (
        tables.read_answers(inputs[name] / "answers.parquet", settings.pairs)
        for name in ("candidate", "champion")
    )
    pairs = tables.compared(ours, theirs, inputs["candidate"])
    with progress(None, "judging", "prompts") as bar:
        judges, refused = bench.seated(found, (candidate, rival), settings.families, bar.advance)
        left_out |= refused
        if not judges.members:
            return _silent(out, about, _said(left_out))
        examined = _examine(judges, settings, tables.right_and_wrong(ours))
        ballots = _ask(judges, pairs, examined, params)
        witnesses = {judge.identity.name: judge.pairs(pairs) for judge in judges.witnesses}
        graded = [grades.ask(judges, rubric, pairs) for rubric in rubrics]
    labels = examined.labels_of(pairs)
    tables.write_verdicts(out / tables.VERDICTS, pairs, ballots, labels)
    tables.write_labelled(out / tables.LABELLED, examined.known, examined.results)
    write_json(out / "passport.json", examined.passport.as_json())
    told = summary.build(pairs, ballots, labels, examined, settings.sequential)
    if graded:
        grades.write(out / grades.TABLE, graded)
        told["grades"] = {one.rubric.name: grades.summary(one) for one in graded}
    extra = summary.self_preference(ballots, witnesses, judges.sides)
    write_json(out / "summary.json", {**about, **told, "left_out": left_out, "self_preference": extra})
    return Facts(notes={"votes": told["votes"]})


def _silent(out: Path, about: dict[str, Any], reason: str) -> Facts:
    """The files of a comparison without a judge."""
    from evals.judge import passport
    from stages.judge import summary, tables

    tables.write_verdicts(out / tables.VERDICTS, [], [], [])
    tables.write_labelled(out / tables.LABELLED, [], [])
    write_json(out / "passport.json", passport.none(reason))
    write_json(out / "summary.json", {**about, **summary.silent(reason)})
    return Facts(notes={"votes": False})


def _said(left_out: dict[str, str]) -> str:
    """Why nobody judges; the name says nothing where there is one judge."""
    if len(left_out) == 1:
        return next(iter(left_out.values()))
    return "; ".join(f"{name}: {why}" for name, why in left_out.items())


def _examine(judges: Bench, settings: Any, truth: Sequence[Pair]) -> Examined:
    """The passport on the labelled pairs of people, or on the generator's truth where there are none."""
    from evals.judge import labelled, passport, probes
    from stages.judge.summary import Examined

    judge = judges.judge
    known: list[Labelled] = (
        labelled.read([Path(path) for path in settings.labels])
        if settings.labels
        else labelled.generated(truth)
    )
    results = judge.pairs([item.pair for item in known])
    better = [item for item in known if item.truth != "tie"][: settings.probe_pairs]
    right = [(item if item.truth == "ours" else item.turned()).pair for item in better]
    planted = probes.run(judge, right) if right else []
    thresholds = [
        passport.Threshold(name, kind, value, limit.source)
        for name, limit in settings.passport
        if limit is not None
        for kind, value in limit.limits
    ]
    found = passport.Passport(
        judge.identity,
        "people" if settings.labels else "generator",
        len(known),
        passport.measure(results, known, planted, settings.raters),
        thresholds,
        planted,
    )
    return Examined(found, known, results)


def _ask(judges: Bench, pairs: Sequence[Pair], examined: Examined, params: Any) -> list[Ballot[Verdict]]:
    """Verdicts on all pairs; where judging is sequential, no more than the gate's decision takes.

    Whole clusters are asked, in the order of the questions, which is that of a hash.
    """
    from evals.judge import winrate
    from evals.judge.juries import Ballot
    from evals.judge.verdicts import Missing

    if not params.judge.sequential or examined.passport.failures:
        return judges.ballots(pairs)
    clusters = list(dict.fromkeys(pair.cluster for pair in pairs))
    found: dict[str, Ballot[Verdict]] = {}
    for start in range(0, len(clusters), BATCH):
        chosen = set(clusters[start : start + BATCH])
        batch = [pair for pair in pairs if pair.cluster in chosen]
        found |= {pair.id: ballot for pair, ballot in zip(batch, judges.ballots(batch), strict=True)}
        evidence = examined.evidence([ballot.result for ballot in found.values()], [], sequential=True)
        enough = len(set(evidence.clusters)) >= params.gate.min_clusters
        if enough and winrate.decided(evidence, params.gate.alpha, params.gate.judge_margin):
            break
    late = "the decision was certain before"
    return [
        found.get(pair.id) or Ballot(Missing(pair.id, pair.cluster, "not_asked", late), ()) for pair in pairs
    ]


def _cells(params: Params) -> list[str]:
    return list(params.candidates)


STAGE = Stage(
    "judge",
    run,
    reads=("judge", "gate.alpha", "gate.judge_margin", "gate.min_clusters", "threads", "device"),
    locate=locate,
    cells=_cells,
)
