"""The order in which stages start: dependencies first, light ones side by side, the others alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.graph import StageNode
from flows.schedule import LIGHT, Schedule, jobs_for
from stages.common.params import load

REPO = Path(__file__).resolve().parents[2]
NAMES = st.sampled_from([*sorted(LIGHT), "pretrain", "distill", "measure", "gate"])


@st.composite
def graphs(draw: st.DrawFn) -> list[StageNode]:
    """A graph in topological order."""
    nodes: list[StageNode] = []
    for number, name in enumerate(draw(st.lists(NAMES, max_size=12))):
        upstream = draw(st.sets(st.sampled_from(nodes), max_size=3)) if nodes else set()
        nodes.append(StageNode(f"{name}@{number}", tuple(sorted(node.addressing for node in upstream))))
    return nodes


@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_whatever_ends_first_every_stage_runs_once_behind_what_it_needs(nodes, jobs, chance) -> None:
    schedule, done = Schedule(nodes, jobs), []
    while not schedule.finished:
        while (node := schedule.start()) is not None:
            assert {*node.upstream} <= {*done}
        assert 1 <= len(schedule.running) <= jobs
        assert len(schedule.running) == 1 or all(node.name in LIGHT for node in schedule.running)
        ended = chance.choice(schedule.running)
        schedule.end(ended)
        done.append(ended.addressing)
    assert sorted(done) == sorted(node.addressing for node in nodes)


def test_one_job_keeps_the_order_of_the_graph_where_nothing_is_light() -> None:
    nodes = [StageNode("base"), StageNode("pretrain", ("base",)), StageNode("gate", ("pretrain",))]
    schedule, order = Schedule(nodes, 1), []
    while (node := schedule.start()) is not None:
        schedule.end(node)
        order.append(node.addressing)
    assert order == ["base", "pretrain", "gate"]


def test_a_training_runs_alone_and_first_and_light_stages_share() -> None:
    nodes = [*(StageNode(f"evaluate@{cell}") for cell in "abc"), StageNode("adapt")]
    schedule = Schedule(nodes, 2)
    training = schedule.start()
    assert training.addressing == "adapt"
    assert schedule.start() is None
    schedule.end(training)
    first, second = schedule.start(), schedule.start()
    assert [first.addressing, second.addressing] == ["evaluate@a", "evaluate@b"]
    assert schedule.start() is None
    schedule.end(first)
    assert schedule.start().addressing == "evaluate@c"


def test_a_training_does_not_join_what_runs() -> None:
    schedule = Schedule([StageNode("judge_model"), StageNode("corpus"), StageNode("base", ("corpus",))], 2)
    judge, corpus = schedule.start(), schedule.start()
    schedule.end(corpus)
    assert schedule.start() is None
    schedule.end(judge)
    assert schedule.start().addressing == "base"


@pytest.mark.parametrize(("profile", "jobs"), [("embedded", 2), ("qwen2.5-0.5b", 1)])
def test_only_a_model_of_our_own_making_is_assumed_to_fit_twice(profile: str, jobs: int) -> None:
    assert jobs_for(load(REPO / "profiles" / f"{profile}.yaml")) == jobs


def test_every_light_stage_is_one_of_the_graph() -> None:
    from flows import graph

    names = {node.name for node in graph.stages()}
    # The default run has no rule against a fixed model, and no model behind an address.
    assert names >= LIGHT - {"evaluate_anchor", "evaluate_endpoint"}
    assert {"base", "pretrain", "adapt", "distill", "measure", "measure_champion", "gate"} <= names - LIGHT
