"""A judge behind a real server on loopback that fails in every way it can: each item once, or missing.

The server holds a small random model of ours and answers with its log-probabilities. A share of the calls
meets a fault, drawn by a seed; some prompts meet one at every try. The same model loaded here says what the
verdicts must be. The same again with a relay in front of a server that is not ours, `transformers serve`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.proof.common import SCRATCH, piece, write_result

CLAIM = "endpoint"
PAIRS = 150
FAULTS = ("429", "500", "time_out", "malformed", "shapeless", "nan", "cut", "hang_up")
# Share of the tries that meet a fault, and of the prompts that meet one at every try.
RATES = {"none": (0.0, 0.0), "some": (0.1, 0.01), "many": (0.3, 0.03)}
TIMEOUT = 3.0  # seconds; a busy machine must not seem to hang
RETRIES = 4
REAL_PAIRS, REAL_TIMEOUT = 40, 10.0  # its calls take longer


def measure() -> None:
    """Every rate of faults, and one run that goes on where another stopped answering."""
    from tests import judge_server

    judge_server.HANG = TIMEOUT + 0.5
    found = {name: piece(CLAIM, name, lambda name=name: _faults(*RATES[name])) for name in RATES}
    found["stops, then goes on"] = piece(CLAIM, "stops", _stops)
    values = {"pairs": PAIRS, "retries": RETRIES, "faults": list(FAULTS), "runs": found}
    write_result(CLAIM, values | {"real server": piece(CLAIM, "real server", _real)})


def _pairs(count: int) -> list[Any]:
    from evals.judge.verdicts import Pair

    return [
        Pair(f"p{i}", f"c{i}", f"Сколько будет {i} + 1?", f"Будет {i + 1}.", f"Думаю, {i}")
        for i in range(count)
    ]


def _parts() -> tuple[Any, Any, Any, list[Any]]:
    from evals.judge import rubrics
    from tests.evaluation_models import make_model, make_tokenizer
    from tests.judge_server import CHAT

    rubric, pairs = rubrics.load("pair.ru"), _pairs(PAIRS)
    texts = [rubric.system, rubric.prompt, *(pair.question for pair in pairs[:9])]
    tokenizer = make_tokenizer(texts, size=500)
    tokenizer.chat_template = CHAT
    return make_model(tokenizer, seed=3, positions=2048), tokenizer, rubric, pairs


def _judge(address: str, model: str, rubric: Any, name: str, **changes: Any) -> Any:
    from evals.judge.endpoint import Endpoint, Settings
    from evals.judge.protocol import RubricJudge

    told = {"timeout": TIMEOUT, "retries": RETRIES, "pause": 0.01, "structured": False, **changes}
    settings = Settings(address, model, **told)
    cache = SCRATCH / CLAIM / f"{name}.jsonl"
    cache.unlink(missing_ok=True)
    return RubricJudge(name, Endpoint(settings, str, texts_may_leave=True, cache=cache), rubric)


def _plan(faults: Sequence[str], share: float, lasting: float, met: Counter[str]) -> Any:
    """The fault of a try, drawn by prompt and attempt; `met` counts them."""

    def plan(prompt: int, attempt: int) -> Any:
        draw = random.Random(f"{prompt}-{attempt}")
        broken = random.Random(prompt).random() < lasting
        if not broken and draw.random() >= share:
            return None
        fault = draw.choice(faults)
        met[fault] += 1
        return fault

    return plan


def _asked_twice(judge: Any, server: Any, pairs: list[Any], met: Counter[str]) -> tuple[Any, dict[str, Any]]:
    """The verdicts on `pairs`, and what became of each pair and prompt, then and when it is asked again."""
    from evals.judge.verdicts import Missing, Verdict

    results = judge.pairs(pairs)
    calls, delivered, faults = server.attempts.total(), len(server.delivered), dict(sorted(met.items()))
    again = judge.pairs(pairs)
    judged = sum(isinstance(result, Verdict) for result in results)
    missing = Counter(result.kind for result in results if isinstance(result, Missing))
    return results, {
        "judged": judged,
        "missing": dict(sorted(missing.items())),
        "in_order": [result.id for result in results] == [pair.id for pair in pairs],
        "lost": len(pairs) - judged - missing.total(),
        "prompts_delivered": delivered,
        "prompts_delivered_twice": sum(count > 1 for count in server.delivered.values()),
        "calls": calls,
        "faults_met": faults,
        "judged_when_run_again": sum(isinstance(result, Verdict) for result in again),
        "calls_when_run_again": server.attempts.total() - calls,
    }


def _judged_here(results: Any, near: list[Any]) -> list[tuple[Any, Any]]:
    """Each verdict beside that of the same model loaded here."""
    from evals.judge.verdicts import Verdict

    return [(far, known) for far, known in zip(results, near, strict=True) if isinstance(far, Verdict)]


def _faults(share: float, lasting: float) -> dict[str, Any]:
    from evals.judge.local import LocalModel
    from evals.judge.protocol import RubricJudge
    from tests.judge_server import Judging, serve

    model, tokenizer, rubric, pairs = _parts()
    met: Counter[str] = Counter()
    plan = _plan(FAULTS, share, lasting, met)
    with serve(Judging(model, tokenizer, rubric.labels, plan=plan)) as server:
        judge = _judge(server.address, "tiny", rubric, f"faults-{share:g}")
        results, told = _asked_twice(judge, server, pairs, met)
    near = RubricJudge("near", LocalModel(model, tokenizer, "d"), rubric).pairs(pairs)
    told["greatest_difference_to_the_model_here"] = max(
        abs(far.preference - known.preference) for far, known in _judged_here(results, near)
    )
    return told


def _real() -> dict[str, Any]:
    """A share of the calls to `transformers serve` fails on the way, as often as in `many`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evals.judge import rubrics
    from evals.judge.local import LocalModel
    from evals.judge.protocol import RubricJudge
    from tests import judge_server, real_server

    judge_server.HANG, one = REAL_TIMEOUT + 0.5, {"timeout": REAL_TIMEOUT, "max_tokens": 1}
    rubric, pairs, met = rubrics.load("pair.ru"), _pairs(REAL_PAIRS), Counter[str]()
    folder = SCRATCH / CLAIM / "served"
    real_server.save_judge(folder, pairs, rubric)
    plan = _plan(real_server.FAULTS, *RATES["many"], met)
    with real_server.started(folder) as upstream:
        _judge(upstream, str(folder), rubric, "first", **one).pairs(pairs[:1])  # loads the model
        with judge_server.serve(real_server.Relay(upstream=upstream, plan=plan)) as relay:
            judge = _judge(relay.address, str(folder), rubric, "real", **one)
            results, told = _asked_twice(judge, relay, pairs, met)
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    near = RubricJudge("near", LocalModel(model, tokenizer, "d"), rubric).pairs(pairs)
    orders = [
        (round(known_p), far_p)
        for far, known in _judged_here(results, near)
        for known_p, far_p in ((known.p_first, far.p_first), (known.p_second, far.p_second))
    ]
    return {
        "server": "transformers serve",
        "pairs": REAL_PAIRS,
        "faults": list(real_server.FAULTS),
        **told,
        "verdicts_for_the_first_answer_shown": sum(map(_first, results)),
        "verdicts_unlike_those_of_the_model_here": sum(known != far for known, far in orders),
    }


def _first(result: Any) -> int:
    """How many of a pair's two verdicts, as written, are for the answer shown first."""
    from evals.judge.verdicts import Verdict

    return int(result.p_first + 1 - result.p_second) if isinstance(result, Verdict) else 0


def _stops() -> dict[str, Any]:
    """A server that hangs up on every call from the hundredth prompt on, and later answers again."""
    from evals.judge.verdicts import Verdict, tally
    from tests.judge_server import Judging, serve

    model, tokenizer, rubric, pairs = _parts()
    with serve(
        Judging(model, tokenizer, rubric.labels, plan=lambda prompt, _: "hang_up" if prompt >= 100 else None)
    ) as server:
        judge = _judge(server.address, "tiny", rubric, "stops")
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
