"""Stage `adapt` on supervised examples: what it learns, writes down and leaves for whoever asks the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_fakes import make_shards, settings, tiny_model

from stages.adapt import chat
from stages.adapt.stage import STAGE
from stages.adapt.supervised.render import PLAIN
from stages.common import manifest
from stages.common.atomic import read_json, write_json
from stages.common.checkpoint import digest, load_model, load_tokenizer, save_model, tokenizer_sha256
from stages.common.conversations import FILE, Conversation, Message
from stages.common.errors import UserError
from stages.common.params import Params, parse
from stages.common.stage import execute
from stages.common.training.loop import train
from stages.common.training.losses import cross_entropy
from stages.common.training.sampler import Sampler
from stages.common.training.shards import Shards
from stages.distill.student import every_second_layer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 60
BEASTS = {"кот": "спит дома", "ива": "растёт", "мама": "мыла раму", "трава": "на дворе"}


def _params(root: Path, **adapt: Any) -> Params:
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    values["corpus"]["sources"].append(
        {"type": "files", "paths": ["t.txt"], "subset": "texts", "language": "ru", "licence": "CC0-1.0"}
    )
    training = settings(
        tokens=256 * STEPS, sequence_length=64, accumulate=2, learning_rate=0.01, weight_decay=0.0
    ).model_dump()
    data = [{"paths": ["f.jsonl"], "subset": "talk", "language": "ru", "licence": "MIT"}]
    values["adapt"] |= {"rank": 16, "alpha": 32, "target_modules": TARGETS, "mix": None, "data": data}
    values["adapt"] |= {"training": training, **adapt}
    return parse({**values, "threads": 1, "device": "cpu"}, "params.yaml")


def _examples(folder: Path) -> None:
    """Sixty questions with one answer to a beast; every twelfth is held out."""
    folder.mkdir()
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for number in range(60):
            beast, does = list(BEASTS.items())[number % 4]
            said = (Message("user", f"{beast} {number}?"), Message("assistant", does))
            Conversation(f"f.jsonl:{number + 1}", "talk", number % 12 == 5, said).write(file)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project up to `adapt`, whose model has read a little Russian."""
    project = tmp_path_factory.mktemp("project")
    tokens = make_shards(project / "out/tokens", {"texts": "ru"})
    shards, used = Shards.open(tokens), settings(tokens=150 * 256, sequence_length=64)
    model = tiny_model()
    sampler = Sampler(shards, {"texts": 1.0}, used.batch_size, used.sequence_length, 1, "mix")
    train(model, cross_entropy, sampler, used, 1, "cpu")
    save_model(model, load_tokenizer(tokens / "tokenizer"), project / "out/pretrain")
    lineage = {"base": {"source": "local", "licence": "MIT"}, "data": {"older": ["CC0-1.0"]}}
    write_json(project / "out/pretrain" / manifest.CHECKPOINT_MANIFEST, {"lineage": lineage})
    _examples(project / "out/supervised")
    return project


