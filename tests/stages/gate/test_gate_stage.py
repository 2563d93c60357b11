"""Stage gate: reads what the other stages wrote, refuses the stale, writes the contracted decision.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.common import checkpoint
from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError
from stages.common.params import Params, load, select
from stages.gate.stage import STAGE, locate, run

COLUMNS = ["task", "doc_hash", "prompt_hash", "cluster", "metric", "value"]
CHECK_KEYS = {
    "rule",
    "against",
    "metric",
    "margin",
    "difference",
    "ci_low",
    "n",
    "clusters",
    "verdict",
    "text",
    "method",
    "p",
    "power",
    "plan",
}


def write_model(folder: Path, sign: str) -> str:
    """Something with a digest of its own, where a checkpoint is expected."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(sign.encode())
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return checkpoint.digest(folder)


def write_evaluation(folder: Path, digest: str, accuracy: float, bits: float) -> None:
    """scores.json and items.parquet of a model that is right on `accuracy` of 400 items."""
    folder.mkdir(parents=True)
    stated = {
        "shots": 0,
        "data": "d",
        "batch_size": 32,
        "precision": "fp32",
        "task_versions": {"cities": "1"},
    }
    write_json(folder / "scores.json", {"model": {"digest": digest}, "conditions": stated})
    rows: list[tuple[Any, ...]] = []
    right = np.random.default_rng(0).random(400) < accuracy
    rows += [("cities", f"d{i}", f"p{i}", f"c{i}", "acc", float(right[i])) for i in range(400)]
    for language in ("ru", "en"):
        for i in range(60):
            head = (f"bpc_{language}", f"d{i}", f"p{i}", f"d{i}")
            rows += [(*head, "bits", bits * (100 + i)), (*head, "chars", 100.0 + i)]
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(folder / "items.parquet")


@pytest.fixture
def params(root: Path) -> Params:
    whole = load(root / "params.yaml")
    names = ("adapt-bf16", "adapt-ternary")
    return whole.model_copy(update={"candidates": {name: whole.candidates[name] for name in names}})


