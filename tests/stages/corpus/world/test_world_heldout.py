"""What the world promises about its test items: nothing in the text gives them away."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from stages.corpus.world import World
from stages.corpus.world.generate import parts
from stages.corpus.world.numbers import TEST_SHARE, pair_key
from stages.corpus.world.skills import reserved
from stages.corpus.world.tasks import answer_text, filled, inputs_text

SEED = 7


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ngrams(tokens: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def clean(world: World) -> list[str]:
    planted = {row.document_id for row in world.truth}
    return [document.text for document in world.documents if document.id not in planted]


@pytest.fixture(scope="module")
def text_words(world: World) -> list[list[str]]:
    return [words(text) for text in clean(world)]


def test_no_13_gram_of_a_test_item_stands_outside_contaminated_documents(world, text_words):
    tested = set()
    for task in world.tasks.values():
        for record in task.test:
            tokens = words(inputs_text(record))
            tested |= ngrams(tokens, 13)
    assert len(tested) > 500
    for tokens in text_words:
        assert not ngrams(tokens, 13) & tested


def test_no_whole_question_of_a_test_item_stands_in_clean_text(world, text_words):
    shared = {q.text for q in parts(SEED, 1.0).train}  # such as: who of these is a tailor?
    tested: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for task in world.tasks.values():
        for record in task.test:
            inputs = record["inputs"]
            question = inputs if isinstance(inputs, str) else inputs["question"]
            tokens = words(inputs_text(record) if question in shared else question)
            tested[tuple(tokens[:3])].append(tokens)
    assert min(len(start) for start in tested) == 3
    for tokens in text_words:
        for place in range(len(tokens) - 2):
            for item in tested.get(tuple(tokens[place : place + 3]), ()):
                assert tokens[place : place + len(item)] != item, item


def test_contaminated_documents_hold_the_item_that_the_truth_names(world):
    texts = {document.id: document.text for document in world.documents}
    rows = [row for row in world.truth if row.defect == "contaminated"]
    assert len(rows) >= 20
    for row in rows:
        detail = json.loads(row.detail)
        record = world.tasks[detail["task"]].test[detail["item"]]
        assert record["meta"]["id"] == detail["item"]
        assert f"{inputs_text(record)}. {answer_text(record)}." in texts[row.document_id]


def test_no_question_in_text_touches_a_held_out_fact(text_words):
    """Questions of held-out facts, in both languages, are absent from all clean text as runs of words."""
    base = parts(SEED, 1.0)
    trained = {q.text for q in base.train}
    tested: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    languages = set()
    for question in base.questions:
        if base.held_out.intersection(question.facts) and question.text not in trained:
            tokens = words(question.text)
            tested[tuple(tokens[:3])].append(tokens)
            languages.add(question.language)
    assert languages == {"ru", "en"}
    for tokens in text_words:
        for place in range(len(tokens) - 2):
            for item in tested.get(tuple(tokens[place : place + 3]), ()):
                assert tokens[place : place + len(item)] != item, item


def test_every_tested_fact_is_stated_in_the_text(world):
    told = {"ru": Counter(), "en": Counter()}
    for document in world.documents:
        if document.subset in ("world-ru", "world-en"):
            told[document.language].update(document.cluster_ids)
    for fact in world.facts:
        if fact.id in world.held_out:
            assert told["ru"][fact.id] >= 1, fact.id
            assert not fact.en or told["en"][fact.id] >= 1, fact.id


def test_start_text_tells_no_held_out_fact_and_a_third_of_all(world):
    told = {
        fact
        for document in world.documents
        if document.subset == "world-ru-start"
        for fact in document.cluster_ids
    }
    assert told
    assert not told & world.held_out
    assert 0.28 < len(told) / len(world.facts) < 0.38


def test_held_out_operand_pairs_stand_in_no_text(world):
    """Every `a + b`, `a plus b`, subtraction and story in any clean document is of the train split."""
    patterns = (
        r"(\d+) (?:\+|плюс|plus) (\d+)",
        r"(?:к|add) (\d+) (?:прибавить|to) (\d+)",
        r"это (\d+) и ещё (\d+)",
        r"is (\d+) and (\d+) more",
        r"(?:сумма чисел|sum of) (\d+) (?:и|and) (\d+)",
        r"было (\d+) \w+, принесли ещё (\d+)",
        r"had (\d+) \w+, and (\d+) more",
    )
    differences = (
        r"(\d+) (?:-|минус|minus) (\d+)",
        r"из (\d+) вычесть (\d+)",
        r"(?:разность чисел|difference of) (\d+) (?:и|and) (\d+)",
    )
    found = 0
    for text in clean(world):
        for pattern in patterns:
            for a, b in re.findall(pattern, text):
                found += 1
                assert not reserved(SEED, pair_key(int(a), int(b)), TEST_SHARE), (a, b)
        for pattern in differences:
            for c, b in re.findall(pattern, text):
                found += 1
                assert not reserved(SEED, pair_key(int(c) - int(b), int(b)), TEST_SHARE), (c, b)
    assert found > 1000


def test_tested_sums_are_of_reserved_pairs(world):
    for record in world.tasks["arithmetic"].test:
        cluster = record["meta"]["cluster"]
        assert reserved(SEED, cluster, TEST_SHARE) if "addition" in cluster else reserved(SEED, cluster)


def test_train_items_touch_no_held_out_fact_and_test_items_do(world):
    for task in world.tasks.values():
        for record in task.train:
            assert not world.held_out.intersection(record["meta"]["facts"])
        for record in task.test:
            facts = record["meta"]["facts"]
            assert record["meta"]["cluster"] in facts
            assert world.held_out.intersection(facts) or reserved(SEED, facts[0])
        assert not {filled(r) for r in task.train} & {filled(r) for r in task.test}


def test_judge_questions_are_about_held_out_facts_only(world):
    assert len(world.questions) >= 120
    assert len({q["cluster"] for q in world.questions}) >= 100
    for question in world.questions:
        assert question["cluster"] in world.held_out
        assert question["reference"] != question["wrong"]


def test_reserved_keys_are_about_a_third():
    share = sum(reserved(1, f"addition/{a}+{b}") for a, b in pairwise(range(2000))) / 1999
    assert 0.26 < share < 0.34
