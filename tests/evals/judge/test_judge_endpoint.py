"""The endpoint back end against a real server on loopback: each item judged once or reported missing."""

from __future__ import annotations

import errno
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_fakes import make_pairs
from judge_server import Knows

from evals.errors import EvalError
from evals.judge import replies, rubrics
from evals.judge.cache import Cache
from evals.judge.endpoint import Endpoint, Settings
from evals.judge.local import LocalModel
from evals.judge.protocol import RubricJudge
from evals.judge.verdicts import Grade, Missing, Pair, Single, Verdict, tally
from stages.corpus import personal

PAIR = rubrics.load("pair.ru")
KEY = "sk-very-secret-0123456789"
FAULTS = ("429", "500", "time_out", "malformed", "shapeless", "nan", "cut", "hang_up")


def same(text: str) -> str:
    return text


def settings(server: Any, **changes: Any) -> Settings:
    values = {"timeout": 5.0, "retries": 2, "pause": 0.0, "concurrency": 3, **changes}
    return Settings(server.address, "tiny", **values)


def endpoint(server: Any, cache: Path | None = None, redact: Any = same, **changes: Any) -> Endpoint:
    return Endpoint(settings(server, **changes), redact, texts_may_leave=True, cache=cache)


def judge(server: Any, cache: Path | None = None, **changes: Any) -> RubricJudge:
    return RubricJudge("tiny", endpoint(server, cache, **changes), PAIR)


def test_every_item_is_judged_once_or_missing_whatever_fails(serving: Any) -> None:
    """Each fault but the time-out, which waits, once before a reply, and for two prompts every time."""

    def plan(prompt: int, attempt: int) -> Any:
        if prompt in (10, 13):
            return ("500", "cut")[prompt == 13]
        fault = FAULTS[prompt % 8]
        return fault if attempt == 0 and fault != "time_out" else None

    server, pairs = serving(plan=plan), make_pairs(12)
    back = endpoint(server)
    results = RubricJudge("tiny", back, PAIR).pairs(pairs)
    assert [result.id for result in results] == [pair.id for pair in pairs]
    missing = [result for result in results if isinstance(result, Missing)]
    assert 1 <= len(missing) <= 2
    assert {result.kind for result in missing} <= {"server", "connection"}
    assert len(server.attempts) == 24
    assert sorted(server.delivered.values()) == [1] * 22
    assert max(server.attempts.values()) == 3
    assert server.most_busy <= 3
    assert back.traffic.calls == server.attempts.total() == 24 + back.traffic.retries
    assert tally(results).judged == 12 - len(missing)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_reported_by_its_kind_and_stops_the_run(serving: Any, fault: Any) -> None:
    server = serving(plan=lambda *_: fault)
    results = judge(server, retries=1, give_up=2, timeout=0.3).pairs(make_pairs(5))
    kinds = {
        "429": "rate_limit",
        "500": "server",
        "time_out": "time_out",
        "cut": "connection",
        "hang_up": "connection",
    }
    first, *rest = results
    assert isinstance(first, Missing)
    assert first.kind == kinds.get(fault, "malformed")
    assert {result.kind for result in rest if isinstance(result, Missing)} == {"given_up"}
    assert len(rest) == 4
    assert server.attempts.total() == 4


def test_verdicts_are_those_of_the_same_model_loaded_here(serving: Any, model: Any, tokenizer: Any) -> None:
    server, pairs = serving(), make_pairs(6)
    told = judge(server, structured=False).pairs(pairs)
    known = RubricJudge("local", LocalModel(model, tokenizer, "d"), PAIR).pairs(pairs)
    for far, near in zip(told, known, strict=True):
        assert isinstance(far, Verdict) and isinstance(near, Verdict)
        assert (far.p_first, far.p_second, far.tie_first, far.tie_second) == pytest.approx(
            (near.p_first, near.p_second, near.tie_first, near.tie_second), abs=1e-5
        )


