"""The tuner: puts gate layers where the configuration says, and draws their gates in training."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, cast
from zlib import crc32

from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from stages.adapt.finegates.config import PREFIX, FineGatesConfig
from stages.adapt.finegates.layer import GateLayer
from stages.adapt.finegates.objective import Objective
from stages.adapt.finegates.picking import OWNERS
from stages.adapt.shrink.budget import Choice, Multiples
from stages.adapt.shrink.slicing import require_dense
from stages.adapt.shrink.units import Units
from stages.common.errors import UserError
from stages.common.params.adaptation import Multiples as Rounding

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ROUNDING = Rounding()
_PLACE = re.compile(r"(?:^|\.)layers\.(\d+)\.(?:mlp|self_attn)\.(\w+)$")


class FineGatesModel(BaseTuner):
    """FineGates as a peft tuner.

    In evaluation the gates are clamp(mu, 0, 1). In training they are drawn anew for every forward pass of the
    decoder, as a function of the seed and of the step that `set_step` declares; without it they stay open.
    Raises `UserError` for target modules that are not there or that cannot be cut, and families without
    slicing rules.
    """

    prefix = PREFIX
    tuner_layer_cls = GateLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  as peft's

    def __init__(self, model: Any, *arguments: Any, **options: Any) -> None:
        self._units: Units | None = None
        self._step: tuple[int, int] | None = None
        self._told = False
        self._objectives: dict[str, Objective] = {}
        super().__init__(model, *arguments, **options)
        body = model.get_decoder() if hasattr(model, "get_decoder") else model
        # Losses may call the decoder and not the whole model.
        self._hook = body.register_forward_pre_hook(self._draw)
        self.train(model.training)

    def set_step(self, step: int, steps: int) -> None:
        """Declare the optimiser step (from 0) of `steps`: the removed share and the noise follow from it."""
        self._step = step, steps

    def objective(self, adapter: str = "default") -> Objective:
        """What the gates of `adapter` obey."""
        if adapter not in self._objectives:
            layers = [
                module
                for module in self.model.modules()
                if isinstance(module, GateLayer) and module.gated(adapter)
            ]
            config: Any = self.peft_config[adapter]
            self._objectives[adapter] = Objective(layers, adapter, config, self._units)
        return self._objectives[adapter]

    def pick(
        self,
        share: float | None = None,
        multiples: Multiples = ROUNDING,
        layers: int = 0,
        adapter: str = "default",
    ) -> Choice:
        """Train and evaluate from now on the model that would be cut now; the gates learn no more, but their
        parameters stay.

        `share` in the place of the configuration's; widths are rounded up to `multiples`; so many whole
        `layers` go first. Raises `UserError` where that cannot be cut.
        """
        choice = self.objective(adapter).choose(multiples, layers, share)
        self.objective(adapter).show(choice.kept)
        return choice

    def settle(
        self,
        share: float | None = None,
        multiples: Multiples = ROUNDING,
        layers: int = 0,
        adapter: str = "default",
    ) -> Choice:
        """Fix which units stay: their gates become 1 and the others 0, in what is saved and merged too.
        `kept` of what is returned is what `stages.adapt.shrink.slicing.cut` needs. Again gives the same.

        Arguments and errors are those of `pick`.
        """
        objective = self.objective(adapter)
        if objective.settled is None:
            objective.settled = objective.choose(multiples, layers, share)
            objective.settle(objective.settled.kept)
        return objective.settled

    def penalty(self) -> Tensor | None:
        """What mode `faithful` adds to the loss, summed over the active adapters; None in other modes."""
        found = [self.objective(name).penalty() for name in self._trained()]
        terms = [term for term in found if term is not None]
        return sum(terms[1:], terms[0]) if terms else None

    def _trained(self) -> list[str]:
        return [name for name in self.active_adapters if self.objective(name).trained]

    def _draw(self, body: nn.Module, inputs: Any) -> None:  # noqa: ARG002
        if not body.training:
            return
        if self._step is None and self._told:
            warnings.warn(
                "FineGates: gates learn nothing until `model.base_model.set_step(step, steps)` is called "
                "before every step",
                stacklevel=2,
            )
        self._told = True
        trained = self._trained()
        if trained and any(_reenters(module) for module in body.modules()):
            raise UserError(
                "FineGates: gradient checkpointing with use_reentrant=True walks the graph of the gates once "
                "per layer; call gradient_checkpointing_enable with use_reentrant False"
            )
        for name in trained:
            self.objective(name).draw(*(self._step or (0, 1)))

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:  # noqa: ARG002
        if peft_config.target_modules is None:
            names = LINEAR if peft_config.mode == "faithful" else OWNERS
            peft_config.target_modules = set(names)
        return peft_config

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        """Refuse what cannot work before anything is replaced."""
        # Private to peft: imported here, so that in another version the guard of `register` speaks first.
        from peft.tuners.tuners_utils import _maybe_include_all_linear_layers

        config: FineGatesConfig = peft_config
        require_dense(model, "FineGates")
        if config.mode != "faithful" or self._units is None:
            self._units = _units(model, strict=config.mode != "faithful")
        _maybe_include_all_linear_layers(config, model)
        inner = {
            f"{key}.base_layer" for key, module in model.named_modules() if isinstance(module, GateLayer)
        }
        modules = {key: module for key, module in model.named_modules() if key not in inner}
        _check_names(config, modules)
        found = {
            key: module for key, module in modules.items() if self._check_target_module_exists(config, key)
        }
        _check_found(config, found)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,  # noqa: ARG002
    ) -> None:
        seed = (peft_config.seed << 32) + crc32(current_key.encode())
        if isinstance(target, GateLayer):
            target.update_layer(adapter_name, peft_config, seed)
            return
        found = _PLACE.search(current_key)
        at = int(found[1]) if found else None
        part = OWNERS.get(target_name) if found else None
        units = self._units.layers[at].count(part) if self._units and part and at is not None else 0
        # Checked in `_prepare_model`.
        made = GateLayer(cast("nn.Linear", target), at, target_name, part if units else None, units)
        made.train(target.training)
        made.set_adapter(self.active_adapters)
        made.update_layer(adapter_name, peft_config, seed)
        self._replace_module(parent, target_name, made, target)

    def _unload_and_optionally_merge(self, *arguments: Any, **options: Any) -> Any:
        unloaded: Any = super()._unload_and_optionally_merge(*arguments, **options)
        self._hook.remove()
        return unloaded

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter."""
        super().delete_adapter(adapter_name)
        self._objectives.pop(adapter_name, None)


