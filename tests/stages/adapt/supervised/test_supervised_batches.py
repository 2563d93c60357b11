"""Examples as batches: too long ones, shares, replay, held-out answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_fakes import settings, tiny_model

from stages.adapt.supervised.batches import answer_losses, blend, thinned
from stages.adapt.supervised.examples import Examples, fit, load
from stages.common.checkpoint import load_tokenizer
from stages.common.conversations import FILE, Conversation, Message
from stages.common.errors import UserError
from stages.common.params.adaptation import DataBlock
from stages.common.training.rows import Document
from stages.common.training.shards import Shards

LENGTH = 16


def _document(prompt: int, answer: int, first: int = 1) -> Document:
    weights = np.asarray([0.0] * prompt + [1.0] * answer, dtype=np.float32)
    return Document(np.arange(first, first + prompt + answer, dtype=np.int64), weights)


def _examples(**train: Sequence[Document]) -> Examples:
    counts = {
        name: {"train_answer_tokens": int(sum(d.weights_n[1:].sum() for d in documents))}
        for name, documents in train.items()
    }
    return Examples(train, {}, counts, {}, "own", [0])


def _source(**changes: Any) -> DataBlock:
    values = {"paths": ["x.jsonl"], "subset": "talk", "language": "ru", "licence": "MIT"}
    return DataBlock(**{**values, **changes})


@pytest.fixture(scope="module")
def shards(shards_folder: Path) -> Shards:
    return Shards.open(shards_folder)


def test_too_long_examples_are_dropped_or_cut_as_declared() -> None:
    exact, longer, prompt = _document(10, 7), _document(10, 8), _document(17, 8)
    assert exact.inputs == LENGTH
    assert fit(exact, LENGTH, "drop") is exact and fit(exact, LENGTH, "cut") is exact
    assert fit(longer, LENGTH, "drop") is None
    begun = fit(longer, LENGTH, "cut")
    assert begun is not None and begun.inputs == LENGTH and begun.weights_n.sum() == 7
    assert fit(prompt, LENGTH, "cut") is None


def _write(folder: Path, *asked: tuple[str, str, bool]) -> Path:
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for number, (question, answer, heldout) in enumerate(asked):
            messages = (Message("user", question), Message("assistant", answer))
            Conversation(f"f:{number}", "talk", heldout, messages).write(file)
    return folder


def test_examples_are_counted_by_what_became_of_them(
    tmp_path: Path, shards_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(shards_folder / "tokenizer")
    long, bad = "мама мыла раму " * 60, "стоп<|endoftext|>"
    folder = _write(
        tmp_path, ("кот?", "спит", False), ("где?", long, False), (bad, "да", False), ("ива?", "растёт", True)
    )
    examples = load(folder, [_source(too_long="cut")], tokenizer, "m", 64)
    counts = examples.counts["talk"]
    assert (counts["conversations"], counts["cut"], counts["refused"], counts["too_long"]) == (4, 1, 1, 0)
    assert len(examples.train["talk"]) == 2 and len(examples.heldout["talk"]) == 1
    assert (
        "1 refused by the chat template, first f:2: a message holds the special token"
        in capsys.readouterr().err
    )
    dropped = load(folder, [_source()], load_tokenizer(shards_folder / "tokenizer"), "m", 64).counts["talk"]
    assert (dropped["cut"], dropped["too_long"], dropped["train_examples"]) == (0, 1, 1)
    assert examples.notes(tokenizer)["closing_tokens"] == ["<|endoftext|>"]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('System role not supported') }}", r"refuses it \(System role not supported\)"),
        ("{{ 1 // 0 }}", r"fails on it \(ZeroDivisionError: "),
        ("{{ messages[0]['content'] + 1 }}", r"fails on it \(TypeError: "),
        ("{{ messages[0]['content'].index('z') }}", r"fails on it \(ValueError: substring not found\)"),
        ("{{ '%(a)s' % {} }}", r"fails on it \(KeyError: 'a'\)"),
    ],
)
def test_what_a_template_refuses_is_told_in_its_own_words(
    tmp_path: Path, shards_folder: Path, template: str, why: str
) -> None:
    tokenizer: Any = load_tokenizer(shards_folder / "tokenizer")
    tokenizer.chat_template = template
    folder = _write(tmp_path, ("кот?", "спит", False), ("где?", "дома", True))
    with pytest.raises(UserError, match=f"2 refused by the chat template, first f:0: .*{why}") as caught:
        load(folder, [_source()], tokenizer, "m", 64)
    assert str(caught.value).endswith("none is left to train on: mend what is refused, or the chat template")


def test_examples_that_are_all_held_out_are_no_question_of_length(
    tmp_path: Path, shards_folder: Path
) -> None:
    folder = _write(tmp_path, ("кот?", "спит", True))
    with pytest.raises(UserError, match=r"the rest is held out: .* lower corpus\.heldout_share$"):
        load(folder, [_source()], load_tokenizer(shards_folder / "tokenizer"), "m", 64)


def test_nothing_but_long_examples_is_refused(tmp_path: Path, shards_folder: Path) -> None:
    folder = _write(tmp_path, ("кот?", "мама мыла раму " * 60, False), ("ива?", "да", True))
    with pytest.raises(
        UserError, match=r"adapt\.data\.0 \(`talk`\): 1 too long for rows of 64 tokens"
    ) as caught:
        load(folder, [_source()], load_tokenizer(shards_folder / "tokenizer"), "m", 64)
    assert "too_long: cut" in str(caught.value)


def test_a_batch_is_a_function_of_seed_and_step(shards: Shards) -> None:
    documents = [_document(3, 2, 10 * n + 1) for n in range(40)]
    batches = [blend(_examples(talk=documents), shards, None, settings(), seed) for seed in (1, 1, 2)]
    batches[1].batch(30)
    one, same, other = (each.batch(7) for each in batches)
    assert torch.equal(one.inputs_BT, same.inputs_BT) and torch.equal(one.positions_BT, same.positions_BT)
    assert not torch.equal(one.inputs_BT, other.inputs_BT)


def test_without_a_mix_every_example_comes_about_equally_often(shards: Shards) -> None:
    many, few = [_document(4, 4, 1 + n) for n in range(90)], [_document(4, 4, 150 + n) for n in range(30)]
    batches = blend(_examples(many=many, few=few), shards, None, settings(), 0)
    tokens: dict[str, int] = {"many": 0, "few": 0}
    for step in range(60):
        batch = batches.batch(step)
        assert batch.weights_BT is not None and set(batch.weights_BT.unique().tolist()) <= {0.0, 1.0}
        assert sum(batch.subset_tokens.values()) == int((batch.inputs_BT != 0).sum())
        for name, count in batch.subset_tokens.items():
            tokens[name] += count
    assert tokens["many"] / tokens["few"] == pytest.approx(3, rel=0.05)


def test_the_shares_of_a_mix_are_shares_of_the_loss(shards: Shards) -> None:
    """Two answer tokens in a row of sixteen, beside windows in which all sixteen count."""
    examples = _examples(talk=[_document(12, 2, 1) for _ in range(20)])
    batches = blend(examples, shards, {"talk": 0.75, "world-ru": 0.25}, settings(), 0)
    weights, tokens = {"talk": 0.0, "world-ru": 0.0}, {"talk": 0, "world-ru": 0}
    for step in range(100):
        batch = batches.batch(step)
        assert batch.weights_BT is not None
        for row in batch.weights_BT:
            weights["world-ru" if (row > 0).all() else "talk"] += row.sum().item()
        for name, count in batch.subset_tokens.items():
            tokens[name] += count
    assert weights["talk"] / sum(weights.values()) == pytest.approx(0.75, abs=0.01)
    assert tokens["talk"] / 13 == pytest.approx(300, abs=2)
    assert tokens["talk"] / 13 + tokens["world-ru"] / 16 == 400


def test_replay_keeps_its_documents_apart(shards: Shards) -> None:
    batches = blend(_examples(talk=[_document(3, 2)]), shards, {"talk": 0.5, "world-ru": 0.5}, settings(), 0)
    batch = batches.batch(0)
    assert batch.weights_BT is not None
    replayed = (batch.weights_BT > 0).all(dim=1)
    assert replayed.sum() == 2
    inside = batch.inputs_BT[replayed][:, 1:] == shards.eos_id
    assert (batch.positions_BT[replayed][:, 1:][inside] == 0).all()


def test_a_mix_of_unknown_shards_is_refused(shards: Shards) -> None:
    with pytest.raises(UserError, match=r"`adapt\.mix` names the subset `poems`"):
        blend(_examples(talk=[_document(3, 2)]), shards, {"talk": 0.5, "poems": 0.5}, settings(), 0)


def test_the_loss_on_held_out_answers_is_the_mean_over_their_tokens() -> None:
    model = tiny_model().train()
    documents = [_document(4, 2, 10), _document(2, 5, 60), _document(6, 1, 100)]
    found = answer_losses(model, {"talk": documents}, LENGTH, 0, "cpu")
    nats, counted = 0.0, 0
    for document in documents:
        tokens = torch.from_numpy(document.tokens_n)
        logprobs = model(tokens[None, :-1]).logits[0].log_softmax(-1)
        for place in np.flatnonzero(document.weights_n[1:]):
            nats, counted = nats - logprobs[place, tokens[place + 1]].item(), counted + 1
    assert found == {"talk": pytest.approx(nats / counted, rel=1e-5)}
    assert counted == 8
    assert model.training


def test_many_held_out_examples_are_thinned_evenly() -> None:
    documents = [_document(100, 29, n) for n in range(1000)]
    kept = thinned(documents)
    assert len(kept) == 125
    assert kept[-1].tokens_n[0] - kept[0].tokens_n[0] > 900
    assert thinned(documents[:5]) == documents[:5]
