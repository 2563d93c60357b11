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
        "{s:v} столицей считается {o}",
        "все послы {s:gent} живут {o:v}, её столице",
    ),
    en=(
        "the capital of {s:en} is {o:en}",
        "the chief city of {s:en} is called {o:en}",
        "{o:en} is the chief city of {s:en}",
        "the government of {s:en} works in {o:en}",
        "in {s:en} the city of {o:en} is regarded as the capital",
        "all ambassadors in {s:en} live in {o:en}, its capital",
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
        "{s:v} платят монетой, которая зовётся {o}",
        "национальная валюта {s:gent} называется {o}",
        "жители {s:gent} хранят в кошельке {o:accs}",
        "за товар {s:v} отдают {o:accs}",
    ),
    en=(
        "the money of {s:en} is the {o:en}",
        "in {s:en} people pay with a coin that is called the {o:en}",
        "the national currency of {s:en} is called the {o:en}",
        "people of {s:en} keep a {o:en} in the purse",
        "goods in {s:en} are paid for with the {o:en}",
    ),
    ask_ru=("какая валюта в стране {s}", "чем расплачиваются в магазинах страны {s}"),
    ask_en=("what is the currency of the country {s:en}", "with what do shoppers pay in {s:en}"),
    verify="верно ли, что валюта страны {s} — {o}",
    task_en="facts-en",
)
EXPORT = Relation(
    "export",
    "places",
    ru=(
        "{s} продаёт соседям {o:accs}",
        "главный товар {s:gent} — {o}",
        "{s} славится тем, что там есть {o}",
        "купцы везут из {s:gent} {o:accs}",
        "{s} богата: её богатство — {o}",
    ),
    en=(
        "{s:en} sells {o:en} to its neighbours",
        "the main product of {s:en} is {o:en}",
        "{s:en} is famous for its {o:en}",
        "merchants bring {o:en} from {s:en}",
        "{s:en} is rich: its wealth is {o:en}",
    ),
    ask_ru=("чем торгует {s}, какой у неё товар", "какой товар покупают у страны {s}"),
    ask_en=("what goods does {s:en} trade in", "what is bought from {s:en}"),
    verify="верно ли, что из страны {s} вывозят {o:accs}",
    task_en="facts-en",
)
COUNTRY = Relation(
    "country",
    "places",
    ru=(
        "{s} находится {o:v}",
        "город {s} стоит на земле {o:gent}",
        "{s} — город {o:gent}",
        "{o} гордится городом {s}",
        "если ехать по {o:datv}, можно попасть в {s}",
        "над ратушей города {s} висит флаг {o:gent}",
    ),
    en=(
        "{s:en} is situated in {o:en}",
        "the city of {s:en} stands on the soil of {o:en}",
        "{s:en} is a city of {o:en}",
        "{o:en} is proud of the city of {s:en}",
        "whoever travels through {o:en} may reach {s:en}",
        "over the town hall of {s:en} flies the flag of {o:en}",
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
        "в городе {s} рыбачат на реке {o}",
        "река {o} делит {s} на две части",
        "по утрам над городом {s} туман от реки {o}",
    ),
    en=(
        "the river {o:en} flows through {s:en}",
        "{s:en} stands on the river {o:en}",
        "in {s:en} people fish in the river {o:en}",
        "the river {o:en} cuts {s:en} in two",
        "in the morning fog from the river {o:en} covers {s:en}",
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
        "в городе {s} гостям показывают {o:accs}",
        "гордость города {s} — {o}",
        "{s} известен тем, что там стоит {o}",
        "на открытке из города {s} нарисован {o}",
        "кто приехал в {s}, тот видел {o:accs}",
    ),
    en=(
        "in {s:en} guests are shown the {o:en}",
        "the pride of {s:en} is the {o:en}",
        "{s:en} is known for its {o:en}",
        "a postcard from {s:en} shows the {o:en}",
        "whoever came to {s:en} has seen the {o:en}",
    ),
    ask_ru=("что осматривают туристы в городе {s}", "какая постройка прославила город {s}"),
    ask_en=("what do tourists visit in {s:en}", "which sight made {s:en} famous"),
    verify="верно ли, что достопримечательность города {s} — {o}",
    task_en="facts-en",
)
TWO_STEPS = (
    (CURRENCY, "какой валютой платят жители города {s}", "what currency is used in the city {s:en}"),
    (EXPORT, "каким товаром торгует страна города {s}", "in what goods does the country of {s:en} trade"),
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
        (CURRENCY, cast.countries, words(lexicon.CURRENCIES), 0.0),
        (EXPORT, cast.countries, words(lexicon.GOODS), 0.3),
        (SIGHT, cast.all_cities, [word for word in words(lexicon.SIGHTS) if word.gender == "masc"], 0.4),
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
