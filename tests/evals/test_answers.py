"""The cache of answers: what was kept is found, whatever happened to the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evals.answers import Answers
from evals.errors import EvalError

SCOPE = {"weights": "a" * 64, "precision": "fp32"}


def _file(folder: Path) -> Path:
    (found,) = folder.glob("*.jsonl")
    return found


def test_what_was_put_is_found_again_to_the_last_bit(tmp_path: Path) -> None:
    answers = Answers(tmp_path, SCOPE)
    answers.put([-0.1 - 1e-16, True], "loglikelihood", "Кот", " да")
    answers.put("ёж", "generate_until", "Кот", {"until": ["\n"]})
    for found in (answers, Answers(tmp_path, SCOPE)):
        assert found.get("loglikelihood", "Кот", " да") == [-0.1 - 1e-16, True]
        assert found.get("generate_until", "Кот", {"until": ["\n"]}) == "ёж"
        assert found.get("generate_until", "Кот", {"until": ["."]}) is None


@pytest.mark.parametrize("change", [{"weights": "b" * 64}, {"precision": "bf16"}, {"threads": 2}])
def test_another_scope_knows_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    Answers(tmp_path, SCOPE).put("да", "q")
    assert Answers(tmp_path, {**SCOPE, **change}).get("q") is None


def test_what_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    answers = Answers(tmp_path, SCOPE)
    answers.put([float("nan"), False], "q")
    assert answers.get("q") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [2, 7, 40])
def test_a_killed_write_costs_that_answer_alone(tmp_path: Path, end: int) -> None:
    first = Answers(tmp_path, SCOPE)
    first.put("один", "1")
    first.put("два", "2")
    path = _file(tmp_path)
    path.write_bytes(path.read_bytes()[:-end])
    again = Answers(tmp_path, SCOPE)
    assert (again.get("1"), again.get("2")) == ("один", None)
    again.put("два", "2")
    last = Answers(tmp_path, SCOPE)
    assert (last.get("1"), last.get("2")) == ("один", "два")


def test_bytes_of_others_are_passed_over(tmp_path: Path) -> None:
    Answers(tmp_path, SCOPE).put("да", "q")
    path = _file(tmp_path)
    path.write_bytes(b'\xff\xfe\n[1]\n{"key": 1}\nnull\n' + path.read_bytes())
    assert Answers(tmp_path, SCOPE).get("q") == "да"


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from evals.answers import Answers\n"
        "answers = Answers(Path(sys.argv[1]), {'s': 1})\n"
        "for n in range(400): answers.put('x' * 300, sys.argv[2], n)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [process.wait() for process in running] == [0, 0]
    found = Answers(tmp_path, {"s": 1})
    assert all(found.get(name, n) == "x" * 300 for name in "ab" for n in range(400))


def test_the_folder_is_bounded_and_the_oldest_scope_goes_first(tmp_path: Path) -> None:
    for number in range(3):
        before = set(tmp_path.glob("*.jsonl"))
        Answers(tmp_path, {"n": number}).put("x" * 1000, "q")
        (path,) = {*tmp_path.glob("*.jsonl")} - before
        os.utime(path, (number + 1, number + 1))
    Answers(tmp_path, {"n": 0})  # used again, so number 1 is the oldest now
    Answers(tmp_path, {"n": 3}, limit=2500)
    assert [Answers(tmp_path, {"n": n}).get("q") is not None for n in range(3)] == [True, False, True]


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvalError, match="the cache of answers cannot be used"):
        Answers(tmp_path / "file", SCOPE)
