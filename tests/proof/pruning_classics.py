"""The methods of the claim `pruning` once more on real text: the model of profiles/classics.yaml cut by 30 %.
About half an hour on two idle cores.

Learning rates are those that `pruning` chose; nothing is tuned here.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.proof import cutting
from tests.proof.classics import DATA
from tests.proof.classics import profile as classics_profile
from tests.proof.common import RESULTS, ROOT, interval, piece, replace_between, write_result
from tests.proof.cutting import PARENT, UNCUT, Cut, World
from tests.proof.markdown import spread, table
from tests.proof.pruning import OURS

CLAIM = "pruning_classics"
WORLD = World(CLAIM, tokens=60_000)
RECOVERY_TOKENS = 200_000  # with those of the adaptation less than a tenth of the parent's
SHARE = 0.3
SEEDS = (1, 2, 3)
METHODS = (OURS, "wanda", "minitron", "random")
RECOVERED = (UNCUT, OURS, "wanda")
METRICS = {"bpc_ru": "bits/char ru", "bpc_en": "bits/char en"}
PAGE, BEGIN, END = (
    ROOT / "docs" / "pruning.md",
    "<!-- pruning_classics:begin -->",
    "<!-- pruning_classics:end -->",
)


def measure() -> None:
    """Train the parent, cut it by every method, recover two of them, compare seed by seed."""
    if not DATA.is_dir():
        raise SystemExit(f"{CLAIM}: {DATA} is absent; this claim needs the public data beside the checkout")
    earlier = RESULTS / "pruning.json"
    if not earlier.exists():
        raise SystemExit(f"{CLAIM}: {earlier.relative_to(ROOT)} is absent; run CLAIM=pruning first, it tunes")
    told = json.loads(earlier.read_text(encoding="utf-8"))
    rates = told["tuning"]["chosen"]
    again = {method: found["learning_rate"] for method, found in told["recovery"]["methods"].items()}
    again[UNCUT] = again[OURS]
    cutting.parent(WORLD, _edit)
    whole = piece(CLAIM, "scored-parent", lambda: cutting.scored(WORLD, PARENT))
    with cutting.workers(CLAIM) as pool:
        cuts = {
            (method, seed): Cut(method, seed, rates[method], None if method == UNCUT else SHARE)
            for method in (UNCUT, *METHODS)
            for seed in SEEDS
        }
        runs = cutting.make_all(
            pool, WORLD, {f"cut-{cut.name}": (cutting.adapted, (cut,)) for cut in cuts.values()}
        )
        recovered = cutting.make_all(
            pool,
            WORLD,
            {
                f"recovery-{method}-{seed}": (
                    cutting.recovered,
                    (cuts[method, seed].name, seed, RECOVERY_TOKENS, again[method]),
                )
                for method in RECOVERED
                for seed in SEEDS
            },
        )
    cut = {method: [runs[f"cut-{cuts[method, seed].name}"] for seed in SEEDS] for method in (UNCUT, *METHODS)}
    back = {method: [recovered[f"recovery-{method}-{seed}"] for seed in SEEDS] for method in RECOVERED}
    found = {
        "share": SHARE,
        "tokens": {
            "parent": _parent_tokens(),
            "adaptation": WORLD.tokens,
            "recovery": RECOVERY_TOKENS,
        },
        "parent": {key: whole[key] for key in METRICS},
        "cut": {method: _row(rows, cut[OURS]) for method, rows in cut.items()},
        "recovered": {method: _row(rows, back[OURS]) for method, rows in back.items()},
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def _edit(params: dict[str, Any]) -> None:
    """The profile without tasks: models of this size guess at them."""
    classics_profile(params)
    params["evaluate"]["suites"] = [str(DATA / "rublimp")]
    params["evaluate"]["pairs_per_phenomenon"] = 1


def _parent_tokens() -> int:
    params = yaml.safe_load((WORLD.folder / "params.yaml").read_text(encoding="utf-8"))
    blocks = params["base"]["bootstrap"], params["pretrain"]
    return int(sum(block["training"]["tokens"] for block in blocks))


def _row(rows: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    lead = {
        key: interval([one[key] - row[key] for one, row in zip(ours, rows, strict=True)]) for key in METRICS
    }
    removed = [row["removed"]["after_rounding"] for row in rows if "removed" in row]
    return {
        **{key: interval([row[key] for row in rows]) for key in METRICS},
        **({"after_rounding": sum(removed) / len(removed)} if removed else {}),
        **({} if rows is ours else {"ours_minus_this": lead}),
    }


def tables(found: dict[str, Any]) -> str:
    """What stands between the markers of docs/pruning.md."""
    head = ("", "method", "removed", *METRICS.values(), "FineGates minus this, bits/char ru")
    rows = [("parent", "", "", *(f"{found['parent'][key]:.4f}" for key in METRICS), "")]
    for block in ("cut", "recovered"):
        for method, row in sorted(found[block].items(), key=lambda item: item[1]["bpc_ru"]["mean"]):
            removed = f"{row['after_rounding']:.1%}" if "after_rounding" in row else ""
            lead = spread(row["ours_minus_this"]["bpc_ru"], "+") if "ours_minus_this" in row else ""
            rows.append((block, method, removed, *(spread(row[key]) for key in METRICS), lead))
    tokens = found["tokens"]
    return (
        f"The model of profiles/classics.yaml ({tokens['parent']:,} tokens), {tokens['adaptation']:,} tokens "
        f"of adaptation, {tokens['recovery']:,} of recovery, {len(SEEDS)} seeds; `lora` is not cut:\n\n"
        + table(head, rows)
    )
