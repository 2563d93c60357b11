"""Stage `validate`: the verdict on the corpus; a critical failure stops the run, earlier outs stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.errors import UserError
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import Paths, Stage
from stages.validate.contract import CORPUS, DOCUMENTS, contract

FAILED = Path(".gorn/failed/validate")


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Hold the corpus against the contract; write `verdict.json`, `contamination.json` and the Data Docs.

    Raises `UserError` naming every critical expectation that failed and what was observed; verdict and pages
    of the failed run are then kept in `.gorn/failed/validate`.
    """
    from stages.validate.contamination import overlaps
    from stages.validate.expectations import check
    from stages.validate.tables import corpus_row, read_documents

    documents = read_documents(inputs["corpus"])
    tables = {DOCUMENTS: documents, CORPUS: corpus_row(inputs["corpus"], documents)}
    outcomes = check(contract(params.validation), tables, outputs["docs"])
    failed = {
        severity: [
            outcome for outcome in outcomes if outcome["severity"] == severity and not outcome["success"]
        ]
        for severity in ("critical", "warning")
    }
    verdict = {
        "passed": not failed["critical"],
        "expectations": len(outcomes),
        "failed": {severity: [outcome["name"] for outcome in rows] for severity, rows in failed.items()},
        "outcomes": outcomes,
    }
    write_json(outputs["verdict"] / "verdict.json", verdict)
    if failed["critical"]:
        _keep_failed(outputs)
        reasons = "; ".join(explain(outcome) for outcome in failed["critical"])
        raise UserError(
            f"validate: the corpus breaks its contract: {reasons} (pages: {FAILED}/docs/index.html)"
        )
    found = overlaps(params.evaluate, inputs["corpus"])
    write_json(outputs["verdict"] / "contamination.json", found)
    return Facts(notes={"warnings": verdict["failed"]["warning"]})  # type: ignore[index]


def explain(outcome: dict[str, Any]) -> str:
    """One failed expectation in words: `dropped_share is 0.41, allowed at most 0.3`."""
    arguments = outcome["arguments"]
    least, most = arguments.get("min_value"), arguments.get("max_value")
    allowed = [f"at least {least}"] if least is not None else []
    allowed += [f"at most {most}"] if most is not None else []
    bounds = f", allowed {' and '.join(allowed)}" if allowed else ""
    if outcome["unexpected"]:
        return f"{outcome['name']} fails for {outcome['unexpected']} documents{bounds}"
    return f"{outcome['name']} is {outcome['observed']}{bounds}"


def _keep_failed(outputs: Paths) -> None:
    shutil.rmtree(FAILED, ignore_errors=True)
    FAILED.mkdir(parents=True)
    shutil.copytree(outputs["docs"], FAILED / "docs")
    shutil.copy(outputs["verdict"] / "verdict.json", FAILED / "verdict.json")


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """From `out/corpus` to `out/validate` and the uncached pages in `out/validate_docs`.

    The fingerprints stand for suites outside the repository.
    """
    return (
        {"corpus": Path("out/corpus"), "sources": Path("out/sources")},
        {"verdict": Path("out/validate"), "docs": Path("out/validate_docs")},
    )


STAGE = Stage(
    "validate", run, reads=("validation", "evaluate.suites", "evaluate.mode"), locate=locate, torch=False
)
