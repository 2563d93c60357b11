"""The data contract: every expectation with its severity. `critical` stops the run, `warning` is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DOCUMENTS = "documents"
CORPUS = "corpus"
COLUMNS = (
    "id",
    "source",
    "subset",
    "language",
    "licence",
    "split",
    "n_chars",
    "n_words",
    "cyrillic_share",
    "latin_share",
    "digit_share",
    "punct_share",
    "lang",
    "lang_score",
    "mojibake",
    "repeated_line_share",
    "pii",
    "sha256",
)
SHARES = ("cyrillic_share", "latin_share", "digit_share", "punct_share", "lang_score", "repeated_line_share")


@dataclass(frozen=True)
class Rule:
    """An expectation: `kind` is a class of great_expectations.expectations, `arguments` are its own."""

    name: str
    table: str
    severity: Literal["critical", "warning"]
    kind: str
    arguments: Mapping[str, Any]


def _column(
    severity: Literal["critical", "warning"], name: str, check: str, column: str, **arguments: Any
) -> Rule:
    return Rule(name, DOCUMENTS, severity, f"ExpectColumnValuesTo{check}", {"column": column, **arguments})


def _corpus(
    severity: Literal["critical", "warning"], name: str, least: float | None, most: float | None
) -> Rule:
    bounds = {"column": name, "min_value": least, "max_value": most}
    return Rule(name, CORPUS, severity, "ExpectColumnMaxToBeBetween", bounds)


def schema_rules() -> list[Rule]:
    """What the columns must be for the later stages to work at all."""
    present = {"column_set": [*COLUMNS, "chars_per_word"], "exact_match": True}
    rules = [Rule("columns", DOCUMENTS, "critical", "ExpectTableColumnsToMatchSet", present)]
    named = ("id", "source", "subset", "language", "licence", "lang", "sha256")
    rules += [_column("critical", f"{column}_given", "NotBeNull", column) for column in named]
    rules += [
        _column("critical", "id_unique", "BeUnique", "id"),
        _column("critical", "content_unique", "BeUnique", "sha256"),
        _column("critical", "licence_named", "MatchRegex", "licence", regex=r"\S"),
        _column("critical", "split_known", "BeInSet", "split", value_set=["train", "heldout"]),
        _column("critical", "sha256_form", "MatchRegex", "sha256", regex=r"^[0-9a-f]{64}$"),
        _column("critical", "language_form", "MatchRegex", "language", regex=r"^[a-z]{2}$"),
        _column("critical", "n_chars_positive", "BeBetween", "n_chars", min_value=1),
        _column("critical", "n_words_positive", "BeBetween", "n_words", min_value=1),
        _column("critical", "pii_counted", "BeBetween", "pii", min_value=0),
    ]
    rules += [
        _column("critical", f"{column}_is_share", "BeBetween", column, min_value=0, max_value=1)
        for column in SHARES
    ]
    return rules


def quality_rules() -> list[Rule]:
    """What good text looks like, document by document; outliers are worth a look, not a stop."""
    return [
        _column(
            "warning", "chars_per_word", "BeBetween", "chars_per_word", min_value=3, max_value=13, mostly=0.99
        ),
        _column("warning", "repeated_lines", "BeBetween", "repeated_line_share", max_value=0.32, mostly=0.99),
        _column("warning", "digits", "BeBetween", "digit_share", max_value=0.3, mostly=0.99),
        _column("warning", "punctuation", "BeBetween", "punct_share", max_value=0.25, mostly=0.99),
        _column("warning", "language_sure", "BeBetween", "lang_score", min_value=0.5, mostly=0.95),
    ]


def corpus_rules(block: Any) -> list[Rule]:
    """Bounds on the corpus as a whole; `block` is `validation` of params.yaml."""
    return [
        _corpus("critical", "documents", block.min_documents, None),
        _corpus("critical", "dropped_share", None, block.max_dropped_share),
        _corpus("critical", "foreign_share", None, block.max_foreign_share),
        _corpus("critical", "mojibake_share", None, block.max_mojibake_share),
        _corpus("critical", "subsets_without_train", None, 0),
        _corpus("critical", "subsets_without_heldout", None, 0),
        _corpus("warning", "largest_subset_loss", None, 0.5),
        _corpus("warning", "unreadable_share", None, 0.001),
        _corpus("warning", "pii_documents_share", None, 0.2),
        _corpus("warning", "median_chars", 100, None),
        _corpus("warning", "truth_recall", 0.95, None),
    ]


def contract(block: Any) -> list[Rule]:
    """All rules, in the order of the verdict."""
    return [*schema_rules(), *quality_rules(), *corpus_rules(block)]
