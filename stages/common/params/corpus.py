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


class ValidationBlock(Block):
    min_documents: PositiveInt
    max_dropped_share: Share
    max_foreign_share: Share
    max_mojibake_share: Share


class TokensBlock(Block):
    tokenizer: Literal["train", "base"]
    vocab_size: int = Field(ge=300, le=262144)
