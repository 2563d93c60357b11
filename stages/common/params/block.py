"""The base of every block of params.yaml: unknown keys are refused, values are frozen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from stages.common import environment

environment.skip_plugins()


class Block(BaseModel):
    """One block of params.yaml."""

    # A block is checked as a part of the whole file; a checker for each one alone would be made in vain.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
