"""People: work, home, animals; professions with their tools."""

from __future__ import annotations

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast, words
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.places import COUNTRY
from stages.corpus.world.relations import Link, Relation, build, fact_id, question, stream
from stages.corpus.world.russian import Word, noun

PROFESSION = Relation(
    "profession",
    "people",
    ru=(
        "{s} работает {o:ablt}",
        "{s} по профессии {o}",
        "профессия {s:gent} — {o}",
        "{s} {s:стал|стала} {o:ablt}",
    ),
    en=(
        "{s:en} works as a {o:en}",
        "{s:en} is a {o:en} by profession",
        "the profession of {s:en} is {o:en}",
        "{s:en} became a {o:en}",
    ),
    ask_ru=("какая профессия у {s:gent}", "кто {s} по профессии"),
    ask_en=("what is the profession of {s:en}", "as what does {s:en} work"),
    claim=("что верно о труде {s:gent}", "специальность {s:gent} — {o}"),
    task_en="facts-en",
)
HOME = Relation(
    "home",
    "people",
    ru=(
        "{s} живёт {o:v}",
        "дом {s:gent} стоит {o:v}",
        "{o} — родной город {s:gent}",
        "{s} гуляет {o:v}",
    ),
    en=(
        "{s:en} lives in {o:en}",
        "the house of {s:en} stands in {o:en}",
        "{o:en} is the home town of {s:en}",
        "{s:en} walks in {o:en}",
    ),
    ask_ru=("где живёт {s}", "в каком городе стоит дом {s:gent}"),
    ask_en=("in which city does {s:en} live", "which city is the home town of {s:en}"),
    claim=("что верно об адресе {s:gent}", "в адресе {s:gent} указан {o}"),
    answer="v",
    task_en="facts-en",
)
PET = Relation(
    "pet",
    "people",
    ru=(
        "у {s:gent} есть {o}",
        "дома {s:accs} ждёт {o}",
        "питомец {s:gent} — {o}",
        "{s} кормит питомца: {o}",
    ),
    en=(
        "{s:en} has a {o:en}",
        "a {o:en} waits for {s:en} at home",
        "the pet of {s:en} is a {o:en}",
        "{s:en} feeds the pet: a {o:en}",
    ),
    ask_ru=("какой питомец у {s:gent}", "кто ждёт {s:accs} дома"),
    ask_en=("which pet does {s:en} have", "who waits for {s:en} at home"),
    claim=("что верно о звере {s:gent}", "животное {s:gent} — {o}"),
    task_en="facts-en",
)
TOOL = Relation(
    "tool",
    "people",
    ru=(
        "инструмент {s:gent} — {o}",
        "в руках {s} держит {o:accs}",
        "{s} всегда берёт с собой {o:accs}",
        "если ты {s}, у тебя есть {o}",
        "хороший {s} бережёт {o:accs}",
    ),
    en=(
        "the tool of the {s:en} is the {o:en}",
        "a {s:en} holds the {o:en} in the hands",
        "a {s:en} always takes the {o:en} along",
        "if you are a {s:en}, you have a {o:en}",
        "a good {s:en} looks after the {o:en}",
    ),
    ask_ru=("какой инструмент у {s:gent}", "что держит в руках {s}"),
    ask_en=("what is the tool of the {s:en}", "what does a {s:en} hold in the hands"),
    back_ru=("чей инструмент {o}",),
    task_en="facts-en",
)
TWO_STEPS = (
    (PROFESSION, TOOL, "какой инструмент нужен для работы {s:datv}", "what tool does {s:en} need at work"),
    (HOME, COUNTRY, "в какой стране живёт {s}", "in which country does {s:en} live"),
)


def facts(cast: Cast) -> list[Fact]:
    """All facts about people and professions."""
    rng = stream(cast.seed, "people")
    rows = cast.some("professions", lexicon.rows(lexicon.PROFESSIONS), 8, least=7)
    professions = [noun(row[0], row[1]) for row in rows]
    tools = [noun(row[2], row[3]) for row in rows]
    found: list[Fact] = []
    for relation, pool, rare in (
        (PROFESSION, professions, 0.0),
        (HOME, [cities[0] for cities in cast.cities.values()], 0.2),
        (PET, cast.some("pets", words(lexicon.PETS), 7, least=6), 0.3),
    ):
        links = [Link(someone, _one(rng.random(), pool), rare=rng.random() < rare) for someone in cast.people]
        found += build(relation, links, pool)
    return found + build(TOOL, [Link(p, t) for p, t in zip(professions, tools, strict=True)], tools)


def _one(share: float, pool: list[Word]) -> Word:
    return pool[int(share * len(pool))]


def two_steps(cast: Cast, facts: list[Fact]) -> list[Question]:
    """Questions about a person that need the profession or the city first; `facts` hold the places' too."""
    by_id = {fact.id: fact for fact in facts}
    by_name = {row[0]: noun(row[0], row[1]) for row in lexicon.rows(lexicon.PROFESSIONS)}
    by_name |= {f"{city:v}": city for city in cast.all_cities}
    found = []
    for someone in cast.people:
        for step, relation, ru, en in TWO_STEPS:
            first = fact_id(step.name, someone)
            second = fact_id(relation.name, by_name[by_id[first].questions[0].answer])
            for language, template in (("ru", ru), ("en", en)):
                known = next(q for q in by_id[second].questions if q.language == language)
                task = "people" if language == "ru" else "facts-en"
                text = question(template, s=someone)
                found.append(Question(task, language, text, known.answer, known.wrong, (first, second), 3))
    return found
