"""Duplicate search: known similarities, unbiased signatures, recall and no false drops."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.duplicates import ExactIndex, NearIndex, bands_for, content_key, jaccard, shingles
from stages.corpus.words import WordHasher, ngram_hashes, ngrams, normal_words

HASHER = WordHasher()
WORDS = [f"слово{n}" for n in range(5000)]


def _document(rng: random.Random, size: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(size)]


def test_normal_words_keep_numbers_and_lose_case_and_punctuation() -> None:
    assert normal_words("Ёлка, ЁЛКА: 17 + 25 = 42!") == ["елка", "елка", "17", "25", "42"]


def test_exact_duplicates_differ_in_form_only() -> None:
    key = content_key(normal_words("Мама мыла раму."))
    assert key == content_key(normal_words("мама  МЫЛА «раму»"))
    assert key != content_key(normal_words("Мама мыла рамы."))
    index = ExactIndex()
    assert index.find(key) is None
    index.add(key, "first")
    index.add(key, "second")
    assert index.find(key) == "first"


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 9))
def test_ngram_hashes_are_equal_exactly_for_equal_runs(numbers: list[int], size: int) -> None:
    words = [f"w{number}" for number in numbers]
    hashes = ngram_hashes(HASHER(words), size)
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))


def test_all_sizes_at_once_are_those_one_by_one() -> None:
    words = HASHER(WORDS[:20])
    for size, hashes in ngrams(words, [3, 8, 25]).items():
        assert np.array_equal(hashes, ngram_hashes(words, size))
    assert len(ngrams(words, [25])[25]) == 0


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_jaccard_is_that_of_sets(a: set[int], b: set[int]) -> None:
    arrays = [np.array(sorted(values), dtype=np.uint64) for values in (a, b)]
    expected = len(a & b) / len(a | b) if a | b else 1.0
    assert jaccard(*arrays) == pytest.approx(expected)


@pytest.mark.parametrize("similarity", [0.4, 0.6, 0.8, 0.9, 1.0])
def test_bands_find_pairs_at_the_threshold(similarity: float) -> None:
    bands, rows = bands_for(similarity)
    assert bands * rows <= 128
    assert 1 - (1 - similarity**rows) ** bands >= 0.99
    assert bands_for(0.8) == (21, 6)


def test_signatures_estimate_the_similarity() -> None:
    """The share of equal minima is an unbiased estimate of Jaccard (Broder 1997)."""
    rng = random.Random(1)
    index = NearIndex(0.8)
    errors = []
    for _ in range(40):
        words = _document(rng, 300)
        other = words[: rng.randrange(100, 300)] + _document(rng, 60)
        a, b = (shingles(HASHER(text)) for text in (words, other))
        errors.append(float((index.signature(a) == index.signature(b)).mean()) - jaccard(a, b))
    assert abs(sum(errors) / len(errors)) < 0.02
    assert max(map(abs, errors)) < 0.2


def test_near_duplicates_are_found_and_others_are_not() -> None:
    rng = random.Random(2)
    index = NearIndex(0.8)
    found = 0
    for number in range(200):
        words = _document(rng, 150)
        index.add(index.probe(HASHER(words)), f"d{number}")
        changed = list(words)
        changed[rng.randrange(len(words))] = "другое"
        similar = index.find(index.probe(HASHER(changed)))
        found += similar is not None and similar[0] == f"d{number}" and similar[1] >= 0.8
        assert index.find(index.probe(HASHER(_document(rng, 150)))) is None
        half = words[:75] + _document(rng, 75)
        assert index.find(index.probe(HASHER(half))) is None
    assert found >= 196


def test_sums_that_differ_in_numbers_only_are_no_duplicates() -> None:
    index = NearIndex(0.8)
    index.add(index.probe(HASHER(normal_words("Если к 17 прибавить 25, получится 42."))), "a")
    assert index.find(index.probe(HASHER(normal_words("Если к 18 прибавить 31, получится 49.")))) is None


@pytest.mark.parametrize("words", [[], ["одно"], ["два", "слова"]])
def test_tiny_documents(words: list[str]) -> None:
    index = NearIndex(0.8)
    probe = index.probe(HASHER(words))
    assert index.find(probe) is None
    index.add(probe, "first")
    assert index.find(probe) == ("first", 1.0)
    assert index.find(index.probe(HASHER(["иное"]))) is None
