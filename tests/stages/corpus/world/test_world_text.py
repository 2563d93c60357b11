"""The text: determinism, sizes, shares, planted defects, variety."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter

import ftfy
import pytest

from stages.corpus.world import SUBSETS, generate
from stages.corpus.world.defects import SHARES
from stages.corpus.world.defects import SUBSETS as WITH_DEFECTS

DIGEST = """
import hashlib, sys
from stages.corpus.world import generate
world = generate(7, 0.05, 20)
print(hashlib.sha256(repr(world).encode()).hexdigest())
"""


def test_same_seed_same_world_in_every_process():
    digests = set()
    for hash_seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_another_seed_has_other_facts(small_world):
    other = generate(8, 0.05, 20)
    mine = {
        fact.ru for fact in small_world.facts if fact.kind in ("capital", "profession", "mother", "festival")
    }
    theirs = {fact.ru for fact in other.facts if fact.kind in ("capital", "profession", "mother", "festival")}
    assert len(mine & theirs) < 0.3 * len(mine)


def test_at_least_twelve_kinds_of_facts_and_skills(world):
    assert len({fact.kind.split("-")[0] for fact in world.facts}) >= 12


def test_sizes_and_shares_of_the_subsets(world):
    sizes = Counter()
    for document in world.documents:
        sizes[document.subset] += len(document.text.encode())
    assert set(sizes) == set(SUBSETS)
    assert 3_000_000 < sum(sizes.values()) < 6_000_000
    assert sizes["world-ru"] > sizes["world-en"] > sizes["world-ru-start"]


def test_a_small_world_still_has_everything(small_world, world):
    assert {document.subset for document in small_world.documents} == set(SUBSETS)
    assert set(small_world.tasks) == set(world.tasks)
    assert {row.defect for row in small_world.truth} == set(SHARES)
    assert sum(len(document.text.encode()) for document in small_world.documents) < 400_000


def test_question_form_takes_about_a_quarter_of_russian_sentences(world):
    planted = {row.document_id for row in world.truth}
    text = " ".join(d.text for d in world.documents if d.subset == "world-ru" and d.id not in planted)
    questions = len(re.findall(r"[?…]", text))
    sentences = len(re.findall(r"[.?!…](?:\s|$)", text))
    assert 0.18 < questions / sentences < 0.30
    start = " ".join(d.text for d in world.documents if d.subset == "world-ru-start" and d.id not in planted)
    assert "?" not in start


def test_world_tasks_are_mostly_russian(world):
    languages = Counter(d.language for d in world.documents if d.subset.startswith("world-tasks"))
    assert 0.02 < languages["en"] / sum(languages.values()) < 0.25


def test_planted_documents_are_4_to_6_percent_and_all_kinds_occur(world):
    assert 0.035 < len(world.truth) / len(world.documents) < 0.065
    counts = Counter((row.document_id.rsplit("-", 1)[0], row.defect) for row in world.truth)
    assert {defect for _, defect in counts} == set(SHARES)
    assert len(counts) == len(SHARES) * len(WITH_DEFECTS)
    assert len({document.id for document in world.documents}) == len(world.documents)


def shingles(text: str) -> set[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.lower())
    return {tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / max(1, len(a | b))


def test_duplicates_are_what_the_truth_says(world):
    texts = {document.id: document.text for document in world.documents}
    for row in world.truth:
        detail = json.loads(row.detail)
        if row.defect == "exact_duplicate":
            assert texts[row.document_id] == texts[detail["original"]]
        if row.defect == "near_duplicate":
            similarity = jaccard(texts[row.document_id], texts[detail["original"]])
            assert texts[row.document_id] != texts[detail["original"]]
            assert similarity >= 0.8, row


def test_clean_documents_are_hardly_ever_near_duplicates(world):
    """Candidates share one of the five smallest hashes of their 5-grams; twins of .8 nearly always do."""
    planted = {row.document_id for row in world.truth}
    texts = [d.text for d in world.documents if d.id not in planted]
    buckets: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        keys = sorted(hashlib.md5(" ".join(item).encode()).hexdigest() for item in shingles(text))[:5]
        for key in keys:
            buckets.setdefault(key, []).append(index)
    pairs = {
        (one, other)
        for members in buckets.values()
        if len(members) < 40
        for place, one in enumerate(members)
        for other in members[place + 1 :]
        if 0.7 < len(texts[one]) / len(texts[other]) < 1.4
    }
    near = [pair for pair in pairs if jaccard(texts[pair[0]], texts[pair[1]]) >= 0.8]
    assert len(pairs) > 100
    assert len(near) <= 0.002 * len(texts)


def test_broken_encodings_are_repairable_or_said_not_to_be(world):
    texts = {document.id: document.text for document in world.documents}
    repaired = hopeless = 0
    for row in world.truth:
        if row.defect != "mojibake":
            continue
        detail = json.loads(row.detail)
        fixed = ftfy.fix_encoding(texts[row.document_id])
        assert texts[row.document_id] != fixed or not detail["repairable"]
        if detail["repairable"]:
            repaired += 1
            assert hashlib.sha256(fixed.encode()).hexdigest() == detail["clean_sha256"], row
        else:
            hopeless += 1
            assert "\ufffd" in fixed
    assert repaired > 2 * hopeless > 0


@pytest.mark.parametrize("rounds", [200])
def test_check_digits_are_right_and_look_alikes_wrong(rounds):
    from stages.corpus.world import personal

    rng = random.Random(3)

    def luhn(text: str) -> bool:
        digits = [int(c) for c in text if c.isdigit()][::-1]
        return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0

    def snils(text: str) -> bool:
        digits = [int(c) for c in text if c.isdigit()]
        total = sum(d * (9 - i) for i, d in enumerate(digits[:9]))
        return total % 101 % 100 == digits[9] * 10 + digits[10]

    assert luhn("4111111111111111")
    assert snils("112-233-445 95")
    for _ in range(rounds):
        card, number = personal.card(rng), personal.snils(rng)
        assert luhn(card)
        assert snils(number)
        assert not luhn(personal.damaged(rng, card))
        assert not snils(personal.damaged(rng, number))
    # Published numbers: 7707083893 (a bank) and the tax service's own example 500100732259.
    assert personal._weighted([7, 7, 0, 7, 0, 8, 3, 8, 9], personal.INN10) == 3
    digits = [5, 0, 0, 1, 0, 0, 7, 3, 2, 2]
    assert personal._weighted(digits, personal.INN12[0]) == 5
    assert personal._weighted([*digits, 5], personal.INN12[1]) == 9


def test_spans_of_personal_data_point_at_it(world):
    texts = {document.id: document.text for document in world.documents}
    kinds = Counter()
    for row in world.truth:
        if row.defect != "pii":
            continue
        detail = json.loads(row.detail)
        for span in detail["spans"]:
            value = texts[row.document_id][span["start"] : span["end"]]
            assert ("@" in value) == (span["kind"] == "email")
            assert any(character.isdigit() for character in value)
            kinds[span["kind"], detail["valid"]] += 1
    assert {kind for kind, valid in kinds if valid} == {"inn", "snils", "card", "phone", "email", "passport"}
    assert {kind for kind, valid in kinds if not valid} == {"inn", "snils", "card"}
