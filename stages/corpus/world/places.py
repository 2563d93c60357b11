"""Geography: countries and cities with what belongs to them, and the steps from a city to its country's
things.
"""

from __future__ import annotations

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast, words
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import Link, Relation, build, fact_id, question, stream
from stages.corpus.world.russian import Word, place

CAPITAL = Relation(
    "capital",
    "places",
    ru=(
        "столица {s:gent} — {o}",
        "главный город {s:gent} называется {o}",
        "{o} — главный город страны {s}",
        "правительство {s:gent} работает {o:v}",
        "{s} гордится столицей, это {o}",
    ),
    en=(
        "the capital of {s:en} is {o:en}",
        "the chief city of {s:en} is called {o:en}",
        "{o:en} is the chief city of {s:en}",
        "the government of {s:en} works in {o:en}",
        "{s:en} is proud of its capital {o:en}",
    ),
    ask_ru=("какой город — столица {s:gent}", "какой главный город в стране {s}"),
    ask_en=("which city is the capital of {s:en}", "what is the chief city of {s:en}"),
    back_ru=("столицей какой страны является {o}",),
    back_en=("of which country is {o:en} the capital",),
    claim=("что верно о столице {s:gent}", "столицей {s:gent} выбран город {o}"),
    task_en="facts-en",
)
CURRENCY = Relation(
    "currency",
    "places",
    ru=(
        "деньги {s:gent} — это {o}",
        "{s:v} монета зовётся {o}",
        "деньги {s:gent} называются {o}",
        "за товар {s:v} отдают {o:accs}",
    ),
    en=(
        "the money of {s:en} is the {o:en}",
        "in {s:en} the coin is called the {o:en}",
        "money in {s:en} is called the {o:en}",
        "goods in {s:en} are paid for with the {o:en}",
    ),
    ask_ru=("как называются деньги {s:gent}", "какая монета {s:v}"),
    ask_en=("what is the money of {s:en}", "which coin is used in {s:en}"),
    claim=("что верно о деньгах {s:gent}", "валюта {s:gent} — {o}"),
    task_en="facts-en",
)
COUNTRY = Relation(
    "country",
    "places",
    ru=(
        "{s} находится {o:v}",
        "город {s} стоит {o:v}",
        "{s} — город {o:gent}",
        "{o} гордится городом {s}",
    ),
    en=(
        "{s:en} is situated in {o:en}",
        "the city of {s:en} stands in {o:en}",
        "{s:en} is a city of {o:en}",
        "{o:en} is proud of the city of {s:en}",
    ),
    ask_ru=("где находится {s}", "в какой стране стоит город {s}"),
    ask_en=("in which country is {s:en} situated", "to which country does the city of {s:en} belong"),
    claim=("что верно о стране города {s}", "страна города {s} — {o}"),
    answer="v",
    task_en="facts-en",
)
RIVER = Relation(
    "river",
    "places",
    ru=(
        "через {s} течёт река {o}",
        "{s} стоит на реке {o}",
        "{s} лежит у реки {o}",
        "река {o} делит {s}",
    ),
    en=(
        "the river {o:en} flows through {s:en}",
        "{s:en} stands on the river {o:en}",
        "{s:en} lies by the river {o:en}",
        "the river {o:en} divides {s:en}",
    ),
    ask_ru=("на какой реке стоит {s}", "какая река течёт через {s}"),
    ask_en=("on which river does {s:en} stand", "which river flows through {s:en}"),
    claim=("что верно о реке города {s}", "река города {s} — {o}"),
    task_en="facts-en",
)
SIGHT = Relation(
    "sight",
    "places",
    ru=(
        "{s:v} гостям показывают {o:accs}",
        "гордость города {s} — {o}",
        "{s:v} есть {o}",
        "{s} знаменит, там {o}",
    ),
    en=(
        "in {s:en} guests are shown the {o:en}",
        "the pride of {s:en} is the {o:en}",
        "in {s:en} there is a {o:en}",
        "{s:en} is known for its {o:en}",
    ),
    ask_ru=("что {s:v} показывают гостям", "какая гордость у города {s}"),
    ask_en=("what is shown to guests in {s:en}", "what is the pride of the city of {s:en}"),
    claim=("что верно о видах города {s}", "главное место города {s} — {o}"),
    task_en="facts-en",
)
TWO_STEPS = (
    (CURRENCY, "какой валютой платят жители города {s}", "what currency is used in the city {s:en}"),
    (
        CAPITAL,
        "какая столица у страны, где стоит {s}",
        "what is the capital of the country where {s:en} stands",
    ),
)


def facts(cast: Cast) -> list[Fact]:
    """All facts about countries and cities."""
    rng = stream(cast.seed, "places")
    capitals, capital_links, country_links = [], [], []
    for country in cast.countries:
        cities = cast.cities[country.key]
        capitals.append(cities[0])
        neighbours = rng.sample([city for city in cast.all_cities if city not in cities], 2)
        capital_links.append(Link(country, cities[0], (*cities[1:], *neighbours)))
        country_links += [Link(city, country) for city in cities]
    rivers = [place(name) for name in cast.some("rivers", lexicon.RIVERS, 8, least=6)]
    found = build(CAPITAL, capital_links, capitals)
    found += build(COUNTRY, country_links, cast.countries)
    for relation, subjects, pool, rare in (
        (CURRENCY, cast.countries, cast.some("currencies", words(lexicon.CURRENCIES), 6, least=5), 0.0),
        (RIVER, cast.all_cities, rivers, 0.4),
        (SIGHT, cast.all_cities, words(lexicon.SIGHTS), 0.4),
    ):
        links = [Link(subject, rng.choice(pool), rare=rng.random() < rare) for subject in subjects]
        found += build(relation, links, pool)
    return found


def two_steps(cast: Cast, facts: list[Fact]) -> list[Question]:
    """Questions about a city that need its country first."""
    answers = {fact.id: fact.questions[0].answer for fact in facts}
    answers_en = {
        fact.id: next(q.answer for q in fact.questions if q.language == "en") for fact in facts if fact.en
    }
    found = []
    for country in cast.countries:
        for city in cast.cities[country.key][1:]:
            for relation, ru, en in TWO_STEPS:
                ids = (fact_id(COUNTRY.name, city), fact_id(relation.name, country))
                for language, template, known in (("ru", ru, answers), ("en", en, answers_en)):
                    pool = _answers(known, relation, cast.countries)
                    right = known[ids[1]]
                    wrong = tuple(answer for answer in pool if answer != right)
                    task = "places" if language == "ru" else "facts-en"
                    found.append(Question(task, language, question(template, s=city), right, wrong, ids, 3))
    return found


def _answers(known: dict[str, str], relation: Relation, countries: list[Word]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(known[fact_id(relation.name, country)] for country in countries))
