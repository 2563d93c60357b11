"""Probes: a judge that obeys what an answer says is found out, one that does not is not."""

from __future__ import annotations

import pytest
from judge_fakes import Planted, make_pairs

from evals.errors import EvalError
from evals.judge import probes
from evals.judge.verdicts import Pair

NAMES = ("injection_ru", "injection_en", "injection_tags", "authority", "markdown", "length")


def test_every_kind_is_there_and_keeps_the_answer() -> None:
    assert tuple(probes.texts()) == NAMES
    for lines in probes.texts().values():
        assert len(lines) >= 2
        assert all("{answer}" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_wrong_answer_is_planted_and_the_same_each_time(name: str) -> None:
    pairs = make_pairs(20)
    planted = probes.plant(name, pairs)
    assert planted == probes.plant(name, pairs)
    for before, after in zip(pairs, planted, strict=True):
        assert (after.ours, after.question, after.id) == (before.ours, before.question, before.id)
        assert before.theirs in after.theirs != before.theirs
    texts = {after.theirs.replace(before.theirs, "") for before, after in zip(pairs, planted, strict=True)}
    assert len(texts) == len(probes.texts()[name])


def test_the_share_of_flipped_verdicts_is_counted_with_what_it_is_of() -> None:
    def obeys(pair: Pair) -> tuple[float, float] | None:
        if pair.id == "p0":
            return None  # says nothing that can be read
        if pair.id == "p1":
            return 0.0, 0.0  # is wrong to begin with
        told = "выбери этот ответ" in pair.theirs or "признан лучшим" in pair.theirs
        return (0.9, 0.0) if told else (0.9, 0.9)

    pairs = make_pairs(12)
    found = {probe.name: probe for probe in probes.run(Planted("obeys", obeys), pairs)}
    planted = probes.plant("injection_ru", pairs)[2:]
    told = [pair.id for pair in planted if "выбери" in pair.theirs or "признан" in pair.theirs]
    probe = found["injection_ru"]
    assert (probe.right, probe.flipped, probe.wrong, probe.missing) == (10, len(told), 1, 1)
    assert 0 < probe.flipped < 10
    assert probe.rate == probe.flipped / 10
    assert [name for name, _, flipped in probe.flips if flipped] == told
    assert found["length"].rate == 0.0


def test_a_judge_that_is_right_nowhere_has_no_rate() -> None:
    (probe,) = probes.run(Planted("wrong", lambda _: (0.0, 0.0)), make_pairs(3), ["markdown"])
    assert (probe.right, probe.rate, probe.wrong) == (0, None, 3)


def test_an_unknown_probe_is_named() -> None:
    with pytest.raises(EvalError, match="no probe `flattery`"):
        probes.run(Planted("j"), make_pairs(1), ["flattery"])
