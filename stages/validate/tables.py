"""What the contract looks at: documents without their text, and one row about the whole corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.atomic import read_json
from stages.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TEXT = "text"


def read_documents(corpus: Path) -> pd.DataFrame:
    """documents.parquet without its text: raw text never enters Great Expectations or its pages.

    Raises `UserError` when the table is missing or damaged.
    """
    import pyarrow
    import pyarrow.parquet as pq

    path = corpus / "documents.parquet"
    try:
        names = [name for name in pq.read_schema(path).names if name != TEXT]
        frame = pq.read_table(path, columns=names).to_pandas()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the stage corpus (dvc repro corpus)") from error
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: damaged parquet file ({error}); run the stage corpus again") from error
    if "n_chars" in frame and "n_words" in frame:
        frame["chars_per_word"] = frame["n_chars"] / frame["n_words"].clip(lower=1)
    return frame


def corpus_row(corpus: Path, documents: pd.DataFrame) -> pd.DataFrame:
    """One row about the corpus: shares of what was dropped, foreign, broken or unreadable, quantiles, recall.

    Quantiles are computed here because the quantile expectation of Great Expectations 1.24 cannot be stored
    under NumPy 2. `truth_recall` is the least recall over the planted defects, 1 when no truth is known.
    """
    import pandas as pd

    summary = read_json(corpus / "summary.json")
    read, kept = summary["documents_read"], len(documents)
    records = sum(summary["records"].values())
    return pd.DataFrame(
        [
            {
                "documents": kept,
                "dropped_share": summary["actions"]["dropped"] / max(read, 1),
                "foreign_share": _share(documents["lang"] != documents["language"]),
                "mojibake_share": _share(documents["mojibake"]),
                "unreadable_share": summary["unreadable"]["count"] / max(records, 1),
                "subsets_without_train": _without(documents, "train"),
                "subsets_without_heldout": _without(documents, "heldout"),
                "largest_subset_loss": _largest_loss(summary["subsets"]),
                "median_chars": float(documents["n_chars"].median()) if kept else 0.0,
                "pii_documents_share": _share(documents["pii"] > 0),
                "truth_recall": _least_recall(summary["truth"]),
            }
        ]
    )


def _share(flags: Any) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _without(documents: pd.DataFrame, split: str) -> int:
    subsets = set(documents["subset"])
    return len(subsets - set(documents.loc[documents["split"] == split, "subset"]))


def _largest_loss(subsets: dict[str, Any]) -> float:
    return max((1 - counts["kept"] / max(counts["read"], 1) for counts in subsets.values()), default=0.0)


def _least_recall(truth: dict[str, Any] | None) -> float:
    return min((defect["recall"] for defect in truth["recall"].values()), default=1.0) if truth else 1.0


def plain(value: Any) -> Any:
    """`value` as plain JSON types, floats to six digits; NumPy scalars have no place in a verdict."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if isinstance(value, int | str | bool | None) else json.loads(json.dumps(value, default=str))
