"""Whole folders: a killed run goes on and gives the bytes of an undisturbed one; memory stays small."""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from lowbit import recipes, streaming
from lowbit.errors import LowbitError
from lowbit.tensorfile import Source, digest, raw_bytes
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

SHARD = 30_000  # bytes: the packed test model takes three shards
PLAN, SEED = "higgs-4bit", 5
KILLED = """
import os, signal, sys, lowbit
def kill(done, total, name):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
lowbit.quantize_folder(sys.argv[1], "higgs-4bit", sys.argv[2], seed=5, shard_bytes=30000, progress=kill)
"""


class Stop(BaseException):
    """What a person's Ctrl-C would be."""


def _quantize(source: Path, target: Path, **options: Any) -> Any:
    return lowbit.quantize_folder(source, PLAN, target, **{"seed": SEED, "shard_bytes": SHARD, **options})


def _equal(left: Path, right: Path) -> bool:
    names = {file.name for file in left.iterdir()}
    return names == {file.name for file in right.iterdir()} and all(
        filecmp.cmp(left / name, right / name, shallow=False) for name in names
    )


def _interrupt(source: Path, target: Path, resume: Path, at: int, **options: Any) -> None:
    def stop(done: int, total: int, name: str) -> None:
        assert not target.exists()
        if done == at:
            raise Stop

    with pytest.raises(Stop):
        _quantize(source, target, resume=resume, progress=stop, **options)
    assert not target.exists()


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run writes."""
    target = tmp_path_factory.mktemp("whole") / "target"
    _quantize(checkpoint, target)
    return target


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tensors that were quantised since the test began."""
    seen: list[str] = []
    original = recipes.pack

    def counting(weight: torch.Tensor, spec: Any, seed: int, name: str) -> Any:
        seen.append(name)
        return original(weight, spec, seed, name)

    monkeypatch.setattr(recipes, "pack", counting)
    return seen


def test_a_killed_run_goes_on(checkpoint: Path, whole: Path, tmp_path: Path, packed: list[str]) -> None:
    target = tmp_path / "target"
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(target), "20"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [file.name for file in tmp_path.iterdir()] == [".target.partial"]
    steps: list[int] = []
    report = _quantize(checkpoint, target, progress=lambda done, *_: steps.append(done))
    assert _equal(target, whole)
    assert [file.name for file in tmp_path.iterdir()] == ["target"]
    names = list(Source(checkpoint).files)
    assert steps == list(range(1, len(names) + 1))
    assert packed == [name for name in names[20:] if "proj.weight" in name]
    assert report.to_json() == _quantize(checkpoint, tmp_path / "again").to_json()


@pytest.mark.parametrize("at", [1, 9, 26])
def test_a_named_folder_keeps_the_work_of_any_end(
    at: int, checkpoint: Path, whole: Path, tmp_path: Path, packed: list[str]
) -> None:
    target, resume = tmp_path / "target", tmp_path / "resume"
    _interrupt(checkpoint, target, resume, at)
    before = len(packed)
    _interrupt(checkpoint, target, resume, at)
    assert len(packed) == before
    _quantize(checkpoint, target, resume=resume)
    assert _equal(target, whole)
    assert len(packed) == 14
    assert not resume.exists()


def test_what_differs_starts_afresh(checkpoint: Path, whole: Path, tmp_path: Path, packed: list[str]) -> None:
    target, resume = tmp_path / "target", tmp_path / "resume"
    for number, other in enumerate(({"seed": 6}, {"shard_bytes": 20_000}, {})):
        _interrupt(checkpoint, target, resume, 20, **other)
        packed.clear()
        if not other:
            lowbit.quantize_folder(checkpoint, "int8", tmp_path / "int8", resume=resume)
            assert len(packed) == 14
            _interrupt(checkpoint, target, resume, 20)
            packed.clear()
        _quantize(checkpoint, tmp_path / str(number), resume=resume)
        rest = [name for name in list(Source(checkpoint).files)[20:] if "proj.weight" in name]
        assert len(packed) == (14 if other else len(rest))
        assert _equal(tmp_path / str(number), whole)


