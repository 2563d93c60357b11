"""The stage `quantize`: the library `lowbit` does the work, this file says from what, to where, and what is
remembered.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import manifest
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.params.shipping import DYNAMIC, TRAINED
from stages.common.progress import progress
from stages.common.stage import OUT, Paths, Stage

if TYPE_CHECKING:
    from lowbit.folder import Report


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The checkpoint that candidate `cell` is made from, the shards, and `out/quantize/<cell>`."""
    source = params.candidates[str(cell)].source
    inputs = {"source": OUT / source, "tokens": OUT / "tokens"}
    return inputs, {"checkpoint": OUT / "quantize" / str(cell)}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Quantise the source of one candidate by its recipe; what stays unquantised is stored in bfloat16.

    The recipe `higgs-dynamic` leaves its plan beside the weights. The lineage is that of the source, with
    how it was adapted. The notes hold bits per weight (of the whole checkpoint and of the quantised layers)
    and the relative error of every layer. Raises `LowbitError` for weights that cannot be quantised or a
    budget too small, `UserError` for a foreign tokenizer.
    """
    from stages.common.checkpoint import check_own_tokenizer

    [(name, candidate)] = params.candidates.items()
    check_own_tokenizer(inputs["source"])
    about = {"source": candidate.source, "recipe": candidate.recipe}
    if candidate.recipe in TRAINED:
        from stages.quantize import qat

        trained = qat.train(name, candidate, params, inputs, outputs["checkpoint"])
        return Facts(lineage=trained.lineage, notes={**about, **trained.notes}, tokens=trained.tokens)
    lineage = manifest.descent(inputs["source"])
    return Facts(lineage=lineage, notes={**about, **_pack(name, candidate, params, inputs, outputs)})


def _pack(name: str, candidate: Any, params: Any, inputs: Paths, outputs: Paths) -> dict[str, Any]:
    """Quantise without training; what the manifest keeps of it."""
    from lowbit.folder import quantize_folder
    from lowbit.tensorfile import Source

    from stages.quantize.dynamic import plan_for

    source, out, dynamic = inputs["source"], outputs["checkpoint"], None
    if candidate.recipe == DYNAMIC:
        with progress(None, f"alphas of {name}", "layers") as bar:
            dynamic = plan_for(
                candidate,
                source,
                inputs["tokens"],
                params.seed,
                lambda _done, _total, layer: bar.advance(1, layer),
            )
    with progress(len(Source(source).files), f"quantize {name}", "tensors") as bar:
        report = quantize_folder(
            source,
            dynamic.plan if dynamic else candidate.recipe,
            out,
            seed=params.seed,
            progress=lambda _done, _total, tensor: bar.advance(1, tensor),
        )
    if dynamic is None:
        return notes(report)
    dynamic.write(out)
    return {**notes(report), "dynamic": dynamic.notes()}


def notes(report: Report) -> dict[str, Any]:
    """What the manifest keeps of a report: bits per weight, and kind, bits and relative error of every
    layer.
    """
    packed = report.quantized_bits_per_weight
    return {
        "parameters": report.parameters,
        "bits_per_weight": manifest.rounded(report.bits_per_weight),
        "quantized_bits_per_weight": None if packed is None else manifest.rounded(packed),
        "layers": {
            name: {
                "kind": layer.kind,
                "shape": list(layer.shape),
                "bits_per_weight": manifest.rounded(layer.bits_per_weight),
                "relative_error": manifest.rounded(layer.relative_error),
                **({"note": layer.note} if layer.note else {}),
            }
            for name, layer in sorted(report.layers.items())
        },
    }


STAGE = Stage(
    "quantize",
    run,
    reads=("candidates", "quantize", "seed", "threads", "device"),
    locate=locate,
    cells=lambda params: list(params.candidates),
    checkpoint=True,
)
