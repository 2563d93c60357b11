"""The loop: equal bytes after any interruption, divergence is stopped, accumulation keeps the step."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_fakes import settings, tiny_model

from stages.common.errors import UserError
from stages.common.params import Reads
from stages.common.training.evaluation import bits_per_character, sample
from stages.common.training.loop import Trained, train
from stages.common.training.losses import cross_entropy
from stages.common.training.optimiser import learning_rate, make_optimiser, steps_of
from stages.common.training.resume import Resume, State, key_of
from stages.common.training.sampler import Sampler
from stages.common.training.shards import Shards

MIX = {"world-ru": 0.5, "world-en": 0.5}


class KilledError(Exception):
    """Stands for a kill between two steps."""


def _train(
    folder: Path, resume: Path | None, stop: int | None = None, dropout: float = 0.1, **changes: Any
) -> tuple[Any, Trained]:
    """A whole run, or one that dies before the loss of step `stop`."""
    from stages.common.checkpoint import load_tokenizer

    given, shards = settings(**changes), Shards.open(folder)
    model, calls = tiny_model(attention_dropout=dropout), 0
    held = sample(shards, load_tokenizer(folder / "tokenizer"), 128)

    def loss(trained: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if stop is not None and calls > stop:
            raise KilledError
        return cross_entropy(trained, batch)

    trained = train(
        model,
        loss,
        Sampler(shards, MIX, given.batch_size, given.sequence_length, 1, "mix"),
        given,
        seed=1,
        device="cpu",
        resume=Resume(resume) if resume else None,
        evaluate=lambda found: bits_per_character(found, held, shards.eos_id, "cpu"),
        evaluations=2,
    )
    return model, trained


def _bytes(model: Any) -> bytes:
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in model.named_parameters()})


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_and_resumed_run_ends_with_the_same_bytes(
    shards_folder: Path, tmp_path: Path, stop: int, precision: str
) -> None:
    whole, expected = _train(shards_folder, None, precision=precision)
    with pytest.raises(KilledError):
        _train(shards_folder, tmp_path / "resume", stop=stop, precision=precision)
    resumed, found = _train(shards_folder, tmp_path / "resume", precision=precision)
    assert _bytes(resumed) == _bytes(whole)
    assert found == expected


def test_a_second_process_killed_hard_is_resumed_to_the_same_bytes(
    shards_folder: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time; from pathlib import Path; import test_training_loop as t\n"
        "from stages.common.training import loop\n"
        "step = loop._Run.step\n"
        "def slow(run):\n    time.sleep(0.15)\n    return step(run)\n"
        "loop._Run.step = slow\n"
        "t._train(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    here = Path(__file__).resolve()
    paths = [str(here.parent), str(here.parents[2]), str(here.parents[4]), str(here.parents[4] / "kernels")]
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(shards_folder), str(tmp_path / "resume")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if list((tmp_path / "resume").glob("[ab]/state.json")) or child.poll() is not None:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    whole, expected = _train(shards_folder, None)
    resumed, found = _train(shards_folder, tmp_path / "resume")
    assert _bytes(resumed) == _bytes(whole)
    assert found == expected


def test_a_half_written_slot_leaves_the_older_one(shards_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        _train(shards_folder, tmp_path, stop=6)
    newest = Resume(tmp_path)._newest()
    assert newest is not None
    (tmp_path / newest / "state.json").write_text('{"step": ')
    whole, _ = _train(shards_folder, None)
    resumed, _ = _train(shards_folder, tmp_path)
    assert _bytes(resumed) == _bytes(whole)


def test_a_finished_run_resumes_to_its_end_without_a_step(shards_folder: Path, tmp_path: Path) -> None:
    whole, expected = _train(shards_folder, tmp_path)
    again, found = _train(shards_folder, tmp_path, stop=0)
    assert _bytes(again) == _bytes(whole)
    assert found == expected
    Resume(tmp_path).clear()
    assert not tmp_path.exists()


def test_training_learns_and_counts(shards_folder: Path, tmp_path: Path) -> None:
    _, trained = _train(shards_folder, None, tokens=4096)
    assert trained.steps == 64
    assert sum(trained.tokens.values()) == 4096
    assert set(trained.tokens) == set(MIX)
    assert [point["step"] for point in trained.points] == [0, 32, 64]
    assert trained.points[0]["loss"] is None
    for language in ("ru", "en"):
        assert trained.points[-1]["bpc"][language] < 0.8 * trained.points[0]["bpc"][language]
    trained.write(tmp_path / "training.json")
    assert "64" in (tmp_path / "training.json").read_text()


def test_accumulation_keeps_the_step(shards_folder: Path) -> None:
    _, whole = _train(shards_folder, None, dropout=0.0)
    _, parts = _train(shards_folder, None, dropout=0.0, accumulate=4)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    assert parts.tokens == whole.tokens


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    shards_folder: Path, tmp_path: Path, bad: float
) -> None:
    shards, model, calls = Shards.open(shards_folder), tiny_model(), 0

    def loss(trained: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(trained, batch) * (bad if calls == 6 else 1.0)

    sampler = Sampler(shards, MIX, 4, 16, 1, "mix")
    with pytest.raises(UserError, match="at step 5"):
        train(model, loss, sampler, settings(), 1, "cpu", Resume(tmp_path))
    assert all(torch.isfinite(value).all() for value in model.parameters())
    kept = tiny_model(seed=9)
    state = Resume(tmp_path).load(kept, make_optimiser(kept, settings()))
    assert state is not None
    assert state.step == 4


def test_a_climbing_loss_stops(shards_folder: Path) -> None:
    sampler, calls = Sampler(Shards.open(shards_folder), MIX, 4, 16, 1, "mix"), 0

    def loss(trained: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(trained, batch) * (1 + calls)

    with pytest.raises(UserError, match="the loss diverges"):
        train(tiny_model(), loss, sampler, settings(tokens=2000), 1, "cpu")
    assert 2 < calls < 31


def test_parameters_have_rates_of_their_own() -> None:
    model, used = tiny_model(), settings()
    rates = {"down_proj": 3 * used.learning_rate, "norm": used.learning_rate / 4, "layers.0.mlp": 0.5}
    groups = make_optimiser(model, used, rates).param_groups
    scales = {id(value): group["scale"] for group in groups for value in group["params"]}
    decays = {id(value): group["decays"] for group in groups for value in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(scales) == len(list(model.parameters()))
    for name, value in model.named_parameters():
        # The first fragment counts: the feed-forward part of layer 0 has a down_proj too.
        expected = 3.0 if "down_proj" in name else 0.25 if "norm" in name else 1.0
        if "layers.0.mlp" in name and "down_proj" not in name:
            expected = 0.5 / used.learning_rate
        assert scales[id(value)] == pytest.approx(expected), name
        assert decays[id(value)] == (value.ndim >= 2)
    with pytest.raises(ValueError, match="given for `gate_mu`, which no trainable parameter is called"):
        make_optimiser(model, used, {"gate_mu": 0.1})


def test_the_schedule_moves_every_rate(shards_folder: Path) -> None:
    sampler, used = Sampler(Shards.open(shards_folder), MIX, 4, 16, 1, "mix"), settings(weight_decay=0.0)
    model, plain = tiny_model(), tiny_model()
    train(model, cross_entropy, sampler, used, 1, "cpu", rates={"norm": 1e-30})
    train(plain, cross_entropy, sampler, used, 1, "cpu")
    begun = dict(tiny_model().named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(value, begun[name]) == ("norm" in name), name
    assert all(not torch.equal(value, begun[name]) for name, value in plain.named_parameters())


def test_state_survives_json_exactly(tmp_path: Path) -> None:
    model = tiny_model()
    optimiser = make_optimiser(model, settings())
    state = State(3, {"a": 5}, [0.1 + 0.2, 1 / 3], [{"step": 0, "bpc": {"ru": 1e-17}}], 2 / 3, 1 / 7)
    Resume(tmp_path).save(state, model, optimiser)
    assert Resume(tmp_path).load(model, optimiser) == state


def test_a_new_state_replaces_those_of_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    optimiser = make_optimiser(model, settings())
    first, second = (Resume.of("base", Reads(seed=seed), {}) for seed in (1, 2))
    other_stage = Resume.of("adapt", Reads(seed=1), {})
    for resume in (other_stage, first):
        resume.save(State(3), model, optimiser)
    assert second.load(model, optimiser) is None
    assert first.load(model, optimiser) == State(3)
    second.save(State(1), model, optimiser)
    assert first.load(model, optimiser) is None
    assert other_stage.load(model, optimiser) == State(3)


@pytest.mark.parametrize("stage", ["base", "pretrain", "adapt", "distill"])
def test_the_key_of_a_state_holds_the_code_that_dvc_watches(
    stage: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on from a state only where DVC would not have started the stage anew."""
    declared = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]
    watched = {path for path in declared if not path.startswith("out/")}
    assert {"kernels/lowbit", "stages/common", f"stages/{stage}"} <= watched
    hashed: list[Path] = []
    monkeypatch.setattr("stages.common.training.resume.sha256_path", hashed.append)
    key_of(stage, Reads(seed=1), {})
    named = {path.relative_to(root).as_posix() for path in hashed}
    for folder in watched:
        own = {path.relative_to(root).as_posix() for path in (root / folder).rglob("*.py")}
        assert own and own <= named, folder


def test_the_key_of_a_state_holds_the_code_that_is_named() -> None:
    given = ("judge_model", Reads(seed=1), {})
    keys = {key_of(*given), key_of(*given, also=("stages/corpus",)), key_of(*given, also=("evals/judge",))}
    assert len(keys) == 3


def test_schedule_warms_up_and_decays_to_its_share() -> None:
    given = settings(tokens=64 * 100, warmup_share=0.1, final_lr_share=0.1)
    assert steps_of(given) == 100
    rates = [learning_rate(given, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[100] == pytest.approx(0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    cosine = settings(tokens=64 * 100, warmup_share=0.0, final_lr_share=0.0, schedule="cosine")
    assert learning_rate(cosine, 50) == pytest.approx(0.005)


def test_norms_and_biases_are_not_decayed() -> None:
    model = tiny_model()
    decayed, free = make_optimiser(model, settings()).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(value.ndim == 2 for value in decayed["params"])
    assert all(value.ndim == 1 for value in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
