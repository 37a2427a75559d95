"""Hold the table against its Great Expectations suite; set broken rows aside, with the reason.

Rules for rows come first and are judged on every row; the rules for the table are judged on
the rows that are left. A table that depends on the future never passes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from slipway.errors import SlipwayError
from tasks.expectations import Rule, read_rules
from tasks.tables import TABLE, TableFacts, read_facts, with_extent, write_facts, write_json
from tasks.target import require_target
from tasks.validate import quarantine
from tasks.validate.checks import DataDocs, RuleVerdict, known_types, require_answers, test_of
from tasks.validate.relation import KEPT, OutOfTime, Relation, opened

if TYPE_CHECKING:
    from slipway.config import ValidateConfig

ASIDE = "quarantine.parquet"

EXAMPLES = 3
"""Values that a message shows."""


def run(
    config: "ValidateConfig", *, expectations: Path, raw: Path, valid: Path, reports: Path
) -> None:
    """Write the rows that passed, those set aside, and what was checked."""
    facts, table = read_facts(raw), pq.read_metadata(raw / TABLE)
    rules = read_rules(expectations, known_types())
    stop_leaks(facts, table.schema.to_arrow_schema().names)
    stop_row_count(config, table.num_rows)
    docs = DataDocs(reports / "data-docs")
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            opened(raw / TABLE, config.timeout_s, Path(scratch)) as relation,
        ):
            require_answers(expectations, rules, relation)
            checked = check(config, rules, relation, docs)
    except OutOfTime:
        raise SlipwayError(
            f"validation took more than {config.timeout_s} s (validate.timeout_s)"
        ) from None
    texts = [rule.text for rule in rules]
    quarantine.part(raw / TABLE, valid / TABLE, valid / ASIDE, broken=checked.broken, texts=texts)
    extent = quarantine.measure(valid / TABLE, facts.label, facts.time)
    require_target(facts, extent.labels, "the valid rows")
    write_facts(valid, with_extent(facts, extent.rows, extent.times))
    write_json(
        valid / "validation.json",
        {
            "rows_in": table.num_rows,
            "rows_valid": extent.rows,
            "rows_quarantined": len(checked.broken.rows),
            "expectations": [_summary(verdict) for verdict in checked.verdicts],
        },
    )


def check(
    config: "ValidateConfig", rules: Sequence[Rule], relation: Relation, docs: DataDocs
) -> "CheckedTable":
    """Judge every row, then the table that is left; stop at what may not be."""
    for_rows = [rule for rule in rules if rule.level == "row"]
    by_row = docs.check("rows", for_rows, relation)
    stop_errors(by_row)
    failed = [(rules.index(v.rule), test_of(v.rule, relation)) for v in by_row if v.broken]
    count = quarantine.find_broken(relation, failed)
    kept = relation.view(KEPT) if count else relation
    by_table = docs.check("table", [rule for rule in rules if rule.level == "suite"], kept)
    docs.write()
    if count:
        stop_quarantine(config, relation, count, rules)
    stop_suite(by_table, docs.index)
    return CheckedTable((*by_row, *by_table), quarantine.read_broken(relation))


@dataclass(frozen=True)
class CheckedTable:
    """A table that may go on, without the rows that may not."""

    verdicts: tuple[RuleVerdict, ...]
    broken: quarantine.BrokenRows


def stop_leaks(facts: TableFacts, columns: Sequence[str]) -> None:
    """Refuse columns that are known only after the moment of prediction, under any name."""
    by_name = set(columns) & set(facts.known_later) - {facts.label}
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


def stop_errors(verdicts: Sequence[RuleVerdict]) -> None:
    """Refuse to take a rule that could not be judged for one that no row breaks."""
    if errors := [f"{v.rule.text}: {v.error}" for v in verdicts if v.error]:
        raise SlipwayError("\n  ".join(["rules for rows could not be judged:", *errors]))


def stop_quarantine(
    config: "ValidateConfig", relation: Relation, broken: int, rules: Sequence[Rule]
) -> None:
    """Refuse a table of which too many rows are broken."""
    [(rows,)] = relation.rows(f"SELECT count(*) FROM {relation.name}")
    if broken > config.quarantine_share_max * rows:
        mostly = "; ".join(rules[number].text for number in quarantine.most_common(relation))
        raise SlipwayError(
            f"{broken:,} of {rows:,} rows break a rule, more than the share of"
            f" {config.quarantine_share_max:g} that may be set aside; mostly: {mostly}"
        )


def stop_suite(verdicts: Sequence[RuleVerdict], docs: Path) -> None:
    """Refuse a table that breaks a rule for the whole table."""
    broken = [
        f"{verdict.rule.text}: {_found(verdict)}" for verdict in verdicts if not verdict.success
    ]
    if broken:
        raise SlipwayError(
            f"the table breaks {len(broken)} of its expectations:\n  "
            + "\n  ".join(broken)
            + f"\n  see {docs}"
        )


def _found(verdict: RuleVerdict) -> str:
    if verdict.error:
        return verdict.error
    if verdict.broken is None:
        return f"found {_shown(verdict.observed)}"
    examples = sorted({_shown(value) for value in verdict.examples})[:EXAMPLES]
    return f"{verdict.broken:,} rows, such as {', '.join(examples)}"


def _shown(value: Any) -> str:
    """Write a value as people know it."""
    match value:
        case None:
            return "nothing"
        case dict():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
        case tuple() | list():
            return f"({', '.join(map(_shown, value))})"
    return str(value)


def _summary(verdict: RuleVerdict) -> dict[str, Any]:
    return {
        "expectation": verdict.rule.kind,
        "column": verdict.rule.kwargs.get("column"),
        "rule": verdict.rule.text,
        "level": verdict.rule.level,
        "success": verdict.success,
        "unexpected": verdict.broken or 0,
    }