def test_grades_are_expected_values(serving: Any, model: Any, tokenizer: Any) -> None:
    rubric = rubrics.load("grade.ru")
    server = serving(labels=rubric.labels)
    items = [Single(f"s{i}", "c", f"Вопрос {i}", f"Ответ {i}") for i in range(3)]
    told = RubricJudge("far", endpoint(server, structured=False), rubric).grades(items)
    known = RubricJudge("near", LocalModel(model, tokenizer, "d"), rubric).grades(items)
    for far, near in zip(told, known, strict=True):
        assert isinstance(far, Grade) and isinstance(near, Grade)
        assert far.value == pytest.approx(near.value, abs=1e-5)
        assert 1 < far.value < 5


@pytest.mark.parametrize("response_format", ["obey", "ignore", "refuse"])
@pytest.mark.parametrize("logprobs", ["obey", "ignore", "refuse"])
def test_a_server_may_know_less(serving: Any, response_format: Any, logprobs: Any) -> None:
    server = serving(knows=Knows(response_format, logprobs, template="Лучше ответ {label}."))
    server.labels = ("1", "2")
    results = judge(server).pairs(make_pairs(3))
    assert all(isinstance(result, Verdict) for result in results)
    soft = [result.p_first not in (0.0, 0.5, 1.0) for result in results if isinstance(result, Verdict)]
    assert soft == [logprobs == "obey"] * 3
    # Only the first prompt finds out what is refused.
    refused = server.attempts.total() - 6
    assert refused <= 3
    assert (refused == 0) == ("refuse" not in (response_format, logprobs))


def test_a_prompt_that_the_server_refuses_is_missing_and_the_rest_is_judged(serving: Any) -> None:
    server = serving(plan=lambda prompt, _: "refuse" if prompt in (0, 1, 7) else None)
    results = judge(server).pairs(make_pairs(6))
    missing = [result for result in results if isinstance(result, Missing)]
    assert missing and {result.kind for result in missing} == {"refused"}
    assert tally(results).judged == 6 - len(missing) >= 3


def test_unparsable_verdicts_are_counted_and_never_ties(serving: Any, tmp_path: Path) -> None:
    server = serving(knows=Knows("ignore", "ignore", template="Трудно сказать"))
    cache = tmp_path / "calls.jsonl"
    counted = tally(judge(server, cache).pairs(make_pairs(3)))
    assert (counted.judged, counted.missing, counted.unparsable) == (0, {"unparsable": 3}, 1.0)
    # A finished call is finished: asking until a verdict can be read would be a choice among verdicts.
    assert tally(judge(server, cache).pairs(make_pairs(3))) == counted
    assert server.attempts.total() == 6


def test_nothing_leaves_without_permission(serving: Any) -> None:
    server = serving()
    with pytest.raises(EvalError, match="may not leave this machine"):
        Endpoint(settings(server), same)
    assert not server.requests


def test_personal_data_is_redacted_before_it_leaves(serving: Any, tmp_path: Path) -> None:
    server, cache = serving(), tmp_path / "calls.jsonl"
    pair = Pair("a", "c", "Пиши на anna@mail.ru", "Мой телефон +7 912 345-67-89", "СНИЛС 112-233-445 95")
    back = endpoint(server, cache, redact=lambda text: personal.redact(text, "ru")[0])
    RubricJudge("tiny", back, PAIR).pairs([pair])
    sent = json.dumps(server.requests, ensure_ascii=False)
    assert "anna@mail.ru" not in cache.read_text(encoding="utf-8")
    assert "[ПОЧТА]" in sent and "[ТЕЛЕФОН]" in sent and "[СНИЛС]" in sent
    assert not any(secret in sent for secret in ("anna@mail.ru", "345-67-89", "112-233-445"))


