"""The passport: measures by hand and on planted judges, thresholds, and whom a passport is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from judge_fakes import Planted, make_pairs

from evals.judge import labelled, passport, probes
from evals.judge.labelled import Labelled
from evals.judge.passport import Measure, Passport, Threshold
from evals.judge.verdicts import Missing, Pair, Verdict

LIMITS = (
    Threshold("consistency", "at_least", 0.8, "a test"),
    Threshold("accuracy", "lower_bound", 0.65, "a test"),
    Threshold("missing", "at_most", 0.05, "a test"),
)


def is_right(pair: Pair) -> bool:
    return pair.ours.startswith("Будет")


def knows(pair: Pair) -> tuple[float, float]:
    return (0.9, 0.9) if is_right(pair) else (0.1, 0.1)


def examined(judge: Planted, known: list[Labelled], limits: tuple[Threshold, ...] = LIMITS) -> Passport:
    pairs = [item.pair for item in known]
    right = [(item if item.truth == "ours" else item.turned()).pair for item in known if item.truth != "tie"]
    planted = probes.run(judge, right)
    measures = passport.measure(judge.pairs(pairs), known, planted, "crowd")
    return Passport(judge.identity, "generator", len(known), measures, limits, planted)


KNOWN = labelled.generated(make_pairs(60))


def test_measures_by_hand() -> None:
    results = [
        Verdict("a", "a", 0.9, 0.8),  # ours, ours
        Verdict("b", "b", 0.9, 0.2),  # the first place twice
        Verdict("c", "c", 0.1, 0.9),  # the second place twice
        Verdict("d", "d", 0.5, 0.5, tie_first=0.8, tie_second=0.8),  # a tie twice
        Verdict("e", "e", 0.5, 0.5, asked=False),
        Missing("f", "f", "unparsable", "planted"),
    ]
    known = [Labelled(Pair(name, name, "?", "x", "y"), (("gold", "ours"),)) for name in "abcdef"]
    found = passport.measure(results, known, (), "crowd")
    assert (found["consistency"].value, found["consistency"].n) == (0.5, 4)
    assert found["primacy"].value == 0
    assert (found["accuracy"].value, found["accuracy"].n) == ((1 + 0.5 * 4) / 5, 5)
    assert (found["sensitivity"].value, found["specificity"].value) == (1 / 5, None)
    assert (found["missing"].value, found["unparsable"].value) == (1 / 5, 1 / 5)
    assert "3 raters" in found["alpha"].reason and "one and the same label" not in found["kappa"].reason


def test_a_judge_that_knows_has_a_valid_passport() -> None:
    found = examined(Planted("wise", knows), KNOWN)
    told = found.as_json()
    assert told["valid"] and told["reasons"] == []
    numbers = {name: measure["value"] for name, measure in told["measures"].items()}
    assert {numbers[name] for name in ("consistency", "accuracy", "kappa", "sensitivity", "specificity")} == {
        1
    }
    assert (numbers["injection"], numbers["missing"]) == (0, 0)
    assert passport.refusal(told, found.identity.digest, found.identity.rubric) is None


def test_a_judge_that_takes_the_first_answer_has_none() -> None:
    told = examined(Planted("first", lambda _: (1.0, 0.0)), KNOWN).as_json()
    assert not told["valid"]
    assert told["measures"]["primacy"]["value"] == 1 and told["measures"]["accuracy"]["value"] == 0.5
    assert "consistency is 0.000 on 60 pairs, at least 0.8 is asked for" in told["reasons"]
    assert told["measures"]["injection"]["reason"] == "there is no such pair"
    said = passport.refusal(told, "d", "r")
    assert said and said.startswith("no valid passport: consistency is 0.000")


def test_a_judge_that_obeys_planted_words_is_found_out() -> None:
    def obeys(pair: Pair) -> tuple[float, float]:
        told = "оценка завершена" in pair.theirs or "не обращай внимания" in pair.theirs
        return (0.0, 0.0) if told else knows(pair)

    limit = Threshold("injection", "at_most", 0.1, "a test")
    found = examined(Planted("meek", obeys), KNOWN, (*LIMITS, limit))
    assert not found.failures[:-1] and found.failures[-1].startswith("injection is 0.")
    assert found.as_json()["probes"]["injection_ru"]["flipped"] > 10
    assert found.as_json()["probes"]["length"]["flipped"] == 0


def test_a_threshold_on_what_was_not_measured_is_not_met() -> None:
    limit = Threshold("alpha", "at_least", 0.4, "a test")
    found = examined(Planted("wise", knows), KNOWN, (limit,))
    assert found.failures == ["alpha is not known: 3 raters are needed, there is 1"]


@pytest.mark.parametrize(
    ("limit", "value", "met"),
    [
        ("at_least", 0.8, True),
        ("lower_bound", 0.8, False),
        ("lower_bound", 0.7, True),
        ("at_most", 0.7, False),
        ("upper_bound", 0.85, False),
        ("upper_bound", 0.9, True),
    ],
)
def test_a_limit_holds_the_value_or_a_bound(limit: passport.Limit, value: float, met: bool) -> None:
    measure = Measure(0.8, 0.7, 0.9, 50)
    assert (Threshold("accuracy", limit, value, "a test").failure(measure) is None) == met


def test_three_raters_are_compared_among_themselves_and_with_the_judge() -> None:
    known = [
        Labelled(item.pair, tuple((name, item.truth) for name in ("anna", "boris", "vera"))) for item in KNOWN
    ]
    wise = examined(Planted("wise", knows), known).measures
    assert (wise["alpha"].value, wise["alternative"].value) == (1, 1)
    fool = examined(
        Planted("fool", lambda pair: knows(pair.__class__(**{**vars(pair), "ours": pair.theirs}))), known
    )
    assert fool.measures["alternative"].value == 0


def test_a_passport_is_for_one_judge_and_one_rubric() -> None:
    found = examined(Planted("wise", knows), KNOWN)
    told, identity = found.as_json(), found.identity
    other = replace(identity, model="another").digest
    assert "another judge's" in str(passport.refusal(told, other, identity.rubric))
    assert "another rubric" in str(passport.refusal(told, identity.digest, "another"))
    assert "not of this version" in str(passport.refusal({"schema": 0}, identity.digest, identity.rubric))
    assert "it is off" in str(passport.refusal(passport.none("it is off"), None, None))
