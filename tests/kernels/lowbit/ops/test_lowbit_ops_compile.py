"""Every kernel compiles ahead of time for its targets, and the committed table belongs to today's lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lowbit.errors import LowbitError
from lowbit.ops import common, higgs_matmul, ternary_matmul
from lowbit.ops.common import Call
from lowbit.ops.shapes import MODELS, TOKENS, Linear

pytest.importorskip("triton")

LAYER = Linear("odd", 72, 1536, "x", bias=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code of other versions must not stand in for this one's."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def _calls(tokens: int) -> Iterator[Call]:
    """The first configuration of every kernel."""
    from lowbit.ops.compile_table import cases

    seen = set()
    for case in cases(LAYER, tokens):
        for call in case.calls:
            if call.kernel not in seen:
                seen.add(call.kernel)
                yield call


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.parametrize("tokens", [2, 16])
def test_kernels_compile(tokens: int, target: str) -> None:
    from lowbit.ops import aot

    names = set()
    for call in _calls(tokens):
        made = aot.compiled(call, target)
        names.add(call.kernel.__name__)
        assert len(made.asm[aot.BINARY[aot.TARGETS[target].backend]]) > 1000
    assert names == {"kernel", "gemv"} if tokens == 2 else {"kernel", "matmul", "combine"}


def test_report_of_cuobjdump_is_read() -> None:
    from lowbit.ops import aot

    found = aot._parsed(" Function gemv:\n  REG:64 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:576", 1024, 128)
    assert found == aot.Resources(64, 16, 1024, 128)
    assert found.programs == 8
    with pytest.raises(LowbitError, match="cuobjdump: no resource usage"):
        aot._parsed("", 0, 32)


def test_recording_launches_nothing() -> None:
    from lowbit.ops.rotate.triton import launch

    x, signs = torch.empty(3, 64, dtype=torch.float16, device="meta"), torch.empty(64, dtype=torch.int8)
    with common.recording() as calls:
        launch(x, signs.to("meta"), 64, common.config(1, T=1))
    assert [call.grid for call in calls] == [(3,)]


def test_committed_table_covers_the_lists_without_spills(root: Path) -> None:
    value = json.loads((root / "docs/results/kernels_sm90.json").read_text(encoding="utf-8"))
    rows = value["rows"]
    assert [row["config"] for row in rows if row["spill_bytes"]] == []
    for operation in (higgs_matmul, ternary_matmul):
        for tokens in TOKENS:
            wanted = {entry.name for entry in operation.configs(operation.tile_of(tokens))}
            shown = {
                row["config"]
                for row in rows
                if row["operation"] == operation.NAME and tokens in row["tokens"]
            }
            assert wanted == shown - {""}
    shapes = {f"{layer.outputs}x{layer.inputs}" for layers in MODELS.values() for layer in layers}
    assert {shape for row in rows for shape in row["shapes"]} == shapes
