"""Hold the table against its Great Expectations suite; set broken rows aside, with the reason.

Rules for rows come first and are judged on every row; the rules for the table are judged on
the rows that are left. A table that depends on the future never passes.
"""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from slipway.errors import SlipwayError
from tasks.expectations import Rule, read_rules
from tasks.tables import (
    TABLE,
    TableFacts,
    read_facts,
    read_table,
    with_rows,
    write_facts,
    write_json,
    write_table,
)
from tasks.target import require_target

os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations.checkpoint.actions import UpdateDataDocsAction
from great_expectations.expectations import core

if TYPE_CHECKING:
    from slipway.config import ValidateConfig

REASON = "reason"


def run(
    config: "ValidateConfig", *, expectations: Path, raw: Path, valid: Path, reports: Path
) -> None:
    """Write the rows that passed, those set aside, and what was checked."""
    facts, table = read_facts(raw), read_table(raw)
    rules = read_rules(expectations, known_types())
    stop_leaks(facts, table)
    stop_row_count(config, table.num_rows)
    docs = DataDocs(reports / "data-docs")
    with time_limit(config.timeout_s):
        frame = table.to_pandas()
        row_results = docs.check("rows", [r for r in rules if r.level == "row"], frame)
        reasons = reasons_by_row(row_results)
        kept = frame.drop(index=list(reasons))
        suite_results = docs.check("table", [r for r in rules if r.level == "suite"], kept)
    stop_quarantine(config, reasons, table.num_rows)
    stop_suite(suite_results, docs.index)
    good = table.take(pa.array(kept.index.to_numpy()))
    require_target(facts, good, "the valid rows")
    bad = table.take(pa.array(sorted(reasons), pa.int64()))
    bad = bad.append_column(REASON, pa.array([reasons[i] for i in sorted(reasons)], pa.string()))
    write_table(valid / TABLE, good)
    write_table(valid / "quarantine.parquet", bad)
    write_facts(valid, with_rows(facts, good))
    write_json(
        valid / "validation.json",
        {
            "rows_in": table.num_rows,
            "rows_valid": good.num_rows,
            "rows_quarantined": bad.num_rows,
            "expectations": [_summary(rule, r) for rule, r in [*row_results, *suite_results]],
        },
    )


def stop_leaks(facts: TableFacts, table: pa.Table) -> None:
    """Refuse columns that are known only after the moment of prediction, under any name."""
    by_name = set(table.column_names) & set(facts.known_later) - {facts.label}
    if leaks := sorted(by_name | set(facts.leaks)):
        raise SlipwayError(
            f"leak: {', '.join(leaks)} depend{'s' if len(leaks) == 1 else ''} on what is known"
            f" only later ({', '.join(facts.known_later)}); take it out of ingest.query. A window"
            " over the rows that a filter on it leaves depends on it too: compute it before."
            " If it is made of earlier rows' outcomes, name in known_at of their source the column"
            " that tells when these became known, and use only what was known before the row's time"
        )


def stop_row_count(config: "ValidateConfig", rows: int) -> None:
    """Refuse a table whose size says that something is missing or doubled."""
    if not config.rows_min <= rows <= config.rows_max:
        raise SlipwayError(
            f"the table has {rows:,} rows, expected {config.rows_min:,} to {config.rows_max:,}"
            " (validate.rows_min, rows_max)"
        )


def stop_quarantine(config: "ValidateConfig", reasons: dict[int, str], rows: int) -> None:
    """Refuse a table of which too many rows are broken."""
    if len(reasons) > config.quarantine_share_max * rows:
        common = pd.Series(list(reasons.values())).value_counts()
        raise SlipwayError(
            f"{len(reasons):,} of {rows:,} rows break a rule, more than the share of"
            f" {config.quarantine_share_max:g} that may be set aside; mostly: {common.index[0]}"
        )


def stop_suite(results: list[tuple[Rule, Any]], docs: Path) -> None:
    """Refuse a table that breaks a rule for the whole table."""
    broken = [f"{rule.text}: {_found(result)}" for rule, result in results if not result.success]
    if broken:
        raise SlipwayError(
            f"the table breaks {len(broken)} of its expectations:\n  "
            + "\n  ".join(broken)
            + f"\n  see {docs}"
        )


