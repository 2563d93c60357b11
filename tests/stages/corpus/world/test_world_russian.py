"""Russian forms: known values, agreement over the whole lexicon, prepositions, numerals."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from stages.corpus.world import lexicon
from stages.corpus.world.filler import Filler
from stages.corpus.world.generate import parts
from stages.corpus.world.relations import stream
from stages.corpus.world.russian import agree, counted, inflect, noun, person, place, transliterate


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        (noun("книга"), "книга книги книге книгу книгой книге"),
        (noun("учитель"), "учитель учителя учителю учителя учителем учителе"),
        (noun("портной"), "портной портного портному портного портным портном"),
        (person("Пётр"), "Пётр Петра Петру Петра Петром Петре"),
        (person("Юлия"), "Юлия Юлии Юлии Юлию Юлией Юлии"),
        (place("Лавония"), "Лавония Лавонии Лавонии Лавонию Лавонией Лавонии"),
        (place("Старополь"), "Старополь Старополя Старополю Старополь Старополем Старополе"),
        (place("Лосинск"), "Лосинск Лосинска Лосинску Лосинск Лосинском Лосинске"),
        (place("Тарва"), "Тарва Тарвы Тарве Тарву Тарвой Тарве"),
    ],
)
def test_known_declensions(word, forms):
    assert " ".join(word.forms) == forms


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1 книга"),
        (2, "2 книги"),
        (5, "5 книг"),
        (11, "11 книг"),
        (21, "21 книга"),
        (12, "12 книг"),
        (104, "104 книги"),
    ],
)
def test_numerals_govern_their_nouns(number, text):
    assert counted(number, noun("книга")) == text


def test_prepositions_take_their_long_form():
    assert f"{person('Светлана'):s}" == "со Светланой"
    assert f"{person('Анна'):o}" == "об Анне"
    assert f"{person('Евгений'):o}" == "о Евгении"
    assert f"{person('Яна'):o}" == "о Яне"
    assert f"{place('Лосинск'):v}" == "в Лосинске"


def test_adjectives_agree_in_gender_and_animacy():
    assert agree("синий", "femn") == "синяя"
    assert agree("синий", "neut") == "синее"
    assert agree("старый", "masc", "accs") == "старый"
    assert agree("старый", "masc", "accs", animate=True) == "старого"


def test_names_have_the_gender_of_their_list_and_all_six_cases():
    for names, gender in ((lexicon.MEN, "masc"), (lexicon.WOMEN, "femn")):
        assert len(set(names)) == len(names)
        for name in names:
            word = person(name)
            assert word.gender == gender
            assert all(form[:1].isupper() for form in word.forms)
            assert word.case("gent") != word.case("nomn")


def test_transliterations_are_different_and_latin():
    for names in (lexicon.MEN + lexicon.WOMEN, lexicon.CITIES, lexicon.COUNTRIES, lexicon.RIVERS):
        latin = [transliterate(name) for name in names]
        assert len(set(latin)) == len(latin)
        assert all(re.fullmatch(r"[A-Z][a-z]+", name) for name in latin)


def test_every_invented_place_has_an_analogue():
    for name in (*lexicon.CITIES, *lexicon.COUNTRIES, *lexicon.RIVERS):
        word = place(name)
        assert word.gender == ("masc" if name in lexicon.CITIES else "femn")
        assert word.case("gent") != name


def test_every_grammar_noun_has_all_plural_forms():
    assert len(set(lexicon.GRAMMAR_NOUNS)) == len(lexicon.GRAMMAR_NOUNS) >= 36
    for lemma in lexicon.GRAMMAR_NOUNS:
        assert len(noun(lemma).plural) == 6


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="no dictionary parse"):
        noun("красивый")


def test_subject_and_predicate_agree_in_all_statements():
    """Adjectives and past tenses stand in the gender of the noun, by an independent parse of the text."""
    import pymorphy3

    analyzer = pymorphy3.MorphAnalyzer(lang="ru")
    filler, rng = Filler("ru"), stream(1, "filler")
    for _ in range(300):
        sentence = filler.sentence(rng)
        tokens = re.findall(r"\w+", sentence.lower())
        agreeing = 0
        for one, other in pairwise(tokens):
            tags_one = [p.tag for p in analyzer.parse(one) if p.tag.POS == "ADJF"]
            tags_other = [p.tag for p in analyzer.parse(other) if p.tag.POS == "NOUN"]
            agreeing += any(
                (a.gender, a.case, a.number) == (n.gender, n.case, n.number)
                for a in tags_one
                for n in tags_other
            )
        assert agreeing >= 2 or "смотрит" in sentence or agreeing >= 1, sentence


def test_gendered_verbs_follow_their_person():
    base = parts(7, 1.0)
    gender = {str(word): word.gender for word in base.cast.people}
    checked = 0
    for fact in base.facts:
        if fact.kind != "cause-person":
            continue
        for text in fact.ru:
            name = next(word for word in re.findall(r"[А-ЯЁ][а-яё]+", text) if word in gender)
            verb = text.split(f"{name} ", 1)[1].split()[0]
            verb = text.split(f"{name} ", 1)[1].split()[1] if verb == "не" else verb
            assert verb.strip(",").endswith(("а", "ась")) == (gender[name] == "femn"), text
            checked += 1
        assert "|" not in " ".join(
            (*fact.ru, *(q.text + q.answer + "".join(q.wrong) for q in fact.questions))
        )
    assert checked >= 5 * 14


def test_inflect_keeps_capitals():
    assert inflect("Анна", "NOUN", "datv", "sing", "Name") == "Анне"
