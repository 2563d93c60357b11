"""Writes a finished graph into MLflow, from files only, so that a cached run is recorded as fully as a fresh
one.

Publishing the same content twice leaves one run and one version: the key is a hash of everything published.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows import judging, source, versions
from flows.registry import Registry, file_lock
from flows.results import REPORTS, Cell, Results, cell_metrics, flatten, numbers
from flows.settings import LOCK_FILE, STATE
from stages.common import manifest
from stages.common.params import PARAMS_FILE, Params

# Limits of one MLflow request.
METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100
VALUE_CHARACTERS = 5000


@dataclass(frozen=True)
class Published:
    """Id of the parent run, whether it is new, and the registered version of every candidate that passed."""

    run: str
    new: bool
    versions: dict[str, int] = field(default_factory=dict)


def publish(registry: Registry, params: Params, results: Results) -> Published:
    """Record the parent run, its children per stage and candidate, and the versions of passing candidates.

    A run that was cut off half way is removed and written again. `flows.results.read` has made sure that
    `results` are those of the checkpoints that the gate judged.
    """
    key = results.key()
    with file_lock(STATE / "publish.lock"):
        experiment = registry.experiment()
        done = _recorded(registry, experiment, key)
        run = done or _Recorder(registry, experiment, params, results, key).write()
        return Published(run, done is None, versions.register(registry, experiment, run, results))


def _recorded(registry: Registry, experiment: str, key: str) -> str | None:
    """The complete parent run with this key; incomplete ones are deleted with their children."""
    for run in registry.client.search_runs([experiment], f"tags.`gorn.key` = '{key}'"):
        if run.data.tags.get("gorn.complete") == "true":
            return str(run.info.run_id)
        children = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
        for child in registry.client.search_runs([experiment], children):
            registry.client.delete_run(child.info.run_id)
        registry.client.delete_run(run.info.run_id)
    return None


class _Recorder:
    """Writes one pipeline execution: parent first, children, then the mark that it is complete."""

    def __init__(
        self, registry: Registry, experiment: str, params: Params, results: Results, key: str
    ) -> None:
        self.client = registry.client
        self.experiment = experiment
        self.params = params
        self.results = results
        self.key = key
        self.now = int(time.time() * 1000)
        self.source = source.tags()

    def write(self) -> str:
        """Write everything; the id of the parent run."""
        parent = self._parent()
        try:
            for stage in _stages_with_manifest(self.results.out):
                self._stage(parent, stage)
            for cell in self.results.cells.values():
                self._cell(parent, cell)
            judging.trace_calls(self.client, self.experiment, parent)
        except BaseException:
            self.client.set_terminated(parent, "FAILED")
            raise
        self.client.set_tag(parent, "gorn.complete", "true")
        self.client.set_terminated(parent, "FINISHED")
        return parent

    def _run(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        family = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(self.experiment, run_name=name, tags={**tags, **family, **self.source})
        return str(run.info.run_id)

    def _parent(self) -> str:
        results = self.results
        commit = self.source.get("git.commit", "no-git")[:8]
        champion = results.decision["champion"]
        gate = {
            f"gate.{name}": str(entry.get("verdict"))
            for name, entry in results.decision["candidates"].items()
        }
        run = self._run(
            f"pipeline {commit} {self.key[:8]}",
            {
                **gate,
                "gorn.kind": "pipeline",
                "gorn.key": self.key,
                "gate": "passed" if results.winner else "held",
                "winner": str(results.winner),
                "winner_reason": str(results.decision.get("winner_reason", "")),
                "champion.version": str(champion.get("version")),
                "champion.digest": str(champion.get("digest")),
                "mlflow.note.content": versions.comparison(results),
            },
        )
        self._params(run, flatten(self.params.model_dump(mode="json")))
        counts: dict[str, float] = {"candidates": len(results.decision["candidates"])}
        counts["passed"] = sum(
            entry.get("verdict") == "pass" for entry in results.decision["candidates"].values()
        )
        if results.winner:
            winner = cell_metrics(results.cells[results.winner])
            counts.update({f"winner/{name}": value for name, value in winner.items()})
        self._metrics(run, counts.items())
        self._artifacts(run, [results.out / "gate" / "decision.json", PARAMS_FILE, LOCK_FILE])
        self._artifacts(run, [results.out / "report" / name for name in REPORTS], "report")
        self._data(run)
        return run

    def _data(self, run: str) -> None:
        """Name the corpus as the run's data set, with the digest that the scores were made under."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        told = manifest.sidecar(self.results.out / "corpus")
        if not told.exists():
            return
        digest = manifest.read(self.results.out / "corpus")["files"].get("documents.parquet")
        if digest is None:
            return
        corpus = Dataset(
            "corpus", digest[:32], "local", json.dumps({"uri": str(self.results.out / "corpus")})
        )
        self.client.log_inputs(run, [DatasetInput(corpus, [InputTag("mlflow.data.context", "training")])])

    def _stage(self, parent: str, out: Path) -> None:
        """One child per stage: its resolved parameters, tokens, notes, lineage and training curve."""
        told = manifest.read(out)
        run = self._run(out.name, {"gorn.kind": "stage", "stage": str(told.get("stage", out.name))}, parent)
        self._params(run, flatten(told.get("params", {})))
        lineage = {
            f"lineage.{name}": str(value)[:VALUE_CHARACTERS]
            for name, value in told.get("lineage", {}).items()
        }
        for name, value in lineage.items():
            self.client.set_tag(run, name, value)
        facts = {"tokens": told.get("tokens", {}), "notes": told.get("notes", {})}
        self._metrics(run, numbers(facts))
        curve = self.results.trainings.get(out.name, {})
        self._curve(run, curve)
        self._artifacts(
            run, [out / "training.json", out / manifest.CHECKPOINT_MANIFEST, manifest.sidecar(out)]
        )
        self.client.set_terminated(run, "FINISHED")

    def _cell(self, parent: str, cell: Cell) -> None:
        """One child per candidate and one for the champion; a candidate is a LoggedModel too."""
        entry = self.results.decision["candidates"].get(cell.name)
        tags = {"gorn.kind": "candidate" if entry else "champion", "candidate": cell.name}
        if entry:
            tags |= {"gate": str(entry.get("verdict")), "gate.reasons": "; ".join(entry.get("reasons") or [])}
            tags["digest"] = str(entry.get("digest"))
        run = self._run(cell.name, {name: text[:VALUE_CHARACTERS] for name, text in tags.items()}, parent)
        model = (
            versions.log_model(self.client, self.experiment, run, self.results, cell.name) if entry else None
        )
        adapted = dict(numbers(versions.adaptation_of(self.results, cell.name), "model"))
        self._metrics(run, {**cell_metrics(cell), **adapted}.items(), model)
        folder = self.results.out
        self._artifacts(
            run,
            [
                folder / "evaluate" / cell.name / "scores.json",
                folder / "judge" / cell.name / "summary.json",
                folder / "judge" / cell.name / "passport.json",
                folder / "measure" / cell.name / "measures.json",
            ],
        )
        judged = folder / "judge" / cell.name
        tables = {
            judging.TABLE: judging.verdict_table(judged / "verdicts.parquet"),
            judging.GRADES: judging.grade_table(judged / "grades.parquet"),
        }
        for name, rows in tables.items():
            if rows is not None:
                self.client.log_table(run, rows, name)
        if entry and (folder / "quantize" / cell.name).is_dir():
            read = flatten(manifest.read(folder / "quantize" / cell.name).get("params", {}))
            # The same names in every candidate, so that a comparison sets them side by side.
            self._params(run, ((key.removeprefix(f"candidates.{cell.name}."), value) for key, value in read))
        self.client.set_terminated(run, "FINISHED")

    def _params(self, run: str, pairs: Iterable[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        every = [Param(name, value[:VALUE_CHARACTERS]) for name, value in pairs]
        for start in range(0, len(every), PARAMS_AT_ONCE):
            self.client.log_batch(run, params=every[start : start + PARAMS_AT_ONCE])

    def _metrics(self, run: str, pairs: Iterable[tuple[str, float]], model: str | None = None) -> None:
        from mlflow.entities import Metric

        every = [Metric(metric_name(name), value, self.now, 0, model_id=model) for name, value in pairs]
        self._batches(run, every)

    def _curve(self, run: str, training: Mapping[str, Any]) -> None:
        """Every numeric column of a training curve as a metric over steps."""
        from mlflow.entities import Metric

        every = [
            Metric(metric_name(f"train/{name}"), value, self.now, step)
            for step, point in curve_points(training)
            for name, value in numbers(point)
        ]
        self._batches(run, every)

    def _batches(self, run: str, metrics: list[Any]) -> None:
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])

    def _artifacts(self, run: str, files: Iterable[Path], folder: str | None = None) -> None:
        for file in files:
            if file.is_file():
                self.client.log_artifact(run, str(file), folder)


def curve_points(training: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """(step, values) of training.json: `loss`, each the mean of `every` steps, and the evaluations.

    The last point of a curve may stand for fewer steps; it is shown at the end of the training.
    """
    curve = training.get("curve", {})
    every, last = curve.get("every", 1), training.get("steps", 0)
    found = [(min((at + 1) * every, last), {"loss": loss}) for at, loss in enumerate(curve.get("loss", []))]
    for point in training.get("points", []):
        values = {key: value for key, value in point.items() if key not in ("step", "tokens")}
        found.append((int(point["step"]), {"evaluation": values}))
    return found


def metric_name(name: str) -> str:
    """`name` with the characters that MLflow refuses replaced by an underscore."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def _stages_with_manifest(out: Path) -> list[Path]:
    """Outs of the stages that are no matrix, found by their manifests.

    The graph's own list, whatever it is.
    """
    return [
        folder
        for folder in sorted(out.iterdir())
        if folder.is_dir()
        and ((folder / manifest.CHECKPOINT_MANIFEST).exists() or manifest.sidecar(folder).exists())
    ]
