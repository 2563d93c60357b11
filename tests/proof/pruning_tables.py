"""The tables of docs/pruning.md, from what the claim `pruning` found."""

from __future__ import annotations

from typing import Any

METRICS = {"bpc_ru": "bits/char ru", "bpc_en": "bits/char en", "tasks_ru": "tasks ru"}


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
                    *(_spread(row[key]) for key in METRICS),
                    _spread(lead, sign="+") if lead else "",
                )
            )
    head = ("asked", "method", "removed", *METRICS.values(), "FineGates minus this, bits/char ru")
    parent = found["parent"]
    said = ", ".join(f"{title} {parent[key]:.4f}" for key, title in METRICS.items())
    tuning, tokens = found["tuning"], found["tokens"]["adaptation"]
    chosen = ", ".join(f"{method} {rate:g}" for method, rate in tuning["chosen"].items())
    return (
        f"After {tokens:,} tokens, mean and 95 % interval over the seeds of the adaptation (the parent "
        f"without any: {said}). `lora` is the parent adapted without a cut. Learning rates, chosen at "
        f"{tuning['share']:.0%} on seed {tuning['seed']}: {chosen}.\n\n{_table(head, rows)}"
    )


def _untrained(found: dict[str, Any]) -> str:
    rows = []
    for row in found["without_training"].values():
        cut = "pattern" not in row
        what = f"{row['method']}, units {row['scale']}" if cut else f"{row['method']}, {row['pattern']}"
        asked = f"{row['share']:.0%}" if cut else ""
        share = row["after_rounding"] if cut else row["zeroed"]
        rows.append((what, asked, f"{share:.1%}", *(f"{row[key]:.4f}" for key in METRICS)))
    return (
        "Without any training. `units` are cut, their scores compared over layers and parts on the scale "
        "that is named; the methods of `adapt` compare them as they are. Masks of single weights "
        "(unstructured, 2:4) make no smaller model here:\n\n"
        + _table(("what", "asked", "removed", *METRICS.values()), rows)
    )


def _recovery(found: dict[str, Any]) -> str:
    row = found["recovery"]
    rises = "; ".join(
        f"{METRICS[key]} {_spread(rise, sign='+', form='.1%')} over the parent's"
        f" ({'within' if row['within'][key] else 'not shown to be within'} 3 %)"
        for key, rise in row["relative_rise_over_parent"].items()
    )
    return (
        f"After recovery by distillation of the 30 % models on {found['tokens']['recovery']:,} tokens "
        f"({len(row['bpc_ru']['values'])} seeds): {rises}; tasks ru {_spread(row['tasks_ru'])}."
    )


def _density(found: dict[str, Any]) -> str:
    density = found["density"]
    rows = [
        (
            f"{point['share']:.0%}",
            f"{point['after_rounding']:.1%}",
            *(f"{point[key]:.4f}" for key in METRICS),
            f"{point['tasks_ru'] / found['parent']['tasks_ru']:.1%}",
        )
        for point in density["curve"]
    ]
    kept = "; ".join(
        f"{float(kept):.0%} of it is kept "
        + ("at none of these widths" if share is None else f"up to {share:.1%} removed")
        for kept, share in density["keeps"].items()
    )
    head = ("asked", "removed", *METRICS.values(), "of the parent's tasks")
    return (
        f"FineGates and recovery, by density (seed {density['seed']}). Of the parent's task score, {kept}."
        f"\n\n{_table(head, rows)}"
    )


def _packed(found: dict[str, Any]) -> str:
    packed = found["packed"]
    points = [
        (
            f"{point['share']:.0%}",
            point["recipe"],
            f"{point['bytes']:,}",
            *(f"{point[key]:.4f}" for key in METRICS),
        )
        for point in sorted(packed["points"], key=lambda point: point["bytes"])
    ]
    best = [
        (
            f"{row['bytes']:,}",
            *(
                f"{row['best'][kind]['bpc_ru']:.4f}" if kind in row["best"] else ""
                for kind in ("width alone", "bits alone", "both")
            ),
            row["winner"],
        )
        for row in packed["best_within"]
    ]
    return (
        "Gates and HIGGS, all models recovered, stored bytes of all weights:\n\n"
        + _table(("cut", "recipe", "bytes", *METRICS.values()), points)
        + "\n\nThe fewest Russian bits per character within the same bytes:\n\n"
        + _table(("bytes", "width alone", "bits alone", "both", "best"), best)
    )


def _spread(value: dict[str, Any], sign: str = "", form: str = ".4f") -> str:
    mean, low, high = (format(value[key], f"{sign}{form}") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
