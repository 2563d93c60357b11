"""The tables of docs/finegates.md from what claim `finegates` found."""

from __future__ import annotations

from typing import Any

from tests.proof.markdown import spread, table


def tables(found: dict[str, Any]) -> str:
    """Markdown: budgets and bits, modes, dials, then what holds by construction."""
    parts = (_shares, _forward, _variants, _trials, _checks, _time)
    return "\n\n".join(part(found) for part in parts)


def _span(ends: list[float]) -> str:
    low, high = (f"{100 * end:.2f}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _shares(found: dict[str, Any]) -> str:
    parent = found["parent"]
    rows = [("0 (parent)", "", "", "", f"{parent['ru']:.4f}", f"{parent['en']:.4f}", "")]
    rows += [
        (
            f"{100 * float(share):g}",
            _span(row["before_rounding"]),
            _span(row["after_rounding"]),
            str(row["seeds"]),
            spread(row["bpc"]["ru"]),
            spread(row["bpc"]["en"]),
            f"{row['bpc']['ru']['mean'] / parent['ru'] - 1:+.1%}",
        )
        for share, row in found["shares"].items()
    ]
    head = (
        "asked, %",
        "removed before rounding, %",
        "after, %",
        "seeds",
        "Russian",
        "English",
        "Russian, relative",
    )
    return (
        f"Mode `global`, weights frozen, {found['tokens']:,} tokens; bits per character of held-out text:\n\n"
        + table(head, rows)
    )


def _forward(found: dict[str, Any]) -> str:
    rows = [
        (f"{100 * float(share):g}", method, spread(bits["ru"]), spread(bits["en"]))
        for share, methods in found["without_training"].items()
        for method, bits in methods.items()
    ]
    return (
        "The same cuts by scores that read calibration text forward only, and nothing trained:\n\n"
        + table(("asked, %", "method", "Russian", "English"), rows)
    )


def _variants(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{row['trainable_parameters']:,}",
            _span(row["after_rounding"]),
            str(row["seeds"]),
            spread(row["bpc"]["ru"]),
            spread(row["bpc"]["en"]),
        )
        for name, row in {"global": found["shares"]["0.3"], **found["variants"]}.items()
    ]
    head = ("at 30 %", "trained numbers", "removed after rounding, %", "seeds", "Russian", "English")
    return table(head, rows)


def _trials(found: dict[str, Any]) -> str:
    dials = ", ".join(f"`{name}` {value:g}" for name, value in found["dials"].items())
    rows = [
        (name, f"{bits['ru']:.4f}", f"{bits['en']:.4f}") for name, bits in found["tuning"]["trials"].items()
    ]
    return (
        f"The dials ({dials}), each lower and higher, on seed {found['tuning']['seed']} at 30 %:\n\n"
        + table(("dial", "Russian", "English"), rows)
    )


def _checks(found: dict[str, Any]) -> str:
    fresh = found["fresh"].values()
    equal = "equal bit for bit" if all(row["logits_equal"] for row in fresh) else "NOT equal"
    ratios = [row["loss_ratio"] for row in fresh]
    worst = {
        name: max(row["difference"][name] for modes in found["shapes"].values() for row in modes.values())
        for name in ("gated", "cut", "reloaded")
    }
    uncut = min(row["uncut"] for modes in found["shapes"].values() for row in modes.values())
    texts = [row["texts_equal"] for modes in found["shapes"].values() for row in modes.values()]
    told = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return (
        f"Freshly wrapped ({', '.join(found['fresh'])}): logits {equal} to the parent's, loss in training "
        f"mode {min(ratios):.4f} to {max(ratios):.4f} times its own.\n\n"
        f"On random models ({'; '.join(found['shapes'])}), greatest difference of logits to the masked model "
        f"in fp32: {told} (the uncut model: {uncut:.1e} or more); {sum(texts)} of {len(texts)} written "
        "continuations equal."
    )


def _time(found: dict[str, Any]) -> str:
    spent = found["time"]
    ratios = "; ".join(
        f"{kind} {ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        for kind, ratio in spent["ratio"].items()
    )
    milliseconds = ", ".join(f"{kind} {value:.1f}" for kind, value in spent["milliseconds"].items())
    return (
        f"A training step beside one of rank-8 LoRA on the same layers ({', '.join(spent['layers'])}), "
        f"{spent['pairs']} interleaved pairs, ratio: {ratios} (milliseconds: {milliseconds})."
    )
