"""Hold the names in a config against those that exist, before anything runs.

The columns are those that DuckDB names when it binds the query to empty tables of the declared
columns: no source is read. Types are looked at only where a stage would stop because of them.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import ConfigError
from slipway.sections import suggest
from tasks.reading.sql import quoted
from tasks.reading.types import duckdb_type

if TYPE_CHECKING:
    from slipway.config import Config, IngestConfig, PrepareConfig
    from tasks.expectations import Rule

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
"""What a label of 0 and 1 may be; `sum` gives HUGEINT, and 0.0 in a CASE gives DECIMAL."""

SEALED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "threads": 1,
}
"""A query that is only looked at reads no file."""

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
"""Where expectations of Great Expectations' gallery name columns."""

Columns = Mapping[str, str]
"""What the query gives: names and DuckDB's types."""


def check(root: Path, pipeline: str, config: "Config", suite: Path | None) -> None:
    """Raise ConfigError with every name that the config, or its suite, uses and nothing gives."""
    problems = [*_slices(config), *_quality(config)]
    try:
        columns = columns_of(config.ingest)
    except ConfigError as error:
        problems += [f"{error.where}: {problem}" for problem in error.problems]
    else:
        problems += _parting(config, columns)
        problems = [*_roles(config.ingest, columns), *_features(config.prepare, columns), *problems]
        problems += _suite(root, suite, columns) if suite else ()
    if problems:
        raise ConfigError(f"configs/{pipeline}.yaml", problems)


def suite_of(pipeline: str) -> Path:
    """Name a pipeline's expectation suite."""
    return Path("configs/expectations") / f"{pipeline}.json"


def columns_of(ingest: "IngestConfig") -> Columns:
    """Return what the query would give; raise ConfigError when it cannot be run at all."""
    import duckdb

    with duckdb.connect(config=SEALED) as database:
        database.execute("SET python_enable_replacements = false")
        for name, source in ingest.sources.items():
            columns = (f"{quoted(c)} {duckdb_type(kind)}" for c, kind in source.columns.items())
            database.execute(f'CREATE TABLE "{name}" ({", ".join(columns)})')
        try:
            statements = database.extract_statements(ingest.query)
            if [s.type for s in statements] != [duckdb.StatementType.SELECT]:
                raise ConfigError("ingest.query", ["must be one SELECT"])
            result = database.sql(ingest.query)
        except duckdb.Error as error:
            raise ConfigError("ingest.query", [" ".join(str(error).split())]) from None
        given = result.columns
        lower = [name.lower() for name in given]  # as DuckDB compares them
        if twice := sorted({name for name in lower if lower.count(name) > 1}):
            raise ConfigError("ingest.query", [f"gives {', '.join(twice)} more than once"])
        return dict(zip(given, map(str, result.types), strict=True))


def known_expectations() -> set[str]:
    """Name the expectations of the gallery from its source: importing it takes seconds."""
    package = importlib.util.find_spec("great_expectations")
    assert package is not None
    gallery = Path(str(package.origin)).with_name("expectations") / "core/__init__.py"
    return set(re.findall(r"from \.(expect_\w+) import", gallery.read_text("utf-8")))


def _roles(ingest: "IngestConfig", columns: Columns) -> Iterator[str]:
    """Find what is wrong with the columns that name, place and label a row."""
    for i, name in enumerate(ingest.key):
        yield from _unknown(f"ingest.key.{i}", name, columns)
    if ingest.time is not None:
        yield from _unknown("ingest.time", ingest.time, columns)
        if not columns.get(ingest.time, "TIMESTAMP").startswith(("TIMESTAMP", "DATE")):
            yield f"ingest.time: {ingest.time!r} must be a timestamp, is {columns[ingest.time]}"
    yield from _target(ingest, columns)
    if ingest.weight is not None:
        yield from _unknown("ingest.weight", ingest.weight, columns)
        if not _is_number(kind := columns.get(ingest.weight, "DOUBLE")):
            yield f"ingest.weight: {ingest.weight!r} must be a number, is {kind}"


