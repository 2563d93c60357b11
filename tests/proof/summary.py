"""Writes the table of docs/results/README.md: every claim with what its JSON says."""

from __future__ import annotations

import json
from typing import Any

from tests.proof.common import RESULTS, replace_between
from tests.proof.markdown import table
from tests.proof.retraining import STEPS

BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"
HEAD = ("claim", "what was found", "commit")


def write() -> None:
    """Replace what stands between the markers."""
    replace_between(RESULTS / "README.md", BEGIN, END, table(HEAD, _rows()))


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
    verdicts = found["verdicts"]
    told = "; ".join(
        f"{name}: {item['verdict']}{', promoted' if item['promoted'] else ''}"
        for name, item in verdicts.items()
    )
    silent = [
        any(reason.startswith("the judge does not vote") for reason in said["reasons"])
        for item in verdicts.values()
        for said in (item, item.get("without_a_passport", item))
    ]
    return (
        f"{told}<br>A judge that always prefers the first answer, examined or not: "
        f"no vote in {sum(silent)} of {len(silent)} decisions"
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


def _weights(found: dict[str, Any]) -> str:
    formats, rounding = found["errors"]["formats"], found["rounding"]
    errors = "; ".join(
        f"{name} ({row['gaussian']['bits']:.3g} bits) "
        + ", ".join(f"{value['error']:.5f}" for value in row.values())
        for name, row in formats.items()
    )
    worst = max(
        abs(grid["measured"] / grid["known"] - 1)
        for name, grid in found["grids"].items()
        if not name.startswith("p1n")
    )
    return (
        f"relative error on {', '.join(next(iter(formats.values())))}: {errors}<br>"
        f"t² of the grids with p > 1 on fresh vectors within {worst:.1%} of the known constants; quantising "
        f"{rounding['weights'] / 1e6:.1f} M weights {rounding['ratio']:.0f} times as fast as exact search"
    )


def _streaming(found: dict[str, Any]) -> str:
    item = found["found"]
    return (
        f"{item['source_bytes'] / 1e9:.2f} GB in {item['seconds']:.0f} s, peak memory "
        f"{item['peak_rss_bytes'] / 2**20:.0f} MiB of {found['limit_bytes'] / 2**20:.0f} (libraries "
        f"{item['rss_before_bytes'] / 2**20:.0f}); at this speed 8B take {item['minutes_for_8b']:.0f} minutes"
    )


def _checkpoints(found: dict[str, Any]) -> str:
    told = []
    for shape, recipes in found["found"].items():
        kept = [name for name, item in recipes.items() if item["logits_equal"] and item["saved_again_equal"]]
        told.append(f"{shape}: {len(kept)} of {len(recipes)} recipes ({', '.join(recipes)})")
    return f"equal logits in a fresh process and equal bytes when saved again: {'; '.join(told)}"


def _allocation(found: dict[str, Any]) -> str:
    told = []
    for name, model in found["models"].items():
        judged = model["judged"]
        judgements = judged["prediction_error"].values()
        errors = [error for found in judgements for error in found.values()]
        gains = "; ".join(
            f"{recipe} {row['fixed']:.4f}, by data {row['sample']:.4f}, without {row['random']:.4f}"
            for recipe, row in judged["equal_bytes"].items()
        )
        span = f"{min(errors):+.0%} to {max(errors):+.0%}" if errors else "no clear rise to compare with"
        told.append(
            f"{name}: predicted against measured rise, {len(judgements)} budgets from 3.2 to 6 bits: {span}. "
            f"Rise in nats a token at the bytes of a fixed format, and dynamic: {gains}"
        )
    return "<br>".join(told)


def _ternary(found: dict[str, Any]) -> str:
    seeds = list(found["seeds"].values())
    told = []
    for name in seeds[0]:
        shares = [seed[name]["ru"] for seed in seeds]
        low, high = min(item["low"] for item in shares), max(item["high"] for item in shares)
        won = ", ".join(f"{item['won_back']:.0%}" for item in shares)
        control = ", ".join(f"{item['of_control']:.0%}" for item in shares)
        told.append(f"{name} {won} (intervals within {low:.0%} to {high:.0%}; of the control's {control})")
    tokens = found["tokens"]
    return (
        f"{len(seeds)} seeds, {tokens['qat']:,} tokens of training (pretrain: {tokens['pretrain']:,}). "
        f"Share won back of the Russian bits that untrained ternary lost against its parent (against the "
        f"control, that parent trained on as many tokens): {'; '.join(told)}"
    )


def _promotions(found: dict[str, Any]) -> str:
    rates = [
        f"{kind.replace('_', ', ')}: {sum(row['promoted'] <= row['limit'] for row in rows)} of {len(rows)} "
        f"settings within the limit, at most {max(row['promoted'] for row in rows):.2%}"
        for kind, rows in found["null"].items()
    ]
    power = ", ".join(f"{row['promoted']:.3f}" for row in found["power"])
    joint = ", ".join(f"{row['found']:.3f} (planned {row['planned']:.3f})" for row in found["conjunctions"])
    early = ", ".join(f"{row['outcome']} {row['wrong']:.2%}" for row in found["sequential"])
    sent = [row for rows in (*found["null"].values(), found["documents_power"]) for row in rows]
    otherwise, through = (sum(row[key] for row in sent) for key in ("otherwise", "through_the_gate"))
    equal = ", ".join(
        f"{row['candidate']} {row['language']} {row['promoted']:.2f}"
        for row in found["documents_power"]
        if row.get("documents", 0) > 100 and "candidate" in row
    )
    alarms = ", ".join(f"{row['slices']} slices {row['held']:.2%}" for row in found["families"])
    return (
        f"false promotions at the margin, alpha {found['alpha']:.0%}: {'; '.join(rates)}<br>"
        f"power where .8 was planned: {power}; of conjunctions: {joint}; sequential, wrong at any "
        f"look: {early}; equal models held by a slice: {alarms}; "
        f"equal models that pass by bits per character of the embedded world's documents, with the spread of "
        f"{equal}; {otherwise} of {through} samples got another verdict from the gate's own rule"
    )


def _mera_golden(found: dict[str, Any]) -> str:
    parts = []
    for key, unit in (("prompts", "rows"), ("metrics", "values")):
        items = found[key].values()
        parts.append(f"{key}: {sum(i['equal'] for i in items)} of {sum(i[unit] for i in items)} equal")
    alphas = found["krippendorff_alpha"]
    near = sum(round(item["alpha"], 3) == item["published"] for item in alphas.values())
    return (
        f"{'; '.join(parts)}; Krippendorff's alpha of the votes as published in {near} of {len(alphas)} tasks"
    )


def _judged(found: dict[str, Any]) -> str:
    told = []
    for name, early in (("all pairs judged", False), ("stopping early", True)):
        settings = [setting for setting in found["settings"] if setting["sequential"] is early]
        passed = [setting["passed"] for setting in settings]
        told.append(
            f"{name}: {sum(setting['within'] for setting in settings)} of {len(settings)} settings within "
            f"the limit, {min(passed):.2%} to {max(passed):.2%} wrong passes"
        )
    return f"an erring judge at the margin, alpha {found['alpha']:.0%}; {'; '.join(told)}"


def _preferences(found: dict[str, Any]) -> str:
    judges, games = found["length_control"], found["bradley_terry"]
    return (
        f"{len(judges)} simulated judges, {found['runs']} runs each: raw win rates off by up to "
        f"{max(abs(j['raw_bias']) for j in judges):.3f}, length-controlled by "
        f"{max(abs(j['controlled_bias']) for j in judges):.3f}; 95 % intervals hold the truth in "
        f"{min(j['coverage'] for j in judges):.1%} to {max(j['coverage'] for j in judges):.1%}. "
        f"Bradley-Terry: greatest bias {max(abs(bias) for row in games for bias in row['bias']):.3f} logits, "
        f"intervals hold the truth in {min(row['coverage'] for row in games):.1%} or more"
    )


def _llmbar(found: dict[str, Any]) -> str:
    told = []
    for name, judge in found["judges"].items():
        low, high = judge["measures"]["accuracy"]["lo"], judge["measures"]["accuracy"]["hi"]
        figures = (
            f"same winner {judge['consistency']:.3f}, first place {judge['first']:.3f}, second "
            f"{judge['second']:.3f}, right {judge['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        )
        again = "as in the sheet" if judge["reproduced"] else "NOT as in the sheet"
        verdict = "valid" if judge["valid"] else "; ".join(judge["reasons"])
        told.append(f"{name}, {judge['pairs']} pairs: {figures} ({again}). Passport: {verdict}")
    return "<br>".join(told)


def _endpoint(found: dict[str, Any]) -> str:
    told = []
    real = found["real server"]
    for name, run in {**found["runs"], f"in front of `{real['server']}`": real}.items():
        missing = ", ".join(f"{kind} {count}" for kind, count in run["missing"].items()) or "none"
        pairs = run.get("pairs", found["pairs"])
        told.append(
            f"{name}: {run['judged']} of {pairs} pairs judged, missing: {missing}; "
            f"{run['prompts_delivered_twice']} prompts answered twice; {run['calls']} calls; run again: "
            f"{run['judged_when_run_again']} judged"
        )
    return f"faults {', '.join(found['faults'])}<br>" + "<br>".join(told)


def _cut_latency(found: dict[str, Any]) -> str:
    def told(name: str, cut: dict[str, Any]) -> str:
        times = ", ".join(
            f"{what} {value['ratio']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
            for what, value in cut["times"].items()
            if what != "whole"
        )
        return f"{name} (bytes {cut['bytes_ratio']:.2f}): {times}"

    return (
        f"{found['dense']['parameters'] / 1e6:.0f} M parameters, {found['threads']} threads, "
        f"{found['rounds']} rounds; time of the cut model over that of the dense one beside it, prompt of "
        f"{found['prompt_tokens']} tokens: {'; '.join(told(*item) for item in found['cuts'].items())}"
    )


def _adapt_methods(found: dict[str, Any]) -> str:
    whole = [row for row in found["methods"].items() if "removed" not in row[1]]
    ranked = sorted(whole, key=lambda row: -row[1]["tasks_ru"]["mean"])
    parts = [
        f"{name} {row['tasks_ru']['mean']:.3f} [{row['tasks_ru']['low']:.3f}, {row['tasks_ru']['high']:.3f}] "
        f"({row['trainable_parameters']:,} trained, {row['step']['ratio']:.2f} of LoRA's step)"
        for name, row in [*ranked, *(row for row in found["methods"].items() if "removed" in row[1])]
    ]
    equal = sum(row["by_the_formula"] == row["trainable_parameters"] for row in found["methods"].values())
    return (
        f"trained numbers as the formulas say in {equal} of {len(parts)}<br>Russian task score after "
        f"{found['tokens']:,} tokens, {len(found['seeds'])} seeds, parent {found['parent']['tasks_ru']:.3f}: "
        f"{'; '.join(parts)}"
    )


def _pruning(found: dict[str, Any]) -> str:
    told = []
    for share, methods in found["compared"].items():
        rows = sorted(methods.items(), key=lambda item: item[1]["bpc_ru"]["mean"])
        told.append(
            f"{float(share):.0%} asked: "
            + ", ".join(f"{name} {row['bpc_ru']['mean']:.4f}" for name, row in rows)
        )
    leads = "; ".join(
        f"{name} {row['ours_minus_this']['bpc_ru']['mean']:+.4f} "
        f"[{row['ours_minus_this']['bpc_ru']['low']:+.4f}, {row['ours_minus_this']['bpc_ru']['high']:+.4f}]"
        for name, row in found["compared"]["0.3"].items()
        if "ours_minus_this" in row
    )
    ours = found["recovery"]["methods"]["finegates"]

    def risen(over: str) -> str:
        rise = ours[f"relative_rise_over_{over}"]
        return ", ".join(
            f"{language} {rise[key]['mean']:+.1%} (up to {rise[key]['high']:+.1%})"
            for key, language in (("bpc_ru", "Russian"), ("bpc_en", "English"))
        )

    kept = ", ".join(
        f"{float(kept):.0%} with {ends['mean'] or 0:.1%} removed"
        for kept, ends in sorted(found["density"]["keeps"]["of_uncut"].items(), reverse=True)
    )
    return (
        f"Russian bits per character after the cut and equal training. {'; '.join(told)}.<br>FineGates minus "
        f"the others at 30 %: {leads}<br>Recovered at 30 %, against the parent: {risen('parent')}; against "
        f"the uncut model trained alike: {risen('uncut')}; of whose task score is kept: {kept}"
    )


def _finegates(found: dict[str, Any]) -> str:
    def bits(row: dict[str, Any]) -> str:
        value = row["bpc"]["ru"]
        return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"

    shares = "; ".join(f"{float(share):.0%} {bits(row)}" for share, row in found["shares"].items())
    variants = "; ".join(f"{name} {bits(row)}" for name, row in found["variants"].items())
    missed = max(
        abs(end - float(share)) for share, row in found["shares"].items() for end in row["before_rounding"]
    )
    fresh, ratio = found["fresh"].values(), found["time"]["ratio"]["gates"]
    differences = [
        value
        for modes in found["shapes"].values()
        for row in modes.values()
        for value in row["difference"].values()
    ]
    equal = sum(row["logits_equal"] for row in fresh)
    step = f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return (
        f"Russian bits per character, parent {found['parent']['ru']:.4f}, cut by {shares}<br>"
        f"At 30 %: {variants}<br>"
        f"Removed share before rounding off by {100 * missed:.3f} points at most; freshly wrapped logits "
        f"equal in {equal} of {len(fresh)} modes; masked, cut and reloaded models within "
        f"{max(differences):.1e} on {len(found['shapes'])} shapes; a step takes {step} times "
        "one of rank-8 LoRA"
    )


def _pruning_classics(found: dict[str, Any]) -> str:
    def told(rows: dict[str, Any]) -> str:
        ranked = sorted(rows.items(), key=lambda item: item[1]["bpc_ru"]["mean"])
        return ", ".join(f"{name} {row['bpc_ru']['mean']:.4f}" for name, row in ranked)

    lead = found["recovered"]["wanda"]["ours_minus_this"]["bpc_ru"]
    return (
        f"Russian bits per character (the parent: {found['parent']['bpc_ru']:.4f}) after a cut of "
        f"{found['share']:.0%}: {told(found['cut'])}; recovered: {told(found['recovered'])}; FineGates minus "
        f"Wanda, recovered: {lead['mean']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]"
    )


def _supervised(found: dict[str, Any]) -> str:
    def told(line: dict[str, Any]) -> str:
        losses = ", ".join(f"{name} {value['mean']:.2f}" for name, value in line["answers"].items())
        return f"{losses}; Russian bits per character {line['bpc_ru']['mean']:.3f}"

    parent = found["parent"]
    before = ", ".join(f"{name} {value:.2f}" for name, value in parent["answers"].items())
    lines = "<br>".join(f"{name}: {told(line)}" for name, line in found["lines"].items())
    return (
        f"nats per answer token on held-out answers of real files, before: {before}; Russian bits per "
        f"character {parent['bpc_ru']:.3f}<br>{lines}"
    )


SENTENCES = {
    "budgets": _budgets,
    "learning": _learning,
    "planted": _planted,
    "reproducible": _reproducible,
    "kills": _kills,
    "retraining": _retraining,
    "offline": _offline,
    "classics": _classics,
    "weights": _weights,
    "checkpoints": _checkpoints,
    "streaming": _streaming,
    "allocation": _allocation,
    "ternary": _ternary,
    "pruning": _pruning,
    "pruning_classics": _pruning_classics,
    "mera_golden": _mera_golden,
    "preferences": _preferences,
    "judged": _judged,
    "promotions": _promotions,
    "llmbar": _llmbar,
    "endpoint": _endpoint,
    "cut_latency": _cut_latency,
    "adapt_methods": _adapt_methods,
    "supervised": _supervised,
    "finegates": _finegates,
}
