"""People: work, home, animals, pastimes; professions with their tools and places."""

from __future__ import annotations

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast, words
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import Link, Relation, build, fact_id, question, stream
from stages.corpus.world.russian import Word, noun

PROFESSION = Relation(
    "profession",
    "people",
    ru=(
        "{s} работает {o:ablt}",
        "{s} по профессии {o}",
        "профессия {s:gent} — {o}",
        "{s} давно {s:стал|стала} {o:ablt}",
        "в трудовой книжке {s:gent} записано: {o}",
        "соседи знают {s:accs} как {o:accs}",
    ),
    en=(
        "{s:en} works as a {o:en}",
        "{s:en} is a {o:en} by profession",
        "the profession of {s:en} is {o:en}",
        "{s:en} became a {o:en} long ago",
        "the papers of {s:en} say: {o:en}",
        "the neighbours know {s:en} as a {o:en}",
    ),
    ask_ru=("кем трудится {s}", "кто {s} по специальности"),
    ask_en=("what is the job of {s:en}", "what does {s:en} do for a living"),
    back_ru=("кто из этих людей трудится {o:ablt}",),
    verify="верно ли, что специальность {s:gent} — {o}",
    task_en="facts-en",
)
HOME = Relation(
    "home",
    "people",
    ru=(
        "{s} живёт {o:v}",
        "дом {s:gent} стоит {o:v}",
        "{o} — родной город {s:gent}",
        "{s} каждый вечер гуляет по улицам города {o}",
        "письма для {s:gent} приходят в {o}",
    ),
    en=(
        "{s:en} lives in {o:en}",
        "the house of {s:en} stands in {o:en}",
        "{o:en} is the home town of {s:en}",
        "{s:en} walks the streets of {o:en} every evening",
        "letters for {s:en} arrive in {o:en}",
    ),
    ask_ru=("в каком городе поселился человек по имени {s}", "какой город в адресе {s:gent}"),
    ask_en=("in which city did {s:en} settle", "which city is in the address of {s:en}"),
    verify="верно ли, что в адресе {s:gent} указан {o}",
    task_en="facts-en",
)
PET = Relation(
    "pet",
    "people",
    ru=(
        "у {s:gent} есть {o}",
        "дома {s:accs} ждёт {o}",
        "{s} заботится о домашнем животном, это {o}",
        "питомец {s:gent} — {o}",
        "по утрам {s} кормит питомца, а это {o}",
    ),
    en=(
        "{s:en} has a {o:en}",
        "a {o:en} waits for {s:en} at home",
        "{s:en} takes care of an animal, it is a {o:en}",
        "the pet of {s:en} is a {o:en}",
        "every morning {s:en} feeds the pet, which is a {o:en}",
    ),
    ask_ru=("какое животное держит {s}", "какое животное живёт в доме {s:gent}"),
    ask_en=("what animal does {s:en} keep", "which animal lives in the house of {s:en}"),
    verify="верно ли, что животное {s:gent} — {o}",
    task_en="facts-en",
)
HOBBY = Relation(
    "hobby",
    "people",
    ru=(
        "{s} любит {o:accs}",
        "в свободное время {s:datv} нравится {o}",
        "{s} вечерами занят{s:|а} делом, это {o}",
        "занятие {s:gent} по субботам — {o}",
        "{o} — любимое занятие {s:gent}",
    ),
    en=(
        "{s:en} loves {o:en}",
        "in free time {s:en} is fond of {o:en}",
        "in the evening {s:en} is busy with {o:en}",
        "on Saturdays {s:en} goes in for {o:en}",
        "{o:en} is the favourite pastime of {s:en}",
    ),
    ask_ru=("чем увлекается {s}", "какое увлечение у {s:gent}"),
    ask_en=("what is the hobby of {s:en}", "how does {s:en} spend free days"),
    verify="верно ли, что увлечение {s:gent} — {o}",
    task_en="facts-en",
)
TOOL = Relation(
    "tool",
    "people",
    ru=(
        "инструмент, без которого {s} не работает, — {o}",
        "в руках {s} держит {o:accs}",
        "{s} всегда берёт с собой {o:accs}",
        "если ты {s}, у тебя есть {o}",
        "хороший {s} бережёт {o:accs}",
    ),
    en=(
        "the tool without which no {s:en} works is the {o:en}",
        "a {s:en} holds the {o:en} in the hands",
        "a {s:en} always takes the {o:en} along",
        "if you are a {s:en}, you have a {o:en}",
        "a good {s:en} looks after the {o:en}",
    ),
    ask_ru=("какая вещь нужна {s:datv} для работы", "какая вещь — рабочий инструмент {s:gent}"),
    ask_en=("what thing does a {s:en} need at work", "which thing is the tool of a {s:en}"),
    back_ru=("чей рабочий инструмент {o}",),
    task_en="facts-en",
)
WORKPLACE = Relation(
    "workplace",
    "people",
    ru=(
        "{s} проводит день там, где {o}",
        "рабочее место {s:gent} — {o}",
        "утром {s} идёт туда, где {o}",
        "{o} — место, где работает {s}",
    ),
    en=(
        "a {s:en} spends the day in a place called {o:en}",
        "the workplace of a {s:en} is the {o:en}",
        "in the morning a {s:en} goes to the {o:en}",
        "the {o:en} is where a {s:en} works",
    ),
    ask_ru=("где можно найти {s:accs}", "где трудится {s}"),
    ask_en=("where can one find a {s:en}", "where is a {s:en} busy all day"),
    task_en="facts-en",
)
TWO_STEPS = (
    (PROFESSION, TOOL, "какой инструмент нужен для работы {s:datv}", "what tool does {s:en} need at work"),
    (PROFESSION, WORKPLACE, "где проходит рабочий день {s:gent}", "where does {s:en} spend the working day"),
)


