"""What is missing is said in words; nothing is filled in."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from report_fake_out import Project

from stages.common.errors import UserError
from stages.common.params import load
from stages.common.params.shipping import ModelEndpoint
from stages.common.stage import execute
from stages.report.stage import STAGE, locate


def test_no_winner(project: Project) -> None:
    def hold(decision: dict[str, Any]) -> None:
        decision["winner"] = None
        decision["winner_reason"] = "none of 4 candidates passed; the champion stays"
        for candidate in decision["candidates"].values():
            candidate["verdict"] = "not enough data"
        decision["champion"] = {"version": 3, "digest": "d" * 64}

    project.edit("gate/decision.json", hold)
    project.report()
    html = project.read("report.html")
    assert "No winner: the champion stays" in html
    assert "None of 4 candidates passed; the champion stays." in html
    assert "version 3" in html and "d" * 12 in html
    assert "4 not enough data." in html
    assert 'class="cards"' not in html
    assert "Nothing: every candidate passed" not in html
    assert not any(row["winner"] for row in project.table["rows"])


def test_all_passed(project: Project) -> None:
    def accept(decision: dict[str, Any]) -> None:
        for candidate in decision["candidates"].values():
            candidate["verdict"] = "pass"

    project.edit("gate/decision.json", accept)
    project.report()
    assert "Nothing: every candidate passed." in project.read("report.html")


def test_a_disabled_judge(project: Project) -> None:
    reason = "it is switched off (`judge.enabled: false`)"

    def switch_off(summary: dict[str, Any]) -> None:
        summary.update(enabled=False, preference=None, ci=None, votes=False, reason=reason, accuracy=None)

    for name in load(project.root / "params.yaml").candidates:
        project.edit(f"judge/{name}/summary.json", switch_off)
    project.report()
    html, markdown = project.read("report.html"), project.read("report.md")
    assert "No candidate was judged: it is switched off (<code>judge.enabled: false</code>)." in html
    assert f"No candidate was judged: {reason}." in markdown
    assert html.count("not judged: it is switched off") == 1
    assert [row["judge"] for row in project.table["rows"]] == [None] * 5


def test_no_curve(project: Project) -> None:
    project.edit("pretrain/training.json", lambda training: training.update(points=[]))
    project.report()
    assert "There is no curve" in project.read("report.html")
    assert "There is no curve" in project.read("report.md")
    assert not (project.root / "out/report/forgetting.svg").exists()


def test_a_curve_of_one_point_shows_no_change(project: Project) -> None:
    project.edit("pretrain/training.json", lambda training: training.update(points=training["points"][:1]))
    project.report()
    assert (project.root / "out/report/forgetting.svg").exists()
    assert "→" not in project.read("report.html")


def test_a_missing_file_is_named_and_leaves_dashes(project: Project) -> None:
    shutil.rmtree(project.root / "out/measure/adapt-ternary")
    (project.root / "out/evaluate/distill-higgs-4bit/scores.json").unlink()
    project.report()
    html = project.read("report.html")
    assert "adapt-ternary: measure has left no measures.json" in html
    assert "distill-higgs-4bit: evaluate has left no scores.json" in html
    rows = {row["name"]: row for row in project.table["rows"]}
    assert rows["adapt-ternary"]["bytes"] is None and rows["adapt-ternary"]["latency_ms"] is None
    assert rows["adapt-ternary"]["total"] is not None
    assert rows["distill-higgs-4bit"]["total"] is None and rows["distill-higgs-4bit"]["bpc"] == {}
    picture = project.read("quality.svg")
    assert "adapt-ternary" not in picture and "adapt-bf16" in picture


def test_a_refused_prompt_is_explained_and_times_fall_back_to_the_shared_length(project: Project) -> None:
    def refuse(measures: dict[str, Any]) -> None:
        measures["prompts"]["512"] = None
        measures["reasons"]["512"] = "a prompt of 512 and 32 new tokens do not fit the model's 256 positions"

    project.edit("measure/distill-higgs-4bit/measures.json", refuse)
    project.report()
    html = project.read("report.html")
    assert "distill-higgs-4bit: not measured: a prompt of 512" in html
    assert project.table["speed_prompt_tokens"] == 1
    assert all(row["latency_ms"] for row in project.table["rows"])


def test_unknown_bounds_become_dashes(project: Project) -> None:
    project.edit("evaluate/adapt-bf16/scores.json", lambda scores: scores["total"].update(ci=[None, None]))
    project.report()
    assert "[–, –]" in project.read("report.html")


def test_tasks_that_are_not_in_the_total_are_named(project: Project) -> None:
    project.edit(
        "evaluate/adapt-bf16/scores.json", lambda scores: scores["total"].update(missing=["fake_parole"])
    )
    project.report()
    assert "adapt-bf16: not in the total: fake_parole" in project.read("report.html")


def test_a_corpus_without_planted_defects(project: Project) -> None:
    project.edit("corpus/summary.json", lambda summary: summary.update(truth=None))
    project.report()
    for name in ("report.html", "report.md"):
        assert "precision and recall of cleaning are not known" in project.read(name)


def test_a_busy_machine_is_admitted(project: Project) -> None:
    project.report()
    assert "busy with other work" not in project.read("report.html")
    project.edit("measure/adapt-bf16/measures.json", lambda found: found["machine"].update(load_average=9.0))
    project.report()
    assert "busy with other work (load average up to 9.0 on 2 logical cores)" in project.read("report.html")


def test_a_gpu_adds_its_memory_and_the_times_of_the_cpu(project: Project) -> None:
    def add(measures: dict[str, Any]) -> None:
        keys = ("prompts", "load_s", "peak_rss_bytes", "peak_device_bytes", "reasons")
        measures["on_cpu"] = {"device": "cpu", **{key: measures[key] for key in keys}}
        measures.update(device="cuda", peak_device_bytes=123_000_000)

    project.edit("measure/adapt-bf16/measures.json", add)
    project.report()
    html = project.read("report.html")
    assert "on the GPU" in html and "123 MB" in html
    assert project.read("report.md").count("| adapt-bf16 | cpu |") == 2


def test_a_missing_decision_is_the_users_to_mend(project: Project) -> None:
    (project.root / "out/gate/decision.json").unlink()
    with pytest.raises(UserError, match=r"decision\.json: no such file; run the stage"):
        project.report()
    assert not (project.root / "out/report").exists()


def test_no_weights_are_read(project: Project) -> None:
    inputs, _ = locate(load(project.root / "params.yaml"), None)
    for name, path in inputs.items():
        assert not list(path.glob("*.safetensors")) and path.name not in ("pretrain", "quantize"), name


def test_models_scored_beside_the_candidates(project: Project) -> None:
    params = load(project.root / "params.yaml")
    served = ModelEndpoint(address="http://127.0.0.1:9/v1", model="m")
    evaluate = params.evaluate.model_copy(update={"endpoints": {"big": served, "lost": served}})
    cells = project.root / "out" / "evaluate"
    shutil.copytree(cells / "adapt-bf16", cells / "big")
    execute(STAGE, params.model_copy(update={"evaluate": evaluate}))
    markdown, html = project.read("report.md"), project.read("report.html")
    assert "| big | lost |" in markdown and "big, scored beside the candidates: total 79.0" in markdown
    assert "big, scored beside the candidates" in html
    assert "lost: evaluate has left no scores.json" in markdown
    big, lost = project.table["beside"]
    assert big["total"]["value"] == pytest.approx(0.79) and lost["total"] is None
    assert len(project.table["rows"]) == 5
