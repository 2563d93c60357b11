"""The page: every number and reason is there, nothing is invented, and it stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import report_fake_out as fake
from report_fake_out import Project

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Collects text, ids and balance of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(attrs)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                self.links.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def parsed(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    return checker


def test_the_decision_and_every_reason_are_on_the_page(finished: Project) -> None:
    text = parsed(finished.read("report.html")).text
    assert "Winner: adapt-higgs-4bit" in text
    assert "The smallest (812.00 kB) of 2 that passed; rule smallest ." in text
    for candidate in fake.decision()["candidates"].values():
        for check in candidate["checks"]:
            assert check["text"] in text
    assert text.count("significantly worse") == 2 * 3
    assert "the judge does not vote: position consistency 0.71 is below 0.80" in text
    assert "1 of" not in text and "2 pass, 2 fail." in text


def test_every_rule_tells_what_its_items_can_see_and_the_judge_shows_its_passport(finished: Project) -> None:
    for name in ("report.html", "report.md"):
        text = parsed(finished.read(name)).text
        assert text.count("can see a margin of 0.031 (power 0.8)") == sum(
            len(entry["checks"]) for entry in fake.decision()["candidates"].values()
        )
        assert "non-inferiority of bpc_ru, adapt-bf16" in text
        assert text.count("holds every comparison is between 42 % and 61 %") == 4
        assert "valid passport, by 120 pairs labelled by generator" in text
        assert "no valid passport: accuracy 0.52 is not above 0.65" in text
        assert text.index("Every rule" if name.endswith("html") else "held back") < text.index(
            "Quality, size"
        )


def test_grades_by_rubric_have_a_table_of_their_own(project: Project) -> None:
    def grade(value: float, missing: int) -> dict[str, Any]:
        counts = {"unparsable": missing} if missing else {}
        return {"value": value, "ci": [value - 0.2, value + 0.2], "n": 118, "missing": counts}

    told = {"scale": [1, 5], "candidate": grade(4.12, 2), "champion": grade(3.5, 1)}
    told["difference"] = {"value": -0.62, "ci": [-0.8, -0.4], "n": 117, "clusters": 100}
    project.edit("judge/adapt-bf16/summary.json", lambda summary: summary.update(grades={"purity.ru": told}))
    project.report()
    for name in ("report.html", "report.md"):
        text = " ".join(parsed(project.read(name)).text.split())
        assert text.count("purity.ru") == 1, name
        for shown in (
            "4.12 [3.92, 4.32]",
            "3.50 [3.30, 3.70]",
            "-0.62 [-0.80, -0.40]",
            "117",
            "3 unparsable",
        ):
            assert shown in text, (name, shown)
        assert "they do not vote" in text


REMOVED = {
    "asked": 0.3,
    "before_rounding": 0.2999,
    "after_rounding": 0.287,
    "gateable_parameters": 786_432,
    "removed_parameters": 225_706,
    "parameters_before": 1_276_458,
    "parameters_after": 1_050_752,
}


def _cut(project: Project) -> None:
    told = {"method": "finegates", "trainable_parameters": 2_336, "removed": REMOVED}
    for name in list(fake.MODELS)[1:]:
        project.edit(f"quantize/{name}/gorn.json", lambda about: about["lineage"].update(adaptation=told))

    def half(measures: dict[str, Any]) -> None:
        measures["parameters"] = 638_229

    project.edit("measure/distill-higgs-4bit/measures.json", half)


def test_a_cut_shows_what_it_removed(project: Project) -> None:
    _cut(project)
    project.report()
    for name in ("report.html", "report.md"):
        text = parsed(project.read(name)).text
        assert "finegates trained 2,336 parameters and removed 225,706 of 1,276,458: 28.7 % of the" in text
        assert "the 786,432 that it may remove, 30.0 % before widths were rounded, 30.0 % were asked" in text
        assert "adaptation.removed.asked" in text
        assert "32 new ones. Removed: parameters" in text
        assert "638,229" in text and "17.7" in text
    head, *lines = [line.split(" | ") for line in project.read("report.md").splitlines() if " | " in line]
    assert head[5:9] == ["size", "parameters", "removed, %", "bits per weight"]
    # The champion, three whole students, and half of one: 225,706 and 638,229 of 1,276,458.
    assert [line[7] for line in lines[:5]] == ["–", "17.7", "17.7", "50.0", "17.7"]
    rows = {row["name"]: row for row in project.table["rows"]}
    assert [rows["adapt-bf16"][key] for key in ("method", "trainable_parameters", "removed_parameters")] == [
        "finegates",
        2_336,
        225_706,
    ]
    assert rows["distill-higgs-4bit"]["removed_parameters"] == 638_229
    assert rows["distill-higgs-4bit"]["removed_share"] == pytest.approx(638_229 / 1_276_458)
    assert rows["champion"]["removed_parameters"] is None and rows["champion"]["method"] is None


def test_an_uncut_run_has_no_column_for_cuts(project: Project) -> None:
    told = {"method": "lora", "trainable_parameters": 67_584}
    project.edit("quantize/adapt-bf16/gorn.json", lambda about: about["lineage"].update(adaptation=told))
    project.report()
    for name in ("report.html", "report.md"):
        text = parsed(project.read(name)).text
        assert "removed" not in text.lower()
        assert "67584" in text
    row = project.table["rows"][1]
    assert (row["method"], row["trainable_parameters"], row["removed_parameters"]) == ("lora", 67_584, None)


def test_numbers_stand_beside_their_intervals(finished: Project) -> None:
    for name in ("report.html", "report.md"):
        text = parsed(finished.read(name)).text
        for shown in ("78.4 [77.0, 79.8]", "1.49 [1.47, 1.51]", "0.812 MB", "4.31", "113 [104, 118]"):
            assert shown in text, (name, shown)
        assert "0.70 [0.64, 0.76]" in text
        assert "Imaginary CPU @ 2.50GHz, 2 cores, 2 threads used, torch 2.13.0+cpu" in text


def test_the_page_needs_nothing_else(finished: Project) -> None:
    html = finished.read("report.html")
    checker = parsed(html)
    assert not checker.tags & {"script", "link", "iframe", "object", "img"}
    assert all(link.startswith("#") for link in checker.links)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def test_ids_of_the_pictures_are_unique_and_referenced_ones_exist(finished: Project) -> None:
    html = finished.read("report.html")
    checker = parsed(html)
    assert len(checker.ids) == len(set(checker.ids)) > 20
    used = set(re.findall(r"url\(#([^)]+)\)", html)) | {link.removeprefix("#") for link in checker.links}
    assert used <= set(checker.ids)


def test_the_same_results_give_the_same_bytes(project: Project) -> None:
    names = ("report.html", "report.md", "table.json", "quality.svg", "forgetting.svg")
    project.report()
    first = [project.read(name) for name in names]
    project.report()
    assert [project.read(name) for name in names] == first
    assert not any(str(project.root) in text for text in first)


def test_pictures_are_well_formed_and_name_every_model(finished: Project) -> None:
    root = ElementTree.fromstring(finished.read("quality.svg"))
    words = " ".join(text for text in root.itertext())
    for name in fake.MODELS:
        assert name in words
    assert "adapt-higgs-4bit (winner)" in words and "majority class" in words
    curve = " ".join(ElementTree.fromstring(finished.read("forgetting.svg")).itertext())
    assert "ru  1.51" in curve and "en  1.55" in curve


def test_hostile_text_stays_text(project: Project) -> None:
    evil = "<script>alert(1)</script> | **x** `a<b`"

    def plant(decision: dict) -> None:
        decision["winner_reason"] = f"adapt-higgs-4bit: {evil}"
        decision["candidates"]["adapt-ternary"]["checks"][0]["text"] = evil

    project.edit("gate/decision.json", plant)
    project.report()
    checker = parsed(project.read("report.html"))
    assert "script" not in checker.tags
    assert "<script>alert(1)</script>" in checker.text
    markdown = project.read("report.md")
    assert "<script>" not in markdown
    check_tables(markdown)


def check_tables(markdown: str) -> int:
    """Every table has a rule below its head and rows of one width; returns how many tables there are."""
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)]
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
        assert len(widths) == 1, table
        assert re.fullmatch(r"\|([-:]+\|)+", table[1]), table[:2]
        assert len(table) > 2, table
    return len(tables)


def test_markdown_tables_are_whole(finished: Project) -> None:
    assert check_tables(finished.read("report.md")) == 12


def test_markdown_and_html_say_the_same(finished: Project) -> None:
    html, markdown = (finished.read(name) for name in ("report.html", "report.md"))
    figure = re.compile(r"\d[\d,]*\.\d+")
    page = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    shown, written = set(figure.findall(parsed(page).text)), set(figure.findall(markdown))
    assert shown == written


def test_scores_without_skill_are_grey(finished: Project) -> None:
    html = re.sub(r"\s+", " ", finished.read("report.html"))
    line = re.search(r"<tr><th>fake capitals.*?</tr>", html)
    assert line
    greys = re.findall(r'<td class="faint">\s*(\d+\.\d)', line.group())
    assert greys == ["25.5"]


@pytest.mark.parametrize("language", ["ru", "en"])
def test_forgetting_is_told_in_per_cent(finished: Project, language: str) -> None:
    expected = {
        "ru": "ru: 2.61 → 1.51 bits per character (-42.1 %)",
        "en": "en: 1.52 → 1.55 bits per character (+2.0 %)",
    }
    assert expected[language] in parsed(finished.read("report.html")).text
    assert expected[language] in finished.read("report.md")
