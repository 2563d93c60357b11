"""The data contract: good corpora pass, each breach is named with its value, and no text gets out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from evals import prompts, suites
from evals.errors import EvalError
from stages.common.errors import UserError
from stages.common.hashing import sha256_bytes
from stages.common.params import Params, load
from stages.common.stage import execute
from stages.validate.contract import CORPUS, DOCUMENTS, contract
from stages.validate.expectations import check
from stages.validate.stage import STAGE, explain
from stages.validate.tables import corpus_row, plain, read_documents

SECRET = "тайный текст документа"
MakeCorpus = Callable[..., Path]


def _documents(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"d{n}" for n in range(count)],
            "source": "own.jsonl",
            "subset": "own",
            "language": "ru",
            "licence": "MIT",
            "split": ["heldout" if n % 10 == 0 else "train" for n in range(count)],
            "text": [f"{SECRET} {n}" for n in range(count)],
            "n_chars": 300,
            "n_words": 50,
            "cyrillic_share": 0.8,
            "latin_share": 0.0,
            "digit_share": 0.01,
            "punct_share": 0.03,
            "lang": "ru",
            "lang_score": 0.99,
            "mojibake": False,
            "repeated_line_share": 0.0,
            "pii": 0,
            "sha256": [sha256_bytes(str(n).encode()) for n in range(count)],
        }
    )


def _summary(kept: int, dropped: int) -> dict[str, Any]:
    return {
        "documents_read": kept + dropped,
        "actions": {"kept": kept, "changed": 0, "dropped": dropped},
        "records": {"own.jsonl": kept + dropped},
        "unreadable": {"count": 0, "first": []},
        "subsets": {"own": {"read": kept + dropped, "kept": kept}},
        "truth": {"recall": {"junk": {"recall": 1.0}}, "precision": {}},
    }


@pytest.fixture
def make_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCorpus:
    """Write a corpus of good documents, changed by `change`, in a project of its own."""
    monkeypatch.chdir(tmp_path)

    def make(
        change: Callable[[pd.DataFrame], Any] | None = None, dropped: int = 10, count: int = 600
    ) -> Path:
        corpus = Path("out/corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        documents = _documents(count)
        if change:
            change(documents)
        documents.to_parquet(corpus / "documents.parquet")
        (corpus / "summary.json").write_text(json.dumps(_summary(count, dropped)))
        _write_task(corpus / "tasks", [_item(n, f"слово {n}") for n in range(3)])
        Path("out/sources").mkdir(exist_ok=True)
        return corpus

    return make


def _item(number: int, question: str) -> dict[str, Any]:
    text = (
        "Прочитай вопрос внимательно и ответь на него одним словом без пояснений и лишних знаков: {question}"
    )
    return {
        "instruction": text,
        "inputs": {"question": question},
        "outputs": "да",
        "meta": {"id": number},
    }


def _write_task(tasks: Path, test: list[dict[str, Any]], train: Sequence[dict[str, Any]] = ()) -> None:
    (tasks / "asked").mkdir(parents=True, exist_ok=True)
    for split, rows in (("test", test), ("train", train)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tasks / "asked" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    (tasks / "index.json").write_text('{"asked": {"language": "ru", "type": "generate"}}')


@pytest.fixture
def params(root: Path) -> Params:
    """The default parameters: at least 500 documents, at most 30 % dropped."""
    return load(root / "params.yaml")


def _outcomes(corpus: Path, params: Params, docs: Path) -> dict[str, dict[str, Any]]:
    documents = read_documents(corpus)
    tables = {DOCUMENTS: documents, CORPUS: corpus_row(corpus, documents)}
    return {row["name"]: row for row in check(contract(params.validation), tables, docs)}


def test_a_good_corpus_passes_with_the_same_bytes_twice(make_corpus: MakeCorpus, params: Params) -> None:
    make_corpus()
    execute(STAGE, params)
    first = Path("out/validate/verdict.json").read_bytes()
    verdict = json.loads(first)
    assert verdict["passed"] is True
    assert verdict["failed"] == {"critical": [], "warning": []}
    assert verdict["expectations"] == len(verdict["outcomes"]) == len(contract(params.validation))
    assert Path("out/validate_docs/index.html").is_file()
    assert Path("out/validate.manifest.json").is_file()
    execute(STAGE, params)
    assert Path("out/validate/verdict.json").read_bytes() == first
    for file in Path("out").rglob("*.html"):
        assert SECRET not in file.read_text(encoding="utf-8")


def test_a_critical_failure_names_values_and_leaves_the_earlier_verdict(
    make_corpus: MakeCorpus, params: Params
) -> None:
    make_corpus()
    execute(STAGE, params)
    before = Path("out/validate/verdict.json").read_bytes()

    def damage(documents: pd.DataFrame) -> None:
        documents.loc[:99, "lang"] = "uk"
        documents.loc[5, "licence"] = " "

    make_corpus(damage, dropped=400)
    with pytest.raises(UserError) as error:
        execute(STAGE, params)
    message = str(error.value)
    assert "dropped_share is 0.4, allowed at most 0.3" in message
    assert "foreign_share is 0.166667, allowed at most 0.01" in message
    assert "licence_named fails for 1 documents" in message
    assert "\n" not in message
    assert Path("out/validate/verdict.json").read_bytes() == before
    failed = json.loads(Path(".gorn/failed/validate/verdict.json").read_text(encoding="utf-8"))
    assert failed["passed"] is False
    assert Path(".gorn/failed/validate/docs/index.html").is_file()


def test_each_breach_breaks_its_own_rule(make_corpus: MakeCorpus, params: Params, tmp_path: Path) -> None:
    def damage(documents: pd.DataFrame) -> None:
        documents.loc[1, "id"] = "d0"
        documents.loc[2, "sha256"] = documents.loc[3, "sha256"]
        documents.loc[4, "split"] = "test"
        documents.loc[6, "cyrillic_share"] = 1.5
        documents.loc[7, "n_words"] = 0
        documents["mojibake"] = [n < 30 for n in range(len(documents))]
        documents["repeated_line_share"] = [0.9 if n < 60 else 0.0 for n in range(len(documents))]

    rows = _outcomes(make_corpus(damage), params, tmp_path / "docs")
    assert {name for name, row in rows.items() if not row["success"]} == {
        "id_unique",
        "content_unique",
        "split_known",
        "cyrillic_share_is_share",
        "n_words_positive",
        "mojibake_share",
        "repeated_lines",
    }
    assert rows["mojibake_share"]["observed"] == 0.05
    assert rows["repeated_lines"]["severity"] == "warning"
    assert rows["repeated_lines"]["unexpected_share"] == 0.1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda documents: documents.drop(columns="pii", inplace=True), "columns"),
        (lambda documents: documents.__setitem__("extra", 1), "columns"),
        (lambda documents: documents.__setitem__("split", "train"), "subsets_without_heldout"),
        (lambda documents: documents.drop(index=range(300), inplace=True), "documents"),
    ],
)
def test_the_table_as_a_whole(
    make_corpus: MakeCorpus, params: Params, tmp_path: Path, change: Callable[[pd.DataFrame], Any], rule: str
) -> None:
    corpus = make_corpus(change)
    documents = read_documents(corpus)
    row = corpus_row(corpus, documents if "pii" in documents else documents.assign(pii=0))
    outcomes = check(contract(params.validation), {DOCUMENTS: documents, CORPUS: row}, tmp_path / "docs")
    assert not {outcome["name"]: outcome["success"] for outcome in outcomes}[rule]


def test_a_low_recall_of_cleaning_is_a_warning(make_corpus: MakeCorpus, params: Params) -> None:
    corpus = make_corpus()
    summary = _summary(600, 10)
    summary["truth"]["recall"]["pii"] = {"recall": 0.5}
    (corpus / "summary.json").write_text(json.dumps(summary))
    execute(STAGE, params)
    verdict = json.loads(Path("out/validate/verdict.json").read_text(encoding="utf-8"))
    assert verdict["passed"] is True
    assert verdict["failed"]["warning"] == ["truth_recall"]


def test_text_never_reaches_the_checks(make_corpus: MakeCorpus) -> None:
    assert "text" not in read_documents(make_corpus())


def test_missing_and_damaged_tables(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus()
    path = corpus / "documents.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged parquet file"):
        read_documents(corpus)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        read_documents(corpus)


def test_values_are_plain() -> None:
    import numpy as np

    value = plain({"a": np.float64(0.1234567), "b": (np.bool_(True), np.int64(3), None, "x")})
    assert json.dumps(value) == '{"a": 0.123457, "b": [true, 3, null, "x"]}'


def test_rules_in_words() -> None:
    outcome = {
        "name": "x",
        "arguments": {"min_value": 5, "max_value": None},
        "unexpected": None,
        "observed": 3,
    }
    assert explain(outcome) == "x is 3, allowed at least 5"


def test_every_rule_has_its_own_name() -> None:
    bounds = SimpleNamespace(min_documents=1, max_dropped_share=1, max_foreign_share=1, max_mojibake_share=1)
    names = [rule.name for rule in contract(bounds)]
    assert len(set(names)) == len(names)


PASSAGE = (
    "Ёлка стояла у окна, а под ней лежал серый кот, который всю ночь ждал мышей; утром пришёл дед и "
    "спросил кота, где же мыши, но кот молчал и смотрел в окно на снег."
)


def _contamination() -> dict[str, Any]:
    return dict(json.loads(Path("out/validate/contamination.json").read_text(encoding="utf-8")))


def test_items_that_stand_in_training_documents_are_counted_and_named(
    make_corpus: MakeCorpus, params: Params
) -> None:
    """Found through case, punctuation and ё; a held-out document, a template and training items are none."""
    words = PASSAGE.split()
    leaked = _item(1, PASSAGE)
    heldout = _item(2, " ".join(reversed(words)))
    shared = _item(3, " ".join(words[::2] + words[1::2]))
    short = _item(4, "семь плюс пять")
    own = _item(5, " ".join(words[10:] + words[:5]) + " и больше ничего не было")

    def plant(documents: pd.DataFrame) -> None:
        documents.loc[1, "text"] = f"Рассказ. {' '.join(words[3:17])}".upper().replace("Ё", "Е")
        documents.loc[10, "text"] = str(heldout["inputs"]["question"])  # every tenth is held out
        documents.loc[2, "text"] = str(shared["inputs"]["question"])
        documents.loc[3, "text"] = leaked["instruction"].replace("{question}", "семь плюс пять")

    corpus = make_corpus(plant)
    _write_task(corpus / "tasks", [leaked, heldout, shared, short, own], [{**shared, "meta": {"id": 9}}])
    execute(STAGE, params)
    found = _contamination()
    assert found["ngram"] == 13
    (example,) = found["tasks"]["asked"].pop("examples")
    assert found["tasks"] == {"asked": {"items": 5, "contaminated": 1, "too_short": 1}}
    task = suites.load([corpus / "tasks"]).tasks[0]
    assert example == prompts.doc_hash(task, task.test[0])
    first = Path("out/validate/contamination.json").read_bytes()
    execute(STAGE, params)
    assert Path("out/validate/contamination.json").read_bytes() == first


def test_a_suite_that_cannot_be_read_ends_before_any_training(
    make_corpus: MakeCorpus, params: Params
) -> None:
    corpus = make_corpus()
    _write_task(corpus / "tasks", [{"instruction": "x"}])
    with pytest.raises(EvalError, match=r"asked/test\.jsonl:1: field `inputs` is missing"):
        execute(STAGE, params)
    assert not Path("out/validate").exists()
