"""Counts over the whole corpus, kept while documents pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stages.corpus.heldout import Size
from stages.corpus.record import Document, LedgerRow, Record


class Tally:
    """Ledger, sizes and counts; `held` is set once the split is chosen."""

    def __init__(self) -> None:
        self.ledger: list[LedgerRow] = []
        self.sizes: list[Size] = []
        self.held: set[str] = set()
        self._declared: dict[str, Counter[str]] = {}
        self._licences: dict[str, set[str]] = {}
        self._kept: Counter[tuple[str, str]] = Counter()
        self._foreign = self._mojibake = self._pii = 0
        self._pii_kinds: Counter[str] = Counter()

    @property
    def documents(self) -> int:
        """How many documents were kept."""
        return len(self.sizes)

    def add(self, row: LedgerRow, record: Record, document: Document | None) -> None:
        """Count one outcome of cleaning."""
        self.ledger.append(row)
        self._declared.setdefault(record.subset, Counter())[record.language] += 1
        if document is None:
            return
        self._licences.setdefault(record.subset, set()).add(record.licence)
        self.sizes.append(Size(document.id, record.id, record.subset, len(document.text)))
        self._kept[(record.subset, document.lang)] += 1
        self._foreign += document.lang != record.language
        self._mojibake += document.mojibake
        self._pii += document.pii > 0
        self._pii_kinds += document.pii_kinds

    def reasons_in_words(self) -> str:
        """Why documents were dropped, most frequent first: `junk 3, too_short 2`."""
        counts = Counter(row.reasons[-1] for row in self.ledger if row.action == "dropped")
        return (
            ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "no record was read"
        )

    def licences(self) -> dict[str, list[str]]:
        """Licences of the kept documents by subset."""
        return {subset: sorted(names) for subset, names in sorted(self._licences.items())}

    def summary(self) -> dict[str, Any]:
        """The counts as a JSON value; no text, no personal data."""
        read = Counter(row.subset for row in self.ledger)
        actions = Counter(row.action for row in self.ledger)
        return {
            "documents_read": len(self.ledger),
            "documents_kept": self.documents,
            "characters_kept": sum(size.chars for size in self.sizes),
            "actions": {action: actions[action] for action in ("kept", "changed", "dropped")},
            "reasons": dict(sorted(Counter(reason for row in self.ledger for reason in row.reasons).items())),
            "subsets": {subset: self._subset(subset, read[subset]) for subset in sorted(read)},
            "languages": dict(sorted(self._language_counts().items())),
            "foreign_documents": self._foreign,
            "mojibake_documents": self._mojibake,
            "pii_documents": self._pii,
            "pii": dict(sorted(self._pii_kinds.items())),
        }

    def _language_counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, language), count in self._kept.items():
            counts[language] += count
        return counts

    def _subset(self, subset: str, read: int) -> dict[str, Any]:
        sizes = [size for size in self.sizes if size.subset == subset]
        held = [size for size in sizes if size.id in self.held]
        rows = [row for row in self.ledger if row.subset == subset and row.action == "dropped"]
        return {
            "languages": dict(sorted(self._declared[subset].items())),
            "read": read,
            "kept": len(sizes),
            "dropped": dict(sorted(Counter(row.reasons[-1] for row in rows).items())),
            "characters": sum(size.chars for size in sizes),
            "heldout": {"documents": len(held), "characters": sum(size.chars for size in held)},
        }
