"""The junk filter: each rule fires on its kind of junk and lets prose, verse, plays and sums pass."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from stages.corpus.junk import junk_reason, longest_run, repeated_line_share
from stages.corpus.parts import cut

VERSE = """Мороз и солнце; день чудесный!
Ещё ты дремлешь, друг прелестный —
Пора, красавица, проснись:
Открой сомкнуты негой взоры
Навстречу северной Авроры,
Звездою севера явись!"""
PLAY = """Городничий. Я пригласил вас, господа, с тем чтобы сообщить вам пренеприятное известие.
Аммос Фёдорович. Как ревизор?
Артемий Филиппович. Как ревизор?
Городничий. Ревизор из Петербурга, инкогнито."""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("слово", "words"),
        ("купить " * 30, "word_run"),
        ("Нажмите здесь.\n" * 12, "duplicate_lines"),
        ("===== ***** " * 8 + "раз два три четыре", "letters"),
        ("{мир} [дом] <сад> {лес} [река] <море> {гора}", "symbols"),
        ("100 200 300 400 500 600 700 800 девять", "letters"),
        ("А б в г д е ж з и к л м н о п", "mean_word"),
        ("приветкакдела" * 8 + " раз два три", "mean_word"),
        ("один два три раз " * 12, "distinct_words"),
        ("Да\nнет\nда же\nнет уж\nвот\nтак\nони\nмы\nты\nэто всё\nя\nмы тут", "line_ends"),
    ],
)
def test_junk_is_named_by_its_rule(text: str, rule: str) -> None:
    reason = junk_reason(text.strip())
    assert reason is not None
    assert reason.startswith(f"{rule}=")


def test_repeated_phrases_in_a_long_text() -> None:
    spam = " ".join(f"слово{n} мысль{n} дело{n} купить дёшево в нашем магазине" for n in range(60))
    assert "gram=" in (junk_reason(spam) or "")


@pytest.mark.parametrize(
    "text",
    [
        VERSE,
        PLAY,
        "Сколько будет 6 + 5?\nОтвет: 11",
        "Ха-ха-ха! — смеялся он, и все смеялись вместе с ним, сами не зная отчего.",
        "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    ],
)
def test_text_passes(text: str) -> None:
    assert junk_reason(text) is None


def test_runs_and_repeated_lines() -> None:
    assert longest_run([]) == 0
    assert longest_run(list("abbbcc")) == 3
    assert repeated_line_share("а\nб\nа\n\nа") == 0.5


@pytest.mark.parametrize("name", ["blok", "lermontov", "nekrasov"])
def test_classic_verse_and_prose_pass(shared_data: Path, name: str) -> None:
    with gzip.open(shared_data / "ru_classics" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    parts = [part for text in texts for part in cut(text, 20_000)]
    reasons = [reason for part in parts if (reason := junk_reason(part))]
    assert len(parts) > 20
    assert len(reasons) <= 0.01 * len(parts), reasons
