"""Stage judge_model: lessons and their examination, rows of whole texts, a small judge trained for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common import judges
from stages.common.atomic import read_json
from stages.common.errors import UserError
from stages.common.params import Params, load, select
from stages.common.params.judging import FolderJudge
from stages.common.stage import execute
from stages.common.training.losses import cross_entropy
from stages.judge_model.batches import VERDICT_WEIGHT, Rows, Texts
from stages.judge_model.stage import STAGE, failed

EOS = 0
TINY = {"tokens": 4000, "batch_size": 4, "sequence_length": 96, "checkpoint_steps": 4}


@pytest.fixture
def params(root: Path) -> Params:
    """The default parameters over a small world and a tiny judge."""
    whole = load(root / "params.yaml")
    training = whole.judge_model.training.model_copy(update=TINY)
    block = whole.judge_model.model_copy(
        update={"parameters": 210_000, "vocab_size": 600, "training": training}
    )
    source = whole.corpus.sources[0].model_copy(update={"size": 0.2, "tasks_per_kind": 20})
    corpus = whole.corpus.model_copy(update={"sources": [source]})
    return whole.model_copy(update={"judge_model": block, "corpus": corpus, "threads": 1, "device": "cpu"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the fingerprints that the stage waits for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "sources").mkdir(parents=True)
    return tmp_path / "out" / "judge_model"


def texts(lengths: list[int]) -> Texts:
    """Texts of distinct tokens from 1 up; the last token of each is its verdict."""
    starts = np.cumsum([1, *lengths[:-1]])
    return Texts(
        [list(range(s, s + n)) for s, n in zip(starts.tolist(), lengths, strict=True)], [1] * len(lengths)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 15), min_size=1, max_size=30), st.integers(1, 3), st.integers(0, 99))
def test_an_epoch_shows_every_text_once_and_whole(lengths: list[int], batch_size: int, seed: int) -> None:
    rows = Rows(texts(lengths), EOS, batch_size, 16, seed)
    seen: list[int] = []
    step = 0
    while len(seen) < sum(lengths):
        batch = rows.batch(step)
        for inputs, targets, weights in zip(batch.inputs_BT, batch.targets_BT, batch.weights_BT, strict=True):
            used = weights > 0
            assert (targets[used][:-1] == inputs[used][1:]).all()
            seen += [token for token in inputs[used].tolist() if token != EOS]
        step += 1
    assert sorted(seen[: sum(lengths)]) == list(range(1, sum(lengths) + 1))


def test_only_the_verdict_weighs_more_and_padding_nothing() -> None:
    batch = Rows(texts([4]), EOS, 1, 16, 0).batch(0)
    assert batch.inputs_BT[0, :6].tolist() == [EOS, 1, 2, 3, 4, EOS]
    assert batch.targets_BT[0, :5].tolist() == [1, 2, 3, 4, EOS]
    assert batch.weights_BT[0].tolist() == [1.0, 1.0, 1.0, VERDICT_WEIGHT, 1.0] + [0.0] * 11
    assert batch.subset_tokens == {"judging": 5}


def test_batches_are_a_function_of_the_step() -> None:
    one, other = (Rows(texts([5] * 40), EOS, 2, 16, 3) for _ in range(2))
    other.batch(0)
    assert torch.equal(one.batch(7).inputs_BT, other.batch(7).inputs_BT)
    assert not torch.equal(one.batch(7).inputs_BT, one.batch(8).inputs_BT)


def test_texts_longer_than_a_row_are_refused() -> None:
    with pytest.raises(UserError, match="sequence_length 8 is too short"):
        Rows(texts([20] * 5), EOS, 1, 8, 0)


def test_the_loss_is_the_weighted_mean_over_texts_alone() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
    model = Qwen2ForCausalLM(config)
    together = cross_entropy(model, Rows(texts([4, 6]), EOS, 1, 16, 0).batch(0))
    total, weight = 0.0, 0.0
    for ids in (list(range(1, 5)), list(range(5, 11))):
        logprobs = model(input_ids=torch.tensor([[EOS, *ids]])).logits[0].log_softmax(-1)
        for place, token in enumerate([*ids, EOS]):
            w = VERDICT_WEIGHT if place == len(ids) - 1 else 1.0
            total, weight = total - w * logprobs[place, token].item(), weight + w
    assert together.item() == pytest.approx(total / weight, rel=1e-4)


@pytest.mark.slow
def test_a_judge_is_trained_examined_and_loads_again(params: Params, folder: Path) -> None:
    execute(STAGE, params)
    judge = judges.read(folder)["embedded"]
    assert judge.kind == "embedded"
    assert judges.checkpoint(judge, folder) == folder
    training = read_json(folder / "training.json")
    assert training["curve"]["loss"][-1] < training["curve"]["loss"][0]
    assert 0 < sum(training["tokens"].values()) <= 4000 + 4 * 96
    assert training["exam"]["truth"] == "generator" and training["exam"]["pairs"] > 20
    assert read_json(folder / "gorn.json")["lineage"]["base"]["source"] == "scratch"
    digest = judge.digest
    execute(STAGE, params)
    assert judges.read(folder)["embedded"].digest == digest


@pytest.mark.parametrize(
    ("exam", "reason"),
    [
        ({"accuracy": 0.70, "accuracy_ci": [0.61, 0.79], "pairs": 100, "consistency": 0.8}, ""),
        (
            {"accuracy": 0.52, "accuracy_ci": [0.43, 0.61], "pairs": 100, "consistency": 0.1},
            "failed its own examination: right in 0.52 of 100 pairs (95 % 0.43 to 0.61), "
            "position consistency 0.10",
        ),
        ({"accuracy": None, "accuracy_ci": None, "pairs": 0, "consistency": None}, "no question"),
    ],
)
def test_a_judge_at_a_coins_accuracy_is_not_to_be_asked(exam: dict[str, Any], reason: str) -> None:
    assert reason in failed(exam)
    assert bool(failed(exam)) == bool(reason)


def test_no_judged_lesson_touches_what_the_exam_asks(params: Params) -> None:
    from stages.corpus.world import generate
    from stages.judge_model.lessons import prepare

    source = params.corpus.sources[0]
    world = generate(source.seed, source.size, source.tasks_per_kind)  # type: ignore[union-attr]
    lessons = prepare(world, 101, 4000)
    judged = [lesson.text for lesson in lessons.train if lesson.verdict]
    assert len(judged) > 20
    assert {lesson.verdict for lesson in lessons.train} == {"", " 1", " 2"}
    for pair in lessons.exam:
        assert not any(text.startswith(pair.question + "\n") for text in judged)


def run(params: Params, folder: Path, **changes: Any) -> dict[str, judges.Weights]:
    """Run the stage with another `judge` block."""
    block = params.judge.model_copy(update=changes)
    execute(STAGE, params.model_copy(update={"judge": block}))
    return judges.read(folder)


def test_a_switched_off_judge_trains_nothing(params: Params, folder: Path) -> None:
    assert run(params, folder, enabled=False) == {}
    assert not list(folder.glob("*.safetensors"))


def test_a_named_folder_is_noted_by_path_and_digest_and_watched(params: Params, folder: Path) -> None:
    mine = folder.parent.parent / "mine"
    mine.mkdir()
    (mine / "model.safetensors").write_bytes(b"weights")
    judge = run(params, folder, judges=[FolderJudge(type="folder", name="mine", path=str(mine))])["mine"]
    assert (judge.kind, judge.path) == ("folder", str(mine))
    assert judges.checkpoint(judge, folder) == mine
    (mine / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="weights have changed"):
        judges.checkpoint(judge, folder)


def test_a_named_folder_that_is_absent_is_refused(params: Params, folder: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        run(params, folder, judges=[FolderJudge(type="folder", name="far", path="nowhere")])


def test_an_embedded_judge_needs_the_world(params: Params, folder: Path) -> None:
    from stages.common.params.corpus import FilesSource

    files = FilesSource(type="files", paths=["a.txt"], subset="mine", language="ru", licence="CC0-1.0")
    corpus = params.corpus.model_copy(update={"sources": [files]})
    with pytest.raises(UserError, match="no embedded world"):
        execute(STAGE, params.model_copy(update={"corpus": corpus}))
    assert [judge.type for judge in select(params, STAGE.reads).judge.judges] == ["embedded"]