def facts(cast: Cast) -> list[Fact]:
    """All facts about people and professions."""
    rng = stream(cast.seed, "people")
    rows = cast.some("professions", lexicon.rows(lexicon.PROFESSIONS), 16, least=8)
    professions = [noun(row[0], row[1]) for row in rows]
    tools, places = [noun(row[2], row[3]) for row in rows], [noun(row[4], row[5]) for row in rows]
    found: list[Fact] = []
    for relation, pool, rare in (
        (PROFESSION, professions, 0.0),
        (HOME, cast.all_cities, 0.2),
        (PET, words(lexicon.PETS), 0.0),
        (HOBBY, words(lexicon.HOBBIES), 1.0),
    ):
        links = [Link(someone, _one(rng.random(), pool), rare=rng.random() < rare) for someone in cast.people]
        found += build(relation, links, pool)
    found += build(TOOL, [Link(p, t) for p, t in zip(professions, tools, strict=True)], tools)
    found += build(WORKPLACE, [Link(p, t) for p, t in zip(professions, places, strict=True)], places)
    return found


def _one(share: float, pool: list[Word]) -> Word:
    return pool[int(share * len(pool))]


def two_steps(cast: Cast, facts: list[Fact]) -> list[Question]:
    """Questions about a person that need the profession first."""
    by_id = {fact.id: fact for fact in facts}
    by_name = {row[0]: noun(row[0], row[1]) for row in lexicon.rows(lexicon.PROFESSIONS)}
    found = []
    for someone in cast.people:
        first = fact_id(PROFESSION.name, someone)
        profession = by_name[by_id[first].questions[0].answer]
        for _, relation, ru, en in TWO_STEPS:
            second = fact_id(relation.name, profession)
            for language, template in (("ru", ru), ("en", en)):
                known = next(q for q in by_id[second].questions if q.language == language)
                task = "people" if language == "ru" else "facts-en"
                text = question(template, s=someone)
                found.append(Question(task, language, text, known.answer, known.wrong, (first, second), 3))
    return found
