"""Writes the table of docs/results/README.md: every claim with what its JSON says."""

from __future__ import annotations

import json
from typing import Any

from tests.proof.common import RESULTS, replace_between
from tests.proof.retraining import STEPS

BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"
HEAD = ("claim", "what was found", "commit")


def write() -> None:
    """Replace what stands between the markers."""
    lines = ["| " + " | ".join(row) + " |" for row in (HEAD, ("---",) * len(HEAD), *_rows())]
    replace_between(RESULTS / "README.md", BEGIN, END, "\n".join(lines))


def _rows() -> list[tuple[str, str, str]]:
    rows = []
    for claim, sentence in SENTENCES.items():
        path = RESULTS / f"{claim}.json"
        if not path.exists():
            rows.append((claim, "not shown yet", ""))
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.append((f"[{claim}]({claim}.json)", sentence(found), f"`{found['commit']}`"))
    return rows


def _budgets(found: dict[str, Any]) -> str:
    parts = [
        f"{name} {value:g} s of {found['budget_seconds'][name]:g}{'' if found['kept'][name] else ' (missed)'}"
        for name, value in found["seconds"].items()
    ]
    step = found.get("milliseconds_per_step_of_pretrain")
    return "; ".join(parts) + (f" (pretrain: {step:g} ms a step)" if step else "")


def _learning(found: dict[str, Any]) -> str:
    seeds = list(found["seeds"].values())

    def over(block: str, pair: str, key: str | None = None, sign: str = "{:+.1%}") -> str:
        values = [seed[block][pair] for seed in seeds]
        values = [value[key] if key else value for value in values]
        low, high = min(value["low"] for value in values), max(value["high"] for value in values)
        told = ", ".join(sign.format(value["value"]) for value in values)
        return f"{told} (intervals within {sign.format(low)} to {sign.format(high)})"

    rise, total = "relative_rise_of_bits_per_character", "difference_of_russian_total"
    return "<br>".join(
        [
            f"{len(seeds)} seeds. Bits per character after continual pretraining: Russian "
            f"{over(rise, 'pretrained against base', 'ru')}; English "
            f"{over(rise, 'pretrained against base', 'en')}, without replay "
            f"{over(rise, 'no-replay against base', 'en')}",
            f"From scratch at equal tokens against the base: Russian "
            f"{over(rise, 'from-scratch against base', 'ru')}",
            f"Russian total, adapted against base: {over(total, 'adapt-bf16 against base', sign='{:+.3f}')}",
            f"Against bf16: higgs-4bit {over(rise, 'adapt-higgs-4bit against adapt-bf16', 'ru')}, ternary "
            f"{over(rise, 'adapt-ternary against adapt-bf16', 'ru')} Russian bits per character",
        ]
    )


def _planted(found: dict[str, Any]) -> str:
    verdicts = found["verdicts"].items()
    return "; ".join(
        f"{name}: {item['verdict']}{', promoted' if item['promoted'] else ''}" for name, item in verdicts
    )


def _reproducible(found: dict[str, Any]) -> str:
    again = "; ".join(
        f"`{change}` runs {', '.join(stages)}" for change, stages in found["stages_run_after_change"].items()
    )
    return (
        f"{found['files_compared']} files of `gorn run` and of a forced `dvc repro` after it, "
        f"{len(found['different'])} differ<br>"
        f"A changed key: {again}"
    )


def _kills(found: dict[str, Any]) -> str:
    return (
        f"{found['kills']} kills in {len(found['rounds'])} rounds; {found['rounds_equal']} rounds ended with "
        f"the bytes of an undisturbed run in all {found['files_compared']} files"
    )


def _retraining(found: dict[str, Any]) -> str:
    told = []
    for step in STEPS:
        said = found["steps"][step]["said"]
        told.append(f"{step.replace('_', ' ')}: {said if isinstance(said, str) else ' / '.join(said)}")
    return "<br>".join(told)


def _offline(found: dict[str, Any]) -> str:
    return "; ".join(
        f"{name}: exit {found[name]['exit']} after {found[name]['seconds']:.0f} s"
        for name in ("gorn run", "tests")
    )


def _classics(found: dict[str, Any]) -> str:
    totals = [
        f"{name} {item['total']['value']:.3f} [{item['total']['ci'][0]:.3f}, {item['total']['ci'][1]:.3f}]"
        for name, item in found["scores"].items()
    ]
    return f"totals: {'; '.join(totals)}. {found['decision']['winner_reason']}"


SENTENCES = {
    "budgets": _budgets,
    "learning": _learning,
    "planted": _planted,
    "reproducible": _reproducible,
    "kills": _kills,
    "retraining": _retraining,
    "offline": _offline,
    "classics": _classics,
}