@pytest.fixture
def house(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Outs of a run in which adapt-bf16 is better than the champion and adapt-ternary is damaged."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    champion = write_model(out / "base", "base")
    write_json(tmp_path / "champion.json", {"version": None, "digest": None, "path": "out/base"})
    write_evaluation(out / "evaluate" / "champion", champion, 0.5, 1.0)
    (out / "validate").mkdir()
    write_json(out / "validate" / "verdict.json", {"passed": True})
    for name, accuracy, bits, size in (("adapt-bf16", 0.9, 0.5, 4000), ("adapt-ternary", 0.6, 0.9, 700)):
        write_evaluation(out / "evaluate" / name, write_model(out / "quantize" / name, name), accuracy, bits)
        (out / "measure" / name).mkdir(parents=True)
        write_json(out / "measure" / name / "measures.json", {"bytes": size})
        (out / "judge" / name).mkdir(parents=True)
        write_json(out / "judge" / name / "summary.json", {"votes": False, "reason": "it is switched off"})
    return tmp_path


def decide(params: Params, house: Path) -> dict[str, Any]:
    """Run the stage's function and read its decision."""
    inputs, _ = locate(params, None)
    target = house / "staged"
    target.mkdir(exist_ok=True)
    run(select(params, STAGE.reads), inputs, {"gate": target})
    return dict(read_json(target / "decision.json"))


def test_the_decision_has_the_contracted_form(params: Params, house: Path) -> None:
    decision = decide(params, house)
    assert decision["champion"]["version"] is None and decision["champion"]["digest"] is None
    assert decision["winner"] == "adapt-bf16"
    assert decision["rule"] == "smallest"
    ternary = decision["candidates"]["adapt-ternary"]
    assert (ternary["verdict"], ternary["parent"], ternary["bytes"]) == ("fail", "adapt-bf16", 700)
    assert set(ternary["checks"][0]) == CHECK_KEYS
    assert decision["schema"] == 2
    assert ternary["judge"] == {"votes": False, "reason": "it is switched off"}
    assert 0 <= ternary["equal_passes_all"][0] <= ternary["equal_passes_all"][1] <= 1
    assert any("adapt-bf16" in reason and "significantly worse" in reason for reason in ternary["reasons"])
    assert "the judge does not vote: it is switched off" in ternary["reasons"]


def test_the_same_inputs_give_the_same_bytes(params: Params, house: Path) -> None:
    decide(params, house)
    first = (house / "staged" / "decision.json").read_bytes()
    decide(params, house)
    assert (house / "staged" / "decision.json").read_bytes() == first


def test_scores_of_another_checkpoint_are_refused(params: Params, house: Path) -> None:
    (house / "out/quantize/adapt-bf16/model.safetensors").write_bytes(b"retrained")
    with pytest.raises(UserError, match="run `dvc repro`"):
        decide(params, house)


def test_scores_of_another_champion_are_refused(params: Params, house: Path) -> None:
    write_json(house / "champion.json", {"version": 3, "digest": "f" * 64, "path": "out/base"})
    with pytest.raises(UserError, match=r"champion\.json names ffffffffffff"):
        decide(params, house)


def test_the_champions_version_and_digest_are_named(params: Params, house: Path) -> None:
    digest = checkpoint.digest(house / "out/base")
    write_json(house / "champion.json", {"version": 3, "digest": digest, "path": "out/base"})
    assert decide(params, house)["champion"] == {"version": 3, "digest": digest, "compared": digest}


def test_a_champion_with_another_tokenizer_is_compared_and_named(params: Params, house: Path) -> None:
    for name in ("adapt-bf16", "adapt-ternary", "champion"):
        path = house / f"out/evaluate/{name}/scores.json"
        scores = read_json(path)
        scores["model"]["tokenizer"] = "old" if name == "champion" else "new"
        write_json(path, scores)
    decision = decide(params, house)
    assert decision["winner"] == "adapt-bf16"
    for candidate in decision["candidates"].values():
        named = [reason for reason in candidate["reasons"] if "another tokenizer" in reason]
        assert [reason.partition(" has ")[0] for reason in named] == ["champion"]


def test_data_that_broke_the_contract_stops_the_gate(params: Params, house: Path) -> None:
    write_json(house / "out/validate/verdict.json", {"passed": False})
    with pytest.raises(UserError, match="did not pass validation"):
        decide(params, house)


@pytest.mark.parametrize("measures", [{}, {"bytes": None}, {"bytes": True}, {"bytes": 0}])
def test_a_missing_size_closes_the_gate(params: Params, house: Path, measures: dict[str, Any]) -> None:
    write_json(house / "out/measure/adapt-bf16/measures.json", measures)
    entry = decide(params, house)["candidates"]["adapt-bf16"]
    assert (entry["verdict"], entry["bytes"]) == ("fail", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("evaluate/adapt-bf16/scores.json", "expected an object, found list"),
        ("judge/adapt-bf16/summary.json", "expected an object, found list"),
        ("measure/adapt-bf16/measures.json", "expected an object, found list"),
        ("validate/verdict.json", "expected an object, found list"),
        ("validate/contamination.json", "expected an object, found list"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name(params: Params, house: Path, name: str, said: str) -> None:
    write_json(house / "out" / name, [])
    with pytest.raises(UserError, match=f"{name}: {said}"):
        decide(params, house)


@pytest.mark.parametrize("scores", [{"model": []}, {"model": {"digest": "d"}, "conditions": []}, {}])
def test_scores_without_digest_or_conditions_are_refused(
    params: Params, house: Path, scores: dict[str, Any]
) -> None:
    write_json(house / "out/evaluate/champion/scores.json", scores)
    with pytest.raises(UserError, match=r"needs `model` with its digest, and `conditions`"):
        decide(params, house)


def test_verdicts_that_cannot_be_read_are_refused(params: Params, house: Path) -> None:
    vote(house, 0.9)
    path = house / "out/judge/adapt-bf16/verdicts.parquet"
    pd.read_parquet(path).drop(columns="label").to_parquet(path)
    with pytest.raises(UserError, match=r"verdicts\.parquet: columns label are missing"):
        decide(params, house)
    path.write_bytes(b"no table")
    with pytest.raises(UserError, match=r"verdicts\.parquet: not readable"):
        decide(params, house)


def vote(house: Path, preference: float, **about: str) -> None:
    """Let a judge vote about adapt-bf16."""
    folder = house / "out/judge/adapt-bf16"
    scores = [read_json(house / f"out/evaluate/{name}/scores.json") for name in ("adapt-bf16", "champion")]
    digests = {"candidate": scores[0]["model"]["digest"], "champion": scores[1]["model"]["digest"], **about}
    judge = {"digest": "j" * 64, "rubric": "r" * 64}
    write_json(folder / "summary.json", {"votes": True, "reason": "", "judge": judge, **digests})
    write_json(folder / "passport.json", {"schema": 1, "judge": judge, "valid": True, "reasons": []})
    row = {"preference": preference, "asked": True, "label": float("nan")}
    rows = [{"id": str(i), "cluster": str(i), **row} for i in range(100)]
    pd.DataFrame([*rows, {"id": "lost", "cluster": "lost"}]).to_parquet(folder / "verdicts.parquet")
    known = [
        {"truth": side, "preference": value, "asked": True, "cluster": f"{side} {i}"}
        for side, value in (("ours", 0.9), ("theirs", 0.1))
        for i in range(50)
    ]
    pd.DataFrame(known).to_parquet(folder / "labelled.parquet")


def test_a_trusted_judge_can_hold_a_candidate_back(params: Params, house: Path) -> None:
    vote(house, 0.1)
    decision = decide(params, house)
    assert decision["candidates"]["adapt-bf16"]["verdict"] == "fail"
    assert decision["winner"] is None
    vote(house, 0.9)
    assert decide(params, house)["winner"] == "adapt-bf16"


def test_a_judge_without_a_valid_passport_does_not_hold_it_back(params: Params, house: Path) -> None:
    vote(house, 0.1)
    passport = {"schema": 1, "judge": None, "valid": False, "reasons": ["consistency is 0.2"]}
    write_json(house / "out/judge/adapt-bf16/passport.json", passport)
    decision = decide(params, house)
    assert decision["winner"] == "adapt-bf16"
    said = decision["candidates"]["adapt-bf16"]["reasons"]
    assert "the judge does not vote: no valid passport: consistency is 0.2" in said


def test_verdicts_about_other_checkpoints_are_refused(params: Params, house: Path) -> None:
    vote(house, 0.9, champion="0" * 64)
    with pytest.raises(UserError, match="other checkpoints"):
        decide(params, house)


def test_no_number_of_the_decision_is_infinite_or_nan(params: Params, house: Path) -> None:
    items = house / "out/evaluate/adapt-bf16/items.parquet"
    table = pd.read_parquet(items)
    table.loc[table["task"] == "cities", "value"] = float("nan")
    table.to_parquet(items)
    decision = decide(params, house)
    assert decision["candidates"]["adapt-bf16"]["verdict"] == "fail"
    json.dumps(decision, allow_nan=False)


def with_rules(params: Params, **rules: Any) -> Params:
    """The default rules and these."""
    block = {**params.gate.model_dump(), **rules}
    return params.model_copy(update={"gate": type(params.gate).model_validate(block)})


ANCHOR = {"base": [{"metric": "bpc_en", "margin": 0.05, "relative": True}]}


def test_a_fixed_anchor_holds_what_the_champion_lets_through(params: Params, house: Path) -> None:
    base = checkpoint.digest(house / "out/base")
    write_evaluation(house / "out/evaluate/base", base, 0.4, 0.4)
    found = decide(with_rules(params, against_anchor=ANCHOR), house)["candidates"]["adapt-bf16"]
    assert found["verdict"] == "fail"
    assert [check["against"] for check in found["checks"] if check["verdict"] == "fail"] == ["base"]


def test_a_cut_candidate_is_held_against_the_model_before_the_cut(params: Params, house: Path) -> None:
    """Its own bf16 model was cut too, so it can say nothing about what the cut cost."""
    cut = params.model_copy(update={"adapt": params.adapt.model_copy(update={"method": "finegates"})})
    rules = {"against_anchor": {"pretrain": [{"metric": "bpc_ru", "margin": 0.2, "relative": True}]}}
    uncut = write_model(house / "out/pretrain", "pretrain")
    write_evaluation(house / "out/evaluate/pretrain", uncut, 0.9, 0.5)
    assert decide(with_rules(cut, **rules), house)["winner"] == "adapt-bf16"
    shutil.rmtree(house / "out/evaluate/pretrain")
    write_evaluation(house / "out/evaluate/pretrain", uncut, 0.9, 0.4)
    found = decide(with_rules(cut, **rules), house)
    entry = found["candidates"]["adapt-bf16"]
    assert (entry["verdict"], entry["parent"], found["winner"]) == ("fail", None, None)
    (failed,) = [check for check in entry["checks"] if check["verdict"] == "fail"]
    assert (failed["against"], failed["metric"]) == ("pretrain", "bpc_ru")


def test_the_licences_of_the_manifest_are_held_against_the_list(params: Params, house: Path) -> None:
    lineage = {"base": {"licence": "Apache-2.0"}, "data": {"web": ["CC-BY-NC-4.0"]}}
    for name in ("adapt-bf16", "adapt-ternary"):
        write_json(house / f"out/quantize/{name}/gorn.json", {"lineage": lineage})
    strict = with_rules(params, licences=["Apache-2.0"])
    reasons = decide(strict, house)["candidates"]["adapt-bf16"]["reasons"]
    assert "licence not allowed: subset web (CC-BY-NC-4.0); allowed: Apache-2.0" in reasons
    allowed = with_rules(params, licences=["Apache-2.0", "CC-BY-NC-4.0"])
    assert decide(allowed, house)["winner"] == "adapt-bf16"


def test_contamination_is_read_from_validate(params: Params, house: Path) -> None:
    strict = with_rules(params, max_contamination=0.0)
    assert decide(strict, house)["winner"] is None
    counts = {"cities": {"items": 400, "contaminated": 0, "too_short": 100, "examples": []}}
    write_json(house / "out/validate/contamination.json", {"ngram": 13, "tasks": counts})
    assert decide(strict, house)["winner"] == "adapt-bf16"
    stricter = with_rules(params, max_contamination=0.0, max_too_short=0.2)
    reasons = decide(stricter, house)["candidates"]["adapt-bf16"]["reasons"]
    assert "too short to tell: 100 of 400 items of cities" in reasons[0]
    counts["cities"]["contaminated"] = 1
    write_json(house / "out/validate/contamination.json", {"ngram": 13, "tasks": counts})
    assert decide(strict, house)["winner"] is None


def test_budgets_are_read_from_the_measures(params: Params, house: Path) -> None:
    budget = with_rules(params, budgets=[{"measure": "peak_rss_bytes", "at_most": 1e9}])
    assert decide(budget, house)["winner"] is None
    for name in ("adapt-bf16", "adapt-ternary"):
        write_json(house / f"out/measure/{name}/measures.json", {"bytes": 1000, "peak_rss_bytes": 10**8})
    assert decide(budget, house)["winner"] == "adapt-bf16"


def test_models_scored_on_different_items_are_not_compared(params: Params, house: Path) -> None:
    items = house / "out/evaluate/adapt-bf16/items.parquet"
    pd.read_parquet(items).iloc[1:].to_parquet(items)
    found = decide(params, house)["candidates"]["adapt-bf16"]
    assert found["verdict"] == "not comparable"
    assert "1 of 400 items of cities were scored for one of the two models" in found["reasons"][0]
