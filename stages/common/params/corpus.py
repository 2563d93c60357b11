"""Blocks `corpus`, `validation` and `tokens`: from raw text to packed token shards."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from stages.common.params.block import Block

Share = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class WorldSource(Block):
    """The embedded world: a seeded generator of text, tasks and planted defects."""

    type: Literal["world"]
    seed: int = Field(ge=0)
    size: float = Field(default=1.0, gt=0, le=10)
    tasks_per_kind: int = Field(default=220, ge=20, le=2000)


class FilesSource(Block):
    """Local files: jsonl, txt or parquet, plain, .gz or .zst."""

    type: Literal["files"]
    paths: list[str] = Field(min_length=1)
    subset: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    language: Language
    licence: str
    text_field: str = "text"
    template: str | None = None

    @model_validator(mode="after")
    def _named_places(self) -> FilesSource:
        if self.template is not None and not re.search(r"\{\w+\}", self.template):
            raise ValueError("template names no field; write the fields of a record as {name}")
        return self


# What the generator writes (stages/corpus/world); a test compares.
WORLD_SUBSETS = {
    "world-en": "en",
    "world-ru-start": "ru",
    "world-ru": "ru",
    "world-tasks-ru": "ru",
    "world-tasks-en": "en",
}
WORLD_TASKS = (
    *("places", "people", "family", "arithmetic", "grammar", "causes", "calendar"),
    *("order", "words", "truth", "facts-en"),
)

Source = Annotated[WorldSource | FilesSource, Field(discriminator="type")]


class CorpusBlock(Block):
    sources: list[Source] = Field(min_length=1)
    heldout_share: float = Field(gt=0, le=0.5)
    broken_lines_share: Share
    min_chars: PositiveInt
    max_chars: int = Field(default=20_000, ge=1_000)
    language_score: Share
    near_duplicate_similarity: float = Field(gt=0.3, le=1)
    redact: bool
    protect: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_world(self) -> CorpusBlock:
        if sum(source.type == "world" for source in self.sources) > 1:
            raise ValueError("sources hold two embedded worlds; their names and tasks would clash, keep one")
        return self

    @property
    def has_world(self) -> bool:
        """Whether the embedded world is among the sources."""
        return any(source.type == "world" for source in self.sources)

    @property
    def languages(self) -> dict[str, str]:
        """The language of every subset that the sources declare."""
        named = {source.subset: source.language for source in self.sources if isinstance(source, FilesSource)}
        return {**(WORLD_SUBSETS if self.has_world else {}), **named}


class ValidationBlock(Block):
    min_documents: PositiveInt
    max_dropped_share: Share
    max_foreign_share: Share
    max_mojibake_share: Share


class TokensBlock(Block):
    tokenizer: Literal["train", "base"]
    vocab_size: int = Field(ge=300, le=262144)
