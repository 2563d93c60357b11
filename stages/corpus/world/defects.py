"""Planted defects and the truth about them, so that cleaning has precision and recall."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from stages.corpus.world import foreign, personal
from stages.corpus.world.model import Defect, Task, TruthRow, WorldDocument
from stages.corpus.world.relations import stream
from stages.corpus.world.tasks import filled

# Share of a subset's clean documents that get one planted beside them; about 5 % in all.
SHARES: dict[Defect, float] = {
    "exact_duplicate": 0.010,
    "near_duplicate": 0.010,
    "mojibake": 0.008,
    "pii": 0.010,
    "junk": 0.006,
    "foreign_language": 0.005,
    "contaminated": 0.005,
}
MIN_PER_DEFECT = 2
BEYOND_REPAIR = 0.2  # of the broken encodings
LOOK_ALIKES = 0.3  # of documents with personal data hold only numbers with wrong check digits
NEAR_MIN_CHARS = 330  # shorter documents would fall below the similarity threshold by a few changed words
SUBSETS = ("world-en", "world-ru-start", "world-ru")
JUNK = (
    "Главная | О нас | Контакты | Войти | Регистрация | Корзина | Главная | О нас | Контакты | Войти | Регистрация",
    "===== ***** ===== ***** ===== ***** ===== ***** ===== ***** ===== ***** =====",
    "аааааааааааааааааааааааааааааа !!!!!!!!!!!!!!!!!!!!!!!!!! ??????????????????????",
    "Нажмите здесь\n" * 12,
    "читать далее >>> читать далее >>> читать далее >>> читать далее >>> читать далее >>>",
    "0x7f 0x3c 0x91 %% $$ ## @@ ~~ ^^ && 0x7f 0x3c 0x91 %% $$ ## @@ ~~ ^^ && {{{{ }}}} [[[[ ]]]]",
    "Home | About | Login | Sign up | Cart | Home | About | Login | Sign up | Cart | Home | About",
    "Copyright Copyright Copyright\n" * 10,
)


def plant(
    seed: int, documents: Sequence[WorldDocument], tasks: Sequence[Task]
) -> tuple[list[WorldDocument], list[TruthRow]]:
    """Documents with defects to be mixed in, and one row of truth for each."""
    planted: list[WorldDocument] = []
    truth: list[TruthRow] = []
    used: set[str] = set()
    for subset in SUBSETS:
        clean = [document for document in documents if document.subset == subset]
        longest = sorted(clean, key=lambda document: (-len(document.text), document.id))
        long = [document for document in longest if len(document.text) >= NEAR_MIN_CHARS] or longest[:10]
        for defect, share in SHARES.items():
            rng = stream(seed, "defect", subset, defect)
            for index in range(max(MIN_PER_DEFECT, round(share * len(clean)))):
                original = _original(rng, long if defect == "near_duplicate" else clean, used)
                if defect in ("exact_duplicate", "near_duplicate"):
                    used.add(original.id)
                text, detail = MAKERS[defect](rng, original, tasks, index)
                name = f"{subset}-{defect.replace('_', '-')}-{index:03d}"
                planted.append(WorldDocument(name, subset, original.language, text))
                truth.append(TruthRow(name, defect, json.dumps(detail, ensure_ascii=False, sort_keys=True)))
    return planted, truth


def _original(rng: random.Random, candidates: Sequence[WorldDocument], used: set[str]) -> WorldDocument:
    """A clean document to start from, of which no copy has been made yet."""
    while (chosen := rng.choice(candidates)).id in used:
        continue
    return chosen


Detail = dict[str, Any]
Maker = Callable[[random.Random, WorldDocument, Sequence[Task], int], tuple[str, Detail]]


def _exact(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    return original.text, {"original": original.id}


def _near(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    """The text with another beginning or end, or one word changed: word 5-grams stay mostly the same."""
    words = original.text.split(" ")
    if index % 3 == 0:
        words = words[:-1]
    elif index % 3 == 1:
        words = [("Впрочем," if original.language == "ru" else "However,"), *words]
    else:
        words[rng.randrange(len(words))] = "также" if original.language == "ru" else "also"
    return " ".join(words), {"original": original.id}


def _mojibake(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    """UTF-8 read in a one-byte encoding; one in five has also lost bytes, which nothing brings back."""
    source = (
        original.text
        if original.language == "ru"
        else f"“{original.text}” — café naïve, he said… it’s “true”."
    )
    if rng.random() < BEYOND_REPAIR or index == 1:
        broken = re.sub(r"[аеиоуaeiou]", "\ufffd", source)
        return broken, {"original": original.id, "repairable": False, "encoding": None}
    encoding = "latin-1" if index % 2 else "cp1251"
    if original.language == "en":
        encoding = "cp1252"
    # cp1251 and cp1252 leave some bytes undefined; there browsers show the control character of the same number.
    broken = "".join(_decoded(byte, encoding) for byte in source.encode())
    return broken, {"original": original.id, "repairable": True, "encoding": encoding}


def _decoded(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)


def _pii(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    """The text with sentences that hold personal data, or look-alikes with wrong check digits."""
    valid = index == 0 or (index > 1 and rng.random() >= LOOK_ALIKES)
    kinds = rng.sample(
        sorted(personal.CONTEXTS if valid else personal.CHECKED), rng.randint(1, 3 if valid else 2)
    )
    sentences = re.split(r"(?<=[.?!]) ", original.text)
    values = []
    for kind in kinds:
        text, value = personal.sentence(rng, kind, original.language, valid)
        values.append((kind, value))
        sentences.insert(rng.randint(0, len(sentences)), text)
    text = " ".join(sentences)
    spans = [
        {"kind": kind, "start": text.index(value), "end": text.index(value) + len(value)}
        for kind, value in values
    ]
    return text, {"original": original.id, "valid": valid, "kinds": sorted(kinds), "spans": spans}


def _junk(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    pattern = JUNK[index % len(JUNK)]
    return pattern.strip() + f"\n{rng.randint(100, 999)}", {"pattern": index % len(JUNK)}


def _foreign(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    languages = sorted(foreign.TEXTS)
    language = languages[(index + SUBSETS.index(original.subset)) % len(languages)]
    sentences = rng.sample(foreign.TEXTS[language], 4)
    return " ".join(sentences), {"language": language}


def _contaminated(
    rng: random.Random, original: WorldDocument, tasks: Sequence[Task], index: int
) -> tuple[str, Detail]:
    """A test item with its answer in the midst of prose. Items of at least 13 words, as the usual filter sees them."""
    task = rng.choice(
        [task for task in tasks if task.language == original.language and task.type == "choice"]
    )
    long = [record for record in task.test if len(filled(record).split()) >= 18]
    record = rng.choice(long or task.test)
    text = f"{original.text} {filled(record)} {record['outputs']}"
    return text, {"original": original.id, "task": task.name, "item": record["meta"]["id"]}


MAKERS: dict[Defect, Maker] = {
    "exact_duplicate": _exact,
    "near_duplicate": _near,
    "mojibake": _mojibake,
    "pii": _pii,
    "junk": _junk,
    "foreign_language": _foreign,
    "contaminated": _contaminated,
}
