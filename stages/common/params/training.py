"""Blocks of the training stages but `adapt`: `base`, `pretrain`, `distill`, `quantize`, `judge_model`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from stages.common.params.block import Block

Mix = Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]


class Optimisation(Block):
    """What every training stage declares. Budgets are tokens, because wall clock depends on the machine."""

    tokens: PositiveInt
    learning_rate: float = Field(gt=0, le=1)
    warmup_share: float = Field(ge=0, le=0.5)
    final_lr_share: float = Field(ge=0, le=1)
    schedule: Literal["linear", "cosine", "two-stage"]
    weight_decay: float = Field(ge=0, le=1)
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    sequence_length: int = Field(ge=16, le=131072)
    clip: float = Field(gt=0)
    precision: Literal["fp32", "bf16"]
    checkpoint_steps: PositiveInt

    @model_validator(mode="after")
    def _divides(self) -> Optimisation:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        return self


POSITIONS = 1024  # of a model that is trained from scratch


class Bootstrap(Block):
    """Train a tiny base from scratch: the parameter budget decides width and depth."""

    parameters: int = Field(ge=20_000, le=1_000_000_000)
    mix: Mix
    training: Optimisation


class BaseBlock(Block):
    """`bootstrap`, or a model that exists: a local folder or a hub id (which needs the network once)."""

    source: Literal["bootstrap", "local", "hub"]
    path: str | None = None
    revision: str | None
    licence: str
    bootstrap: Bootstrap | None = None

    @model_validator(mode="after")
    def _complete(self) -> BaseBlock:
        if self.source == "bootstrap" and self.bootstrap is None:
            raise ValueError("source `bootstrap` needs the block `bootstrap`")
        if self.source != "bootstrap" and not self.path:
            raise ValueError(f"source `{self.source}` needs `path`")
        if self.revision is not None and self.source != "hub":
            raise ValueError(f"revision is of a hub model; source is `{self.source}`, leave it null")
        return self


class PretrainBlock(Block):
    mix: Mix
    training: Optimisation
    evaluations: int = Field(ge=0, le=1000)


# Students that are made here: half of what `adapt` gave, or all of it after it was cut.
EVERY_SECOND, SHRUNK = "every-second-layer", "adapt"


class DistillBlock(Block):
    student: str = Field(min_length=1)
    mix: Mix
    training: Optimisation
    cross_entropy_weight: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0, le=100)

    @property
    def folder(self) -> str | None:
        """The folder of a student that was brought along; None for one that is made here."""
        return None if self.student in (EVERY_SECOND, SHRUNK) else self.student


class QatBlock(Block):
    """Training of the recipes ternary-qat and hybrid-ternary."""

    mix: Mix
    training: Optimisation
    evaluations: int = Field(ge=1, le=1000)
    cross_entropy_weight: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0, le=100)
    blend_share: float = Field(ge=0, le=1)
    level: Literal["absmean", "lsq", "lloyd"]
    norm: list[str]
    int8_share: float = Field(ge=0, le=1)


class QuantizeBlock(Block):
    """What recipes with a training need."""

    qat: QatBlock


class JudgeModelBlock(Block):
    """The embedded world's own judge: from scratch, with its own seed and split."""

    seed: int = Field(ge=0)
    parameters: int = Field(ge=20_000, le=1_000_000_000)
    vocab_size: int = Field(default=1024, ge=300, le=262144)
    training: Optimisation