def test_a_changed_source_is_seen_tensor_by_tensor(
    checkpoint: Path, tmp_path: Path, packed: list[str]
) -> None:
    source, resume = Path(shutil.copytree(checkpoint, tmp_path / "source")), tmp_path / "resume"
    _interrupt(source, tmp_path / "target", resume, 26)
    packed.clear()
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= 2
    tensors["model.norm.weight"] *= 2
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    _quantize(source, tmp_path / "target", resume=resume)
    assert packed == ["model.layers.0.mlp.up_proj.weight"]
    _quantize(source, tmp_path / "afresh")
    assert _equal(tmp_path / "target", tmp_path / "afresh")


def test_damaged_remains_do_not_matter(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    def torn(resume: Path) -> None:
        with (resume / "journal").open("ab") as stream:
            stream.write(b'{"model.layers.1.mlp.up_pro')

    def garbage(resume: Path) -> None:
        (resume / "journal").write_bytes(b"\xff\x00[1]\n")

    def flipped(resume: Path) -> None:
        for file in (resume / "checkpoint").glob("*.safetensors"):
            data = bytearray(file.read_bytes())
            data[-7] ^= 1
            file.write_bytes(data)

    def cut(resume: Path) -> None:
        file = next((resume / "checkpoint").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:100])

    def stray(resume: Path) -> None:
        (resume / "checkpoint" / "stray.json").write_text("{}")

    for damage in (torn, garbage, flipped, cut, stray):
        target, resume = tmp_path / damage.__name__, tmp_path / f"{damage.__name__}-resume"
        _interrupt(checkpoint, target, resume, 20)
        damage(resume)
        _quantize(checkpoint, target, resume=resume)
        assert _equal(target, whole), damage.__name__


def test_another_folder_is_not_emptied(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    _quantize(checkpoint, tmp_path / "target", resume=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"mine", "target"}


def test_shards_hold_the_tensors_of_the_single_file(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    lowbit.quantize_folder(checkpoint, PLAN, tmp_path / "one", seed=SEED)
    one = load_file(tmp_path / "one" / "model.safetensors")
    files = sorted(whole.glob("*.safetensors"))
    assert [file.name for file in files] == [f"model-0000{n}-of-00003.safetensors" for n in range(1, 4)]
    index = json.loads((whole / "model.safetensors.index.json").read_text())
    found = {}
    for file in files:
        tensors = load_file(file)
        assert {name for name, place in index["weight_map"].items() if place == file.name} == set(tensors)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= SHARD
        found |= tensors
    assert set(found) == set(one)
    assert all(torch.equal(found[name], one[name]) for name in one)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in one.values())
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        logits = [
            AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits
            for folder in (whole, tmp_path / "one")
        ]
    assert torch.equal(*logits)


def test_bad_input_keeps_the_named_folder_and_no_target(checkpoint: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(LowbitError, match=r"1\.mlp\.up_proj\.weight: holds NaN"):
        _quantize(source, tmp_path / "target", resume=tmp_path / "resume")
    assert not (tmp_path / "target").exists()
    assert (tmp_path / "resume" / "journal").is_file()


def test_tensors_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).bfloat16(),
        "c": torch.tensor(2.5, dtype=torch.float64),
        "d": torch.tensor([True, False]),
        "e": torch.ones(0, 4),
        "f": torch.arange(6, dtype=torch.int8).view(2, 3),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    source = Source(tmp_path)
    for name, tensor in tensors.items():
        read = source.read(name)
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read, tensor)
        assert digest(read) == digest(tensor)
    assert bytes(raw_bytes(torch.arange(4, dtype=torch.int16).view(2, 2).T)) == b"\0\0\2\0\1\0\3\0"


def test_the_library_is_part_of_the_key() -> None:
    key = streaming._key({}, {}, {})
    streaming._library.cache_clear()
    assert streaming._key({}, {}, {}) == key != streaming._key({"seed": 1}, {}, {})


@pytest.mark.slow
def test_memory_stays_near_the_largest_tensor(root: Path) -> None:
    script = root / "kernels" / "benchmarks" / "streaming.py"
    size = ["--gigabytes", "0.175", "--hidden", "512", "--recipe", "int8"]
    run = subprocess.run([sys.executable, str(script), *size], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["source_bytes"] > 0.175e9
    assert found["largest_tensor_bytes"] == 2 * 32_000 * 512
    # What one matrix needs in float32 beside itself; all of them would be five times the largest tensor.
    assert found["peak_rss_bytes"] - found["rss_before_bytes"] < 2 * found["largest_tensor_bytes"]
