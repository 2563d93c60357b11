"""`gorn publish`: complete, from files, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import flows_fakes as fakes
import pytest

from flows import cli, ui, versions
from flows import publish as publishing
from flows import results as reading
from flows.registry import Registry
from stages.common.errors import UserError
from stages.common.params import load

pytestmark = pytest.mark.e2e


TRAINING = {
    "steps": 6,
    "tokens": {"world-en": 10},
    "curve": {"every": 4, "loss": [3.0, 2.5]},
    "points": [{"step": 0, "tokens": 0, "bpc": {"en": 1.5}}, {"step": 6, "tokens": 10, "bpc": {"en": 1.25}}],
}


def publish(registry: Registry) -> publishing.Published:
    return publishing.publish(registry, load(), reading.read())


def runs(registry: Registry, kind: str) -> list:
    return list(registry.client.search_runs([registry.experiment()], f"tags.`gorn.kind` = '{kind}'"))


def test_everything_is_recorded_once(project: Path, registry: Registry) -> None:
    fakes.write(project / "out/base/training.json", TRAINING)
    fakes.write(
        project / "out/base/gorn.json", {"stage": "base", "params": {"seed": 1}, "tokens": {"world-en": 10}}
    )
    first, second = publish(registry), publish(registry)
    assert first.new
    assert not second.new
    assert second == publishing.Published(first.run, False, first.versions)
    assert first.versions == {"adapt-bf16": 1}
    assert len(runs(registry, "pipeline")) == 1
    assert sorted(run.info.run_name for run in runs(registry, "candidate")) == ["adapt-bf16", "adapt-ternary"]
    assert [run.info.run_name for run in runs(registry, "champion")] == ["champion"]
    (base,) = runs(registry, "stage")
    history = registry.client.get_metric_history(base.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(4, 3.0), (6, 2.5)]
    forgetting = registry.client.get_metric_history(base.info.run_id, "train/evaluation/bpc/en")
    assert [(point.step, point.value) for point in forgetting] == [(0, 1.5), (6, 1.25)]
    assert base.data.metrics["tokens/world-en"] == 10
    parent = runs(registry, "pipeline")[0]
    assert base.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["pretrain.training.tokens"] == str(load().pretrain.training.tokens)
    assert parent.data.tags["gate.adapt-ternary"] == "fail"
    assert {file.path for file in registry.client.list_artifacts(parent.info.run_id)} >= {
        "decision.json",
        "params.yaml",
    }


def test_links_of_the_pages_name_the_newest_candidates(registry: Registry) -> None:
    assert [title for title, _ in ui.pages(registry)] == ["Versions"]
    publish(registry)
    pages = {title: unquote(page) for title, page in ui.pages(registry)}
    cells = runs(registry, "candidate") + runs(registry, "champion")
    assert all(run.info.run_id in pages["Compare"] for run in cells)
    assert not any(run.info.run_id in pages["Compare"] for run in runs(registry, "pipeline"))
    assert f"/#/models/{registry.model}?" in pages["Versions"]


def test_a_version_begins_its_description_with_a_line_for_lists(registry: Registry) -> None:
    publish(registry)
    description = registry.client.get_model_version(registry.model, "1").description
    assert description.splitlines()[0] == "adapt-bf16: pass, winner; total 0.800 [0.780, 0.820], 1.00 kB"


def test_metrics_carry_their_intervals(registry: Registry) -> None:
    publish(registry)
    (run,) = [run for run in runs(registry, "candidate") if run.info.run_name == "adapt-bf16"]
    assert run.data.metrics["total"] == 0.8
    assert run.data.metrics["total_ci_lo"] == pytest.approx(0.78)
    assert run.data.metrics["bpc/ru_ci_hi"] == 0.6
    assert run.data.metrics["judge/preference_ci_lo"] == 0.5
    assert run.data.metrics["p1/latency_ms/p95"] == 15.0
    assert run.data.metrics["model/bytes"] == 1000


def test_other_numbers_are_another_run_but_the_same_bytes_stay_one_version(
    project: Path, registry: Registry
) -> None:
    first = publish(registry)
    fakes.write(project / "out/measure/adapt-bf16/measures.json", fakes.measures(1001))
    second = publish(registry)
    assert second.run != first.run
    assert second.versions == first.versions
    assert registry.version(1).tags["run"] == second.run


def test_a_version_shows_the_deciding_numbers(registry: Registry) -> None:
    publish(registry)
    version = registry.version(1)
    assert version.tags["total"] == "0.800 [0.780, 0.820]"
    assert version.tags["gate"] == "pass"
    assert version.tags["gate_against"] == "base"
    assert version.tags["bytes"] == "1000"
    description = registry.client.get_model_version(registry.model, "1").description
    assert "| adapt-bf16 | 0.800 [0.780, 0.820] |" in description
    assert "| champion | 0.300" in description
    assert "adapt-ternary" not in description


def test_a_cut_is_recorded_with_every_candidate(project: Path, registry: Registry) -> None:
    removed = {"asked": 0.3, "parameters_before": 1000, "removed_parameters": 250}
    told = {"method": "finegates", "trainable_parameters": 64, "removed": removed}
    for name in fakes.CANDIDATES:
        fakes.write(
            project / f"out/quantize/{name}/gorn.json",
            {"stage": "quantize", "params": {"seed": 1}, "lineage": {"adaptation": told}},
        )
        fakes.write(
            project / f"out/measure/{name}/measures.json", {**fakes.measures(1000), "parameters": 750}
        )
    fakes.report(project)
    publish(registry)
    (run,) = [run for run in runs(registry, "candidate") if run.info.run_name == "adapt-bf16"]
    found = [run.data.metrics[f"model/{key}"] for key in ("trainable_parameters", "removed_parameters")]
    assert found == [64, 250]
    tags = registry.version(1).tags
    assert [tags[key] for key in ("method", "trainable_parameters", "removed_parameters")] == [
        "finegates",
        "64",
        "250",
    ]
    (model,) = registry.client.search_logged_models([registry.experiment()], "name = 'adapt-bf16'")
    (file,) = Path(model.artifact_location.removeprefix("file://")).rglob("*.json")
    shown = json.loads(file.read_text(encoding="utf-8"))
    assert (shown["parameters"], shown["removed_parameters"], shown["method"]) == (750, 250, "finegates")
    description = registry.client.get_model_version(registry.model, "1").description
    assert description.splitlines()[0].endswith("1.00 kB, 25.0 % of the parameters removed")


def test_the_model_is_a_manifest_without_weights(project: Path, registry: Registry) -> None:
    publish(registry)
    models = registry.client.search_logged_models([registry.experiment()], "name = 'adapt-bf16'")
    assert len(models) == 1
    assert {metric.key: metric.value for metric in models[0].metrics}["total"] == 0.8
    (file,) = Path(models[0].artifact_location.removeprefix("file://")).rglob("*.json")
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["digest"] == registry.version(1).digest
    assert told["path"] == "out/quantize/adapt-bf16"


def test_a_run_cut_off_half_way_is_written_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(versions, "log_model", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        with pytest.raises(RuntimeError, match="power cut"):
            publish(registry)
    published = publish(registry)
    assert published.new
    assert len(runs(registry, "pipeline")) == 1
    assert len(runs(registry, "candidate")) == 2


def test_nothing_passes_nothing_is_registered(project: Path, registry: Registry) -> None:
    fakes.decide(project, winner=None)
    assert publish(registry).versions == {}
    assert registry.aliases() == {"champion": None, "previous": None, "challenger": None}


def test_no_decision_is_one_clear_line(project: Path) -> None:
    (project / "out/gate/decision.json").unlink()
    with pytest.raises(UserError, match=r"decision\.json: no such file; run the stage that writes it"):
        reading.read()


def test_a_decision_of_another_form_is_refused(project: Path) -> None:
    fakes.write(project / "out/gate/decision.json", {"winner": "x", "candidates": {}, "champion": {}})
    with pytest.raises(UserError, match="its winner `x` is not among its candidates"):
        reading.read()


def score(root: Path, name: str) -> str:
    """A `dvc repro` that trained and scored `name` anew and stopped there; what the error names."""
    folder = root / "out/quantize" / name if name != "champion" else root / "out/base"
    fakes.checkpoint(folder, "of another run")
    fakes.write(root / "out/evaluate" / name / "scores.json", fakes.scores(0.99, folder))
    return f"out/evaluate/{name}/scores.json"


def train(root: Path, name: str) -> str:
    """The same, stopped before the scores."""
    fakes.checkpoint(root / "out/quantize" / name, "of another run")
    return f"out/quantize/{name}"


@pytest.mark.parametrize(
    ("stop", "name"), [(score, "adapt-ternary"), (score, "champion"), (train, "adapt-bf16")]
)
def test_others_than_the_gate_judged_are_not_published(
    project: Path, capsys: pytest.CaptureFixture[str], stop: Callable[[Path, str], str], name: str
) -> None:
    where = stop(project, name)
    assert cli.main(["publish"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gorn publish: {where}: of checkpoint ")
    assert line.endswith("run `dvc repro` to its end, then `gorn publish`")


def test_a_checkpoint_that_lies_in_the_cache_only_is_published(project: Path) -> None:
    shutil.rmtree(project / "out/quantize")
    assert reading.read().winner == "adapt-bf16"


def test_the_hash_of_an_out_is_read_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "stages:\n  q@a:\n    outs:\n    - path: out/quantize/a\n      md5: abc.dir\n", encoding="utf-8"
    )
    assert versions.dvc_hash("out/quantize/a", lock) == "abc.dir"
    assert versions.dvc_hash("out/quantize/b", lock) is None
