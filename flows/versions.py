"""Candidates in MLflow: a LoggedModel for each, a registered version for each that passed, with the deciding
numbers.

MLflow 3.17's registry shows no metrics of its own, so a version carries them as tags and as a Markdown table.
Weights stay in DVC; the model's only artifact is a small manifest that says where.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import source, table
from flows.registry import Registry
from flows.results import Results, cell_metrics
from flows.settings import LOCK_FILE
from flows.table import number, with_interval
from stages.common.atomic import write_json
from stages.common.champion import CHAMPION
from stages.common.errors import UserError


def manifest_of(results: Results, name: str) -> dict[str, Any]:
    """What someone needs to find and load candidate `name`: digest, DVC hash, size, parent, verdict; and how
    it was adapted.
    """
    entry = results.candidate(name)
    folder = results.out / "quantize" / name
    return {
        "schema": 1,
        "candidate": name,
        "digest": entry["digest"],
        "bytes": entry.get("bytes"),
        "parent": entry.get("parent"),
        "verdict": entry.get("verdict"),
        "path": str(folder),
        "dvc": dvc_hash(str(folder)),
        "bits_per_weight": results.cells[name].measures.get("bits_per_weight"),
        "parameters": results.cells[name].measures.get("parameters"),
        **adaptation_of(results, name),
        "load": "import lowbit; AutoModelForCausalLM.from_pretrained(folder)",
    }


def adaptation_of(results: Results, name: str) -> dict[str, Any]:
    """Method, trainable and removed parameters of candidate `name`, where they are known."""
    return table.adaptation(next(row for row in table.read(results)["rows"] if row["name"] == name))


def dvc_hash(path: str, lock: Path = LOCK_FILE) -> str | None:
    """The hash under which dvc.lock keeps the out `path`; None when it does not list it."""
    import yaml

    if not lock.exists():
        return None
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    for stage in stages.values():
        for out in stage.get("outs", []):
            if out.get("path") == path:
                return str(out.get("md5"))
    return None


def log_model(client: Any, experiment: str, run: str, results: Results, name: str) -> str:
    """Create the LoggedModel of candidate `name` with its manifest; its id."""
    entry = results.candidate(name)
    tags = {"digest": str(entry["digest"]), "gate": str(entry.get("verdict")), **source.tags()}
    model = client.create_logged_model(
        experiment, name=name, source_run_id=run, tags=tags, model_type="lowbit"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.json"
        write_json(file, manifest_of(results, name))
        client.log_model_artifact(model.model_id, str(file))
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def register(registry: Registry, experiment: str, run: str, results: Results) -> dict[str, int]:
    """A version for every candidate that passed, one per digest; version numbers by candidate.

    A checkpoint that has a version keeps it, with the numbers of the latest decision; the reigning champion's
    numbers stay those that made it champion.
    """
    passed = [
        name for name, entry in sorted(results.decision["candidates"].items()) if entry["verdict"] == "pass"
    ]
    if not passed:
        return {}
    registry.ensure_model()
    champion = registry.alias("champion")
    found: dict[str, int] = {}
    for name in passed:
        tags = version_tags(results, name, run)
        version = registry.by_digest(tags["digest"])
        if version is None:
            found[name] = _create(registry, experiment, run, results, name, tags)
            continue
        found[name] = version.number
        current = champion is not None and champion.number == version.number
        if not current and version.tags.get("run") != run:
            registry.tag(version.number, tags)
            description = comparison(results, name)
            registry.client.update_model_version(registry.model, str(version.number), description)
    return found


def _create(
    registry: Registry, experiment: str, run: str, results: Results, name: str, tags: dict[str, str]
) -> int:
    models = registry.client.search_logged_models(
        [experiment], f"name = '{name}' and tags.digest = '{tags['digest']}'"
    )
    if not models:
        raise UserError(
            f"{name}: its model was deleted from MLflow by hand; delete run {run} too and publish again"
        )
    newest = max(models, key=lambda model: model.creation_timestamp)
    created = registry.client.create_model_version(
        registry.model,
        source=f"models:/{newest.model_id}",
        run_id=newest.source_run_id,
        tags=tags,
        description=comparison(results, name),
        model_id=newest.model_id,
    )
    return int(created.version)


def version_tags(results: Results, name: str, run: str) -> dict[str, str]:
    """The deciding numbers, the verdict and where the thing comes from, as text.

    What is missing is left out.
    """
    entry = results.candidate(name)
    metrics = cell_metrics(results.cells[name])
    prompt = table.read(results)["speed_prompt_tokens"]
    shown = {
        "bpc_ru": "bpc/ru",
        "bpc_en": "bpc/en",
        "judge_preference": "judge/preference",
        "bits_per_weight": "model/bits_per_weight",
        f"latency_p50_ms_{prompt}": f"p{prompt}/latency_ms/p50",
        f"decode_tokens_per_s_{prompt}": f"p{prompt}/decode_tokens_per_s/p50",
    }
    champion = results.decision["champion"].get("version")
    against = "base" if champion is None else f"version {champion}"
    tags: dict[str, Any] = {
        "candidate": name,
        "digest": entry["digest"],
        "gate": entry["verdict"],
        "gate_against": against,
        "total": with_interval(results.cells[name].scores.get("total")),
        "bytes": entry.get("bytes"),
        "parent": entry.get("parent"),
        **adaptation_of(results, name),
        "run": run,
        "dvc": dvc_hash(str(results.out / "quantize" / name)),
        **{tag: f"{metrics[metric]:.4g}" for tag, metric in shown.items() if metric in metrics},
        **{
            f"judge_win_rate_{kind}": with_interval(rate)
            for kind, rate in results.cells[name].judge.get("win_rate", {}).items()
            if rate.get("value") is not None
        },
        **source.tags(),
    }
    return {tag: str(value) for tag, value in tags.items() if value is not None}


def comparison(results: Results, name: str | None = None) -> str:
    """Markdown: the gate's table, and why; for one candidate only it and the champion, with every check."""
    told = table.read(results)
    titles, cells = table.header(told), {row[0]: row for row in table.rows(told)}
    lines = [] if name is None else [_summary(dict(zip(titles, cells[name], strict=True))), ""]
    chosen = [row for row in cells.values() if name is None or row[0] in (name, CHAMPION)]
    lines += ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(row) + " |" for row in chosen]
    if name is None:
        held = {
            key: entry for key, entry in results.decision["candidates"].items() if entry["verdict"] != "pass"
        }
        lines += [
            "",
            f"**Winner: {results.winner or 'none'}.** {results.decision.get('winner_reason') or ''}",
            "",
        ]
        lines += [f"- {key}: {'; '.join(entry.get('reasons') or [])}" for key, entry in sorted(held.items())]
    else:
        lines += ["", *_checks(results.candidate(name))]
    return "\n".join(lines).rstrip() + "\n"


def _summary(told: dict[str, str]) -> str:
    """The candidate in a line, which is all that lists of versions show."""
    cut = f", {told['removed']} of the parameters removed" if "removed" in told else ""
    return f"{told['candidate']}: {told['verdict']}; total {told['total [95 %]']}, {told['size']}{cut}"


def _checks(entry: dict[str, Any]) -> Iterator[str]:
    for check in entry.get("checks", []):
        words = check.get("text") or (
            f"{check.get('metric')} against {check.get('against')}: "
            f"difference {number(check.get('difference'), 4)}, "
            f"lower bound {number(check.get('ci_low'), 4)}, margin {check.get('margin')}"
        )
        yield f"- {check.get('verdict')}: {words}"
