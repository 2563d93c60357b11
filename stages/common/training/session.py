"""What the training stages do alike: check the tokenizer, train on a mix, write checkpoint, curve and
facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from stages.common import manifest
from stages.common.checkpoint import check_tokenizer, load_tokenizer, pick_device
from stages.common.errors import UserError
from stages.common.training.loop import Trained, train
from stages.common.training.resume import Resume
from stages.common.training.sampler import Sampler
from stages.common.training.shards import Shards

if TYPE_CHECKING:
    from stages.common.params.training import Optimisation
    from stages.common.training.loop import Before, Observe
    from stages.common.training.losses import Loss
    from stages.common.training.sampler import Batches

CURVE = "training.json"


@dataclass(frozen=True)
class Session:
    """One training run of the stage `name` on the shards in `tokens`."""

    name: str
    params: Any
    inputs: Mapping[str, Path]
    shards: Shards
    tokenizer: Any
    device: str
    resume: Resume

    @classmethod
    def begin(
        cls,
        name: str,
        params: Any,
        inputs: Mapping[str, Path],
        checkpoints: tuple[str, ...] = (),
        code: tuple[str, ...] = (),
    ) -> Session:
        """Open the shards of `inputs["tokens"]` and check the tokenizers of the inputs named in
        `checkpoints`. A saved state is good for the code of the stage, of what all trainings share and of the
        folders `code`.

        Raises `UserError` for damaged shards, a foreign tokenizer, or a GPU that is asked for and not there.
        """
        for checkpoint in checkpoints:
            check_tokenizer(inputs[checkpoint], inputs["tokens"])
        return cls(
            name,
            params,
            inputs,
            Shards.open(inputs["tokens"]),
            # A checkpoint's own, where there is one: its chat template may be another.
            load_tokenizer(inputs[checkpoints[0]] if checkpoints else inputs["tokens"] / "tokenizer"),
            pick_device(params.device),
            Resume.of(name, params, inputs, also=code),
        )

    @property
    def order_seed(self) -> int:
        """The seed of the order of the data: stages with one seed must not draw the same."""
        return int((self.params.seed << 32) + crc32(self.name.encode()))

    def train(
        self,
        model: Any,
        loss: Loss,
        settings: Optimisation,
        data: Mapping[str, float] | Batches,
        where: str,
        evaluations: int,
        before: Before | None = None,
        observe: Observe | None = None,
        rates: Mapping[str, float] | None = None,
        undecayed: Sequence[str] = (),
        rate_keys: Sequence[str] = (),
    ) -> Trained:
        """Train `model` in place on `data`: a mix of shards, the value of the key `where` of params.yaml, or
        batches made otherwise. The others are those of `train`.
        """
        from stages.common.training.evaluation import bits_per_character, sample

        limit = model.config.max_position_embeddings
        if settings.sequence_length > limit:
            raise UserError(
                f"params.yaml: {self.name} trains on {settings.sequence_length} tokens, the model takes "
                f"{limit}; lower sequence_length"
            )
        batches: Batches
        if isinstance(data, Mapping):
            size, length = settings.batch_size, settings.sequence_length
            batches = Sampler(self.shards, data, size, length, self.order_seed, where)
        else:
            batches = data
        held = sample(self.shards, self.tokenizer, limit)
        return train(
            model,
            loss,
            batches,
            settings,
            self.params.seed,
            self.device,
            self.resume,
            evaluate=lambda trained: bits_per_character(trained, held, self.shards.eos_id, self.device),
            evaluations=evaluations,
            label=self.name,
            before=before,
            observe=observe,
            rates=rates,
            undecayed=undecayed,
            rate_keys=rate_keys,
        )

    def lineage(self, mix: Mapping[str, float], parent: Path | None = None) -> dict[str, Any]:
        """Where the model comes from: the parent's base, data and adaptation, and the data of this run, with
        licences.
        """
        inherited = manifest.descent(parent) if parent else {}
        data = {**inherited.get("data", {}), **self.shards.licences(mix)}
        return {**inherited, "data": dict(sorted(data.items()))}
