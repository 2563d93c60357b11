"""Runs the contract with Great Expectations and writes its Data Docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.validate.contract import Rule
from stages.validate.tables import plain

if TYPE_CHECKING:
    import pandas as pd

SITE = "gorn"


def check(rules: Sequence[Rule], tables: Mapping[str, pd.DataFrame], docs: Path) -> list[dict[str, Any]]:
    """Outcome of every rule in the order of `rules`; the Data Docs site is written into the folder `docs`.

    An outcome is `{name, table, severity, kind, arguments, success, observed, unexpected, unexpected_share}`,
    of plain values and without times or ids. `observed` is the statistic of a table or column rule,
    `unexpected` the number of values that break a rule about values.
    """
    context = _context(docs)
    found: dict[str, dict[str, Any]] = {}
    for table, frame in tables.items():
        found |= _check_table(context, table, [rule for rule in rules if rule.table == table], frame)
    context.build_data_docs(site_names=[SITE])
    return [found[rule.name] for rule in rules]


def _context(docs: Path) -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for site in context.get_site_names():
        context.delete_data_docs_site(site)
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    builder = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(
        SITE,
        {
            "class_name": "SiteBuilder",
            "store_backend": backend,
            "site_index_builder": builder,
        },
    )
    return context


def _check_table(
    context: Any, table: str, rules: Sequence[Rule], frame: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    import great_expectations as gx
    import great_expectations.expectations as gxe

    suite = context.suites.add(gx.ExpectationSuite(name=table))
    for rule in rules:
        kind = getattr(gxe, rule.kind)
        suite.add_expectation(kind(**rule.arguments, severity=rule.severity, meta={"rule": rule.name}))
    asset = context.data_sources.add_pandas(table).add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe(table)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=table, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=table,
            validation_definitions=[definition],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": 0},
        )
    )
    run = checkpoint.run(batch_parameters={"dataframe": frame})
    by_name = {rule.name: rule for rule in rules}
    outcomes = {}
    for result in next(iter(run.run_results.values())).results:
        rule = by_name[result.expectation_config.meta["rule"]]
        outcomes[rule.name] = _outcome(rule, result)
    return outcomes


def _outcome(rule: Rule, result: Any) -> dict[str, Any]:
    values = result.result or {}
    broken = (result.exception_info or {}).get("exception_message")
    unexpected = values.get("unexpected_percent")
    return {
        "name": rule.name,
        "table": rule.table,
        "severity": rule.severity,
        "kind": rule.kind,
        "arguments": plain(rule.arguments),
        "success": bool(result.success),
        "observed": plain(broken if broken else values.get("observed_value")),
        "unexpected": plain(values.get("unexpected_count")),
        "unexpected_share": None if unexpected is None else round(float(unexpected) / 100, 6),
    }
