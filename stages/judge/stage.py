"""Judges a candidate's open answers against the champion's, and the judge against the generator's truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common import judges
from stages.common.atomic import read_json, write_json
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.progress import progress
from stages.common.stage import OUT, Paths, Stage


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Answers of the candidate `cell` and of the champion, and the judge."""
    inputs = {
        "candidate": OUT / "evaluate" / str(cell),
        "champion": OUT / "evaluate" / "champion",
        "judge": OUT / "judge_model",
    }
    return inputs, {"judge": OUT / "judge" / str(cell)}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Ask the judge about every pair of answers, in both orders, and say whether it may vote."""
    from evals.judge import passport
    from stages.judge import tables

    folder, settings = outputs["judge"], params.judge
    judge = judges.read(inputs["judge"])
    about = {
        name: str(read_json(inputs[name] / "scores.json")["model"]["digest"])
        for name in ("candidate", "champion")
    }
    identity = {**about, "enabled": settings.enabled, "judge": {"kind": judge.kind, "digest": judge.digest}}
    if why := _cannot(settings, judge, about):
        tables.write_verdicts(folder / "verdicts.parquet", [])
        summary = passport.summarise([], [], 0, settings.min_consistency)
        write_json(folder / "summary.json", {**identity, **summary, "votes": False, "reason": why})
        return Facts(notes={"votes": False})
    ours, theirs = (
        tables.read_answers(inputs[name] / "answers.parquet", settings.pairs)
        for name in ("candidate", "champion")
    )
    judged, truth = tables.pairs(ours, theirs, inputs["candidate"])
    verdicts, known, unjudged = _ask(judges.checkpoint(judge, inputs["judge"]), judged, truth, params)
    summary = passport.summarise(verdicts, known, unjudged, settings.min_consistency)
    tables.write_verdicts(folder / "verdicts.parquet", verdicts)
    write_json(folder / "summary.json", {**identity, **summary})
    return Facts(notes={"votes": summary["votes"]})


def _cannot(settings: Any, judge: judges.Judge, about: dict[str, str]) -> str | None:
    """Why nothing is asked at all, in words; None when the judge can be asked."""
    if not settings.enabled:
        return "it is switched off (`judge.enabled: false`)"
    if judge.reason:
        return judge.reason
    if judge.digest in about.values():
        same = next(name for name, digest in about.items() if digest == judge.digest)
        return f"it is the {same} itself, which would judge its own answers"
    return None


def _ask(folder: Path, judged: Any, truth: Any, params: Any) -> tuple[Any, Any, int]:
    """Verdicts about both lists of pairs, and how many pairs were too long."""
    import torch

    from evals.judge import local
    from stages.common.checkpoint import load_model, load_tokenizer, pick_device

    model = load_model(folder, torch.float32, pick_device(params.device))
    tokenizer = load_tokenizer(folder)
    rows = 4 * sum(not pair.equal for pair in [*judged, *truth])
    with progress(rows, "judging", "prompts") as bar:
        found, long = local.judge(model, tokenizer, judged, advance=bar.advance)
        known, long_too = local.judge(model, tokenizer, truth, advance=bar.advance)
    return found, known, len(long) + len(long_too)


def _cells(params: Params) -> list[str]:
    return list(params.candidates)


STAGE = Stage("judge", run, reads=("judge", "threads", "device"), locate=locate, cells=_cells)
