"""Kinship: who is whose mother, brother, husband in the families of the world, and relations of two steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from stages.corpus.world.cast import Cast, Family
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import Link, Relation, build, fact_id, question, shown
from stages.corpus.world.russian import Word, noun
from stages.corpus.world.skills import reserved

MOTHER = Relation(
    "mother",
    "family",
    ru=(
        "мать {s:gent} — {o}",
        "{s} — {s:сын|дочь} женщины по имени {o}",
        "{o} родила {s:accs}",
        "{o} вырастила {s:accs}, это {s:её сын|её дочь}",
        "маму {s:gent} все зовут {o}",
    ),
    en=(
        "the mother of {s:en} is {o:en}",
        "{s:en} is the {s:son|daughter} of a woman called {o:en}",
        "{o:en} gave birth to {s:en}",
        "{o:en} brought up {s:en}, and is proud of {s:him|her}",
        "everyone calls the mum of {s:en} {o:en}",
    ),
    ask_ru=("кто мать {s:gent}", "как зовут маму {s:gent}"),
    ask_en=("who is the mother of {s:en}",),
    claim=("что верно о маме {s:gent}", "мама {s:gent} — {o}"),
    task_en="facts-en",
)
FATHER = Relation(
    "father",
    "family",
    ru=(
        "отец {s:gent} — {o}",
        "{s} — {s:сын|дочь} мужчины по имени {o}",
        "{o} учил {s:accs} ходить, он {s:его|её} отец",
        "папу {s:gent} все зовут {o}",
        "{s} называет отцом {o:accs}",
    ),
    en=(
        "the father of {s:en} is {o:en}",
        "{s:en} is the {s:son|daughter} of a man called {o:en}",
        "{o:en} taught {s:en} to walk, he is {s:his|her} father",
        "everyone calls the dad of {s:en} {o:en}",
        "{s:en} calls {o:en} father",
    ),
    ask_ru=("кто отец {s:gent}", "как зовут папу {s:gent}"),
    ask_en=("who is the father of {s:en}",),
    claim=("что верно о папе {s:gent}", "папа {s:gent} — {o}"),
    task_en="facts-en",
)
SPOUSE = Relation(
    "wife",
    "family",
    ru=(
        "жена {s:gent} — {o}",
        "{s} женат на {o:loct}",
        "{o} вышла замуж за {s:accs}",
        "муж и жена: {s} и {o}",
        "{s} и {o} сыграли свадьбу",
    ),
    en=(
        "the wife of {s:en} is {o:en}",
        "{s:en} is married to {o:en}",
        "{o:en} took {s:en} for her husband",
        "husband and wife: {s:en} and {o:en}",
        "{s:en} and {o:en} had a wedding",
    ),
    ask_ru=("кто жена {s:gent}", "на ком женат {s}"),
    ask_en=("who is the wife of {s:en}",),
    back_ru=("за кем замужем {o}",),
    claim=("что верно о супруге {s:gent}", "супруга {s:gent} — {o}"),
    task_en="facts-en",
)
SIBLING = Relation(
    "sibling",
    "family",
    ru=(
        "{o} — {o:брат|сестра} {s:gent}",
        "у {s:gent} есть {o:брат|сестра} {o}",
        "{s} и {o} выросли вместе у одних родителей",
        "{s} называет {o:accs} {o:братом|сестрой}",
    ),
    en=(
        "{o:en} is the {o:brother|sister} of {s:en}",
        "{s:en} has a {o:brother|sister}, {o:en}",
        "{s:en} and {o:en} grew up together with the same parents",
        "{s:en} calls {o:en} {o:brother|sister}",
    ),
    ask_ru=("кто {o:брат|сестра} {s:gent}",),
    ask_en=("who is the {o:brother|sister} of {s:en}",),
    claim=("что верно о родне {s:gent}", "{o:родной брат|родная сестра} {s:gent} — {o}"),
    task_en="facts-en",
)
# asked of a grandchild: what is asked, which fact leads to the middle, which from there
ELDERS = (
    ("кто бабушка {s:gent}", "who is the grandmother of {s:en}", MOTHER),
    ("кто дедушка {s:gent}", "who is the grandfather of {s:en}", FATHER),
)
ELDER_STATEMENTS = {
    "mother": (
        ("бабушка {s:gent} — {o}", "{o} печёт пироги для {s:gent}, {o} — бабушка"),
        ("the grandmother of {s:en} is {o:en}", "{o:en} bakes pies for {s:en}, being the grandmother"),
    ),
    "father": (
        ("дедушка {s:gent} — {o}", "{o} рассказывает сказки, {s} слушает дедушку"),
        ("the grandfather of {s:en} is {o:en}", "{o:en} tells tales, and {s:en} listens to the grandfather"),
    ),
}


def facts(cast: Cast) -> list[Fact]:
    """All one-step facts of kinship."""
    links: dict[str, list[Link]] = {"mother": [], "father": [], "wife": [], "sibling": []}
    for family in cast.families:
        women = [word for word in family.members if word.gender == "femn"]
        men = [word for word in family.members if word.gender == "masc"]
        father, mother = _parents(family)
        children = [
            (child, family.grandmother, family.grandfather) for child in (family.elder, family.younger)
        ]
        children += [(child, mother, father) for child in family.grandchildren]
        for child, mum, dad in children:
            links["mother"].append(Link(child, mum, tuple(w for w in women if w not in (mum, child))))
            links["father"].append(Link(child, dad, tuple(w for w in men if w not in (dad, child))))
        links["wife"] += [
            Link(family.grandfather, family.grandmother, tuple(w for w in women if w != family.grandmother)),
            Link(father, mother, tuple(w for w in women if w != mother)),
        ]
        for one, other in ((family.elder, family.younger), family.grandchildren):
            links["sibling"] += [Link(one, other), Link(other, one)]
    women = [word for word in cast.people if word.gender == "femn"]
    men = [word for word in cast.people if word.gender == "masc"]
    found = build(MOTHER, links["mother"], women) + build(FATHER, links["father"], men)
    found += build(SPOUSE, links["wife"], women)
    for pool in (men, women):
        found += build(SIBLING, [link for link in links["sibling"] if link.object in pool], pool)
    return found


def _parents(family: Family) -> tuple[Word, Word]:
    """Father and mother of the grandchildren."""
    pair = (family.elder, family.spouse)
    return pair if family.elder.gender == "masc" else (pair[1], pair[0])


def two_steps(cast: Cast) -> list[Question]:
    """Grandparents of the grandchildren, whom no single fact names."""
    found = []
    for family in cast.families:
        for child in family.grandchildren:
            for ru, en, relation in ELDERS:
                middle = MOTHER if family.elder.gender == "femn" else FATHER
                ids = (fact_id(middle.name, child), fact_id(relation.name, family.elder))
                right = family.grandmother if relation is MOTHER else family.grandfather
                pool = [word for word in cast.people if word.gender == right.gender and word != right]
                found.append(
                    Question(
                        "family", "ru", question(ru, s=child), str(right), shown(pool, str), ids, 3, True
                    )
                )
                pool_en = tuple(word.en for word in pool)
                found.append(
                    Question("facts-en", "en", question(en, s=child), right.en, pool_en, ids, 3, True)
                )
    return found


def elder_statements(cast: Cast, held_out: frozenset[str]) -> list[Fact]:
    """Grandparents as statements, for grandchildren whose both steps are in the train split."""
    found = []
    for family in cast.families:
        for child in family.grandchildren:
            for _, _, relation in ELDERS:
                middle = MOTHER if family.elder.gender == "femn" else FATHER
                if {fact_id(middle.name, child), fact_id(relation.name, family.elder)} & held_out:
                    continue
                elder = family.grandmother if relation is MOTHER else family.grandfather
                ru, en = ELDER_STATEMENTS[relation.name]
                name = "grandmother" if relation is MOTHER else "grandfather"
                texts_ru = tuple(template.format(s=child, o=elder) for template in ru)
                texts_en = tuple(template.format(s=child, o=elder) for template in en)
                found.append(Fact(fact_id(name, child), name, texts_ru, texts_en, (), (child.key, elder.key)))
    return found


# (a is X of b), (b is Y of c) -> a is Z of c; masculine and feminine of a
STEPS = (
    ("parent", "parent", ("дедушка", "бабушка"), ("grandfather", "grandmother")),
    ("sibling", "parent", ("дядя", "тётя"), ("uncle", "aunt")),
    ("child", "child", ("внук", "внучка"), ("grandson", "granddaughter")),
    ("child", "sibling", ("племянник", "племянница"), ("nephew", "niece")),
    ("child", "spouse", ("сын", "дочь"), ("son", "daughter")),
    ("parent", "sibling", ("отец", "мать"), ("father", "mother")),
)
TERMS = {
    "parent": (("отец", "мать"), ("father", "mother")),
    "child": (("сын", "дочь"), ("son", "daughter")),
    "sibling": (("брат", "сестра"), ("brother", "sister")),
    "spouse": (("муж", "жена"), ("husband", "wife")),
}


@dataclass(frozen=True)
class KinshipSteps:
    """Two relations between strangers, and the one that follows; the cluster is the set of three names."""

    cast: Cast
    name: str = "kin"
    levels: tuple[int, ...] = (2, 3)

    def _draw(self, rng: random.Random, held_out: bool) -> tuple[list[Word], str]:
        while True:
            genders = [rng.choice(("masc", "femn")) for _ in range(2)]
            genders.append("masc" if genders[1] == "femn" else "femn")  # a couple needs one of each
            people = [rng.choice(self.cast.strangers[gender]) for gender in genders]
            key = "kin/" + "-".join(sorted(word.key for word in people))
            if len(set(people)) == 3 and reserved(self.cast.seed, key) == held_out:
                return people, key

    def statement(self, rng: random.Random, language: str) -> str:
        """Two premises and their conclusion."""
        people, _ = self._draw(rng, held_out=False)
        step = rng.choice(STEPS)
        first, _, third = people
        term = _term(step[2] if language == "ru" else step[3], first)
        premises = _premises(language, step, people, turned=False)
        if language == "ru":
            return f"{premises} Значит, {first} — {term} {third:gent}"
        return f"{premises} So {first:en} is the {term} of {third:en}"

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question | None:
        """Level 2 in order, level 3 with the premises turned round. Only Russian asks so."""
        if language == "en":
            return None
        people, key = self._draw(rng, held_out)
        step, turned = rng.choice(STEPS), rng.random() < 0.4
        first, _, third = people
        text = f"{_premises('ru', step, people, turned)} Кем {first} приходится {third:datv}?"
        right = _term(step[2], first, "ablt")
        wrong = tuple(_term(other[2], first, "ablt") for other in STEPS if other is not step)
        return Question("family", "ru", text, right, wrong, (key,), 3 if turned else 2)


def _term(terms: tuple[str, str], who: Word, case: str = "nomn") -> str:
    term = terms[0 if who.gender == "masc" else 1]
    return noun(term).case("ablt") if case == "ablt" else term


def _premises(
    language: str,
    step: tuple[str, str, tuple[str, str], tuple[str, str]],
    people: list[Word],
    turned: bool,
) -> str:
    index = 0 if language == "ru" else 1
    lines = []
    for relation, one, other in ((step[0], people[0], people[1]), (step[1], people[1], people[2])):
        term = _term(TERMS[relation][index], one)
        if language == "ru":
            lines.append(f"{one} — {term} {other:gent}.")
        else:
            lines.append(f"{one:en} is the {term} of {other:en}.")
    if turned:
        lines.reverse()
    return " ".join(lines)
