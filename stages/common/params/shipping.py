"""Blocks from `candidates` to `promotion` but `judge` and `gate`: what is built, measured, shipped where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from stages.common.params.block import Block

DYNAMIC, QAT, HYBRID = "higgs-dynamic", "ternary-qat", "hybrid-ternary"
TRAINED = (QAT, HYBRID)
BASELINES = ("nf4", "hqq-4bit", "int4-rtn")
RECIPES = (
    *("bf16", "int8", "higgs-4bit", "higgs-3bit", "higgs-2bit", DYNAMIC),
    *("ternary", *TRAINED, *BASELINES),
)


class Candidate(Block):
    """What is made of a checkpoint; a budget (`bits` or `bytes`) and `alphas` are for higgs-dynamic alone."""

    source: Literal["adapt", "distill"]
    recipe: str
    bits: float | None = Field(default=None, gt=1, le=16)
    bytes: PositiveInt | None = None
    alphas: Literal["random", "sample"] | None = None

    @model_validator(mode="after")
    def _built(self) -> Candidate:
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe `{self.recipe}` is not built yet; built: {', '.join(RECIPES)}")
        if self.recipe != DYNAMIC:
            for key in ("bits", "bytes", "alphas"):
                if getattr(self, key) is not None:
                    raise ValueError(f"recipe `{self.recipe}` takes no `{key}`; only {DYNAMIC} does")
        elif (self.bits is None) == (self.bytes is None):
            raise ValueError(f"recipe `{DYNAMIC}` needs a budget: either `bits` per weight or `bytes`")
        elif self.alphas is None:
            raise ValueError(f"recipe `{DYNAMIC}` needs `alphas`: random (no data) or sample")
        return self


CandidateName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]


EndpointName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class ModelEndpoint(Block):
    """A model behind an OpenAI-compatible address; `key_variable`: the environment variable with its key."""

    address: str = Field(pattern=r"^https?://[^@?#]+$")
    model: str = Field(min_length=1)
    key_variable: str | None = None


class EvaluateBlock(Block):
    suites: list[str] = Field(min_length=1)
    mode: Literal["choice", "generate"] = "choice"
    shots: int | None = Field(ge=0, le=10)
    draw: Literal["first", "mera"] = "first"
    ask_unanswered: bool = False
    execute_code: bool = False
    detox_scorers: str | None = None
    batch_size: PositiveInt
    limit: PositiveInt | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    questions: int = Field(ge=0)
    bpc_characters: PositiveInt = 120_000
    bpc_window: int = Field(default=128, ge=16, le=131072)
    pairs_per_phenomenon: PositiveInt | None = 100
    endpoints: dict[EndpointName, ModelEndpoint] = Field(default_factory=dict)
    texts_may_leave: bool = False

    @model_validator(mode="after")
    def _allowed(self) -> EvaluateBlock:
        if not self.endpoints:
            return self
        name = next(iter(self.endpoints))
        if not self.texts_may_leave:
            raise ValueError(
                f"endpoint `{name}` is sent the texts of all items; allow that with `texts_may_leave: true`"
            )
        if self.mode != "generate":
            raise ValueError(
                f"endpoint `{name}` gives no log-probabilities of choices; set `mode: generate`, so that "
                "every model writes its answers"
            )
        return self


class MeasureBlock(Block):
    prompt_tokens: list[PositiveInt] = Field(min_length=1)
    new_tokens: PositiveInt
    warmup: int = Field(ge=0)
    repeats: int = Field(ge=3)


class PromotionBlock(Block):
    mode: Literal["automatic", "manual"]
    model_name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    experiment: str