def _units(model: nn.Module, strict: bool) -> Units | None:
    try:
        return Units.of(getattr(model, "config", None))
    except (UserError, AttributeError) as error:
        if not strict:
            return None
        if isinstance(error, UserError):
            raise
        raise UserError(
            "FineGates: the model has no Transformers configuration, so its units are unknown; use mode "
            "faithful"
        ) from error


def _reenters(module: nn.Module) -> bool:
    """Whether `module` is recomputed in the backward pass by a backward pass of its own."""
    if not getattr(module, "gradient_checkpointing", False):
        return False
    keywords = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
    return bool(keywords.get("use_reentrant", False))


def _check_names(config: FineGatesConfig, modules: Mapping[str, nn.Module]) -> None:
    """Raise `UserError` for target modules given by name that `modules` do not have."""
    if isinstance(config.target_modules, str):
        return
    linear = {key for key, module in modules.items() if isinstance(module, nn.Linear | GateLayer)}
    missing = sorted(
        name
        for name in {*(config.target_modules or ()), *(config.lora_modules or ())}
        if not any(key == name or key.endswith(f".{name}") for key in linear)
    )
    if missing:
        there = dict.fromkeys(key.rpartition(".")[2] for key in modules if key in linear)
        raise UserError(
            f"FineGates: target module {', '.join(missing)} is not in the model; it has {', '.join(there)}"
        )


def _check_found(config: FineGatesConfig, found: Mapping[str, nn.Module]) -> None:
    """Raise `UserError` when a target module of `found` can be no gate layer, or none of them has gates."""
    for key, module in found.items():
        if not isinstance(module, nn.Linear | GateLayer):
            raise UserError(
                f"FineGates: target module {key} is a {type(module).__name__}; only linear layers "
                "can be gated"
            )
    names = {key: key.rpartition(".")[2] for key in found}
    if untargeted := sorted(set(config.lora_modules or ()) - set(names.values())):
        raise UserError(
            f"FineGates: lora_modules names {', '.join(untargeted)}, which target_modules does not"
        )
    # Where nothing is found peft says so.
    if config.mode == "faithful" or not found:
        return
    owners = {key for key, name in names.items() if name in OWNERS and _PLACE.search(key)}
    if lost := sorted(
        {name for key, name in names.items() if key not in owners and not config.rank_of(name)}
    ):
        raise UserError(_uncuttable(lost))
    if not owners:
        raise UserError(
            f"FineGates: none of the target modules {', '.join(sorted(set(names.values())))} has gates; name "
            f"{' or '.join(OWNERS)} too"
        )


def _uncuttable(names: list[str]) -> str:
    return (
        f"FineGates: {', '.join(names)} cannot be cut by gates of its own; gates sit on "
        f"{' and '.join(OWNERS)} and cut the other projections with them. Name only these, give a rank (r) "
        "to train matrices there, or use mode faithful"
    )
