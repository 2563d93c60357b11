"""Log-probabilities of texts, bits per character and minimal pairs, against a direct computation."""

from __future__ import annotations

import math

import pytest
import torch
from evaluation_models import EOS, make_model, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from evals.bpc import Document, bits, choose, unknown_tokens
from evals.errors import EvalError
from evals.logprobs import plan_windows, text_logprobs
from evals.minimal_pairs import Pair, items, texts

TEXTS = ["Кошка спит на окне.", "The cat sleeps on the window and dreams of fish.", "Да.", "ёжик " * 30]


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return make_tokenizer(TEXTS * 3)


@pytest.fixture(scope="module")
def model(tokenizer):  # type: ignore[no-untyped-def]
    return make_model(tokenizer)


def _direct(model, tokenizer, text: str, context: int | None = None) -> float:  # type: ignore[no-untyped-def]
    """Token by token: each predicted from at most `context` tokens before it, EOS first of all."""
    ids = [tokenizer.eos_token_id, *tokenizer.encode(text)]
    total = 0.0
    with torch.no_grad():
        for place in range(1, len(ids)):
            start = 0 if context is None else max(0, place - context)
            logits = model(input_ids=torch.tensor([ids[start:place]])).logits[0, -1].double()
            total += float(torch.log_softmax(logits, -1)[ids[place]])
    return total


@given(st.integers(1, 400), st.integers(2, 130))
def test_windows_score_every_token_once_with_context(tokens: int, window: int) -> None:
    windows = plan_windows(0, tokens, window)
    scored = [place for item in windows for place in range(item.first, item.end)]
    assert scored == list(range(tokens))
    for item in windows:
        assert item.length <= window
        assert item.start == 0 or item.first - item.start >= window // 2


def test_texts_that_fit_are_scored_as_by_definition(model, tokenizer) -> None:  # type: ignore[no-untyped-def]
    found = text_logprobs(model, tokenizer, TEXTS, window=256)
    assert found == pytest.approx([_direct(model, tokenizer, text) for text in TEXTS], rel=1e-5)


def test_neither_order_nor_batches_matter(model, tokenizer) -> None:  # type: ignore[no-untyped-def]
    whole = text_logprobs(model, tokenizer, TEXTS, window=16)
    alone = text_logprobs(model, tokenizer, TEXTS[::-1], window=16, budget=1)
    assert whole == pytest.approx(alone[::-1], rel=1e-5)


def test_a_window_of_two_sees_one_or_two_tokens(model, tokenizer) -> None:  # type: ignore[no-untyped-def]
    """The first window predicts from 1 and 2 tokens, each later one a single token from 2: a context of 2
    throughout.
    """
    found = text_logprobs(model, tokenizer, [TEXTS[1]], window=2)
    assert found == pytest.approx([_direct(model, tokenizer, TEXTS[1], context=2)], rel=1e-5)


def test_weights_that_are_not_finite_are_refused(tokenizer) -> None:  # type: ignore[no-untyped-def]
    broken = make_model(tokenizer)
    with torch.no_grad():
        broken.model.norm.weight[0] = math.nan
    with pytest.raises(EvalError, match="not finite"):
        text_logprobs(broken, tokenizer, TEXTS, window=32)


def test_a_uniform_model_needs_log2_of_the_vocabulary_per_token(tokenizer) -> None:  # type: ignore[no-untyped-def]
    uniform = make_model(tokenizer)
    with torch.no_grad():
        for weight in uniform.parameters():
            weight.zero_()
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    logprobs = text_logprobs(uniform, tokenizer, TEXTS, window=64)
    found = bits(documents, logprobs, unknown_tokens(tokenizer, TEXTS))
    tokens = [len(tokenizer.encode(text)) for text in TEXTS]
    assert found.bits == pytest.approx([count * math.log2(len(tokenizer)) for count in tokens], rel=1e-5)
    assert found.characters == tuple(len(text) for text in TEXTS)
    assert found.value == pytest.approx(
        sum(tokens) * math.log2(len(tokenizer)) / sum(map(len, TEXTS)), rel=1e-5
    )
    assert found.unknown == 0


def test_no_documents_is_an_error() -> None:
    with pytest.raises(EvalError, match="no held-out documents"):
        bits([], [], 0)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=30), st.integers(1, 200), st.randoms())
def test_the_choice_of_documents_depends_on_their_content_only(texts: list[str], cap: int, random) -> None:  # type: ignore[no-untyped-def]
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    chosen = choose(documents, cap)
    shuffled = documents[:]
    random.shuffle(shuffled)
    assert choose(shuffled, cap) == chosen
    length = sum(len(document.text) for document in chosen)
    assert length >= min(cap, sum(map(len, texts)))
    assert not chosen or length - len(chosen[-1].text) < cap


def test_minimal_pairs_count_strict_wins(model, tokenizer) -> None:  # type: ignore[no-untyped-def]
    sentences = ["Он идёт домой.", "Они идёт домой.", "Кот ест рыбу.", "Кот едят рыбу."]
    value = {text: _direct(model, tokenizer, text) for text in sentences}
    pairs = [
        Pair(str(i), good, bad, "agreement") for i, (good, bad) in enumerate([sentences[:2], sentences[2:]])
    ]
    pairs += [Pair("2", pair.bad, pair.good, "agreement") for pair in pairs]
    pairs.append(Pair("3", sentences[0], sentences[0], "tie"))
    found = items(pairs, text_logprobs(model, tokenizer, texts(pairs), window=64))
    assert [item.value for item in found] == [float(value[pair.good] > value[pair.bad]) for pair in pairs]
    assert found[-1].value == 0.0
    assert len({item.doc_hash for item in found}) == len(found)


def test_a_tokenizer_without_any_special_token_is_refused(model) -> None:  # type: ignore[no-untyped-def]
    bare = make_tokenizer(TEXTS)
    bare.eos_token = None
    with pytest.raises(EvalError, match="neither a BOS nor an EOS"):
        text_logprobs(model, bare, TEXTS, window=8)
    assert EOS not in bare.all_special_tokens
