"""Answers of two models, a served judge whose opinion is planted, and what the stage wrote."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from judge_server import Judging

from stages.common.atomic import read_json, write_json
from stages.common.params.judging import EndpointJudge

CELL = "adapt-bf16"
COUNT = 40
Choose = Callable[[str, str], str]


def first_is_right(first: str, second: str) -> str:
    """The opinion of a judge that knows: right answers begin with `верно`."""
    right = [answer.startswith("верно") for answer in (first, second)]
    return "0" if right[0] == right[1] else "1" if right[0] else "2"


def five_if_right(answer: str) -> str:
    """The grade of a judge that knows."""
    return "5" if answer.startswith("верно") else "2"


@dataclass
class Planted(Judging):
    """A server whose verdict is a function of the two answers, and its grade of the one."""

    choose: Choose = first_is_right
    mark: Callable[[str], str] = five_if_right

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion without log-probabilities."""
        prompt = body["messages"][-1]["content"]
        shown = re.findall(r"<(ответ(?:-\d)?)>\n(.*?)\n</\1>", prompt, re.DOTALL)
        answers = [text for _, text in shown]
        said = self.mark(*answers) if len(answers) == 1 else self.choose(*answers)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def endpoint(server: Judging, name: str = "served", **changes: Any) -> EndpointJudge:
    """A judge of params.yaml behind `server`."""
    told = {"timeout": 5.0, "retries": 2, "pause": 0.0, "bases": ["someone/judge"], **changes}
    return EndpointJudge(type="endpoint", name=name, address=server.address, model="m", **told)


def write_answers(folder: Path, sign: str, texts: list[str]) -> None:
    """answers.parquet and scores.json of one model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "scores.json", {"model": {"digest": sign}})
    rows = [
        {"id": f"q{i}", "cluster": f"c{i}", "question": f"Вопрос: что {i}?\nОтвет:", "answer": text,
         "reference": f"верно {i}", "wrong": f"неверно {i}"}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "answers.parquet")


def write_lineage(folder: Path, base: dict[str, Any]) -> None:
    """The manifest of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "gorn.json", {"lineage": {"base": base}})


@dataclass
class Outcome:
    """What the stage wrote."""

    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "summary.json"))

    @property
    def passport(self) -> dict[str, Any]:
        return dict(read_json(self.folder / "passport.json"))

    @property
    def verdicts(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "verdicts.parquet")

    @property
    def grades(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "grades.parquet")

    @property
    def bytes(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(self.folder.iterdir())}
