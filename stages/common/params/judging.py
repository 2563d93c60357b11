"""Block `judge`: who judges, by which rubric, what may leave the machine, and what a passport takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from stages.common.params.block import Block

JudgeName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
HubId = Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")]
LIMITS = ("at_least", "at_most", "lower_bound", "upper_bound")


class EmbeddedJudge(Block):
    """The judge that stage `judge_model` trains on the embedded world."""

    type: Literal["embedded"]
    name: Literal["embedded"] = "embedded"


class FolderJudge(Block):
    """A checkpoint folder on this machine; `bases` for one without a manifest of ours."""

    type: Literal["folder"]
    name: JudgeName
    path: str
    bases: list[HubId] = Field(default_factory=list)
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: PositiveInt = 32


class EndpointJudge(Block):
    """A model behind an OpenAI-compatible address; `bases`: its own hub id and what it descends from."""

    type: Literal["endpoint"]
    name: JudgeName
    address: str
    model: str
    bases: list[HubId] = Field(min_length=1)
    key_variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    timeout: float = Field(default=60.0, gt=0)
    retries: int = Field(default=4, ge=0)
    pause: float = Field(default=1.0, ge=0)
    concurrency: PositiveInt = 4
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: PositiveInt = 64
    seed: int | None = 0
    alternatives: int = Field(default=20, ge=0, le=20)
    structured: bool = True


AnyJudge = Annotated[EmbeddedJudge | FolderJudge | EndpointJudge, Field(discriminator="type")]


class Threshold(Block):
    """One limit of a measure, or of a bound of its 95 % interval, and the source of the number."""

    at_least: float | None = None
    at_most: float | None = None
    lower_bound: float | None = None
    upper_bound: float | None = None
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Threshold:
        if sum(getattr(self, limit) is not None for limit in LIMITS) != 1:
            raise ValueError(f"a threshold has one of {', '.join(LIMITS)}, and its source")
        return self

    @property
    def limits(self) -> list[tuple[Any, float]]:
        """Each limit that is set, and its value: one."""
        return [(name, getattr(self, name)) for name in LIMITS if getattr(self, name) is not None]


class PassportBlock(Block):
    """Thresholds by measure (evals/judge/passport.py); one that is left out is measured and not asked for."""

    consistency: Threshold
    accuracy: Threshold
    missing: Threshold
    primacy: Threshold | None = None
    kappa: Threshold | None = None
    sensitivity: Threshold | None = None
    specificity: Threshold | None = None
    alpha: Threshold | None = None
    alternative: Threshold | None = None
    unparsable: Threshold | None = None
    injection: Threshold | None = None


class JudgeBlock(Block):
    enabled: bool
    judges: list[AnyJudge] = Field(min_length=1)
    rubric: str = "pair.ru"
    grades: list[str] = Field(default_factory=list)
    texts_may_leave: bool = False
    families: dict[str, list[str]] = Field(default_factory=dict)
    pairs: PositiveInt
    sequential: bool = False
    labels: list[str] = Field(default_factory=list)
    raters: Literal["expert", "trained", "crowd"] = "crowd"
    probe_pairs: NonNegativeInt = 20
    passport: PassportBlock

    @model_validator(mode="after")
    def _judges(self) -> JudgeBlock:
        names = [judge.name for judge in self.judges]
        if len(set(names)) < len(names):
            raise ValueError(f"two judges have one name ({', '.join(names)}); give each its own")
        if sum(judge.type == "embedded" for judge in self.judges) > 1:
            raise ValueError("there is one embedded judge; name it once")
        outside = [judge.name for judge in self.judges if judge.type == "endpoint"]
        if self.enabled and outside and not self.texts_may_leave:
            raise ValueError(
                f"judge `{outside[0]}` is behind an address, and `texts_may_leave` is false; "
                "set it to true if questions and answers may leave this machine"
            )
        if self.grades and self.embedded:
            raise ValueError("the embedded judge knows no rubric; leave `grades` empty, or name other judges")
        rubrics = [Path(name).name.removesuffix(".yaml") for name in self.grades]
        if len(set(rubrics)) < len(rubrics):
            raise ValueError(f"`grades` has two rubrics of one name ({', '.join(rubrics)}); name each once")
        if self.probe_pairs == 0 and self.passport.injection is not None:
            raise ValueError("`passport.injection` needs `probe_pairs` of 1 or more")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the embedded world's judge is asked for."""
        return self.enabled and any(judge.type == "embedded" for judge in self.judges)

    @property
    def outside(self) -> dict[str, str]:
        """Paths outside the repository by their keys: judges' folders, label files, rubrics of one's own."""
        found: dict[str, Any] = {
            f"judge.judges.{number}.path": judge.path
            for number, judge in enumerate(self.judges)
            if isinstance(judge, FolderJudge)
        }
        found |= {f"judge.labels.{number}": path for number, path in enumerate(self.labels)}
        rubrics = {"judge.rubric": self.rubric}
        rubrics |= {f"judge.grades.{number}": name for number, name in enumerate(self.grades)}
        found |= {key: name for key, name in rubrics.items() if name.endswith(".yaml")}
        return found if self.enabled else {}
