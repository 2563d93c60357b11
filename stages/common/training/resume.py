"""Exact resume: the whole state of a run in safetensors and JSON, in two alternating slots outside the
outs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stages.common import manifest
from stages.common.atomic import atomic_folder, write_json
from stages.common.hashing import sha256_json, sha256_path
from stages.common.params import Reads, resolved

ROOT = Path(".gorn/resume")
SLOTS = ("a", "b")
SHARED = ("stages/common", "kernels/lowbit")  # code that every training runs, and dvc.yaml declares for it


@dataclass
class State:
    """What a run knows after `step` steps, besides tensors. Floats survive JSON unchanged."""

    step: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    level: float | None = None
    best: float | None = None


def key_of(stage: str, params: Reads, inputs: Mapping[str, Path], also: Sequence[str] = ()) -> str:
    """Hash of everything the result depends on: parameters, inputs, our code (of the stage, of `SHARED` and
    of the folders `also`) and the versions of the libraries.
    """
    code = Path(__file__).resolve().parents[3]
    return sha256_json(
        {
            "params": resolved(params),
            "inputs": {name: sha256_path(path) for name, path in sorted(inputs.items())},
            "code": {
                str(file.relative_to(code)): sha256_path(file)
                for folder in map(code.joinpath, sorted({f"stages/{stage}", *SHARED, *also}))
                for file in sorted(folder.rglob("*.py"))
            },
            "versions": manifest.versions(),
        }
    )[:32]


class Resume:
    """The resume folder of one run. A state is whole or absent: a kill at any time leaves the older slot."""

    def __init__(self, folder: Path, alone: bool = False) -> None:
        """`alone`: a saved state makes those of other settings, the folders beside it, useless."""
        self.folder, self._alone = folder, alone

    @classmethod
    def of(cls, stage: str, params: Reads, inputs: Mapping[str, Path], also: Sequence[str] = ()) -> Resume:
        """The folder `.gorn/resume/<stage>/<key>`; `also` as in `key_of`."""
        return cls(ROOT / stage / key_of(stage, params, inputs, also), alone=True)

    def save(self, state: State, model: Any, optimiser: Any) -> None:
        """Write trainable weights, optimiser moments, random state and `state` into the older slot."""
        from safetensors.torch import save_file

        self._drop_others()
        older = SLOTS[1] if self._newest() == SLOTS[0] else SLOTS[0]
        with atomic_folder(self.folder / older) as partial:
            save_file(_tensors(model, optimiser), partial / "state.safetensors")
            write_json(partial / "state.json", asdict(state))

    def load(self, model: Any, optimiser: Any) -> State | None:
        """Put the newest state back into `model`, `optimiser` and torch's generators; None when there is
        none.
        """
        from safetensors.torch import load_file

        name = self._newest()
        if name is None:
            return None
        _restore(load_file(self.folder / name / "state.safetensors"), model, optimiser)
        return State(**json.loads((self.folder / name / "state.json").read_text(encoding="utf-8")))

    def clear(self) -> None:
        """Remove the folder once the stage has what it needs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _drop_others(self) -> None:
        """Remove the states that other settings of the stage left: they can be as large as three models."""
        if self._alone and self.folder.parent.is_dir():
            for other in self.folder.parent.iterdir():
                if other != self.folder:
                    shutil.rmtree(other, ignore_errors=True)

    def _newest(self) -> str | None:
        steps = {}
        for name in SLOTS:
            try:
                steps[name] = json.loads((self.folder / name / "state.json").read_text(encoding="utf-8"))[
                    "step"
                ]
            except (OSError, ValueError, KeyError):
                continue
        return max(steps, key=lambda name: steps[name]) if steps else None


def _tensors(model: Any, optimiser: Any) -> dict[str, Any]:
    import torch

    from stages.common.training.optimiser import named_trainable

    tensors = {"rng/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    for name, value in named_trainable(model).items():
        tensors[f"model/{name}"] = value.detach().cpu().clone()
        for moment, kept in optimiser.state.get(value, {}).items():
            tensors[f"optimiser/{moment}/{name}"] = kept.detach().cpu().clone()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _restore(tensors: dict[str, Any], model: Any, optimiser: Any) -> None:
    import torch

    from stages.common.training.optimiser import named_trainable

    torch.set_rng_state(tensors["rng/cpu"])
    if torch.cuda.is_available() and "rng/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    moments: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimiser":
            moment, _, name = rest.partition("/")
            moments.setdefault(name, {})[moment] = tensor
    for name, value in named_trainable(model).items():
        value.data.copy_(tensors[f"model/{name}"])
        if name in moments:
            # Fused AdamW keeps even the step count on the parameter's device.
            optimiser.state[value] = {moment: kept.to(value.device) for moment, kept in moments[name].items()}