@pytest.mark.parametrize("structured", [True, False])
def test_the_cache_holds_what_was_sent(serving: Any, tmp_path: Path, structured: bool) -> None:
    server, cache = serving(), tmp_path / "calls.jsonl"
    judge(server, cache, structured=structured).pairs(make_pairs(3))
    kept = [json.loads(line)["messages"] for line in cache.read_text(encoding="utf-8").splitlines()]
    sent = [body["messages"] for body in server.requests]
    assert len(kept) == 6 and sorted(map(str, kept)) == sorted(map(str, sent))
    assert all((PAIR.json_line() in messages[-1]["content"]) == structured for messages in kept)


def test_replies_from_before_messages_were_kept_are_not_asked_again(serving: Any, tmp_path: Path) -> None:
    server, cache = serving(), tmp_path / "calls.jsonl"
    found = judge(server, cache).pairs(make_pairs(2))
    lines = [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
    with cache.open("w", encoding="utf-8") as file:
        for line in lines:
            del line["messages"]
            file.write(f"{json.dumps(line)}\n")
    before = server.attempts.total()
    assert judge(server, cache).pairs(make_pairs(2)) == found
    assert server.attempts.total() == before


@pytest.mark.parametrize("name", rubrics.names())
def test_redaction_leaves_our_rubrics_as_they_are(name: str) -> None:
    rubric = rubrics.load(name)
    for text in (rubric.system, rubric.prompt, *rubric.scale):
        assert personal.redact(text, rubric.language)[0] == text


def test_the_key_is_sent_and_stands_nowhere_else(
    serving: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "our-organisation")
    caplog.set_level(logging.DEBUG)
    cache = tmp_path / "calls.jsonl"
    # A server that repeats the key in errors and replies.
    faults = {0: "500", 2: "500", 3: "refuse"}
    server = serving(
        plan=lambda prompt, _: faults.get(prompt), says=f" {KEY}", knows=Knows("ignore", "ignore")
    )
    tiny = judge(server, cache, key_variable="JUDGE_KEY")
    results = tiny.pairs(make_pairs(4))
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    told = [repr(results), repr(tiny), caplog.text, cache.read_text(encoding="utf-8")]
    assert not any(KEY in text for text in told)
    assert "our-organisation" not in repr(server.headers)
    server.plan = lambda *_: "401"
    with pytest.raises(EvalError, match="status 401") as error:
        judge(server, key_variable="JUDGE_KEY").pairs(make_pairs(4))
    assert KEY not in str(error.value)


def test_a_key_of_the_environment_is_not_sent_unasked(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serving()
    judge(server).pairs(make_pairs(1))
    assert KEY not in repr(server.headers)


def test_a_key_that_is_not_set_is_named(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(EvalError, match="environment variable JUDGE_KEY"):
        judge(serving(), key_variable="JUDGE_KEY")


@pytest.mark.parametrize(
    "address",
    [
        "https://user:hunter2@host/v1",
        "https://hunter2@host/v1",
        "https://host/v1?key=hunter2",
        "host/hunter2",
        "ftp://hunter2",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(EvalError) as error:
        Settings(address, "m")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"timeout": 0}, {"retries": -1}, {"concurrency": 0}, {"alternatives": 21}, {"give_up": 0}]
)
def test_settings_out_of_range_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(EvalError, match=next(iter(change))):
        Settings("http://host/v1", "m", **change)


def test_a_redirect_is_not_followed(serving: Any) -> None:
    server = serving(plan=lambda *_: "302")
    with pytest.raises(EvalError, match="status 307"):
        judge(server).pairs(make_pairs(1))
    assert server.attempts.total() == 1


def test_an_unreachable_endpoint_is_said_to_be_one() -> None:
    back = Endpoint(
        Settings("http://127.0.0.1:9/v1", "tiny", retries=1, pause=0.0, give_up=2), same, texts_may_leave=True
    )
    results = RubricJudge("tiny", back, PAIR).pairs(make_pairs(4))
    assert tally(results).missing == {"connection": 1, "given_up": 3}
    assert back.traffic.calls == 4


def test_a_killed_run_goes_on_where_it_stopped(serving: Any, tmp_path: Path) -> None:
    server, pairs, cache = serving(), make_pairs(8), tmp_path / "calls.jsonl"

    def kill(_: int) -> None:
        if server.delivered.total() >= 7:
            raise KeyboardInterrupt

    first = judge(server, cache)
    assert isinstance(first.backend, Endpoint)
    first.backend.advance = kill
    with pytest.raises(KeyboardInterrupt):
        first.pairs(pairs)
    kept = cache.read_text(encoding="utf-8").count("\n")
    assert 1 <= kept < 16
    # The kill cut the last line.
    with cache.open("a", encoding="utf-8") as file:
        file.write('{"judge": "half a li')
    before = server.attempts.total()
    second = endpoint(server, cache)
    resumed = RubricJudge("tiny", second, PAIR).pairs(pairs)
    assert server.attempts.total() - before == 16 - kept
    assert second.traffic.cached == kept
    assert resumed == judge(server).pairs(pairs)
    asked = server.attempts.total()
    assert judge(server, cache).pairs(pairs) == resumed
    assert server.attempts.total() == asked


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"temperature": 0.5}, {"seed": 1}, {"max_tokens": 5}, {"structured": False}],
)
def test_another_setting_never_meets_the_cache(serving: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    server, cache = serving(), tmp_path / "calls.jsonl"
    one = judge(server, cache)
    one.pairs(make_pairs(1))
    other = Endpoint(replace(settings(server), **change), same, True, cache)
    RubricJudge("tiny", other, PAIR).pairs(make_pairs(1))
    assert server.requests and other.traffic.calls == 2


def test_another_rubric_or_text_never_meets_the_cache(serving: Any, tmp_path: Path) -> None:
    server, cache = serving(), tmp_path / "calls.jsonl"
    judge(server, cache).pairs(make_pairs(1))
    for rubric, pair in (
        (rubrics.load("pair.en"), make_pairs(1)[0]),
        (PAIR, replace(make_pairs(1)[0], ours="Будет 1!")),
    ):
        before = server.attempts.total()
        RubricJudge("tiny", endpoint(server, cache), rubric).pairs([pair])
        assert server.attempts.total() - before == 2


def test_equal_prompts_are_asked_once(serving: Any) -> None:
    server, pair = serving(), make_pairs(1)[0]
    results = judge(server).pairs([pair, replace(pair, id="again")])
    assert server.attempts.total() == 2
    assert isinstance(results[0], Verdict) and isinstance(results[1], Verdict)
    assert results[0].p_first == results[1].p_first


def test_a_cache_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with Cache(path), pytest.raises(EvalError, match="another run"), Cache(path):
        pass
    with Cache(path) as cache:
        cache.put("j", "p", [1.0, 0.0], "1")


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evals.judge.cache.os.write", full)
    with Cache(tmp_path / "calls.jsonl") as cache, pytest.raises(EvalError, match="No space left"):
        cache.put("j", "p", [1.0, 0.0], "1")


def test_a_broken_line_of_the_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"judge": 1}\n', encoding="utf-8")
    with pytest.raises(EvalError, match="line 1"), Cache(path):
        pass


def test_two_items_of_one_id_are_refused_before_anything_is_sent(serving: Any) -> None:
    server, pair = serving(), make_pairs(1)[0]
    with pytest.raises(EvalError, match="p0 is there twice"):
        judge(server).pairs([pair, pair])
    assert not server.requests


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "logprobs", "token", "top_logprobs", "logprob"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_a_completion_or_malformed(value: Any) -> None:
    for reply in (value, {"choices": [{"message": {"content": "1"}, "logprobs": value}]}):
        try:
            found = replies.read(reply, PAIR)
        except replies.MalformedError:
            continue
        assert found.shares is None or sum(found.shares) == pytest.approx(1)
