"""Run a suite through Great Expectations and leave its Data Docs behind."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from slipway.errors import ConfigError
from tasks.expectations import Rule
from tasks.query import one_line
from tasks.validate.answers import METRICS, ROW_METRICS, dry_run, find_test, settle
from tasks.validate.columns import is_type
from tasks.validate.engine import TableDatasource, TableEngine, gx, register_metrics
from tasks.validate.literals import Refusal, literal, parse_moment
from tasks.validate.relation import EMPTY, Relation
from tasks.validate.replaced import register_replaced
from tasks.validate.row_tests import RowTest

FORMAT = {"result_format": "BASIC"}
"""Counts and examples; lists of all broken rows would have no bound."""

ABOUT_TYPES = frozenset(
    ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list")
)
"""Great Expectations takes these for rules about rows; here a column has one type."""

ELSEWHERE = frozenset(("expect_table_row_count_to_equal_other_table",))
"""What asks for more than the table."""


@dataclass(frozen=True)
class RuleVerdict:
    """What became of a rule."""

    rule: Rule
    success: bool
    broken: int | None
    """Rows that break it; None where it is about the table."""
    examples: tuple[Any, ...]
    observed: Any
    error: str
    """Why it could not be judged, or nothing."""


def known_types() -> set[str]:
    """Name the expectations of Great Expectations' public gallery."""
    return set(_gallery())


def _gallery() -> dict[str, Any]:
    core = gx.expectations.core
    classes = [getattr(core, name) for name in dir(core) if name.startswith("Expect")]
    return {cls.expectation_type: cls for cls in classes if cls.expectation_type}


def _require_kind(rule: Rule) -> None:
    """Refuse a kind of rule that has no answer, or none for single rows."""
    cls = _gallery()[rule.kind]
    if rule.kind in ABOUT_TYPES:
        for_rows, for_table = False, True
    else:
        for_rows, for_table = _map_metric(cls) in ROW_METRICS, _is_about_table(cls)
    if rule.kind in ELSEWHERE or not (for_rows or for_table):
        raise Refusal("cannot be answered from SQL on the table alone; take the rule out")
    if rule.level == "row" and not for_rows:
        raise Refusal('judges the table, not single rows; give it `"level": "suite"`')


def _map_metric(cls: Any) -> str | None:
    metric: str | None = getattr(cls, "map_metric", None)
    return metric


def _is_about_table(cls: Any) -> bool:
    needed = cls.metric_dependencies
    return bool(needed) and _map_metric(cls) is None and set(needed) <= set(METRICS)


def require_answers(suite: Path, rules: Sequence[Rule], relation: Relation) -> None:
    """Refuse the rules that cannot be answered for this table, before a row of it is read."""
    with _quiet():
        register_metrics()
        register_replaced()
    problems = []
    for number, rule in enumerate(rules):
        try:
            with _quiet():
                _try_out(rule, relation)
        except (Refusal, duckdb.Error) as error:
            problems.append(f"expectations[{number}] ({rule.kind}): {one_line(error)}")
        except gx.compatibility.pydantic.ValidationError as error:
            reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            problems.append(f"expectations[{number}] ({rule.kind}): {one_line_of(reasons)}")
    if problems:
        raise ConfigError(str(suite), problems)


def one_line_of(reasons: Sequence[str]) -> str:
    """Join reasons, each once."""
    return "; ".join(dict.fromkeys(reasons))


def _try_out(rule: Rule, relation: Relation) -> None:
    _require_kind(rule)
    _require_exact(rule)
    engine = TableEngine()
    for metric in _metrics(rule, engine).values():
        dry_run(relation, engine.begin(relation.view(EMPTY), metric))
    for name in [*rule.kwargs.get("type_list", []), *filter(None, [rule.kwargs.get("type_")])]:
        if not is_type(name):
            raise Refusal(f"no type is called {name!r}; say it as table.json does")
    if rule.kind in ABOUT_TYPES:
        relation.column(rule.kwargs["column"])
    if rule.kind in MEASURED:
        _require_bounds(rule, relation)


MEASURED = frozenset(
    f"expect_column_{measure}_to_be_between" for measure in ("min", "max", "median")
)
"""Rules whose bounds Great Expectations compares with values of the column."""


