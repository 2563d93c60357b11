"""FineGates among peft's methods: `import stages.adapt.finegates.register` makes `get_peft_model` and
`PeftModel.from_pretrained` know it.

peft's `register_peft_method` refuses names outside its own enum, so the class, the configuration and the
prefix are put into the three tables that peft looks in. That touches internals: the version, the slots and
the result are checked, and nothing is left behind where a check fails.
"""

from __future__ import annotations

import peft
import torch
from packaging.version import Version
from peft import mapping
from torch import nn

from stages.adapt.finegates.config import FINEGATES, PREFIX, FineGatesConfig
from stages.adapt.finegates.model import FineGatesModel
from stages.common.errors import UserError

TESTED = ("0.21", "0.22")  # from the first up to, not including, the second
SLOTS = {
    "PEFT_TYPE_TO_CONFIG_MAPPING": FineGatesConfig,
    "PEFT_TYPE_TO_TUNER_MAPPING": FineGatesModel,
    "PEFT_TYPE_TO_PREFIX_MAPPING": PREFIX,
}


def register() -> None:
    """Make peft know FineGates; again does nothing.

    Raises `UserError` for a peft version that was not tested, a name that peft itself has taken, and
    internals that do not work as they did.
    """
    low, high = map(Version, TESTED)
    if not low <= Version(Version(peft.__version__).base_version) < high:
        raise UserError(
            f"peft {peft.__version__}: FineGates was tested with peft >={low},<{high}; install one of these"
        )
    tables = {}
    for name, ours in SLOTS.items():
        table = getattr(mapping, name, None)
        if not isinstance(table, dict):
            raise UserError(
                f"peft {peft.__version__}: peft.mapping.{name} is not there any more; FineGates needs peft "
                f">={low},<{high}"
            )
        if table.get(FINEGATES, ours) != ours:
            raise UserError(
                f"peft {peft.__version__}: the method name {FINEGATES} is taken ({table[FINEGATES]!r}); use "
                "that one, or a peft without it"
            )
        tables[name] = table
    if all(FINEGATES in table for table in tables.values()):
        return
    for name, table in tables.items():
        table[FINEGATES] = SLOTS[name]
    try:
        _self_test()
    except Exception as error:
        for table in tables.values():
            table.pop(FINEGATES, None)
        raise UserError(
            f"peft {peft.__version__}: FineGates does not work with its internals ({error}); it was tested "
            f"with peft >={low},<{high}"
        ) from error


class _Block(nn.Module):
    """The smallest model with a layer that can be gated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        return out


def _self_test() -> None:
    """Wrap, train one gate, select the adapter's tensors, merge: what peft's internals are needed for."""
    with torch.random.fork_rng(devices=[]):
        model = _Block().eval()
        x = torch.randn(4, 3)
        before = model(x)
        config = FineGatesConfig(mode="faithful", target_modules=["linear"])
        wrapped = peft.get_peft_model(model, config)
        _require(torch.equal(wrapped(x), before), "a fresh adapter changes the output")
        wrapped.train()(x).sum().backward()
        trained = [name for name, value in wrapped.named_parameters() if value.requires_grad]
        _require(len(trained) == 2 and all(PREFIX in name for name in trained), "the wrong parameters train")
        _require(len(peft.get_peft_model_state_dict(wrapped)) == 2, "the adapter's tensors are not found")
        merged = wrapped.eval().merge_and_unload()
        _require(torch.allclose(merged(x), before, atol=1e-6), "merging changes the output")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)


register()
