"""The endpoint back end against a server that is not ours, `transformers serve`, with faults between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_fakes import make_pairs
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.judge import rubrics
from evals.judge.endpoint import Endpoint, Settings
from evals.judge.local import LocalModel
from evals.judge.protocol import RubricJudge
from evals.judge.verdicts import Missing, Verdict
from tests import judge_server
from tests.real_server import FAULTS, Relay, save_judge, started

PAIR = rubrics.load("pair.ru")
PAIRS = make_pairs(10)
LASTING = {9: "500", 12: "cut"}  # prompts that meet a fault at every try


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    save_judge(folder, PAIRS, PAIR)
    return folder


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    with started(checkpoint) as url:
        yield url


def judge(address: str, model: Path, **settings: Any) -> RubricJudge:
    told = {"max_tokens": 1, "retries": 2, "pause": 0.0, "concurrency": 2, **settings}
    return RubricJudge(
        "served", Endpoint(Settings(address, str(model), **told), str, texts_may_leave=True), PAIR
    )


@pytest.mark.slow
def test_each_item_is_judged_once_or_missing_and_has_the_verdict_of_its_own_prompt(
    address: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(address, checkpoint, timeout=60.0).pairs(PAIRS[:1])  # loads the model
    monkeypatch.setattr(judge_server, "HANG", 5.5)

    def plan(prompt: int, attempt: int) -> Any:
        return LASTING.get(prompt) or (FAULTS[prompt] if attempt == 0 and prompt < len(FAULTS) else None)

    with judge_server.serve(Relay(upstream=address, plan=plan)) as relay:
        results = judge(relay.address, checkpoint, timeout=5.0).pairs(PAIRS)
    assert [result.id for result in results] == [pair.id for pair in PAIRS]
    missing = [result for result in results if isinstance(result, Missing)]
    assert 1 <= len(missing) <= 2 and {result.kind for result in missing} <= {"server", "connection"}
    assert len(relay.attempts) == 20 and sorted(relay.delivered.values()) == [1] * 18
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    near = LocalModel(model, AutoTokenizer.from_pretrained(checkpoint), "digest")
    for far, known in zip(results, RubricJudge("near", near, PAIR).pairs(PAIRS), strict=True):
        assert isinstance(known, Verdict)
        if isinstance(far, Verdict):
            # This server leaves out log-probabilities without a word, so the written verdict counts.
            assert (far.p_first, far.p_second) == (round(known.p_first), round(known.p_second))
    said = {p for one in results if isinstance(one, Verdict) for p in (one.p_first, one.p_second)}
    assert said == {0.0, 1.0}
