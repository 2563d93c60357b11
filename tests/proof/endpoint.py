"""A judge behind a real server on loopback that fails in every way it can: each item once, or missing.

The server holds a small random model of ours and answers with its log-probabilities. A share of the calls
meets a fault, drawn by a seed; some prompts meet one at every try. The same model loaded here says what the
verdicts must be.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.proof.common import SCRATCH, piece, write_result

CLAIM = "endpoint"
PAIRS = 150
FAULTS = ("429", "500", "time_out", "malformed", "shapeless", "nan", "cut", "hang_up")
# Share of the tries that meet a fault, and of the prompts that meet one at every try.
RATES = {"none": (0.0, 0.0), "some": (0.1, 0.01), "many": (0.3, 0.03)}
TIMEOUT = 3.0  # seconds; a busy machine must not seem to hang
RETRIES = 4


def measure() -> None:
    """Every rate of faults, and one run that goes on where another stopped answering."""
    from tests import judge_server

    judge_server.HANG = TIMEOUT + 0.5
    found = {name: piece(CLAIM, name, lambda name=name: _faults(*RATES[name])) for name in RATES}
    found["stops, then goes on"] = piece(CLAIM, "stops", _stops)
    write_result(CLAIM, {"pairs": PAIRS, "retries": RETRIES, "faults": list(FAULTS), "runs": found})


def _parts() -> tuple[Any, Any, Any, list[Any]]:
    from evals.judge import rubrics
    from evals.judge.verdicts import Pair
    from tests.evaluation_models import make_model, make_tokenizer
    from tests.judge_server import CHAT

    rubric = rubrics.load("pair.ru")
    pairs = [
        Pair(f"p{i}", f"c{i}", f"Сколько будет {i} + 1?", f"Будет {i + 1}.", f"Думаю, {i}")
        for i in range(PAIRS)
    ]
    texts = [rubric.system, rubric.prompt, *(pair.question for pair in pairs[:9])]
    tokenizer = make_tokenizer(texts, size=500)
    tokenizer.chat_template = CHAT
    return make_model(tokenizer, seed=3, positions=2048), tokenizer, rubric, pairs


def _judge(server: Any, rubric: Any, name: str) -> Any:
    from evals.judge.endpoint import Endpoint, Settings
    from evals.judge.protocol import RubricJudge

    settings = Settings(
        server.address, "tiny", timeout=TIMEOUT, retries=RETRIES, pause=0.01, structured=False
    )
    cache = SCRATCH / CLAIM / f"{name}.jsonl"
    cache.unlink(missing_ok=True)
    return RubricJudge(name, Endpoint(settings, str, texts_may_leave=True, cache=cache), rubric)


def _faults(share: float, lasting: float) -> dict[str, Any]:
    from evals.judge.local import LocalModel
    from evals.judge.protocol import RubricJudge
    from evals.judge.verdicts import Missing, Verdict
    from tests.judge_server import Judging, serve

    model, tokenizer, rubric, pairs = _parts()
    met: Counter[str] = Counter()

    def plan(prompt: int, attempt: int) -> Any:
        draw = random.Random(f"{prompt}-{attempt}")
        broken = random.Random(prompt).random() < lasting
        if not broken and draw.random() >= share:
            return None
        fault = draw.choice(FAULTS)
        met[fault] += 1
        return fault

    with serve(Judging(model, tokenizer, rubric.labels, plan=plan)) as server:
        judge = _judge(server, rubric, f"faults-{share:g}")
        results = judge.pairs(pairs)
        again = server.attempts.total()
        repeated = judge.pairs(pairs)
        again = server.attempts.total() - again
    near = RubricJudge("near", LocalModel(model, tokenizer, "d"), rubric).pairs(pairs)
    judged = [(far, known) for far, known in zip(results, near, strict=True) if isinstance(far, Verdict)]
    missing = Counter(result.kind for result in results if isinstance(result, Missing))
    return {
        "judged": len(judged),
        "missing": dict(sorted(missing.items())),
        "in_order": [result.id for result in results] == [pair.id for pair in pairs],
        "lost": len(pairs) - len(judged) - missing.total(),
        "prompts_delivered": len(server.delivered),
        "prompts_delivered_twice": sum(count > 1 for count in server.delivered.values()),
        "calls": server.attempts.total() - again,
        "faults_met": dict(sorted(met.items())),
        "greatest_difference_to_the_model_here": max(
            abs(far.preference - known.preference) for far, known in judged
        ),
        "judged_when_run_again": sum(isinstance(result, Verdict) for result in repeated),
        "calls_when_run_again": again,
    }


def _stops() -> dict[str, Any]:
    """A server that hangs up on every call from the hundredth prompt on, and later answers again."""
    from evals.judge.verdicts import Verdict, tally
    from tests.judge_server import Judging, serve

    model, tokenizer, rubric, pairs = _parts()
    with serve(
        Judging(model, tokenizer, rubric.labels, plan=lambda prompt, _: "hang_up" if prompt >= 100 else None)
    ) as server:
        judge = _judge(server, rubric, "stops")
        first = tally(judge.pairs(pairs))
        calls = server.attempts.total()
        server.plan = lambda *_: None
        second = judge.pairs(pairs)
        return {
            "judged": first.judged,
            "missing": first.missing,
            "calls": calls,
            "judged_when_run_again": sum(isinstance(result, Verdict) for result in second),
            "prompts_delivered_twice": sum(count > 1 for count in server.delivered.values()),
        }
