"""Programs of a model run under limits, and what they give counts; nothing else of them reaches us."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from evals import scores, suites
from evals.errors import EvalError
from evals.items import Answer, Item
from evals.mera import code
from evals.mera.code import SWITCHED_OFF, Limits, outcomes, results
from evals.records import Record
from evals.results import Results
from evals.suites import Suite, Task

HEAD = 'def add(a, b):\n    """Сумма."""'
LIMITS = Limits(seconds=20, cpu_seconds=1, memory=1 << 29, output=1 << 16)
RIGHT = "\n    return a + b\n"


def _record(name: str = "1", tests: str = "[{'a': 1, 'b': 2}, {'a': -1, 'b': 1}]") -> Record:
    inputs = {"function": HEAD, "tests": tests}
    return Record("{function}", inputs, json.dumps(["3", "0"]), name, name, "t:1", {"entry_point": "add"})


def _task(*records: Record) -> Task:
    return replace(suites.describe("rucodeeval"), test=records)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (RIGHT, ["3", "0"]),
        ("\n    return a - b\n", ["-1", "-2"]),
        ("\n    return 1 // (a - 1)\n", [None, "-1"]),
        ("\n    print('x' * 10**6)\n    return a + b\n", ["3", "0"]),
        ("\n    raise SystemExit(0)\n", [None, None]),
        ("\n    return None\n", [None, None]),
        ("\n    return (\n", [None, None]),
        ("\n    import os\n    os._exit(0)\n", [None, None]),
        ("\n    return len(bytearray(1 << 31))\n", [None, None]),
        ("\n    import os\n    return os.fork()\n", [None, None]),
        ("\n    import subprocess\n    return subprocess.run(['true']).returncode\n", [None, None]),
        ("\n    import socket\n    return socket.socket().fileno()\n", [None, None]),
        ("\n    open('big', 'wb').write(b'x' * (1 << 20))\n    return 1\n", [None, None]),
    ],
)
def test_results_are_those_of_the_program_within_its_limits(body: str, expected: list[str | None]) -> None:
    assert results(_record(), body, LIMITS) == expected


def test_an_infinite_loop_ends_at_a_limit_and_leaves_no_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    body = f"\n    open({str(mark)!r}, 'w').write('here')\n    while True:\n        pass\n"
    started = time.monotonic()
    assert results(_record(), body, Limits(seconds=20, cpu_seconds=1)) == [None, None]
    sleeping = "\n    import time\n    time.sleep(600)\n"
    assert results(_record(), sleeping, Limits(seconds=1)) == [None, None]
    assert time.monotonic() - started < 40
    # Those of a neighbouring test have a parent of their own.
    running = [item.info for item in psutil.process_iter(["cmdline", "ppid"])]
    ours = [item["cmdline"] or [] for item in running if item["ppid"] in (1, os.getpid())]
    assert not [line for line in ours if any("code_runner.py" in word for word in line)]


def test_a_program_meets_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        body = (
            f"\n    import _socket\n    s = _socket.socket()\n    return s.connect(('127.0.0.1', {port}))\n"
        )
        assert results(_record(), body, LIMITS) == [None, None]
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_huge_result_is_no_result() -> None:
    assert results(_record(), "\n    return 'x' * (1 << 20)\n", LIMITS) == [None, None]


def test_a_markdown_fence_goes() -> None:
    assert code.without_fence("```python\n    return 1\n```\n") == "    return 1\n"
    assert code.without_fence("    return '```'") == "    return '```'"


def test_bad_tests_are_named() -> None:
    with pytest.raises(EvalError, match=r"t:1: field `inputs\.tests` is no Python literal"):
        results(_record(tests="[open('x')]"), RIGHT, LIMITS)
    with pytest.raises(EvalError, match="must be a list of keyword arguments"):
        results(_record(tests="[1, 2]"), RIGHT, LIMITS)


def test_pass_at_k_of_samples_and_the_switch() -> None:
    task = _task(_record("1"), _record("2"))
    wrong = "\n    return 0\n"
    answers = [
        Answer("1", "", written=(RIGHT,) + (wrong,) * 4),
        Answer("2", "", written=(wrong,) * 5),
    ]
    given = Results([], {task.name: 0}, {task.name: answers})
    off = scores.describe(Suite([task]), given, [_item()])
    assert off["refused"] == {"rucodeeval": SWITCHED_OFF}
    assert "ruCodeEval" in off["mera"]["missing"]
    passed, gave = outcomes(task, answers, LIMITS)
    assert passed["1"] == {"pass@1": pytest.approx(0.2), "pass@5": 1.0, "pass@10": 1.0}
    assert gave["2"] == [["0", "0"]] * 5
    on = scores.describe(Suite([task]), given, [_item()], {task.name: passed})
    assert on["tasks"]["rucodeeval"]["metrics"]["pass@1"] == pytest.approx(0.1)
    assert on["mera"]["tasks"] == ["ruCodeEval"]


def _item() -> Item:
    return Item("other", "d", "p", "c", "acc", 1.0)
