"""What every skill offers: statements and questions made on demand over keys that are split once and for
all.
"""

from __future__ import annotations

import hashlib
import random
from typing import Protocol

from stages.corpus.world.model import Question

TEST_SHARE = 0.3  # of the keys of a skill: in no text at all, only in test items


class Skill(Protocol):
    """Something that can be done anew each time (add, compare, infer), as opposed to a fact to be
    remembered.
    """

    @property
    def name(self) -> str:
        """Name of the skill, first part of its cluster ids."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of difficulty that its questions have."""

    def statement(self, rng: random.Random, language: str) -> str | None:
        """A worked example as a statement, from train keys only; None when the skill is not of this
        language.
        """

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question | None:
        """A question over a key of the train split, or of the test split when `held_out`."""


def reserved(seed: int, key: str, share: float = TEST_SHARE) -> bool:
    """Whether `key` belongs to the test split, by a hash that is the same in every process."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share
