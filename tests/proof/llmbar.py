"""Real verdicts of real judges on LLMBar's pairs: known bias figures, and who gets a passport.

Every pair was judged in both orders by the plain prompt; a verdict names the winner, so that equal ones are
consistent. The figures of `KNOWN` are those of the judges that published verdicts allow to recompute.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from evals.judge import passport
from evals.judge.labelled import Labelled, read
from evals.judge.passport import Passport, Threshold
from evals.judge.protocol import Identity
from evals.judge.verdicts import Missing, Verdict
from tests.proof.common import ROOT, write_result

CLAIM = "llmbar"
DATA = ROOT.parent / "shared" / "data" / "llmbar"
PROMPTING = "Vanilla"
# Consistency, primacy (first place twice), recency, accuracy over both orders, to three digits.
KNOWN = {
    "GPT-4": (734, 0.877, 0.071, 0.052, 0.760),
    "ChatGPT": (734, 0.586, 0.386, 0.029, 0.432),
    "Falcon": (734, 0.420, 0.568, 0.012, 0.527),
}
SOURCE = "LLMBar, plain prompt (2310.07641)"
THRESHOLDS = (
    Threshold("consistency", "at_least", 0.8, SOURCE),
    Threshold("accuracy", "lower_bound", 0.65, SOURCE),
)


def judged(data: Path = DATA) -> dict[str, Any]:
    """By judge: its passport, and the figures beside the known ones."""
    known = {item.pair.id: item for item in read([data / "pairs.jsonl.gz"])}
    verdicts: dict[str, list[tuple[Labelled, Verdict | Missing]]] = defaultdict(list)
    with gzip.open(data / "judge_verdicts.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["prompting"] == PROMPTING and row["judge"] in KNOWN:
                item = known[row["pair"]]
                verdicts[row["judge"]].append((item, _verdict(item, row)))
    return {judge: _found(judge, verdicts[judge]) for judge in KNOWN}


def _verdict(item: Labelled, row: dict[str, Any]) -> Verdict | Missing:
    """The winner's own index in both orders becomes p that the first output is better."""
    won = {"1": 1.0, "2": 0.0}
    both = [won.get(str(row[order])) for order in ("order_ab", "order_ba")]
    if None in both:
        return Missing(item.pair.id, item.pair.cluster, "unparsable", "no verdict in the published file")
    return Verdict(item.pair.id, item.pair.cluster, *both)  # type: ignore[arg-type]


def _found(judge: str, rows: list[tuple[Labelled, Verdict | Missing]]) -> dict[str, Any]:
    labelled, results = [item for item, _ in rows], [result for _, result in rows]
    measures = passport.measure(results, labelled, (), "crowd")
    identity = Identity(judge, "endpoint", judge, (("prompting", PROMPTING),), PROMPTING)
    told = Passport(identity, "people", len(rows), measures, THRESHOLDS).as_json()
    outcomes = [result.outcomes for result in results if isinstance(result, Verdict)]
    first, second = (
        sum(seen == order for seen in outcomes) / len(outcomes)
        for order in (("ours", "theirs"), ("theirs", "ours"))
    )
    same, right = measures["consistency"].value, measures["accuracy"].value
    found = (len(outcomes), same, first, second, right)
    known = KNOWN[judge]
    agrees = all(round(float(ours or 0), 3) == theirs for ours, theirs in zip(found, known, strict=True))
    names = ("pairs", "consistency", "first", "second", "accuracy")
    return {
        **dict(zip(names, found, strict=True)),
        "known": dict(zip(names, known, strict=True)),
        "reproduced": agrees,
        "measures": told["measures"],
        "valid": told["valid"],
        "reasons": told["reasons"],
    }


def measure() -> None:
    """Write docs/results/llmbar.json."""
    thresholds = [vars(threshold) for threshold in THRESHOLDS]
    write_result(CLAIM, {"prompting": PROMPTING, "thresholds": thresholds, "judges": judged()})
