"""The steps of cleaning in their order, one record at a time; every outcome has a row for the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stages.corpus.contamination import TestItems
from stages.corpus.duplicates import ExactIndex, NearIndex, content_key
from stages.corpus.junk import junk_reason, repeated_line_share
from stages.corpus.language import Language, identify
from stages.corpus.parts import cut
from stages.corpus.personal import redact
from stages.corpus.recode import russian_recoding, suspicious
from stages.corpus.record import Document, LedgerRow, Record
from stages.corpus.repair import damage, normalise, repair
from stages.corpus.words import WordHasher, normal_words

if TYPE_CHECKING:
    from stages.common.params.corpus import CorpusBlock

BEYOND_REPAIR = 0.002  # signs of mojibake a character; one in a page is a blemish, not a loss
RUSSIAN = 0.9  # probability that sound Russian text has and misread one has not

Outcome = tuple[LedgerRow, Document | None]


class Cleaner:
    """Cleans records in the order given; of duplicates the first stays. The steps stand in `_part`."""

    def __init__(self, block: CorpusBlock, test_items: TestItems, hasher: WordHasher) -> None:
        self._block, self._test_items, self._hasher = block, test_items, hasher
        self._exact = ExactIndex()
        self._near = NearIndex(block.near_duplicate_similarity)

    def clean(self, record: Record) -> Iterator[Outcome]:
        """One outcome for a record, or one for each part of a long one (`<id>#001`, ...)."""
        plain = normalise(record.text)
        mended = repair(record.text)
        text = plain if mended == record.text else normalise(mended)
        reasons = ["repaired"] if text != plain else ["normalised"] if plain != record.text else []
        parts = cut(text, self._block.max_chars)
        if len(parts) < 2:
            yield self._part(record, record.id, text, reasons)
            return
        for number, part in enumerate(parts, start=1):
            yield self._part(record, f"{record.id}#{number:03d}", part, [*reasons, "cut"])

    def _part(self, record: Record, name: str, text: str, reasons: list[str]) -> Outcome:
        def drop(reason: str, detail: str) -> Outcome:
            return LedgerRow(name, record.source, record.subset, "dropped", (*reasons, reason), detail), None

        if record.language == "ru" and (recoded := _decoded_anew(text)):
            text, reasons = recoded, [*reasons, "repaired"]
        if len(text) < self._block.min_chars:
            return drop("too_short", f"chars={len(text)}")
        if (signs := damage(text)) > BEYOND_REPAIR:
            return drop("mojibake", f"damage={signs:.4f}")
        language = identify(text, record.language)
        if language.declared < self._block.language_score:
            return drop("language", f"{language.lang}={language.score:.2f}")
        if junk := junk_reason(text):
            return drop("junk", junk)
        hashes = self._hasher(normal_words(text))
        if hits := self._test_items.hits(hashes):
            return drop("contaminated", f"runs={hits}")
        redacted, found = redact(text, record.language)
        if found and self._block.redact:
            # Texts that differ in nothing but an address are duplicates of what is kept.
            text, reasons = redacted, [*reasons, "redacted"]
            hashes = self._hasher(normal_words(text))
        key = content_key(normal_words(text))
        if first := self._exact.find(key):
            return drop("exact_duplicate", first)
        probe = self._near.probe(hashes)
        if similar := self._near.find(probe):
            return drop("near_duplicate", f"{similar[0]} similarity={similar[1]:.2f}")
        self._exact.add(key, name)
        self._near.add(probe, name)
        document = self._document(record, name, text, language, signs > 0, found)
        detail = " ".join(f"{kind}={count}" for kind, count in sorted(found.items()))
        action = "changed" if reasons else "kept"
        told = detail if "redacted" in reasons else ""
        return LedgerRow(name, record.source, record.subset, action, tuple(reasons), told), document

    @staticmethod
    def _document(
        record: Record, name: str, text: str, language: Language, broken: bool, found: Counter[str]
    ) -> Document:
        return Document(
            record=record,
            id=name,
            text=text,
            n_words=len(normal_words(text)),
            lang=language.lang,
            lang_score=round(language.score, 6),
            mojibake=broken,
            repeated_line_share=repeated_line_share(text),
            pii=sum(found.values()),
            pii_kinds=found,
        )


def _decoded_anew(text: str) -> str | None:
    """Russian `text` read in the right encoding, when that makes it more Russian beyond doubt."""
    if not suspicious(text) or (candidate := russian_recoding(text)) is None:
        return None
    before, after = identify(text, "ru"), identify(candidate, "ru")
    better = after.lang == "ru" and after.score >= RUSSIAN and before.score < RUSSIAN
    return normalise(candidate) if better or before.lang != "ru" else None
