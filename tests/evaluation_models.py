"""Small models for the tests of evaluation: random ones, and an oracle whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

EOS = "<|endoftext|>"


def make_tokenizer(texts: Iterable[str], size: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`, with an end-of-text token and nothing else."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(list(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS)


def make_config(tokenizer: Any, width: int = 32, positions: int = 256) -> Qwen2Config:
    """A two-layer Qwen2 for `tokenizer`."""
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )


def make_model(tokenizer: Any, seed: int = 0, **settings: int) -> Qwen2ForCausalLM:
    """A random model; its weights are large enough that different answers get clearly different
    probabilities.
    """
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(make_config(tokenizer, **settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model.eval()


class Oracle(Qwen2ForCausalLM):
    """After each prompt it knows, it is certain of the given answer and then of a line end; elsewhere it is
    uniform.
    """

    answers: dict[tuple[int, ...], list[int]]

    @classmethod
    def of(cls, tokenizer: Any, answers: Mapping[str, str]) -> Oracle:
        """An oracle that continues each prompt of `answers` with " " + its answer."""
        oracle = cls(make_config(tokenizer, positions=1024)).eval()
        line_end = tokenizer.encode("\n")
        oracle.answers = {
            tuple(tokenizer.encode(prompt)): tokenizer.encode(" " + answer) + line_end
            for prompt, answer in answers.items()
        }
        return oracle

    def forward(
        self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any
    ) -> CausalLMOutputWithPast:
        rows, width = input_ids.shape
        logits = torch.zeros(rows, width, self.config.vocab_size)
        for row, ids in enumerate(input_ids.tolist()):
            padding = next((i for i, token in enumerate(ids) if token != self.config.eos_token_id), 0)
            for prompt, answer in self.answers.items():
                end = padding + len(prompt)
                if tuple(ids[padding:end]) == prompt:
                    for step, token in enumerate(answer):
                        if end - 1 + step < width and ids[end : end + step] == answer[:step]:
                            logits[row, end - 1 + step, token] = 20.0
        return CausalLMOutputWithPast(logits=logits)

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any
    ) -> dict[str, Any]:
        return {"input_ids": input_ids}


def direct_logprob(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    """log P(continuation | context), one unpadded row, straight from the definition."""
    whole = tokenizer.encode(context + continuation)
    start = len(tokenizer.encode(context))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([whole])).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    return sum(float(logprobs[place - 1, whole[place]]) for place in range(start, len(whole)))
