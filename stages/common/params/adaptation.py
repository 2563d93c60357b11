"""Block `adapt`: which method, and what it needs. Names only: what runs them is stages/adapt/methods.py."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from stages.common.params.block import Block
from stages.common.params.corpus import Language
from stages.common.params.training import Mix, Optimisation

LOW_RANK = ("lora", "rslora", "dora", "pissa", "velora", "vera", "shira", "ia3")  # through peft
PARTIAL = ("lora-xs", "bitfit", "rocoft")  # ours
GATES = ("finegates",)
PRUNING = ("random", "magnitude", "wanda", "minitron")
CUTTING = GATES + PRUNING
METHODS = LOW_RANK + PARTIAL + CUTTING

REFUSED = {
    "apt": "it moves ranks and masks while it trains, so that neither what is trained nor what is cut can be "
    "declared beforehand (arXiv 2401.12200); `finegates` cuts to a declared share",
    "maskllm": "its 2:4 masks leave a checkpoint neither smaller nor faster, and to learn them takes 1.5 "
    "logits per weight and about two billion tokens (arXiv 2409.17481); `finegates` removes whole units",
}

# What a method reads besides mix, data and training. Any other key of the block must be null for it.
RANKED = frozenset({"rank", "alpha", "target_modules"})
USES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("lora", "rslora", "dora"), RANKED | {"nf4"}),
    **dict.fromkeys(("pissa", "velora", "lora-xs"), RANKED),
    "vera": frozenset({"rank", "target_modules", "nf4"}),
    "shira": frozenset({"rank", "target_modules"}),
    "ia3": frozenset({"target_modules", "nf4"}),
    **dict.fromkeys(("bitfit", "rocoft"), frozenset({"target_modules"})),
    **dict.fromkeys(PRUNING, RANKED | {"shrink"}),
}
CALIBRATED = ("wanda", "minitron")
MOST = 0.9  # of the gateable parameters may go


class Multiples(Block):
    """Widths are rounded up to these: FFN neurons and groups of heads that share a key and value head."""

    ffn: PositiveInt = 8
    groups: PositiveInt = 1


class ShrinkBlock(Block):
    """How much a cutting method removes, and how."""

    share: float = Field(ge=0, le=MOST)
    mode: Literal["global", "uniform", "faithful"]
    multiples: Multiples = Multiples()
    layers: int = Field(default=0, ge=0)
    gate_learning_rate: float | None = Field(default=None, gt=0, le=1)
    calibration_tokens: PositiveInt | None = None


class DataBlock(Block):
    """Files of supervised examples under one name: conversations, or instructions with their answers."""

    paths: list[str] = Field(min_length=1)
    subset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    language: Language
    licence: str
    format: Literal["auto", "chat", "instruction"] = "auto"
    fields: dict[Literal["instruction", "input", "output"], str] = Field(default_factory=dict)
    system: str | None = Field(default=None, min_length=1)
    too_long: Literal["drop", "cut"] = "drop"

    @model_validator(mode="after")
    def _fields_are_read(self) -> DataBlock:
        if self.format == "chat" and self.fields:
            raise ValueError("`fields` names the fields of instructions; format `chat` reads `messages`")
        return self


class AdaptBlock(Block):
    """One method, what it reads, and the data: a mix of shards or supervised files."""

    method: str
    rank: PositiveInt | None = None
    alpha: float | None = Field(default=None, gt=0)
    target_modules: list[str] | None = Field(default=None, min_length=1)
    nf4: bool = False
    shrink: ShrinkBlock | None = None
    data: list[DataBlock] | None = Field(default=None, min_length=1)
    mix: Mix | None = None
    training: Optimisation

    @model_validator(mode="before")
    @classmethod
    def _built(cls, values: Any) -> Any:
        method = values.get("method") if isinstance(values, dict) else None
        if isinstance(method, str) and (reason := REFUSED.get(method.casefold())):
            raise ValueError(f"method `{method}` is not built: {reason}")
        if isinstance(method, str) and method not in METHODS:
            raise ValueError(f"there is no method `{method}`; built: {', '.join(METHODS)}")
        return values

    @model_validator(mode="after")
    def _fits(self) -> AdaptBlock:
        self._check_data()
        uses = self.uses
        for key in ("rank", "alpha", "target_modules", "shrink"):
            if key in uses and getattr(self, key) is None:
                raise ValueError(f"method `{self.method}` needs `{key}`")
            if key not in uses and getattr(self, key) is not None:
                raise ValueError(f"method `{self.method}` does not use `{key}` here; set it to null")
        if self.nf4 and "nf4" not in uses:
            raise ValueError(
                f"method `{self.method}` does not train beside a 4-bit base; set `nf4` to false, or take "
                + " | ".join(method for method, used in USES.items() if "nf4" in used)
            )
        if self.shrink is not None:
            self._check_shrink(self.shrink)
        return self

    def _check_data(self) -> None:
        """Without `data` the shards of `mix` are trained on; with it, `mix` may add shards as replay."""
        if self.data is None:
            if self.mix is None:
                raise ValueError("`mix` (of shards) or `data` (supervised files) is needed, both are null")
            return
        names = [source.subset for source in self.data]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources of `data` have the subset `{twice[0]}`; rename one of them")
        if self.mix is not None and (absent := [name for name in names if name not in self.mix]):
            raise ValueError(
                f"`mix` leaves out the subset `{absent[0]}` of `data`; give it a share, or set `mix` to null"
            )

    @property
    def supervised(self) -> tuple[str, ...]:
        """The subsets of `data`."""
        return tuple(source.subset for source in self.data or ())

    @property
    def replay(self) -> dict[str, float]:
        """The part of `mix` that is of shards: all of it without `data`."""
        return {name: share for name, share in (self.mix or {}).items() if name not in self.supervised}

    @property
    def cuts(self) -> bool:
        """Whether the model comes out smaller."""
        return self.method in CUTTING

    @property
    def rate_keys(self) -> tuple[str, ...]:
        """Keys of the block that set the learning rates of what is trained."""
        gates = ("shrink.gate_learning_rate",) if self.method in GATES else ()
        return (*gates, *(("training.learning_rate",) if self.rank is not None or not gates else ()))

    @property
    def uses(self) -> frozenset[str]:
        """Keys of the block that this method reads, besides mix, data and training."""
        if self.method not in GATES:
            return USES[self.method]
        faithful = self.shrink is not None and self.shrink.mode == "faithful"
        beside = RANKED if self.rank is not None else frozenset({"target_modules"} if faithful else ())
        return beside | {"shrink"}

    def _check_shrink(self, shrink: ShrinkBlock) -> None:
        if shrink.mode == "faithful" and self.method not in GATES:
            raise ValueError(
                f"shrink.mode `faithful` is of finegates; `{self.method}` takes global or uniform"
            )
        gates, faithful = self.method in GATES, shrink.mode == "faithful"
        needs = {"gate_learning_rate": gates, "calibration_tokens": self.method in CALIBRATED}
        takes = needs | {"calibration_tokens": self.method in CALIBRATED or (gates and not faithful)}
        for key in needs:
            if needs[key] and getattr(shrink, key) is None:
                raise ValueError(f"method `{self.method}` needs `shrink.{key}`")
            if not takes[key] and getattr(shrink, key) is not None:
                where = f"method `{self.method}`" + (" in mode faithful" if gates else "")
                raise ValueError(f"{where} does not use `shrink.{key}`; set it to null")
        if shrink.calibration_tokens is not None and not self.replay:
            advice = "`magnitude`" if self.method in CALIBRATED else "`calibration_tokens: null`"
            raise ValueError(
                f"method `{self.method}` with `shrink.calibration_tokens` measures activations on the shards "
                f"of `mix`, which names none; give it some beside the supervised files, or take {advice}, "
                "which reads no text"
            )
