"""Stage distill after a cut: the shrunk model learns from its own, uncut parent."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_fakes import settings, tiny_model

from evals.gate.absolute import OWN_STUDENTS
from stages.common import manifest
from stages.common.atomic import read_json, write_json
from stages.common.checkpoint import digest, load_model, load_tokenizer, save_model
from stages.common.errors import UserError
from stages.common.params import Params, parse
from stages.common.params.training import EVERY_SECOND, SHRUNK
from stages.common.stage import execute
from stages.distill.stage import STAGE, locate
from stages.distill.student import every_second_layer

ROOT = Path(__file__).resolve().parents[3]
REMOVED = {"asked": 0.3, "after_rounding": 0.28, "parameters_before": 100, "removed_parameters": 20}
NOTES = {"method": "finegates", "trainable_parameters": 96, "removed": REMOVED, "kept": {"0": [[0, 63]]}}


def _params(**distill: Any) -> Params:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["threads"], values["device"] = 1, "cpu"
    shrink = {"share": 0.3, "mode": "global", "gate_learning_rate": 0.02}
    values["adapt"] |= {"method": "finegates", "target_modules": None, "rank": None, "alpha": None}
    values["adapt"]["shrink"] = shrink
    values["gate"]["against_anchor"] = {"pretrain": [{"metric": "total", "margin": 0.03}]}
    values["distill"] |= {
        "student": SHRUNK,
        "mix": {"world-ru": 0.5, "world-en": 0.5},
        "training": settings(tokens=2048).model_dump(),
        "cross_entropy_weight": 0.0,
        **distill,
    }
    return parse(values, "params.yaml")


def _write(folder: Path, model: Any, stage: str, data: dict[str, Any], notes: dict[str, Any]) -> None:
    save_model(model, load_tokenizer(folder.parent / "tokens" / "tokenizer"), folder)
    lineage = {"base": {"source": "bootstrap", "licence": "MIT"}, "data": data}
    write_json(folder / "gorn.json", {"stage": stage, "lineage": lineage, "notes": notes})


@pytest.fixture(scope="module")
def cut(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `adapt` has cut what `pretrain` gave."""
    project = tmp_path_factory.mktemp("cut")
    shutil.copytree(shards_folder, project / "out" / "tokens")
    web, chat = {"web": ["MIT"]}, {"chat": ["CC0-1.0"]}
    _write(project / "out/pretrain", tiny_model(seed=1), "pretrain", web, {})
    narrow = tiny_model(seed=2, intermediate_size=40)
    _write(project / "out/adapt", narrow, "adapt", {**web, **chat}, NOTES)
    return project


@pytest.fixture
def project(cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(cut, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_the_teacher_is_the_uncut_parent() -> None:
    inputs, _ = locate(_params(), None)
    assert inputs == {
        "teacher": Path("out/pretrain"),
        "student": Path("out/adapt"),
        "tokens": Path("out/tokens"),
    }


def test_the_shrunk_student_keeps_its_widths_and_learns(project: Path) -> None:
    execute(STAGE, _params())
    student, before = load_model(project / "out/distill"), load_model(project / "out/adapt")
    assert student.config.intermediate_size == 40
    changed = student.state_dict()
    assert all(not value.equal(changed[name]) for name, value in before.state_dict().items() if "mlp" in name)
    losses = read_json(project / "out/distill/training.json")["curve"]["loss"]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_what_the_cut_model_descends_from_goes_on(project: Path) -> None:
    execute(STAGE, _params())
    lineage = manifest.read(project / "out/distill")["lineage"]
    assert lineage["data"] == {
        "chat": ["CC0-1.0"],
        "web": ["MIT"],
        "world-en": ["CC0-1.0"],
        "world-ru": ["CC0-1.0"],
    }
    assert lineage["student"] == SHRUNK
    assert lineage["adaptation"] == {
        "method": "finegates",
        "trainable_parameters": 96,
        "removed": REMOVED,
    }


def test_a_killed_recovery_ends_with_the_bytes_of_an_undisturbed_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.common.training.loop import _Run

    execute(STAGE, _params())
    before, step, taken = digest(project / "out/distill"), _Run.step, []

    def dying(run: Any) -> str:
        if len(taken) == 21:
            raise KeyboardInterrupt
        taken.append(run.state.step)
        return step(run)

    monkeypatch.setattr(_Run, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        execute(STAGE, _params())
    taken.clear()
    execute(STAGE, _params())
    assert taken[0] == 20
    assert digest(project / "out/distill") == before


def test_a_model_that_was_not_cut_has_nothing_to_recover(project: Path) -> None:
    about = read_json(project / "out/adapt/gorn.json")
    write_json(project / "out/adapt/gorn.json", {**about, "notes": {"method": "lora"}})
    with pytest.raises(UserError, match=r"recovers a model that was cut, and out/adapt was not; set adapt\."):
        execute(STAGE, _params())
    assert not (project / "out/distill").exists()


def test_half_of_a_cut_model_is_its_student_by_default(project: Path) -> None:
    execute(STAGE, _params(student=EVERY_SECOND))
    student = load_model(project / "out/distill")
    assert (student.config.num_hidden_layers, student.config.intermediate_size) == (1, 40)
    assert manifest.read(project / "out/distill")["lineage"]["adaptation"]["removed"] == REMOVED


def test_a_teacher_of_another_family_is_refused_by_name() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    teacher = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=30, n_positions=16))
    with pytest.raises(
        UserError, match="every second layer of a `gpt2` teacher cannot be taken; name a student"
    ):
        every_second_layer(teacher)


def test_a_student_brought_along_was_not_adapted_here(project: Path) -> None:
    shutil.copytree(project / "out/pretrain", project / "mine")
    (project / "out/sources").mkdir()
    execute(STAGE, _params(student="mine"))
    lineage = manifest.read(project / "out/distill")["lineage"]
    assert "adaptation" not in lineage
    assert lineage["student"] == "mine"


def test_the_gate_knows_the_students_that_are_made_here() -> None:
    assert set(OWN_STUDENTS) == {EVERY_SECOND, SHRUNK}
