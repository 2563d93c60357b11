"""Planted defects and the truth about them, so that cleaning has precision and recall."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.common.hashing import sha256_bytes
from stages.corpus.world import foreign, personal
from stages.corpus.world.model import Defect, Task, TruthRow, WorldDocument
from stages.corpus.world.relations import stream
from stages.corpus.world.tasks import answer_text, inputs_text

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
TAKING = (
    "mojibake",
    "pii",
    "contaminated",
)  # these take the place of the clean document that they are made from
LOOK_ALIKES = 0.3  # of documents with personal data hold only numbers with wrong check digits
CONTAMINATED_WORDS = 13
NEAR_MIN_WORDS = 60  # shorter documents would fall below the similarity threshold by a few changed words
SUBSETS = ("world-en", "world-ru-start", "world-ru")
JUNK = (
    "Главная | О нас | Контакты | Войти | Регистрация | Корзина | Главная | О нас | Контакты | Войти",
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
    """The documents with defects mixed in at the end, and one row of truth for each.

    A broken, private or contaminated text takes the place of a clean one, so that no twin of it stays;
    duplicates, junk and foreign texts come on top. No document is used twice.
    """
    planted: list[WorldDocument] = []
    truth: list[TruthRow] = []
    used: set[str] = set()
    taken: set[str] = set()
    for subset in SUBSETS:
        clean = [document for document in documents if document.subset == subset]
        words = {document.id: len(document.text.split()) for document in clean}
        longest = sorted(clean, key=lambda document: (-words[document.id], document.id))
        long = [document for document in longest if words[document.id] >= NEAR_MIN_WORDS] or longest[:10]
        for defect, share in SHARES.items():
            rng = stream(seed, "defect", subset, defect)
            for index in range(max(MIN_PER_DEFECT, round(share * len(clean)))):
                original = _original(rng, long if defect == "near_duplicate" else clean, used)
                used.add(original.id)
                if defect in TAKING:
                    taken.add(original.id)
                text, detail = MAKERS[defect](Draft(rng, original, tasks, index))
                name = f"{subset}-{defect.replace('_', '-')}-{index:03d}"
                clusters = original.cluster_ids if defect in TAKING else ()
                planted.append(WorldDocument(name, subset, original.language, text, clusters))
                truth.append(TruthRow(name, defect, json.dumps(detail, ensure_ascii=False, sort_keys=True)))
    return [document for document in documents if document.id not in taken] + planted, truth


def _original(rng: random.Random, candidates: Sequence[WorldDocument], used: set[str]) -> WorldDocument:
    """A clean document to start from, of which no copy has been made yet."""
    while (chosen := rng.choice(candidates)).id in used:
        continue
    return chosen


Detail = dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """What a maker starts from: the clean document, the tasks, and the number of the defect in its subset."""

    rng: random.Random
    original: WorldDocument
    tasks: Sequence[Task]
    index: int


Maker = Callable[[Draft], tuple[str, Detail]]


def _exact(draft: Draft) -> tuple[str, Detail]:
    return draft.original.text, {"original": draft.original.id}


def _near(draft: Draft) -> tuple[str, Detail]:
    """The text with another beginning or end, or one word changed: word 5-grams stay mostly the same."""
    words = draft.original.text.split(" ")
    if draft.index % 3 == 0:
        words = words[:-1]
    elif draft.index % 3 == 1:
        words = [("Впрочем," if draft.original.language == "ru" else "However,"), *words]
    else:
        words[draft.rng.randrange(len(words))] = "также" if draft.original.language == "ru" else "also"
    return " ".join(words), {"original": draft.original.id}


def _mojibake(draft: Draft) -> tuple[str, Detail]:
    """UTF-8 read in a one-byte encoding; one in five has also lost bytes, which nothing brings back."""
    source = (
        draft.original.text
        if draft.original.language == "ru"
        else f"“{draft.original.text}” — café naïve, he said… it’s “true”."
    )
    if draft.rng.random() < BEYOND_REPAIR or draft.index == 1:
        broken = re.sub(r"[аеиоуaeiou]", "\ufffd", source)
        return broken, {"repairable": False, "encoding": None}
    encoding = "latin-1" if draft.index % 2 else "cp1251"
    if draft.original.language == "en":
        encoding = "cp1252"
    # Where cp1251 and cp1252 leave a byte undefined, browsers show the control character of that number.
    broken = "".join(_decoded(byte, encoding) for byte in source.encode())
    return broken, {"repairable": True, "encoding": encoding, "clean_sha256": sha256_bytes(source.encode())}


def _decoded(byte: int, encoding: str) -> str:
    try:
        return bytes([byte]).decode(encoding)
    except UnicodeDecodeError:
        return chr(byte)


def _pii(draft: Draft) -> tuple[str, Detail]:
    """The text with sentences that hold personal data, or look-alikes with wrong check digits."""
    valid = draft.index == 0 or (draft.index > 1 and draft.rng.random() >= LOOK_ALIKES)
    kinds = draft.rng.sample(
        sorted(personal.CONTEXTS if valid else personal.CHECKED), draft.rng.randint(1, 3 if valid else 2)
    )
    sentences = re.split(r"(?<=[.?!]) ", draft.original.text)
    values = []
    for kind in kinds:
        text, value = personal.sentence(draft.rng, kind, draft.original.language, valid)
        values.append((kind, value))
        sentences.insert(draft.rng.randint(0, len(sentences)), text)
    text = " ".join(sentences)
    spans = [
        {"kind": kind, "start": text.index(value), "end": text.index(value) + len(value)}
        for kind, value in values
    ]
    return text, {"valid": valid, "kinds": sorted(kinds), "spans": spans}


def _junk(draft: Draft) -> tuple[str, Detail]:
    pattern = JUNK[draft.index % len(JUNK)]
    return pattern.strip() + f"\n{draft.rng.randint(100, 999)}", {"pattern": draft.index % len(JUNK)}


def _foreign(draft: Draft) -> tuple[str, Detail]:
    languages = sorted(foreign.TEXTS)
    language = languages[(draft.index + SUBSETS.index(draft.original.subset)) % len(languages)]
    sentences = draft.rng.sample(foreign.TEXTS[language], 4)
    return " ".join(sentences), {"language": language}


def _contaminated(draft: Draft) -> tuple[str, Detail]:
    """The inputs of a test item, options and all, with its answer, behind prose.

    Only items with inputs of `CONTAMINATED_WORDS` words: the usual filter looks for runs of that length.
    """
    candidates = [
        (task, record)
        for task in draft.tasks
        if task.language == draft.original.language
        for record in task.test
        if len(inputs_text(record).split()) >= CONTAMINATED_WORDS
    ]
    task, record = draft.rng.choice(candidates)
    text = f"{draft.original.text} {inputs_text(record)}. {answer_text(record)}."
    return text, {"task": task.name, "item": record["meta"]["id"]}


MAKERS: dict[Defect, Maker] = {
    "exact_duplicate": _exact,
    "near_duplicate": _near,
    "mojibake": _mojibake,
    "pii": _pii,
    "junk": _junk,
    "foreign_language": _foreign,
    "contaminated": _contaminated,
}
