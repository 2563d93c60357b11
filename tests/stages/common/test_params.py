"""params.yaml: one clear line for every mistake, and nothing but the declared blocks for a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from params_fakes import fitting

from stages.common.errors import UserError
from stages.common.params import Params, load, parse, resolved, select
from stages.common.params.corpus import WORLD_SUBSETS, WORLD_TASKS
from stages.common.params.schema import parent_of
from stages.corpus.world import generate


@pytest.fixture
def values(root: Path) -> dict[str, Any]:
    """The default parameters as plain values."""
    return dict(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")))


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *blocks, last = key.split(".")
    for block in blocks:
        values = values[int(block)] if isinstance(values, list) else values[block]
    values[last] = value


def _error(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        parse(values, "params.yaml")
    message = str(error.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    return message


def test_the_default_file_is_valid(root: Path) -> None:
    assert load(root / "params.yaml").corpus.sources[0].type == "world"


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        (
            "pretrain.training.learning_rat",
            1,
            ["unknown key `pretrain.training.learning_rat`", "`learning_rate`"],
        ),
        ("sede", 1, ["unknown key `sede`", "did you mean `seed`?"]),
        ("corpus.sources.0.sede", 1, ["unknown key `corpus.sources.0.sede`; did you mean `seed`?"]),
        ("base.bootstrap.mixx", {}, ["unknown key `base.bootstrap.mixx`; did you mean `mix`?"]),
        ("candidates.adapt-bf16.recip", "bf16", ["`candidates.adapt-bf16.recip`; did you mean `recipe`?"]),
        ("gate.against_parent.0.margn", 0, ["`gate.against_parent.0.margn`; did you mean `margin`?"]),
        ("judge.zzz", 1, ["unknown key `judge.zzz`; allowed: enabled, families, grades, judges, labels"]),
        ("judge.judges.0.mdel", "x", ["unknown key `judge.judges.0.mdel`"]),
        ("judge.passport.consistency.at_most", 0.9, ["`judge.passport.consistency`: a threshold has one of"]),
        ("judge.passport.accuracy", {"at_least": 0.6}, ["key `judge.passport.accuracy.source` is missing"]),
        ("judge.passport.accurac", {}, ["did you mean `accuracy`?"]),
        ("corpus.heldout_share", 0.7, ["key `corpus.heldout_share` is 0.7", "less than or equal to 0.5"]),
        ("seed", -1, ["key `seed` is -1", "greater than or equal to 0"]),
        ("seed", "one", ["key `seed` is 'one'", "valid integer"]),
        ("threads", 0, ["key `threads` is 0"]),
        ("corpus.sources", [], ["key `corpus.sources`", "at least 1 item"]),
        ("device", "tpu", ["key `device` is 'tpu'", "'cuda'"]),
        ("gate.alpha", float("nan"), ["key `gate.alpha`", "finite"]),
        ("adapt.method", "magic", ["adapt", "there is no method `magic`; built: lora"]),
        ("base.source", "local", ["base", "source `local` needs `path`"]),
        ("corpus.max_chars", 10, ["key `corpus.max_chars` is 10"]),
        ("gate.against_champion.0.kind", "equal", ["`gate.against_champion.0.kind`", "'superiority'"]),
        ("gate.against_anchor", {"teacher": []}, ["gate.against_anchor", "'base' or 'pretrain'"]),
        ("gate.slices", [{"name": "x", "metrics": ["bpc_ru"], "margin": 0}], ["slices and floors are not"]),
        ("gate.slices", [{"name": "x", "metrics": ["truth"] * 2, "margin": 0}], ["name a task twice"]),
        ("gate.groups", {"safety": ["truth"]}, ["group `safety` is named by no rule"]),
        ("gate.groups", {"total": ["truth"]}, ["group `total` has the name of a metric"]),
        ("gate.groups", {"safety": ["truth", "truth"]}, ["group `safety` names a task twice"]),
        ("gate.groups", {"safety": ["bpc_ru"]}, ["groups are made of tasks"]),
        ("gate.floors", [{"metric": "trut", "at_least": 0.5}], ["`trut`; did you mean `truth`?"]),
        ("gate.floors", [{"metric": "truth", "at_least": 1.5}], ["less than 1"]),
        ("gate.budgets", [{"measure": "latency_ms", "at_most": 1}], ["`latency_ms` needs `prompt_tokens`"]),
        (
            "gate.budgets",
            [{"measure": "latency_ms", "at_most": 1, "prompt_tokens": 7}],
            ["names prompts of 7 tokens; add them to measure.prompt_tokens"],
        ),
        (
            "gate.budgets",
            [{"measure": "load_s", "at_most": 1, "quantile": "p95"}],
            ["`load_s` takes no `quantile`"],
        ),
        ("gate.licences", [], ["gate.licences", "at least 1 item"]),
        ("gate.max_contamination", 1.5, ["gate.max_contamination", "less than 1"]),
    ],
)
def test_one_line_names_key_value_and_what_is_allowed(
    values: dict[str, Any], key: str, value: Any, parts: list[str]
) -> None:
    _set(values, key, value)
    message = _error(values)
    for part in parts:
        assert part in message


def test_slices_need_rounds_that_let_them_fire(values: dict[str, Any]) -> None:
    """Of 11 slices the least p-value of 200 rounds, corrected, is .055: no alarm could ever sound."""
    values["gate"]["slices"] = [{"name": "all", "metrics": list(WORLD_TASKS[:11]), "margin": 0.05}]
    values["gate"]["bootstrap_rounds"] = 200
    assert "the 11 slices of `all` at alpha 0.05 need 220 or more" in _error(values)
    values["gate"]["bootstrap_rounds"] = 220
    parse(values, "params.yaml")


def test_a_group_may_stand_where_a_task_may(values: dict[str, Any]) -> None:
    values["gate"]["groups"] = {"safety": ["truth", "order"]}
    values["gate"]["floors"] = [{"metric": "safety", "at_least": 0.5}]
    values["gate"]["slices"] = [{"name": "all", "metrics": ["safety", "grammar"], "margin": 0.05}]
    assert set(parse(values, "params.yaml").gate.metrics) >= {"truth", "order", "grammar"}
    values["gate"]["groups"]["safety"][1] = "ordr"
    assert "`ordr`; did you mean `order`?" in _error(values)


def test_a_missing_key_is_named(values: dict[str, Any]) -> None:
    del values["tokens"]["vocab_size"]
    assert "key `tokens.vocab_size` is missing" in _error(values)


def test_a_key_that_dvc_looks_for_is_missed_before_dvc_does(values: dict[str, Any]) -> None:
    del values["adapt"]["data"]
    assert "key `adapt.data` is missing; set it to null, or to supervised files" in _error(values)


def test_every_mistake_is_named_at_once(values: dict[str, Any]) -> None:
    values["seed"], values["threads"] = -1, 0
    message = _error(values)
    assert "`seed`" in message
    assert "`threads`" in message


def test_source_of_unknown_type(values: dict[str, Any]) -> None:
    values["corpus"]["sources"][0]["type"] = "web"
    assert "corpus.sources.0" in _error(values)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"template": "{question}"}, None),
        ({"template": "no places"}, "template names no field"),
        ({"subset": "Bad Name"}, "corpus.sources.0"),
        ({"language": "rus"}, "corpus.sources.0"),
        ({"paths": []}, "corpus.sources.0"),
    ],
)
def test_files_source(values: dict[str, Any], change: dict[str, Any], part: str | None) -> None:
    source = {"type": "files", "paths": ["a"], "subset": "s", "language": "ru", "licence": "MIT"} | change
    values["corpus"]["sources"].insert(0, source)
    if part is None:
        assert parse(values, "params.yaml").corpus.sources[0].subset == "s"
    else:
        assert part in _error(values)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        (
            "pretrain.mix",
            {"world-rus": 1.0},
            "the subset `world-rus`; did you mean `world-ru`?",
        ),
        (
            "base.bootstrap.mix",
            {"xx": 1.0},
            "`base.bootstrap.mix` names the subset `xx`; corpus",
        ),
        ("gate.against_champion.0.metric", "totl", "names the metric `totl`; did you mean `total`?"),
        ("gate.against_parent.0.metric", "bpc_de", "names the metric `bpc_de`; did you mean `bpc_"),
        ("base.bootstrap.training.sequence_length", 4096, "a model that is trained from scratch takes 1024"),
        ("adapt.training.sequence_length", 2048, "`adapt.training.sequence_length` is 2048"),
        ("base.revision", "main", "revision is of a hub model"),
    ],
)
def test_what_one_block_names_another_declares(
    values: dict[str, Any], key: str, value: Any, part: str
) -> None:
    _set(values, key, value)
    assert part in _error(values)


def test_a_second_world_is_refused(values: dict[str, Any]) -> None:
    values["corpus"]["sources"].append({"type": "world", "seed": 8})
    assert "two embedded worlds" in _error(values)


@pytest.mark.parametrize(
    ("block", "change", "part"),
    [
        ("evaluate", {"suites": ["world"]}, "`evaluate.suites: world` needs the embedded world"),
        ("evaluate", {"questions": 10}, "`evaluate.questions` needs the embedded world"),
        ("judge", {"enabled": True}, "`judge.judges: embedded` needs the embedded world"),
    ],
)
def test_what_needs_the_world_says_so(
    values: dict[str, Any], block: str, change: dict[str, Any], part: str
) -> None:
    source = {"type": "files", "paths": ["a"], "subset": "s", "language": "ru", "licence": "MIT"}
    values["corpus"]["sources"] = [source]
    values = fitting(values)
    assert parse(values, "params.yaml").corpus.languages == {"s": "ru"}
    values[block] |= change
    assert part in _error(values)


def test_the_names_of_the_world_are_those_that_it_writes(values: dict[str, Any]) -> None:
    world = generate(7, 0.1, 20)
    assert set(WORLD_TASKS) == set(world.tasks)
    assert {document.subset: document.language for document in world.documents} == WORLD_SUBSETS


FAR = {"type": "endpoint", "name": "far", "address": "http://h/v1", "model": "m", "bases": ["owner/m"]}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"judges": [FAR]}, "judge `far` is behind an address, and `texts_may_leave` is false"),
        ({"judges": [FAR, FAR], "texts_may_leave": True}, "two judges have one name (far, far)"),
        ({"judges": [{**FAR, "bases": []}]}, "key `judge.judges.0.bases`"),
        ({"judges": [{**FAR, "bases": ["gpt"]}]}, "key `judge.judges.0.bases.0`"),
        ({"judges": [{**FAR, "type": "near"}]}, "key `judge.judges.0`"),
        ({"judges": []}, "key `judge.judges`"),
        ({"grades": ["purity.ru"]}, "the embedded judge knows no rubric; leave `grades` empty"),
        (
            {"judges": [FAR], "grades": ["grade.ru", "my/grade.ru.yaml"]},
            "two rubrics of one name (grade.ru, ",
        ),
        ({"probe_pairs": 0}, "`passport.injection` needs `probe_pairs`"),
    ],
)
def test_judges_that_cannot_be_are_refused(values: dict[str, Any], change: dict[str, Any], part: str) -> None:
    good = values["judge"] | {"judges": [FAR], "texts_may_leave": True}
    values["judge"] |= {"texts_may_leave": "grades" in change} | change
    assert part in _error(values)
    values["judge"] = good | {"grades": ["grade.ru", "my/purity.yaml"]}
    assert parse(values, "params.yaml").judge.outside == {"judge.grades.1": "my/purity.yaml"}


def test_a_stage_sees_single_keys_of_blocks(values: dict[str, Any]) -> None:
    reads = select(parse(values, "params.yaml"), ("seed", "judge.enabled", "judge.raters"))
    assert resolved(reads) == {"judge": {"enabled": True, "raters": "crowd"}, "seed": 1}
    with pytest.raises(AttributeError, match="key `pairs`"):
        _ = reads.judge.pairs


def test_candidate_must_be_named_after_source_and_recipe(values: dict[str, Any]) -> None:
    values["candidates"]["adapt-int8"] = {"source": "adapt", "recipe": "bf16"}
    assert "must be named `adapt-bf16`" in _error(values)


CUT = {
    "method": "finegates",
    "rank": None,
    "alpha": None,
    "target_modules": None,
    "shrink": {"share": 0.3, "mode": "global", "gate_learning_rate": 0.02},
}


def test_a_cut_is_held_against_the_model_before_it(values: dict[str, Any]) -> None:
    values["adapt"] |= CUT
    values["gate"]["against_anchor"] = {"base": [{"metric": "total", "margin": 0.1}]}
    said = "method `finegates` cuts the model, so `adapt-bf16` is no longer an uncompressed parent; declare "
    assert said in _error(values)
    values["gate"]["against_anchor"] = {"pretrain": [{"metric": "total", "margin": 0.1}]}
    assert parse(values, "params.yaml").adapt.cuts


def test_what_was_not_cut_cannot_be_recovered(values: dict[str, Any]) -> None:
    values["distill"]["student"] = "adapt"
    assert "`distill.student: adapt` recovers a model that was cut, and method `lora` cuts" in _error(values)
    values["adapt"] |= CUT
    values["gate"]["against_anchor"] = {"pretrain": [{"metric": "total", "margin": 0.1}]}
    assert parse(values, "params.yaml").distill.folder is None
    values["distill"]["student"] = "./adapt"
    assert parse(values, "params.yaml").distill.folder == "./adapt"


def test_parents_of_candidates(values: dict[str, Any]) -> None:
    candidates = parse(values, "params.yaml").candidates
    assert parent_of("adapt-bf16", candidates) is None
    assert parent_of("adapt-higgs-4bit", candidates) == "adapt-bf16"
    assert parent_of("distill-higgs-4bit", candidates) == "adapt-bf16"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"seed: [", "not readable as YAML"),
        (b"- a\n- b\n", "expected blocks of keys, found list"),
        (b"", "expected blocks of keys, found NoneType"),
        ("seed: 1 # в".encode("cp1251"), "not UTF-8 text"),
    ],
)
def test_unreadable_file(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=part) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run in the project"):
        load(tmp_path / "params.yaml")


def test_a_stage_sees_only_what_it_declares(root: Path) -> None:
    reads = select(load(root / "params.yaml"), ("seed", "tokens"))
    assert reads.seed == 1
    with pytest.raises(
        AttributeError, match=r"`corpus` of params\.yaml is not among those this stage declares"
    ):
        _ = reads.corpus


def test_a_cell_sees_only_itself(root: Path) -> None:
    reads = resolved(select(load(root / "params.yaml"), ("candidates",), "adapt-ternary"))
    no_budget = {"bits": None, "bytes": None, "alphas": None}
    assert reads == {"candidates": {"adapt-ternary": {"recipe": "ternary", "source": "adapt", **no_budget}}}


def test_resolved_parameters_have_every_default(values: dict[str, Any]) -> None:
    del values["corpus"]["max_chars"]
    assert resolved(select(parse(values, "p"), ("corpus",)))["corpus"]["max_chars"] == 20_000


def test_parameters_are_frozen(root: Path) -> None:
    params: Params = load(root / "params.yaml")
    with pytest.raises(Exception, match="frozen"):
        params.seed = 2  # type: ignore[misc]


API = {"api": {"address": "https://example.org/v1", "model": "m"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "generative"}, "key `evaluate.mode` is 'generative'"),
        ({"shots": 11}, "key `evaluate.shots` is 11"),
        ({"draw": "random"}, "key `evaluate.draw` is 'random'"),
        ({"mode": "generate", "endpoints": API}, "endpoint `api` is sent the texts of all items; allow that"),
        ({"texts_may_leave": True, "endpoints": API}, "endpoint `api` gives no log-probabilities of choices"),
        (
            {"texts_may_leave": True, "mode": "generate", "endpoints": {"champion": API["api"]}},
            "endpoint `champion` has the name of a cell",
        ),
        (
            {"endpoints": {"api": {"address": "https://u:p@example.org/v1", "model": "m"}}},
            "key `evaluate.endpoints.api.address`",
        ),
    ],
)
def test_the_block_evaluate_refuses_what_cannot_be(
    values: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    values["evaluate"] |= changes
    assert said in _error(values)


def test_shots_may_be_each_tasks_own_and_a_cell_sees_its_own_endpoint(values: dict[str, Any]) -> None:
    named = {**API, "other": API["api"]}
    values["evaluate"] |= {"shots": None, "mode": "generate", "texts_may_leave": True, "endpoints": named}
    params = parse(values, "params.yaml")
    assert params.evaluate.shots is None
    assert list(select(params, ["evaluate"], "other").evaluate.endpoints) == ["other"]
    assert select(params, ["evaluate"], "adapt-bf16").evaluate.endpoints == {}