def _require_exact(rule: Rule) -> None:
    """Refuse what Great Expectations would round: it takes every bound for a float."""
    for name in ("min_value", "max_value", "sum_total"):
        value = rule.kwargs.get(name)
        if isinstance(value, int) and int(float(value)) != value:
            raise Refusal(f"{name} {value} would be rounded to {int(float(value))}; choose that")


def _require_bounds(rule: Rule, relation: Relation) -> None:
    column = relation.column(rule.kwargs["column"])
    for bound in (rule.kwargs.get("min_value"), rule.kwargs.get("max_value")):
        if bound is not None:
            literal(column, bound)


def _expectation(rule: Rule, number: int = 0) -> Any:
    cls = gx.expectations.registry.get_expectation_impl(rule.kind)
    meta = {"rule": number, "level": rule.level, "notes": rule.notes}
    return cls(**(rule.kwargs | _bounds(rule)), meta=meta)


def _bounds(rule: Rule) -> dict[str, str]:
    """Say days as the moments of their beginning: Great Expectations compares no day with one."""
    given = {k: v for k in ("min_value", "max_value") if isinstance(v := rule.kwargs.get(k), str)}
    if rule.kind not in MEASURED:
        return {}
    try:
        return {key: parse_moment(text).isoformat() for key, text in given.items()}
    except ValueError:
        return {}  # its own model says what is wrong


def _metrics(rule: Rule, engine: TableEngine) -> dict[str, Any]:
    needed = _expectation(rule).get_validation_dependencies(engine, {"result_format": FORMAT})
    metrics: dict[str, Any] = needed.metric_configurations
    return metrics


def test_of(rule: Rule, relation: Relation) -> RowTest:
    """Give the question that a rule asks of each row."""
    engine = TableEngine()
    with _quiet():
        name = _map_metric(type(_expectation(rule)))
        assert name is not None, "only rules for rows are asked for"
        metric = _metrics(rule, engine)[f"{name}.unexpected_count"]
    kwargs = {**metric.metric_domain_kwargs, **metric.metric_value_kwargs}
    answer = find_test(relation, name, kwargs, engine.given(relation, kwargs))
    test: RowTest = settle(relation, {None: answer})[None]
    return test


class DataDocs:
    """A throw-away Great Expectations context that leaves its HTML pages behind."""

    def __init__(self, folder: Path) -> None:
        # its YAML files are corrupted by parallel runs: keep everything in memory
        with _quiet():
            self._context = gx.get_context(mode="ephemeral")
            # its own type for this is a TypedDict of all metrics; the store takes any mapping
            self._context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
            self._source = self._context.data_sources.add_or_update_validated_table("table")
            assert isinstance(self._source, TableDatasource), "it is the source that was added"
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

    def check(self, name: str, rules: Sequence[Rule], relation: Relation) -> list[RuleVerdict]:
        """Judge the rules on some rows of the table."""
        if not rules:
            return []
        with _quiet():
            suite = gx.ExpectationSuite(name=name)
            for number, rule in enumerate(rules):
                suite.add_expectation(_expectation(rule, number))
            batch = self._source.add_rows(name, relation).add_batch_definition(name)
            definition = gx.ValidationDefinition(
                name=name, data=batch, suite=self._context.suites.add(suite)
            )
            definition = self._context.validation_definitions.add(definition)
            outcome = definition.run(result_format=FORMAT)
        return [_verdict(rules, result) for result in outcome.results]

    def write(self) -> None:
        """Write the pages of all that was judged; once, as it costs more than the judging."""
        with _quiet():
            self._context.build_data_docs(site_names=["docs"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's own notices out of the stage's log."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _verdict(rules: Sequence[Rule], result: Any) -> RuleVerdict:
    found = result.result
    return RuleVerdict(
        rule=rules[result.expectation_config.meta["rule"]],
        success=bool(result.success),
        broken=found.get("unexpected_count"),
        examples=tuple(found.get("partial_unexpected_list") or ()),
        observed=found.get("observed_value"),
        error=_raised(result),
    )


def _raised(result: Any) -> str:
    """Return what went wrong inside an expectation; it reports that as a failure like any other."""
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else info.values()
    messages = [str(part["exception_message"]) for part in parts if part["raised_exception"]]
    return " ".join(" ".join(messages).split())
