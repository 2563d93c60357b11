"""Grammar: which form a noun takes after a preposition or a numeral, and how an adjective agrees with it."""

from __future__ import annotations

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import stream
from stages.corpus.world.russian import Word, agree, inflect, noun

# construction: what is shown, form, statements, difficulty; {n} is the form, {p} someone, {b} what is shown
CONSTRUCTIONS: dict[str, tuple[str, str, tuple[str, ...], int]] = {
    "without": (
        "без",
        "{w:gent}",
        ("{p} остался без {n}|{p} осталась без {n}", "трудно обойтись без {n}"),
        1,
    ),
    "under": ("под", "{w:ablt}", ("{p} нашёл монету под {n}|{p} нашла монету под {n}", "темно под {n}"), 2),
    "towards": ("к", "{w:datv}", ("{p} подошёл к {n}|{p} подошла к {n}", "все привыкли к {n}"), 1),
    "of": ("{w:o}", "{w:loct}", ("{p} мечтает {b} {n}", "пора забыть {b} {n}"), 2),
    "five": (
        "пять",
        "{w:plur-gent}",
        ("на складе пять {n}", "{p} насчитал пять {n}|{p} насчитала пять {n}"),
        3,
    ),
    "those": ("эти", "{w:plur-nomn}", ("это старые {n}", "{p} знает, где новые {n}"), 2),
}
ASKS = (
    "Поставь слово {w} в нужную форму: {frame} …",
    "Какой будет форма слова {w} в сочетании: {frame} …?",
    "Впиши верную форму слова {w}: {frame} …",
)
ADJECTIVES = ("красный", "синий", "новый", "старый", "большой", "последний", "тихий", "лёгкий")
AGREEMENT_CASES = ("nomn", "gent", "ablt")


def facts(cast: Cast) -> list[Fact]:
    """One fact per noun and construction, and one per noun and adjective."""
    rng = stream(cast.seed, "grammar")
    names = [name for names in cast.strangers.values() for name in names]
    lemmas = cast.some("grammar nouns", lexicon.GRAMMAR_NOUNS, 30, least=12)

    found = []
    for lemma in lemmas:
        word = noun(lemma, lemma)
        for name, (frame, pattern, statements, level) in CONSTRUCTIONS.items():
            form = pattern.format(w=word)
            before = frame.format(w=word).split()[0]
            found.append(_case_fact(name, before, word, form, statements, level, rng.sample(names, 3)))
        for adjective in rng.sample(ADJECTIVES, 1):
            found.append(_agreement_fact(adjective, word, rng.choice(names)))
    return found


def _forms(word: Word, right: str) -> tuple[str, ...]:
    """Other forms of the same noun."""
    return tuple(form for form in dict.fromkeys((*word.forms, *word.plural)) if form != right)


def _case_fact(
    name: str, frame: str, word: Word, form: str, statements: tuple[str, ...], level: int, people: list[Word]
) -> Fact:
    key = (f"grammar/{name}/{word}",)
    told = []
    for template in statements:
        if "{p}" not in template:
            told.append(template.format(n=form, b=frame))
            continue
        masc, _, femn = template.partition("|")
        told += [
            (masc if who.gender == "masc" or not femn else femn).format(n=form, p=who, b=frame)
            for who in people
        ]
    questions = tuple(
        Question(
            "grammar", "ru", ask.format(w=word, frame=frame), form, _forms(word, form), key, level, open=True
        )
        for ask in ASKS
    )
    return Fact(key[0], f"grammar-{name}", tuple(told), (), questions, (str(word),), 0.6)


def _agreement_fact(adjective: str, word: Word, who: Word) -> Fact:
    form = agree(adjective, word.gender)
    key = (f"grammar/agreement/{adjective}-{word}",)
    told = (
        f"перед нами {form} {word}",
        f"{form} {word} стоит немало",
        f"{who} просит описать предмет: это {form} {word}",
        f"нет другого такого предмета, как {form} {word}",
    )
    wrong = tuple(
        agree(adjective, gender) for gender in ("masc", "femn", "neut") if agree(adjective, gender) != form
    )
    plural = inflect(adjective, "ADJF", "plur", "nomn")
    ask = f"Согласуй слово {adjective} со словом {word} и впиши: … {word}"
    question = Question("grammar", "ru", ask, form, (*wrong, plural), key, 2, open=True)
    return Fact(key[0], "grammar-agreement", told, (), (question,), (str(word),), 0.6)
