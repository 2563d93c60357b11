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
    ask_ru=("какой город — столица {s:gent}", "как называется столица страны {s}"),
    ask_en=("which city is the capital of {s:en}", "what is the name of the capital of {s:en}"),
    back_ru=("столицей какой страны является {o}",),
    back_en=("of which country is {o:en} the capital",),
    verify="верно ли, что столицей {s:gent} выбран город {o}",
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
    ask_ru=("какая валюта в стране {s}", "чем расплачиваются в магазинах страны {s}"),
    ask_en=("what is the currency of the country {s:en}", "with what do shoppers pay in {s:en}"),
    verify="верно ли, что валюта страны {s} — {o}",
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
    ask_ru=("в какой стране расположен город {s}", "какой стране принадлежит город {s}"),
    ask_en=("in which country does the city {s:en} lie", "to which country does {s:en} belong"),
    verify="верно ли, что страна города {s} — {o}",
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
    ask_ru=("как называется река в городе {s}", "на берегу какой реки лежит город {s}"),
    ask_en=("what is the river of the city {s:en} called", "on the banks of which river does {s:en} lie"),
    back_ru=("какой город лежит на берегу реки {o}",),
    back_en=("which city lies on the banks of the river {o:en}",),
    verify="верно ли, что река города {s} — {o}",
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
    ask_ru=("что осматривают туристы в городе {s}", "какая постройка прославила город {s}"),
    ask_en=("what do tourists visit in {s:en}", "which sight made {s:en} famous"),
    verify="верно ли, что достопримечательность города {s} — {o}",
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
    rivers = [
        place(name) for name in rng.sample(lexicon.RIVERS, min(len(lexicon.RIVERS), len(cast.all_cities)))
    ]
    found = build(CAPITAL, capital_links, capitals)
    found += build(COUNTRY, country_links, cast.countries)
    found += build(RIVER, [Link(c, r) for c, r in zip(cast.all_cities, rivers, strict=False)], rivers)
    for relation, subjects, pool, rare in (
        (CURRENCY, cast.countries, cast.some("currencies", words(lexicon.CURRENCIES), 6, least=5), 0.0),
        (SIGHT, cast.all_cities, words(lexicon.SIGHTS), 0.7),
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