def reasons_by_row(results: list[tuple[Rule, Any]]) -> dict[int, str]:
    """Say for each broken row which rules it breaks."""
    reasons: dict[int, list[str]] = {}
    for rule, result in results:
        if raised := _raised(result):
            raise SlipwayError(f"{rule.text}: {raised}")
        for index in result.result.get("unexpected_index_list") or []:
            reasons.setdefault(int(index), []).append(rule.text)
    return {index: "; ".join(texts) for index, texts in reasons.items()}


def known_types() -> set[str]:
    """Name the expectations of Great Expectations' public gallery."""
    classes = (getattr(core, name) for name in dir(core) if name.startswith("Expect"))
    return {cls.expectation_type for cls in classes}


class DataDocs:
    """A throw-away Great Expectations context that leaves its HTML pages behind."""

    def __init__(self, folder: Path) -> None:
        # its YAML files are corrupted by parallel runs: keep everything in memory
        with _quiet():
            self._context = gx.get_context(mode="ephemeral")
            # its own type for this is a TypedDict of all metrics; the store takes any mapping
            self._context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
            self._asset = self._context.data_sources.add_pandas("table")
            self._context.add_data_docs_site(
                site_name="docs",
                site_config={
                    "class_name": "SiteBuilder",
                    "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                    "store_backend": {
                        "class_name": "TupleFilesystemStoreBackend",
                        "base_directory": str(folder.absolute()),
                    },
                },
            )
        self.index = folder / "index.html"

    def check(self, name: str, rules: list[Rule], frame: pd.DataFrame) -> list[tuple[Rule, Any]]:
        """Judge the rules on a table and write its page."""
        if not rules:
            return []
        with _quiet():
            suite = gx.ExpectationSuite(name=name)
            for i, rule in enumerate(rules):
                cls = gx.expectations.registry.get_expectation_impl(rule.kind)
                meta = {"rule": i, "level": rule.level, "notes": rule.notes}
                suite.add_expectation(cls(**rule.kwargs, meta=meta))
            batch = self._asset.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
            definition = gx.ValidationDefinition(
                name=name, data=batch, suite=self._context.suites.add(suite)
            )
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[self._context.validation_definitions.add(definition)],
                actions=[UpdateDataDocsAction(name="docs", site_names=["docs"])],
                result_format="COMPLETE",
            )
            outcome = self._context.checkpoints.add(checkpoint).run({"dataframe": frame})
        [run_result] = outcome.run_results.values()
        return [(rules[_number(r)], r) for r in run_result.results]


def _number(result: Any) -> int:
    """Return the number that a rule was given in its meta data."""
    number: int = result.expectation_config.meta["rule"]
    return number


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Stop what runs too long: a metric that keeps failing is tried for ever."""

    def ring(*_: object) -> None:
        raise SlipwayError(f"validation took more than {seconds} s (validate.timeout_s)")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own notices out of the stage's log."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _raised(result: Any) -> str:
    """Return what went wrong inside an expectation; it reports that as a failure like any other."""
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else info.values()
    messages = [str(part["exception_message"]) for part in parts if part["raised_exception"]]
    return " ".join(" ".join(messages).split())


def _found(result: Any) -> str:
    if raised := _raised(result):
        return raised
    facts = result.result
    if "unexpected_count" in facts:
        examples = sorted({str(v) for v in facts.get("partial_unexpected_list", [])})[:3]
        return f"{facts['unexpected_count']:,} rows, such as {', '.join(examples)}"
    return f"found {facts.get('observed_value')}"


def _summary(rule: Rule, result: Any) -> dict[str, Any]:
    return {
        "expectation": rule.kind,
        "column": rule.kwargs.get("column"),
        "rule": rule.text,
        "level": rule.level,
        "success": bool(result.success),
        "unexpected": int(result.result.get("unexpected_count") or 0),
    }