@pytest.fixture(scope="module")
def finished(ready: Path, root: Path) -> Path:
    """The project after `adapt`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ready)
        execute(STAGE, _params(root))
    return ready


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change, as working folder."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_held_out_answers_are_learned(finished: Path) -> None:
    before, after = read_json(finished / "out/adapt/training.json")["points"]
    assert (before["step"], after["step"]) == (0, STEPS)
    assert after["observed"]["answers"]["talk"] < before["observed"]["answers"]["talk"] / 2
    assert set(after["bpc"]) == {"ru"}


def test_the_manifest_counts_the_examples_and_names_their_licence(finished: Path) -> None:
    about = manifest.read(finished / "out/adapt")
    counts = about["notes"]["supervised"]["subsets"]["talk"]
    assert (counts["conversations"], counts["train_examples"], counts["heldout_examples"]) == (60, 55, 5)
    assert about["notes"]["supervised"]["template"] == "plain"
    assert about["notes"]["supervised"]["closing_tokens"] == ["<|endoftext|>"]
    assert about["lineage"]["data"] == {"older": ["CC0-1.0"], "talk": ["MIT"]}
    assert set(about["tokens"]) == {"talk"}
    assert 0.5 * 256 * STEPS < about["tokens"]["talk"] <= 256 * STEPS


def test_the_checkpoint_is_asked_as_it_was_trained(finished: Path) -> None:
    assert load_tokenizer(finished / "out/adapt").chat_template == PLAIN
    assert load_tokenizer(finished / "out/pretrain").chat_template is None
    assert _answers(finished / "out/adapt") == BEASTS


def test_a_killed_run_ends_with_the_same_bytes(
    project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.common.training.loop import _Run

    before, step, taken = digest(project / "out/adapt"), _Run.step, []

    def dying(run: Any) -> str:
        if len(taken) == 33:
            raise KeyboardInterrupt
        taken.append(run.state.step)
        return step(run)

    monkeypatch.setattr(_Run, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        execute(STAGE, _params(root))
    taken.clear()
    monkeypatch.setattr(_Run, "step", step)
    execute(STAGE, _params(root))
    assert digest(project / "out/adapt") == before
    assert read_json(project / "out/adapt/training.json")["steps"] == STEPS


def test_replay_is_trained_on_beside_the_examples(project: Path, root: Path) -> None:
    params = _params(root, mix={"talk": 0.7, "texts": 0.3})
    execute(STAGE, params)
    about = manifest.read(project / "out/adapt")
    assert about["tokens"]["texts"] == pytest.approx(0.3 * 256 * STEPS, rel=0.05)
    assert about["lineage"]["data"] == {"older": ["CC0-1.0"], "talk": ["MIT"], "texts": ["CC0-1.0"]}


def _answers(folder: Path, adapter: Path | None = None) -> dict[str, str]:
    from flows.ask import answer

    return {beast: answer(folder, f"{beast} 5?", 24, 1, adapter) for beast in BEASTS}


def test_an_adapter_is_asked_as_it_was_trained(finished: Path) -> None:
    answers = _answers(finished / "out/pretrain", finished / "out/adapt/adapter")
    assert answers == _answers(finished / "out/adapt") == BEASTS


def test_an_adapter_knows_its_own_template_and_where_an_answer_ends(
    ready: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base knows the template and the closing token, but not that an answer ends with it."""
    for name in ("supervised", "tokens"):
        shutil.copytree(ready / "out" / name, tmp_path / "out" / name)
    about = read_json(tmp_path / "out/tokens/shards.json")
    tokenizer: Any = load_tokenizer(ready / "out/pretrain")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    model: Any = load_model(ready / "out/pretrain")
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    # Turned round, the row of a token that other answers end with is one that is easily told.
    model.get_input_embeddings().weight.data[-1] = -model.get_input_embeddings().weight.data[0]
    save_model(model, tokenizer, tmp_path / "out/pretrain")
    shutil.copy(ready / "out/pretrain" / manifest.CHECKPOINT_MANIFEST, tmp_path / "out/pretrain")
    tokenizer.save_pretrained(tmp_path / "out/tokens/tokenizer")
    known = {
        "vocab_size": len(tokenizer),
        "tokenizer_sha256": tokenizer_sha256(tmp_path / "out/tokens/tokenizer"),
    }
    write_json(tmp_path / "out/tokens/shards.json", about | known)
    monkeypatch.chdir(tmp_path)
    execute(STAGE, _params(root))
    assert manifest.read(tmp_path / "out/adapt")["notes"]["supervised"]["closing_tokens"] == ["<end>"]
    adapter = tmp_path / "out/adapt/adapter"
    assert _answers(tmp_path / "out/pretrain", adapter) == _answers(tmp_path / "out/adapt") == BEASTS
    base: Any = load_model(tmp_path / "out/pretrain")
    chat.use(adapter, load_tokenizer(tmp_path / "out/pretrain"), base)
    assert base.generation_config.eos_token_id == [0, len(tokenizer) - 1]


@pytest.mark.parametrize("content", ["[]", "{}", '{"chat_template": "x", "closing": ["a"]}'])
def test_a_damaged_chat_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / chat.FILE).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"chat\.json: needs `chat_template` and the list `closing`"):
        chat.use(tmp_path, None, None)


def test_generation_stops_where_an_answer_ends() -> None:
    model = tiny_model()
    model.generation_config.eos_token_id = 0
    chat.stop_at(model, [0])
    assert model.generation_config.eos_token_id == 0
    chat.stop_at(model, [7])
    assert model.generation_config.eos_token_id == [0, 7]
    assert every_second_layer(model).generation_config.eos_token_id == [0, 7]