def _target(ingest: "IngestConfig", columns: Columns) -> Iterator[str]:
    """Find a target of another type than its values in the config."""
    name, classes = ingest.target.column, ingest.target.classes
    yield from _unknown("ingest.target.column", name, columns)
    if (kind := columns.get(name)) is None:
        return
    if not classes and not _is_number(kind):
        yield f"ingest.target.column: {name!r} must be a number, is {kind}; CAST it in ingest.query"
    wanted = {bool: ("BOOLEAN",), int: INTEGERS, str: ("VARCHAR",)}
    if classes and kind not in (allowed := wanted[type(classes[0])]):
        shown = ", ".join(map(repr, classes[:3]))
        yield (
            f"ingest.target: {name!r} is {kind}, its values here ({shown}) are of another type;"
            f" write them as the column has them, or CAST it AS {allowed[0]} in ingest.query"
        )


def _is_number(kind: str) -> bool:
    return kind in (*INTEGERS, "UBIGINT", "FLOAT", "DOUBLE") or kind.startswith("DECIMAL")


def _parting(config: "Config", columns: Columns) -> Iterator[str]:
    """Find a column that parts the rows and that the query does not give."""
    if (column := getattr(config.split, "column", None)) is not None:
        yield from _unknown("split.column", column, columns)


def _quality(config: "Config") -> Iterator[str]:
    """Find limits of measures that the problem has not, and gated measures without one."""
    from slipway.problem import PROBLEMS

    gated = [measure.key for measure in PROBLEMS[config.ingest.problem].gated]
    given = {
        "prove.quality": list(config.prove.quality),
        "release.limits.quality": list(config.release.limits.quality),
    }
    for where, limited in given.items():
        if sorted(limited) != sorted(gated):
            found = ", ".join(limited) or "nothing"
            yield (
                f"{where}: must limit {' and '.join(gated)}, by which a {config.ingest.problem}"
                f" model is judged; limits {found}"
            )


def _features(prepare: "PrepareConfig", columns: Columns) -> Iterator[str]:
    """Find features that the query does not give, and categories that are no text."""
    for name in prepare.categories:
        yield from _unknown(f"prepare.categories.{name}", name, columns)
        if (kind := columns.get(name, "VARCHAR")) != "VARCHAR":
            yield f"prepare.categories.{name}: must be text, is {kind}; CAST it in ingest.query"
    for name in prepare.numbers:
        yield from _unknown(f"prepare.numbers.{name}", name, columns)


def _slices(config: "Config") -> Iterator[str]:
    """Find slices that are no feature of the model."""
    features = [*config.prepare.categories, *config.prepare.numbers]
    for i, name in enumerate(config.evaluate.slices):
        if name not in features:
            near = suggest(name, features) or f"; features: {', '.join(features)}"
            yield f"evaluate.slices.{i}: {name!r} is no feature of prepare{near}"


def _suite(root: Path, path: Path, columns: Columns) -> Iterator[str]:
    """Find what is wrong with an expectation suite, and the columns that it makes up."""
    from tasks.expectations import read_rules

    try:
        rules = read_rules(root / path, known_expectations())
    except ConfigError as error:
        yield from (f"{path}: {problem}" for problem in error.problems)
        return
    for i, rule in enumerate(rules):
        for name in _columns_in(rule):
            yield from _unknown(f"{path}: expectations[{i}]", name, columns)


def _columns_in(rule: "Rule") -> Iterator[str]:
    for argument in COLUMN_ARGUMENTS:
        value = rule.kwargs.get(argument, [])
        yield from map(str, value if isinstance(value, list) else [value])


def _unknown(where: str, name: str, columns: Columns) -> Iterator[str]:
    """Say so when a name is none of the columns."""
    if name not in columns:
        near = suggest(name, list(columns)) or f"; it gives: {', '.join(columns)}"
        yield f"{where}: the query gives no column {name!r}{near}"
