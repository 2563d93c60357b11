"""Supervised files: what a record may be, how a broken one is told, and what cleaning leaves out."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from params_fakes import fitting

from stages.common import conversations
from stages.common.conversations import Conversation, Message
from stages.common.errors import UserError
from stages.common.hashing import sha256_path
from stages.common.params import parse
from stages.common.params.adaptation import DataBlock
from stages.common.stage import execute
from stages.supervised.collect import held_out
from stages.supervised.records import conversations_of
from stages.supervised.stage import STAGE

Collect = Callable[..., dict[str, Any]]
WORDS = re.findall(r"\w+", "город река мост дом лес поле дорога утро вечер зима лето ветер снег дождь")


def _source(**changes: Any) -> DataBlock:
    values = {"paths": ["x.jsonl"], "subset": "talk", "language": "ru", "licence": "MIT"}
    return DataBlock(**{**values, **changes})


def _chat(*turns: str) -> dict[str, Any]:
    """A record of messages, each `role: content`."""
    pairs = [turn.split(": ", 1) for turn in turns]
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def _turns(record: Any, **source: Any) -> list[list[str]]:
    found = conversations_of(record, _source(**source))
    return [[f"{message.role}: {message.content}" for message in messages] for messages in found]


def test_the_two_forms_and_the_seed_tasks_of_self_instruct() -> None:
    chat = ["system: кратко", "user: кот?", "assistant: спит", "user: где?", "assistant: дома"]
    assert _turns(_chat(*chat)) == [chat]
    plain = {"instruction": "Сложи", "input": "2 и 2", "output": "4"}
    assert _turns(plain) == [["user: Сложи\n2 и 2", "assistant: 4"]]
    assert (
        _turns(plain | {"input": ""}) == _turns(plain | {"input": None}) == [["user: Сложи", "assistant: 4"]]
    )
    seed = {"instruction": "Сложи", "instances": [{"input": "1 и 1", "output": "2"}, {"output": "не знаю"}]}
    assert _turns(seed) == [["user: Сложи\n1 и 1", "assistant: 2"], ["user: Сложи", "assistant: не знаю"]]


def test_fields_may_have_other_names_and_a_system_message_is_added_where_there_is_none() -> None:
    names = {"instruction": "premise", "input": "question", "output": "answer"}
    record = {"premise": "кот спит", "question": "кот спит?", "answer": "да"}
    assert _turns(record, fields=names, system="кратко") == [
        ["system: кратко", "user: кот спит\nкот спит?", "assistant: да"]
    ]
    own = _chat("system: своё", "user: а", "assistant: б")
    assert _turns(own, system="кратко")[0][0] == "system: своё"


def test_merged_tables_have_null_in_the_columns_of_the_other_form() -> None:
    plain = {"instruction": "Сложи", "input": " \n", "output": "4"}
    assert _turns(plain | {"messages": None}) == [["user: Сложи", "assistant: 4"]]
    chat = _chat("user: а", "assistant: б") | {"instruction": None, "input": None, "output": None}
    assert _turns(chat) == [["user: а", "assistant: б"]]
    seed = {"instruction": "Сложи", "output": None, "instances": [{"input": "", "output": "2"}]}
    assert _turns(seed) == [["user: Сложи", "assistant: 2"]]
    assert _turns(plain | {"instances": None}) == [["user: Сложи", "assistant: 4"]]
    said = _weighed(1)
    said["messages"][1] |= {"tool_calls": None, "name": None}
    assert _turns(said) == _turns(_weighed(None)) == [["user: а", "assistant: б"]]


def _weighed(weight: Any) -> dict[str, Any]:
    record = _chat("user: а", "assistant: б")
    record["messages"][1]["weight"] = weight
    return record


CALLING = {"role": "assistant", "content": "б", "tool_calls": [{"id": "1"}]}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], "expected an object, found list"),
        ({"text": "а"}, "neither `messages` nor `instruction` among its fields"),
        ({"messages": []}, "`messages` is no list of messages"),
        ({"messages": ["а"]}, "message 1 is str, not an object"),
        ({"messages": [{"content": "а"}]}, "message 1 has no `role`"),
        (_chat("tool: а"), "message 1 has the role 'tool'; known are system, user, assistant"),
        (_chat("assistant: а", "user: б"), "the conversation starts with `assistant`, not with `user`"),
        (_chat("system: я", "assistant: а"), "the conversation starts with `assistant`, not with `user`"),
        (_chat("user: а", "user: б"), "message 2 is of `user`, where `assistant` should follow"),
        (
            _chat("user: а", "assistant: б", "system: в"),
            "message 3 is of `system`, where `user` should follow",
        ),
        (_chat("user: а"), "the conversation ends without an answer"),
        (_chat("system: а"), "the conversation ends without an answer"),
        (_chat("user: а", "assistant:  "), r"`content` of message 2 \(assistant\) is empty"),
        ({"messages": [{"role": "user"}]}, r"no `content` of message 1 \(user\)"),
        ({"messages": [{"role": "user", "content": ["а"]}]}, r"message 1 \(user\) is list, not text"),
        (_weighed(0), "message 2 has `weight` 0; every answer counts in the loss alike"),
        (_weighed(0.5), "message 2 has `weight` 0.5"),
        (
            {"messages": [{"role": "user", "content": "а"}, CALLING]},
            "message 2 has `tool_calls`, which is not trained on",
        ),
        ({"messages": None}, "neither `messages` nor `instruction`"),
        ({"instruction": "а"}, "no field `output`"),
        ({"instruction": "а", "output": ""}, "field `output` is empty"),
        ({"instruction": "а", "output": 4}, "field `output` is int, not text"),
        ({"instruction": "а", "input": {}, "output": "б"}, "field `input` is dict, not text"),
        ({"instruction": "а", "output": "\ud800"}, "field `output` holds a lone surrogate"),
        ({"instruction": "а", "instances": []}, "`instances` is no list of objects"),
    ],
)
def test_a_record_that_is_no_conversation_says_why(record: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        conversations_of(record, _source())
    assert "\n" not in str(caught.value)


def test_the_declared_format_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="no field `instruction`"):
        conversations_of(_chat("user: а", "assistant: б"), _source(format="instruction"))
    with pytest.raises(ValueError, match="`messages` is no list"):
        conversations_of({"instruction": "а", "output": "б"}, _source(format="chat"))


@settings(max_examples=15)
@given(st.floats(0.05, 0.5))
def test_about_the_share_is_held_out_and_one_question_is_on_one_side(share: float) -> None:
    def asked(number: int, answer: str) -> tuple[Message, ...]:
        return Message("user", f"вопрос {number}"), Message("assistant", answer)

    held = [held_out(asked(number, "да"), share) for number in range(400)]
    assert sum(held) / 400 == pytest.approx(share, abs=0.1)
    assert held == [held_out(asked(number, "нет"), share) for number in range(400)]


def test_the_side_of_a_question_depends_on_its_words_alone() -> None:
    def held(question: str, *before: Message) -> list[bool]:
        answer = Message("assistant", "да")
        messages = [(*before, Message("user", question.format(n)), answer) for n in range(100)]
        return [held_out(each, 0.5) for each in messages]

    expected = held("Ёлка {}, где она растёт?")
    assert 0 < sum(expected) < 100
    assert held("елка  {}\nгде она растёт") == expected
    assert held("Ёлка {}, где она растёт?", Message("system", "Кратко.")) == expected
    assert held("Ёлка {}, где растёт она?") != expected
    assert len(set(held("?!"))) == 1


def test_conversations_survive_their_file(tmp_path: Path) -> None:
    said = (Message("user", "строка\n\u2028 «ё»"), Message("assistant", '{"a": 1}'))
    both = [Conversation("f:1", "talk", False, said), Conversation("f:2#001", "talk", True, said)]
    with (tmp_path / conversations.FILE).open("w", encoding="utf-8", newline="\n") as file:
        for conversation in both:
            conversation.write(file)
    assert list(conversations.read(tmp_path)) == both


# The stage.


def _sentence(number: int, words: int = 12) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=words))


def _pair(number: int, **changes: str) -> dict[str, str]:
    return {"instruction": f"Вопрос {number}: {_sentence(number)}?", "output": _sentence(-number), **changes}


def _jsonl(path: Path, records: list[Any]) -> None:
    lines = [
        record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, lambda plain: plain)
    path.write_bytes(pack(data))


@pytest.fixture
def collect(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Collect:
    """Run the stage on `adapt.data`, beside a document and a suite; returns the account of the examples."""
    monkeypatch.chdir(tmp_path)
    defaults = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    own = {"type": "files", "paths": ["o.txt"], "subset": "own", "language": "ru", "licence": "MIT"}
    for folder in ("out/sources", "out/sources_supervised", "suite"):
        Path(folder).mkdir(parents=True)
    Path("suite/other.jsonl").write_text('{"inputs": "Это вопрос из другой области?"}', encoding="utf-8")

    def run(*sources: dict[str, Any], **corpus: Any) -> dict[str, Any]:
        declared = [{"subset": "talk", "language": "ru", "licence": "MIT", **source} for source in sources]
        values = fitting(defaults | {"corpus": defaults["corpus"] | {"sources": [own]} | corpus})
        if declared:
            values["adapt"] |= {"data": declared, "mix": None}
        try:
            execute(STAGE, parse(values, "params.yaml"))
        finally:
            assert [path.name for path in Path("out").iterdir() if "partial" in path.name] == []
        return dict(json.loads(Path("out/supervised/summary.json").read_text(encoding="utf-8")))

    return run


def _kept(folder: Path = Path("out/supervised")) -> list[Conversation]:
    return list(conversations.read(folder))


def test_without_supervised_files_there_is_nothing_for_adapt(collect: Collect) -> None:
    assert collect()["subsets"] == {}
    assert _kept() == []


def test_plain_and_packed_files_are_read_in_order(tmp_path: Path, collect: Collect) -> None:
    for part, suffix in enumerate(("", ".gz", ".zst")):
        _jsonl(tmp_path / f"{part}.jsonl{suffix}", [_pair(10 * part + n) for n in range(10)])
    account = collect({"paths": ["?.jsonl*"]})
    kept = _kept()
    assert [c.messages[0].content.split(":")[0] for c in kept] == [f"Вопрос {n}" for n in range(30)]
    assert kept[10].id == "1.jsonl.gz:1" and kept[29].id == "2.jsonl.zst:10"
    counts = account["subsets"]["talk"]
    assert counts["conversations"] == 30 == len(kept)
    assert counts["train"] == sum(not c.heldout for c in kept)
    before = sha256_path(Path("out/supervised"))
    collect({"paths": ["?.jsonl*"]})
    assert sha256_path(Path("out/supervised")) == before


def test_test_items_duplicates_and_personal_data(tmp_path: Path, collect: Collect) -> None:
    item = "Какой из двух городов стоит на берегу большой северной реки Мокла у самых гор?"
    short = "Где стоит Мокла?"
    tasks = [{"inputs": item}, {"instruction": "Ответь. {question}", "inputs": {"question": short}}]
    _jsonl(tmp_path / "task.jsonl", tasks)
    records = [
        _pair(1),
        _pair(2, output=f"Пишите на ivan.petrov@mail-example.ru, {_sentence(5)}"),
        _pair(1),
        _pair(3, output=f"Меня спросили: {item} Не знаю."),
        _pair(4, instruction=short),
        _pair(5, instruction=f"ответь, {short.lower()}"),
        _pair(6, instruction=f"{_sentence(7)} {short} {_sentence(8)}"),
    ]
    _jsonl(tmp_path / "talk.jsonl", records)
    account = collect({"paths": ["talk.jsonl"]}, protect=["task.jsonl"])
    assert account["subsets"]["talk"]["contaminated"] == 3
    assert account["subsets"]["talk"]["duplicate"] == 1
    assert account["dropped"] == [
        {"id": "talk.jsonl:3", "reason": "duplicate"},
        *({"id": f"talk.jsonl:{line}", "reason": "contaminated"} for line in (4, 5, 6)),
    ]
    assert account["personal_data"] == {"email": 1}
    assert [c.id for c in _kept()] == ["talk.jsonl:1", "talk.jsonl:2", "talk.jsonl:7"]
    assert _kept()[1].messages[1].content.startswith("Пишите на [ПОЧТА], ")
    collect({"paths": ["talk.jsonl"]}, redact=False)
    assert "ivan.petrov@mail-example.ru" in _kept()[1].messages[1].content


LINES = "Кто здесь лишний?\nкот\nмост"


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"instruction": "Ответь на вопрос.", "input": "где стоит мокла"}, True),
        ({"instruction": "Где стоит Мокла?", "input": "Отвечай кратко."}, True),
        ({"instruction": "Ответь на вопрос.", "input": LINES}, True),
        (_chat("user: Вопрос: Где стоит Мокла?"), True),
        (_chat("user: Ответь, пожалуйста, на вопрос: где стоит Мокла?\nОтвет:"), True),
        (_chat(f"user: Ответь.\n2) Вопрос: {LINES}\nПодумай."), True),
        (_chat("user: 2. Где стоит Мокла?"), True),
        (_chat("system: Кратко.\nГде стоит Мокла?", "user: Скажи."), True),
        (_chat("user: Скажи, где стоит Мокла?"), False),
        (_chat("user: Где стоит Мокла? Отвечай кратко."), False),
        (_chat("user: Где стоит\nгород Мокла?"), False),
    ],
)
def test_short_items_are_found_by_lines_and_behind_labels(
    record: dict[str, Any], found: bool, tmp_path: Path, collect: Collect
) -> None:
    _jsonl(tmp_path / "task.jsonl", [{"inputs": "Где стоит Мокла?"}, {"inputs": LINES}])
    told = {**record, "output": "Не знаю."}
    if "messages" in record:
        told = {"messages": [*record["messages"], {"role": "assistant", "content": "Не знаю."}]}
    _jsonl(tmp_path / "talk.jsonl", [_pair(1), told])
    counts = collect({"paths": ["talk.jsonl"]}, protect=["task.jsonl"])["subsets"]["talk"]
    assert counts.get("contaminated", 0) == found


def test_broken_records_are_tolerated_up_to_the_share_and_named(
    tmp_path: Path, collect: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [_pair(n) for n in range(18)]
    _jsonl(tmp_path / "talk.jsonl", [*good[:3], '{"instruction": ', *good[3:], _chat("assistant: а")])
    account = collect({"paths": ["talk.jsonl"]}, broken_lines_share=0.1)
    assert account["unreadable"]["count"] == 2
    assert account["unreadable"]["first"][0]["line"] == 4
    assert account["subsets"]["talk"]["conversations"] == 18
    assert "supervised: talk.jsonl, line 4: not JSON" in capsys.readouterr().err
    before = sha256_path(Path("out/supervised"))
    with pytest.raises(
        UserError, match=r"talk\.jsonl, line 4: not JSON.*; 2 of 20 records are unreadable"
    ) as caught:
        collect({"paths": ["talk.jsonl"]}, broken_lines_share=0.05)
    assert "\n" not in str(caught.value)
    assert sha256_path(Path("out/supervised")) == before


def test_a_line_that_is_no_utf_8_is_one_broken_record(
    tmp_path: Path, collect: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.jsonl"
    _jsonl(path, [_pair(n) for n in range(19)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xef\xbb\xbf" + b"".join([*lines[:4], b'{"instruction": "\xcf\xee"}\n', *lines[4:]]))
    account = collect({"paths": ["talk.jsonl"]}, broken_lines_share=0.05)
    assert account["unreadable"]["first"] == [
        {
            "file": "talk.jsonl",
            "line": 5,
            "reason": "not UTF-8 text: invalid continuation byte at byte 17 of the line",
        }
    ]
    assert account["subsets"]["talk"]["conversations"] == 19
    assert "supervised: talk.jsonl, line 5: not UTF-8 text" in capsys.readouterr().err
    path.write_bytes(path.read_bytes().decode("utf-8", "ignore").encode("utf-16"))
    with pytest.raises(UserError, match=r"talk\.jsonl, line 1: not UTF-8 text.*records are unreadable, more"):
        collect({"paths": ["talk.jsonl"]}, broken_lines_share=0.05)


@pytest.mark.parametrize(
    ("records", "source", "said"),
    [
        ([{"text": "а"}], {}, "line 1: neither `messages` nor `instruction`.*1 of 1 records"),
        ([], {}, r"adapt\.data\.0 \(`talk`\) leaves no conversation to train on \(no record was read\)"),
        ([_pair(1)], {"paths": ["talk.jsonl", "talk.jsonl"]}, "adapt.data names talk.jsonl twice"),
        ([_pair(1)], {"paths": ["none.jsonl"]}, r"adapt\.data\.0\.paths\.0: none\.jsonl does not exist"),
        ([_pair(1)], {"paths": ["poem.txt"]}, r"adapt\.data\.0\.paths\.0: poem\.txt is no \.jsonl"),
        ([_pair(1)], {"format": "sharegpt"}, r"adapt\.data\.0\.format.*'sharegpt'.*'chat'"),
        ([_pair(1)], {"fields": {"question": "q"}}, r"adapt\.data\.0\.fields\.question"),
        ([_pair(1)], {"format": "chat", "fields": {"input": "q"}}, "`fields` names the fields of instr"),
        ([_pair(1)], {"subset": "own"}, "`adapt.data` has a subset `own`, and so has corpus.sources"),
    ],
)
def test_files_that_cannot_be_used_end_the_stage_with_one_line(
    tmp_path: Path,
    collect: Collect,
    records: list[Any],
    source: dict[str, Any],
    said: str,
) -> None:
    _jsonl(tmp_path / "talk.jsonl", records)
    (tmp_path / "poem.txt").write_text("стих", encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        collect({"paths": ["talk.jsonl"], **source})
    assert "\n" not in str(caught.value)


def test_two_sources_of_one_name_are_refused(tmp_path: Path, collect: Collect) -> None:
    _jsonl(tmp_path / "talk.jsonl", [_pair(1)])
    with pytest.raises(UserError, match="two sources of `data` have the subset `talk`"):
        collect({"paths": ["talk.jsonl"]}, {"paths": ["talk.jsonl"]})


REAL = {
    "arith": ("koziev_cc0/qa_arith.jsonl.gz", 1_967, {"instruction": "question", "output": "answer"}),
    "premises": (
        "koziev_cc0/premise_qa.jsonl.gz",
        2_238,
        {"instruction": "premise", "input": "question", "output": "answer"},
    ),
    "seed-tasks": ("rulm_ru_pairs/ru_alpaca_seed_tasks.jsonl", 137, {}),
}


def test_public_data_is_read_without_a_loss(shared_data: Path, tmp_path: Path, collect: Collect) -> None:
    """The arithmetic is so much of a kind that its first tenth will do."""
    sources = [
        {"paths": [str(shared_data / file)], "subset": name, "fields": fields}
        for name, (file, _, fields) in REAL.items()
    ]
    begun = gzip.decompress((shared_data / REAL["arith"][0]).read_bytes()).splitlines(keepends=True)[:1967]
    (tmp_path / "arith.jsonl").write_bytes(b"".join(begun))
    sources[0]["paths"] = ["arith.jsonl"]
    account = collect(*sources)
    assert account["unreadable"]["count"] == 0
    for name, (_, number, _) in REAL.items():
        assert account["subsets"][name]["conversations"] == number
    assert len(_kept()) == sum(counts["train"] + counts["heldout"] for counts in account["subsets"].values())
