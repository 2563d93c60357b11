"""`Params`: the whole of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stages.common.params.block import Block
from stages.common.params.corpus import CorpusBlock, TokensBlock, ValidationBlock
from stages.common.params.shipping import (
    Candidate,
    CandidateName,
    EvaluateBlock,
    GateBlock,
    JudgeBlock,
    MeasureBlock,
    PromotionBlock,
)
from stages.common.params.training import AdaptBlock, BaseBlock, DistillBlock, JudgeModelBlock, PretrainBlock


class Params(Block):
    """Every block; each key is explained in params.yaml itself."""

    seed: int = Field(ge=0, lt=2**31)
    threads: int = Field(ge=1, le=1024)
    device: Literal["auto", "cpu", "cuda"]
    corpus: CorpusBlock
    validation: ValidationBlock
    tokens: TokensBlock
    base: BaseBlock
    pretrain: PretrainBlock
    adapt: AdaptBlock
    distill: DistillBlock
    candidates: dict[CandidateName, Candidate] = Field(min_length=1)
    evaluate: EvaluateBlock
    judge_model: JudgeModelBlock
    judge: JudgeBlock
    measure: MeasureBlock
    gate: GateBlock
    promotion: PromotionBlock

    @model_validator(mode="after")
    def _names(self) -> Params:
        for name, candidate in self.candidates.items():
            expected = f"{candidate.source}-{candidate.recipe}"
            if name != expected:
                raise ValueError(f"candidate `{name}` must be named `{expected}` after its source and recipe")
            parent_of(name, self.candidates)
        return self


def parent_of(name: str, candidates: dict[str, Candidate]) -> str | None:
    """The uncompressed model that candidate `name` descends from; None without compression behind it.

    That is `<source>-bf16`, or `adapt-bf16` for a distilled one when `distill-bf16` is not declared:
    distillation compresses too. Raises `ValueError` when the parent of a compressed candidate is missing.
    """
    candidate = candidates[name]
    if name == "adapt-bf16":
        return None
    own = f"{candidate.source}-bf16"
    for parent in (own, "adapt-bf16"):
        if parent != name and parent in candidates:
            return parent
    raise ValueError(f"candidate `{name}` needs its bf16 parent; declare `adapt-bf16` too")
