"""An out/ tree in the form of docs/architecture.md with invented numbers, for the tests of the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.params import load
from stages.common.stage import execute
from stages.report.stage import STAGE

ROOT = Path(__file__).resolve().parents[3]

TASKS = {
    "fake_capitals": ("ru", "acc", 0.25, 0.27),
    "fake_sums": ("ru", "exact_match", 0.0, 0.04),
    "fake_kinship": ("ru", "acc", 0.25, 0.26),
    "fake_agreement": ("ru", "acc", 0.5, 0.52),
    "fake_seasons": ("ru", "acc", 0.25, 0.31),
    "fake_plurals_en": ("en", "acc", 0.5, 0.5),
}
# name: verdict, mean score, Russian and English bits per character, bytes, bits per weight, decode tokens/s
MODELS: dict[str, tuple[str | None, float, float, float, int, float, float]] = {
    "champion": (None, 0.45, 2.61, 1.52, 2_320_000, 16.0, 212.0),
    "adapt-bf16": ("pass", 0.79, 1.47, 1.55, 2_321_000, 16.0, 208.0),
    "adapt-higgs-4bit": ("pass", 0.784, 1.49, 1.57, 812_000, 4.31, 141.0),
    "distill-higgs-4bit": ("fail", 0.70, 1.71, 1.81, 598_000, 4.4, 254.0),
    "adapt-ternary": ("fail", 0.38, 3.9, 4.2, 541_000, 2.1, 139.0),
}
WINNER = "adapt-higgs-4bit"
MACHINE = {
    "cpu": "Imaginary CPU @ 2.50GHz",
    "cores": 2,
    "logical_cores": 2,
    "threads": 2,
    "torch": "2.13.0+cpu",
    "gpu": None,
    "load_average": 1.2,
}


@dataclass
class Project:
    """A folder with params.yaml and out/."""

    root: Path

    def edit(self, file: str, change: Callable[[Any], Any]) -> None:
        """Change one JSON file of out/ in place."""
        path = self.root / "out" / file
        value = json.loads(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    def report(self) -> None:
        """Run the stage."""
        execute(STAGE, load(self.root / "params.yaml"))

    def read(self, name: str) -> str:
        """A file of out/report."""
        return (self.root / "out" / "report" / name).read_text(encoding="utf-8")

    @property
    def table(self) -> dict[str, Any]:
        """table.json."""
        return dict(json.loads(self.read("table.json")))


def new_project(root: Path) -> Project:
    """params.yaml of this repository and invented results in `root`."""
    shutil.copy(ROOT / "params.yaml", root)
    build(root)
    return Project(root)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def build(root: Path) -> None:
    """Write the tree below `root`/out."""
    out = root / "out"
    for name, model in MODELS.items():
        write_json(out / "evaluate" / name / "scores.json", scores(name, model))
        write_json(out / "measure" / name / "measures.json", measures(model))
        if name != "champion":
            write_json(out / "judge" / name / "summary.json", judge(name, model))
            write_json(out / "judge" / name / "passport.json", passport(name))
            write_json(out / "quantize" / name / "gorn.json", manifest("quantize", name))
    write_json(out / "gate" / "decision.json", decision())
    write_json(out / "pretrain" / "training.json", training())
    write_json(out / "corpus" / "summary.json", summary())
    write_json(out / "corpus.manifest.json", manifest("corpus", None))
    write_json(out / "validate" / "verdict.json", verdict())
    write_json(out / "tokens" / "fertility.json", fertility())


def around(value: float, half: float) -> dict[str, Any]:
    return {"value": round(value, 4), "ci": [round(value - half, 4), round(value + half, 4)]}


def scores(name: str, model: tuple[Any, ...]) -> dict[str, Any]:
    _, mean, ru, en, *_ = model
    tasks = {}
    for place, (task, (language, metric, chance, majority)) in enumerate(TASKS.items()):
        value = min(0.97, max(0.02, mean + 0.05 * (place - 2.5)))
        tasks[task] = {
            "language": language,
            "metric": metric,
            **around(value, 0.03),
            "n": 220,
            "clusters": 180,
            "majority": majority,
            "chance": chance,
            "unanswered": 0,
        }
    return {
        "model": {"digest": f"{abs(hash_of(name)):064x}"},
        "conditions": {"harness": "lm-eval 0.4.13"},
        "tasks": tasks,
        "total": {**around(mean, 0.014), "n": 1320, "tasks": len(TASKS), "missing": []},
        "bpc": {
            "ru": {**around(ru, 0.02), "documents": 90, "characters": 61234},
            "en": {**around(en, 0.02), "documents": 80, "characters": 52345},
        },
    }


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode().ljust(24, b"."), "big")


def measures(model: tuple[Any, ...]) -> dict[str, Any]:
    *_, size, bits, decode = model

    def prompt(length: int) -> dict[str, Any]:
        first = 5.0 + 0.14 * length
        speed = decode * (1 if length == 1 else 0.8)
        total = first + 31e3 / speed
        return {
            "ttft_ms": {"p50": first, "p95": 1.3 * first, "ci": [0.95 * first, 1.1 * first]},
            "latency_ms": {"p50": total, "p95": 1.2 * total, "ci": [0.95 * total, 1.1 * total]},
            "prefill_tokens_per_s": {
                "p50": 1e3 * length / first,
                "ci": [900 * length / first, 1100 * length / first],
            },
            "decode_tokens_per_s": {"p50": speed, "ci": [0.92 * speed, 1.05 * speed]},
            "new_tokens": 32,
            "repeats": 10,
        }

    return {
        "device": "cpu",
        "dtype": "bfloat16",
        "machine": MACHINE,
        "bytes": size,
        "weight_bytes": size - 130_000,
        "parameters": 1_050_752,
        "bits_per_weight": bits,
        "baseline_rss_bytes": 471_000_000,
        "peak_rss_bytes": 471_000_000 + 14 * size,
        "peak_device_bytes": None,
        "load_s": 0.21,
        "prompts": {"1": prompt(1), "512": prompt(512)},
        "reasons": {},
    }


def judge(name: str, model: tuple[Any, ...]) -> dict[str, Any]:
    value = 0.5 + 0.6 * (model[1] - 0.45)
    return {
        "enabled": True,
        "preference": round(value, 4),
        "ci": [round(value - 0.06, 4), round(value + 0.06, 4)],
        "pairs": 120,
        "clusters": 104,
        "consistency": 0.71 if name == "adapt-ternary" else 0.88,
        "primacy": 0.05,
        "accuracy": 0.91,
        "accuracy_ci": [0.86, 0.95],
        "votes": name != "adapt-ternary",
        "reason": "position consistency 0.71 is below judge.min_consistency 0.80"
        if name == "adapt-ternary"
        else None,
        "judge": {"digest": "f" * 64, "kind": "embedded"},
    }


def passport(name: str) -> dict[str, Any]:
    valid = name != "adapt-ternary"
    reasons = [] if valid else ["accuracy 0.52 is not above 0.65"]
    return {"schema": 1, "truth": "generator", "pairs": 120, "valid": valid, "reasons": reasons}


def check(
    rule: str,
    against: str | None,
    metric: str,
    margin: float,
    difference: float,
    low: float,
    ok: bool,
    text: str,
) -> dict[str, Any]:
    return {
        "rule": rule,
        "against": against,
        "metric": metric,
        "margin": margin,
        "difference": difference,
        "ci_low": low,
        "n": 1320,
        "clusters": 1080,
        "verdict": "pass" if ok else "fail",
        "text": text,
        "power": {"visible": 0.031, "equal_passes": 0.42, "clusters": 2400, "items": 2933},
        "plan": f"{metric}: 1,320 items in 1,080 clusters can see a margin of 0.031 (power 0.8)",
    }


def checks(name: str, model: tuple[Any, ...]) -> list[dict[str, Any]]:
    _, mean, ru, _, *_ = model
    gain = mean - 0.45
    rows = [
        check(
            "non-inferiority",
            "champion",
            "total",
            0.01,
            gain,
            gain - 0.02,
            gain - 0.02 > -0.01,
            f"total {mean:.3f} against 0.450 of the champion: {gain:+.3f}, at least {gain - 0.02:+.3f} (95 % "
            "confidence), "
            + (
                "above the margin of -0.010"
                if gain > 0.01
                else "not above the margin of -0.010: significantly worse"
            ),
        )
    ]
    if name != "adapt-bf16":
        rise = ru / 1.47 - 1
        rows.append(
            check(
                "non-inferiority",
                "adapt-bf16",
                "bpc_ru",
                0.03,
                -rise,
                -rise - 0.01,
                rise < 0.02,
                f"bits per character (ru) {ru:.3f} against 1.470 of adapt-bf16: {100 * rise:+.1f} %, at most "
                f"{100 * rise + 1:+.1f} % (95 % confidence), "
                + (
                    "within the margin of +3.0 %"
                    if rise < 0.02
                    else "not within the margin of +3.0 %: significantly worse"
                ),
            )
        )
    return rows


def decision() -> dict[str, Any]:
    candidates = {}
    for name, model in MODELS.items():
        if name == "champion":
            continue
        found = checks(name, model)
        held = [item["text"] for item in found if item["verdict"] != "pass"]
        candidates[name] = {
            "verdict": model[0],
            "digest": f"{hash_of(name):064x}",
            "bytes": model[4],
            "parent": None if name == "adapt-bf16" else "adapt-bf16",
            "reasons": held or [f"holds all {len(found)} rules", *(item["text"] for item in found)],
            "checks": found,
            "judge": {"votes": name != "adapt-ternary", "reason": ""},
            "equal_passes_all": [0.42, 0.61],
        }
    candidates["adapt-ternary"]["reasons"].append(
        "the judge does not vote: position consistency 0.71 is below 0.80"
    )
    return {
        "schema": 2,
        "champion": {"version": None, "digest": None, "compared": "c" * 64},
        "candidates": candidates,
        "winner": WINNER,
        "winner_reason": f"{WINNER}: the smallest (812.00 kB) of 2 that passed; rule `smallest`",
        "rule": "smallest",
    }


def training() -> dict[str, Any]:
    ru, en = [2.61, 1.95, 1.71, 1.58, 1.51], [1.52, 1.59, 1.57, 1.56, 1.55]
    return {
        "steps": 584,
        "tokens": {"world-ru": 900_000, "world-en": 300_000},
        "curve": {"every": 100, "loss": [4.0, 3.5, 3.0, 2.5, 2.0]},
        "points": [
            {"step": 146 * place, "tokens": 300_000 * place, "bpc": {"ru": ru[place], "en": en[place]}}
            for place in range(5)
        ],
    }


def summary() -> dict[str, Any]:
    subset = {"read": 4000, "kept": 3700, "dropped": {}, "characters": 1_200_000}
    heldout = {"documents": 150, "characters": 48_000}
    return {
        "documents_read": 12_345,
        "documents_kept": 11_402,
        "characters_kept": 3_912_345,
        "actions": {"kept": 11_021, "changed": 381, "dropped": 943},
        "reasons": {
            "near_duplicate": 402,
            "redacted": 240,
            "repaired": 141,
            "exact_duplicate": 300,
            "language": 130,
            "junk": 71,
            "contaminated": 40,
        },
        "subsets": {
            "world-en": {**subset, "languages": {"en": 4000}, "heldout": heldout},
            "world-ru": {**subset, "languages": {"ru": 4000}, "heldout": heldout},
            "world-tasks": {**subset, "languages": {"en": 900, "ru": 3100}, "heldout": heldout},
        },
        "unreadable": {"count": 0, "first": []},
        "truth": {
            "recall": {
                "exact_duplicate": {"planted": 300, "handled": 300, "recall": 1.0},
                "mojibake": {"planted": 150, "handled": 141, "recall": 0.94},
                "near_duplicate": {"planted": 410, "handled": 396, "recall": 0.9659},
                "pii": {"planted": 240, "handled": 238, "recall": 0.9917},
            },
            "precision": {
                "exact_duplicate": {"claimed": 300, "right": 300, "precision": 1.0},
                "near_duplicate": {"claimed": 402, "right": 396, "precision": 0.9851},
                "redacted": {"claimed": 240, "right": 238, "precision": 0.9917},
                "repaired": {"claimed": 141, "right": 141, "precision": 1.0},
                "too_short": {"claimed": 0, "right": 0, "precision": None},
            },
        },
    }


def verdict() -> dict[str, Any]:
    return {
        "passed": True,
        "expectations": 21,
        "failed": {"critical": [], "warning": ["repeated_line_share"]},
        "outcomes": [],
    }


def fertility() -> dict[str, Any]:
    def row(language: str, per_word: float, per_token: float) -> dict[str, Any]:
        return {
            "language": language,
            "documents": 3700,
            "words": 300_000,
            "tokens": round(300_000 * per_word),
            "tokens_per_word": per_word,
            "chars_per_token": per_token,
            "words_within_two_tokens": 0.91,
            "round_trip_errors": 0,
        }

    return {
        "vocab_size": 2048,
        "subsets": {"world-en": row("en", 1.31, 4.1), "world-ru": row("ru", 1.72, 3.6)},
    }


def manifest(stage: str, cell: str | None) -> dict[str, Any]:
    params = {"corpus": {"sources": [{"type": "world", "seed": 7}]}} if stage == "corpus" else {"seed": 1}
    return {
        "schema": 1,
        "stage": stage,
        "cell": cell,
        "seed": None if stage == "corpus" else 1,
        "params": params,
        "versions": {"gorn": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "lineage": {
            "data": {"world-en": ["CC0-1.0"], "world-ru": ["CC0-1.0"]},
            "base": {"licence": "Apache-2.0"},
        },
        "tokens": {} if stage == "corpus" else {"world-ru": 900_000, "world-en": 300_000},
    }
