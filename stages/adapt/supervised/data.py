"""What `adapt` trains on, as the stage needs it: a mix of shards, or supervised examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.adapt import chat
from stages.adapt.supervised.batches import answer_losses, blend
from stages.adapt.supervised.examples import load

if TYPE_CHECKING:
    from stages.common.params.adaptation import AdaptBlock
    from stages.common.training.sampler import Batches
    from stages.common.training.session import Session


@dataclass(frozen=True)
class Data:
    """`batches`: what `Session.train` takes. `shards`: the subsets of the shards among them. `observe`: the
    loss on held-out answers. `closing`: ids of the tokens that end an answer.
    """

    batches: Mapping[str, float] | Batches
    shards: Mapping[str, float]
    observe: Callable[[Any], dict[str, Any]] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    licences: Mapping[str, list[str]] = field(default_factory=dict)
    closing: tuple[int, ...] = ()

    def lineage(self, shards: dict[str, Any]) -> dict[str, Any]:
        """The lineage of a run on the shards alone, with the licences of the examples added."""
        return {**shards, "data": dict(sorted({**shards["data"], **self.licences}.items()))}

    def save_chat(self, adapter: Path, tokenizer: Any) -> None:
        """Write beside the adapter how it is asked, where it was trained on conversations."""
        if self.closing:
            chat.save(adapter, tokenizer, self.closing)


def data_of(block: AdaptBlock, session: Session, inputs: Mapping[str, Path]) -> Data:
    """The data that `block` declares. Raises `UserError` when it cannot be trained on."""
    if block.data is None:
        return Data(block.replay, block.replay)
    length, eos_id = block.training.sequence_length, session.shards.eos_id
    examples = load(inputs["supervised"], block.data, session.tokenizer, str(inputs["pretrain"]), length)

    def observe(model: Any) -> dict[str, Any]:
        return {"answers": answer_losses(model, examples.heldout, length, eos_id, session.device)}

    return Data(
        blend(examples, session.shards, block.mix, block.training, session.order_seed),
        block.replay,
        observe,
        {"supervised": examples.notes(session.tokenizer)},
        examples.licences,
        tuple(examples.closing),
    )
