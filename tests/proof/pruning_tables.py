"""The tables of docs/pruning.md, from what the claim `pruning` found."""

from __future__ import annotations

from typing import Any

from tests.proof.cutting import AS_IT_IS
from tests.proof.markdown import spread, table

METRICS = {"bpc_ru": "bits/char ru", "bpc_en": "bits/char en", "tasks_ru": "tasks ru"}
WHOLES = {"of_parent": "the parent's task score", "of_uncut": "that of the uncut model"}
WIDTH, BITS, BOTH = "width alone", "bits alone", "both"
LANGUAGES = {"bpc_ru": "ru", "bpc_en": "en"}


def tables(found: dict[str, Any]) -> str:
    """All of them, each under a line that says what it shows."""
    parts = [
        _compared(found),
        _untrained(found),
        _recovery(found),
        _density(found),
        _packed(found),
    ]
    return "\n\n".join(parts)


def _compared(found: dict[str, Any]) -> str:
    rows = []
    for share, methods in found["compared"].items():
        for method, row in sorted(methods.items(), key=lambda item: item[1]["bpc_ru"]["mean"]):
            lead = row.get("ours_minus_this", {}).get("bpc_ru")
            rows.append(
                (
                    f"{float(share):.0%}",
                    method,
                    f"{row['after_rounding']:.1%}" if "after_rounding" in row else "",
                    *(spread(row[key]) for key in METRICS),
                    spread(lead, sign="+") if lead else "",
                )
            )
    head = ("asked", "method", "removed", *METRICS.values(), "FineGates minus this, bits/char ru")
    parent = found["parent"]
    said = ", ".join(f"{title} {parent[key]:.4f}" for key, title in METRICS.items())
    tuning, tokens = found["tuning"], found["tokens"]["adaptation"]
    rates = sorted(tuning["chosen"].items(), key=lambda item: -item[1])
    chosen = ", ".join(f"{method} {rate:g}" for method, rate in rates)
    return (
        f"After {tokens:,} tokens, mean and 95 % interval over the seeds of the adaptation (the parent "
        f"without any: {said}). `lora` is the parent adapted without a cut. Learning rates, chosen at "
        f"{tuning['share']:.0%} on seed {tuning['seed']}: {chosen}.\n\n{table(head, rows)}"
    )


def _untrained(found: dict[str, Any]) -> str:
    masks = [
        (row["method"], row["pattern"], f"{row['zeroed']:.1%}", *(f"{row[key]:.4f}" for key in METRICS))
        for row in found["without_training"].values()
        if "pattern" in row
    ]
    cuts = [row for row in found["without_training"].values() if "scale" in row]
    columns = list(dict.fromkeys((row["share"], row["scale"]) for row in cuts))
    columns.sort(key=lambda column: (column[1] != AS_IT_IS, column))
    bits = {(row["method"], row["share"], row["scale"]): f"{row['bpc_ru']:.4f}" for row in cuts}
    units = [
        (method, *(bits.get((method, *column), "") for column in columns))
        for method in dict.fromkeys(row["method"] for row in cuts)
    ]
    return (
        "Without any training, Russian bits per character. Units are cut, their scores compared over layers "
        "and parts on the scale that is named; the methods of `adapt` compare them as they are:\n\n"
        + table(("method", *(f"{share:.0%}, {scale}" for share, scale in columns)), units)
        + "\n\nMasks of single weights, without any training either, make no smaller model here:\n\n"
        + table(("method", "pattern", "zeroed", *METRICS.values()), masks)
    )


def _recovery(found: dict[str, Any]) -> str:
    recovery = found["recovery"]
    rows = []
    for method, row in recovery["methods"].items():
        parent, uncut = row["relative_rise_over_parent"], row["relative_rise_over_uncut"]
        told = [
            f"{spread(parent[key], '+', '.1%')}{'' if row['within'][key] else ' (not within 3 %)'}"
            for key in LANGUAGES
        ]
        told += [spread(uncut[key], "+", ".1%") for key in LANGUAGES]
        rows.append((method, *(spread(row[key]) for key in METRICS), *told))
    lead = recovery["ours_minus_rival"]
    blank = ("",) * 4
    rows.append(("difference", *(spread(lead[key], "+") for key in METRICS), *blank))
    rows.append(("uncut, trained alike", *(spread(recovery["uncut"][key]) for key in METRICS), *blank))
    over = [
        f"{language} over the {whole}" for whole in ("parent's", "uncut's") for language in LANGUAGES.values()
    ]
    return (
        f"The 30 % models after recovery by distillation from the parent on {found['tokens']['recovery']:,} "
        f"tokens, {len(lead['bpc_ru']['values'])} seeds. The parent never saw the form of the tasks, which "
        "held-out Russian text contains too, so the uncut model trained alike is the harder yardstick:\n\n"
        f"{table(('method', *METRICS.values(), *over), rows)}"
    )


def _density(found: dict[str, Any]) -> str:
    density = found["density"]
    whole = ("0%", "", *(spread(density["uncut"][key]) for key in METRICS), "", "")
    rows = [
        (
            f"{point['share']:.0%}",
            f"{point['after_rounding']:.1%}",
            *(spread(point[key]) for key in METRICS),
            *(spread(point[key], form=".1%") for key in WHOLES),
        )
        for point in density["curve"]
    ]
    kept = "; ".join(f"of {name}, {_keeps(density['keeps'][key])}" for key, name in WHOLES.items())
    head = ("asked", "removed", *METRICS.values(), *WHOLES.values())
    return (
        f"FineGates and recovery, by density ({len(density['seeds'])} seeds); the first line is the parent "
        f"trained alike without a cut. The most that may go, by the mean (in brackets: with the whole "
        f"interval above): {kept}.\n\n{table(head, [whole, *rows])}"
    )


def _keeps(shares: dict[str, dict[str, float | None]]) -> str:
    def told(share: float | None) -> str:
        return "none of these" if share is None else f"{share:.1%}"

    return ", ".join(
        f"{float(kept):.0%} with {told(ends['mean'])} removed ({told(ends['low'])})"
        for kept, ends in sorted(shares.items(), reverse=True)
    )


def _packed(found: dict[str, Any]) -> str:
    def told(row: dict[str, Any], kind: str) -> str:
        point = row["best"].get(kind)
        if point is None:
            return ""
        cut = f"cut {point['share']:.0%}" if point["share"] else ""
        recipe = "" if kind == WIDTH else point["recipe"]
        return f"{point['bpc_ru']:.4f} ({', '.join(part for part in (cut, recipe) if part)})"

    kinds = (WIDTH, BITS, BOTH)
    rows: list[tuple[str, ...]] = []
    shown: tuple[str, ...] = ()
    for row in found["packed"]["best_within"]:
        bits = tuple(told(row, kind) for kind in kinds)
        # Once there is something to compare with, the sizes at which that gets better.
        rivals = bits[:2] if any(bits[:2]) else bits
        if rivals != shown:
            lead = f"{row['first']}, by {spread(row['lead'])}" if row["lead"] else ""
            rows.append((f"{row['bytes']:,}", *bits, lead))
            shown = rivals
    whole = max(point["bytes"] for point in found["packed"]["points"])
    return (
        "Gates and HIGGS, all models recovered, means over the same seeds: the fewest Russian bits per "
        "character within so many stored bytes of all weights, and the lead of the first over the second, "
        f"seed by seed (uncut in bf16: {whole:,} bytes; every point is in "
        "[pruning.json](results/pruning.json)):\n\n" + table(("bytes", *kinds, "ahead"), rows)
    )
