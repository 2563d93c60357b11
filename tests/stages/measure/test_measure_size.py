"""Bytes, stored bits and parameters against known models; machine facts against known files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_fakes import tiny_config, tiny_model

from stages.common.errors import UserError
from stages.measure import machine, size


def by_hand(tied: bool) -> int:
    attention = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32
    layer = attention + 3 * 32 * 64 + 2 * 32
    return 300 * 32 * (1 if tied else 2) + 2 * layer + 32


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_once(tied: bool) -> None:
    assert size.count_parameters(tiny_config(tie_word_embeddings=tied)) == by_hand(tied)


def test_a_packed_model_counts_as_the_weights_it_stands_for() -> None:
    packed = tiny_config()
    packed.quantization_config = {"quant_method": "lowbit", "format": "higgs", "format_version": 1}
    assert size.count_parameters(packed) == by_hand(tied=True)
    assert packed.quantization_config["quant_method"] == "lowbit"


def test_tensor_bytes_leave_the_header_out(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(10, dtype=torch.float16), "b": torch.zeros(3, dtype=torch.uint8)}, file)
    assert size.tensor_bytes(file) == 23
    whole = file.read_bytes()
    for broken in (whole[:20], whole[:-1], b"\0" * 40, b""):
        file.write_bytes(broken)
        with pytest.raises(UserError, match=r"model\.safetensors: truncated"):
            size.tensor_bytes(file)


def test_sizes_of_a_checkpoint(tmp_path: Path) -> None:
    tiny_model().bfloat16().save_pretrained(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "notes.txt").write_text("12345")
    found = size.sizes(tmp_path, by_hand(tied=True))
    assert found["bits_per_weight"] == 16.0
    assert found["bytes"] == sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert found["weight_bytes"] == (tmp_path / "model.safetensors").stat().st_size
    assert found["bytes"] > found["weight_bytes"] > 2 * found["parameters"]


def test_cpu_model_of_a_known_cpuinfo(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Imaginary  CPU @ 1.00GHz\nmodel name\t: another\n")
    assert machine.cpu_model(file) == "Imaginary CPU @ 1.00GHz"
    assert machine.cpu_model(tmp_path / "absent")


def test_peak_memory_of_a_known_status(tmp_path: Path) -> None:
    file = tmp_path / "status"
    file.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n")
    assert machine.peak_rss_bytes(file) == 2048 * 1024


PEAK = """
from stages.measure.machine import peak_rss_bytes
before = peak_rss_bytes()
block = bytearray(200_000_000)
del block
print(peak_rss_bytes() - before)
"""


def test_peak_memory_remembers_what_was_freed() -> None:
    # In a process of its own: this one may hold freed memory that the block would only take again.
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 150_000_000
