"""Real supervised files through `supervised` and `adapt`: what is kept of them, and the loss on held-out
answers before and after, with and without replay. The parent is the model of profiles/classics.yaml.
"""

from __future__ import annotations

from typing import Any

import yaml

from tests.proof import cutting
from tests.proof.classics import DATA
from tests.proof.classics import profile as classics_profile
from tests.proof.common import ROOT, interval, piece, replace_between, run, write_result
from tests.proof.cutting import PARENT, World
from tests.proof.markdown import spread, table

CLAIM = "supervised"
SEEDS = (1, 2, 3)
FILES: list[dict[str, Any]] = [
    {
        "paths": [str(DATA / "koziev_cc0" / "qa_arith.jsonl.gz")],
        "subset": "arith",
        "licence": "CC0-1.0",
        "fields": {"instruction": "question", "output": "answer"},
    },
    {
        "paths": [str(DATA / "koziev_cc0" / "premise_qa.jsonl.gz")],
        "subset": "premise",
        "licence": "CC0-1.0",
        "fields": {"instruction": "premise", "input": "question", "output": "answer"},
    },
    {
        "paths": [str(DATA / "rulm_ru_pairs" / "ru_alpaca_seed_tasks.jsonl")],
        "subset": "seed-tasks",
        "licence": "Apache-2.0",
        "too_long": "cut",
    },
]
SUBSETS = tuple(file["subset"] for file in FILES)
# Line -> mix: by size, or with a fifth of the loss on text that the parent has seen.
MIXES: dict[str, dict[str, float] | None] = {
    "answers alone": None,
    "a fifth of replay": {"arith": 0.3, "premise": 0.3, "seed-tasks": 0.2, "russian": 0.2},
}
WORLD = World(CLAIM, tokens=200_000)
PAGE, BEGIN, END = (
    ROOT / "docs" / "supervised.md",
    "<!-- supervised:begin -->",
    "<!-- supervised:end -->",
)


def measure() -> None:
    """Train the parent, read the files, adapt; write the result and the table of docs/supervised.md."""
    if not DATA.is_dir():
        raise SystemExit(f"{CLAIM}: {DATA} is absent; this claim needs the public data beside the checkout")
    cutting.parent(WORLD, _edit)
    piece(CLAIM, "read", lambda: run(["dvc", "repro", "supervised"], WORLD.folder).returncode)
    whole = piece(CLAIM, "scored-parent", lambda: cutting.scored(WORLD, PARENT))
    with cutting.workers(CLAIM) as pool:
        runs = cutting.make_all(
            pool,
            WORLD,
            {f"{name} {seed}": (adapted, (name, seed)) for name in MIXES for seed in SEEDS},
        )
    first = runs[f"{next(iter(MIXES))} {SEEDS[0]}"]
    found = {
        "tokens": WORLD.tokens,
        "parent": {"bpc_ru": whole["bpc_ru"], "answers": first["answers"]["before"]},
        "files": first["supervised"]["subsets"],
        "lines": {name: _line([runs[f"{name} {seed}"] for seed in SEEDS]) for name in MIXES},
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def _edit(params: dict[str, Any]) -> None:
    classics_profile(params)
    params["adapt"]["data"] = [{**file, "language": "ru"} for file in FILES]
    params["adapt"]["mix"] = None
    # Models of this size guess at tasks.
    params["evaluate"]["suites"] = [str(DATA / "rublimp")]
    params["evaluate"]["pairs_per_phenomenon"] = 1


def adapted(world: World, name: str, seed: int) -> dict[str, Any]:
    """One run of the stage `adapt`: the losses on held-out answers that it writes, and Russian bits."""
    from stages.adapt.stage import STAGE
    from stages.common.atomic import read_json
    from stages.common.params import parse, select
    from stages.common.training.session import CURVE

    label = f"{name.replace(' ', '-')}-{seed}"
    params = yaml.safe_load((world.folder / "params.yaml").read_text(encoding="utf-8"))
    params |= {"seed": seed, "threads": 1}
    params["adapt"]["mix"] = MIXES[name]
    params["adapt"]["training"]["tokens"] = world.tokens
    out = cutting.fresh_folder(world.model(label))
    inputs = {key: world.out / key for key in ("pretrain", "tokens", "supervised")}
    read = select(parse(params, str(world.folder / "params.yaml")), STAGE.reads)
    facts = STAGE.run(read, inputs, {"checkpoint": out})
    before, after = (point["observed"]["answers"] for point in read_json(out / CURVE)["points"])
    return {
        "answers": {"before": before, "after": after},
        "supervised": facts.notes["supervised"],
        "bpc_ru": cutting.scored(world, label)["bpc_ru"],
    }


def _line(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "bpc_ru": interval([row["bpc_ru"] for row in rows]),
        "answers": {name: interval([row["answers"]["after"][name] for row in rows]) for name in SUBSETS},
    }


def tables(found: dict[str, Any]) -> str:
    """What stands between the markers of docs/supervised.md."""
    head = ("", *(f"{name}, nats per answer token" for name in SUBSETS), "Russian bits per character")
    parent = found["parent"]
    rows = [("parent", *(f"{parent['answers'][name]:.3f}" for name in SUBSETS), f"{parent['bpc_ru']:.3f}")]
    rows += [
        (name, *(spread(value, form=".3f") for value in (*map(line["answers"].get, SUBSETS), line["bpc_ru"])))
        for name, line in found["lines"].items()
    ]
    counts = "; ".join(
        f"{name}: " + ", ".join(f"{key} {count:,}" for key, count in found["files"][name].items())
        for name in SUBSETS
    )
    return (
        f"The model of profiles/classics.yaml on koziev_cc0 and the seed tasks of rulm_ru_pairs, "
        f"{found['tokens']:,} tokens, {len(SEEDS)} seeds, held-out answers ({counts}):\n\n{table(head, rows)}"
    )
