"""`Params`: the whole of params.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from stages.common.params.adaptation import CUTTING, AdaptBlock
from stages.common.params.block import Block
from stages.common.params.corpus import WORLD_TASKS, CorpusBlock, TokensBlock, ValidationBlock
from stages.common.params.gate import Anchor, GateBlock
from stages.common.params.judging import JudgeBlock
from stages.common.params.shipping import (
    Candidate,
    CandidateName,
    EvaluateBlock,
    MeasureBlock,
    PromotionBlock,
)
from stages.common.params.training import (
    EVERY_SECOND,
    POSITIONS,
    SHRUNK,
    BaseBlock,
    DistillBlock,
    JudgeModelBlock,
    Optimisation,
    PretrainBlock,
    QuantizeBlock,
)


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
    quantize: QuantizeBlock
    candidates: dict[CandidateName, Candidate] = Field(min_length=1)
    evaluate: EvaluateBlock
    judge_model: JudgeModelBlock
    judge: JudgeBlock
    measure: MeasureBlock
    gate: GateBlock
    promotion: PromotionBlock

    @model_validator(mode="before")
    @classmethod
    def _declared(cls, values: Any) -> Any:
        """Keys that dvc.yaml names one by one must be there, whatever their default: DVC looks for them."""
        adapt = values.get("adapt") if isinstance(values, dict) else None
        if isinstance(adapt, dict) and "data" not in adapt:
            raise ValueError(
                "key `adapt.data` is missing; set it to null, or to supervised files (docs/supervised.md)"
            )
        return values

    @model_validator(mode="after")
    def _names(self) -> Params:
        for name, candidate in self.candidates.items():
            expected = f"{candidate.source}-{candidate.recipe}"
            if name != expected:
                raise ValueError(f"candidate `{name}` must be named `{expected}` after its source and recipe")
            parent_of(name, self.candidates)
        for name in self.evaluate.endpoints:
            if name in self.candidates or name in ("champion", *get_args(Anchor)):
                raise ValueError(f"endpoint `{name}` has the name of a cell; call it otherwise")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Params:
        """What one block names must be declared by another: found here, not hours into a run."""
        for name in self.adapt.supervised:
            if name in self.corpus.languages:
                raise ValueError(f"`adapt.data` has a subset `{name}`, and so has corpus.sources; rename one")
        for key, mix in self._mixes().items():
            for subset in mix:
                if key != "adapt.mix" or subset not in self.adapt.supervised:
                    _known(f"`{key}` names the subset", subset, self.corpus.languages, "corpus.sources gives")
        metrics = ["total", *sorted({f"bpc_{language}" for language in self.corpus.languages.values()})]
        for metric in self.gate.metrics:
            if metric.startswith("bpc_") or self.evaluate.suites == ["world"]:
                known = [*metrics, *WORLD_TASKS]
                _known("a rule of `gate` names the metric", metric, known, "measured are")
        for budget in self.gate.budgets:
            if budget.prompt_tokens not in (None, *self.measure.prompt_tokens):
                raise ValueError(
                    f"budget `{budget.measure}` of `gate` names prompts of {budget.prompt_tokens} tokens; "
                    f"add them to measure.prompt_tokens"
                )
        self._check_lengths()
        self._check_cut()
        if not self.corpus.has_world:
            for wanted, key, remedy in (
                ("world" in self.evaluate.suites, "evaluate.suites: world", "name folders of tasks"),
                (self.evaluate.questions > 0, "evaluate.questions", "set it to 0"),
                (
                    self.judge.embedded,
                    "judge.judges: embedded",
                    "name another judge or set judge.enabled to false",
                ),
            ):
                if wanted:
                    raise ValueError(f"`{key}` needs the embedded world in corpus.sources; {remedy}")
        return self

    def _check_cut(self) -> None:
        """What a cut costs is held against the model before it: nothing after the cut is uncompressed."""
        method = self.adapt.method
        if self.adapt.cuts and "pretrain" not in self.gate.against_anchor:
            raise ValueError(
                f"method `{method}` cuts the model, so `adapt-bf16` is no longer an uncompressed parent; "
                "declare `gate.against_anchor: {pretrain: [...]}`, what the cut may cost"
            )
        if self.distill.student == SHRUNK and not self.adapt.cuts:
            raise ValueError(
                f"`distill.student: {SHRUNK}` recovers a model that was cut, and method `{method}` cuts "
                f"nothing; set adapt.method to one of {', '.join(CUTTING)}, or distill.student to "
                f"{EVERY_SECOND}"
            )

    def _check_lengths(self) -> None:
        trainings: dict[str, Optimisation] = {"judge_model": self.judge_model.training}
        if self.base.source == "bootstrap" and self.base.bootstrap is not None:
            trainings |= {"base.bootstrap": self.base.bootstrap.training, "pretrain": self.pretrain.training}
            trainings |= {"adapt": self.adapt.training, "distill": self.distill.training}
        for key, training in trainings.items():
            if training.sequence_length > POSITIONS:
                raise ValueError(
                    f"`{key}.training.sequence_length` is {training.sequence_length}; a model that is "
                    f"trained from scratch takes {POSITIONS} tokens"
                )

    def _mixes(self) -> dict[str, dict[str, float]]:
        mixes = {"pretrain.mix": self.pretrain.mix, "distill.mix": self.distill.mix}
        if self.adapt.mix is not None:
            mixes["adapt.mix"] = self.adapt.mix
        mixes["quantize.qat.mix"] = self.quantize.qat.mix
        if self.base.source == "bootstrap" and self.base.bootstrap is not None:
            mixes["base.bootstrap.mix"] = self.base.bootstrap.mix
        return mixes


def _known(what: str, name: str, known: Iterable[str], where: str) -> None:
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    raise ValueError(
        f"{what} `{name}`; " + (f"did you mean `{near[0]}`?" if near else f"{where} {', '.join(known)}")
    )


def parent_of(name: str, candidates: dict[str, Candidate]) -> str | None:
    """The uncompressed model that candidate `name` descends from; None without compression behind it.

    That is `<source>-bf16`, or `adapt-bf16` for a distilled one when `distill-bf16` is not declared:
    distillation compresses too. A cut by `adapt` does not count here, `gate.against_anchor` holds it against
    the model before. Raises `ValueError` when the parent of a compressed candidate is missing.
    """
    candidate = candidates[name]
    if name == "adapt-bf16":
        return None
    own = f"{candidate.source}-bf16"
    for parent in (own, "adapt-bf16"):
        if parent != name and parent in candidates:
            return parent
    raise ValueError(f"candidate `{name}` needs its bf16 parent; declare `adapt-bf16` too")
