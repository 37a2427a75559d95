"""Part the rows and write them as Arrow files that training maps into memory.

Vocabularies and statistics come from the training rows alone. Categories become codes (0 is
unknown or missing); numbers stay raw, because a family normalises them itself. Rows stream
through, in their order: the table may be larger than memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipway.errors import SlipwayError
from slipway.problem import PROBLEMS
from tasks import splitting
from tasks.splitting import PARTS, TRAIN
from tasks.tables import (
    BATCH_ROWS,
    ROWS,
    TableFacts,
    open_table,
    quoted,
    read_facts,
    require_columns,
    write_json,
)
from tasks.target import encode, find_values

if TYPE_CHECKING:
    from slipway.config import PrepareConfig
    from slipway.settings.split import SplitConfig

PARTED = "parted"
"""The table with each row's part and unit."""

PART, UNIT = "slipway part", "slipway unit"

SAMPLE_ROWS: Final = 200_000
"""Training rows that quantiles are taken from: their standard error is then below 0.12 %."""

BINS: Final = 48
"""Quantiles that are written down, for embeddings of numbers (Gorishniy et al. 2022 use up to 128;
TabM's default is 48)."""

NORMAL_IQR: Final = 1.349
"""The interquartile range of the normal distribution, in standard deviations."""

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
"""What is beyond is as missing as infinity."""

NORMAL_98: Final = 4.652
"""Between the normal distribution's first and last percentile, in standard deviations."""

FLOAT32_STEPS: Final = 1 << 17
"""A column whose middle is so many times its spread has less than 7 of float32's 24 bits left."""


@dataclass(frozen=True)
class Category:
    """A column of codes; `vocabulary[i]` has code i + 1."""

    name: str
    meaning: str
    vocabulary: list[str]


@dataclass(frozen=True)
class Number:
    """A column of raw float32 values, NaN where missing."""

    name: str
    meaning: str
    center: float
    """The median: one value of 1e30 among thousands does not move it."""
    scale: float
    """The interquartile range as a standard deviation; that itself where a half is one value."""
    min: float
    max: float
    missing_share: float
    quantiles: list[float]
    """Ascending and different: ends of bins that hold about as many training rows each."""


def run(config: "PrepareConfig", split: "SplitConfig", *, valid: Path, prepared: Path) -> None:
    """Write shards of the training rows, the other parts, and the features' facts."""
    facts = read_facts(valid)
    require_columns(list(facts.schema), [*config.categories, *config.numbers], "prepare")
    splitting.require_column(split, facts)
    with open_table(valid) as database:
        part, unit = splitting.part_sql(split, facts), splitting.unit_sql(split, facts)
        database.execute(
            f"CREATE VIEW {PARTED} AS SELECT *, {part} AS {quoted(PART)},"
            f" CAST({splitting.fraction_sql(unit, 'unit')} * 281474976710656 AS BIGINT)"
            f" AS {quoted(UNIT)} FROM {ROWS}"
        )
        described = _describe_parts(database, facts)
        categories = [_category(database, config, *each) for each in config.categories.items()]
        numbers = _numbers(database, config, facts, described[TRAIN]["rows"])
        _write_parts(database, config, facts, columns=(categories, numbers), prepared=prepared)
    write_json(
        prepared / "features.json",
        {
            "target": asdict(facts.target),
            "weight": facts.weight,
            "categories": [vars(category) for category in categories],
            "numbers": [vars(number) for number in numbers],
            "rows": {name: part["rows"] for name, part in described.items()},
            "parts": described,
        },
    )


def _describe_parts(
    database: duckdb.DuckDBPyConnection, facts: TableFacts
) -> dict[str, dict[str, Any]]:
    """Sum up the target in each part; refuse one that holds nothing to learn or to measure."""
    problem, target = PROBLEMS[facts.problem], facts.target
    chosen = [quoted(target.name), *([quoted(facts.weight)] if facts.weight else [])]
    described = {}
    for name in PARTS:
        part = database.sql(
            f"SELECT {', '.join(chosen)} FROM {PARTED} WHERE {quoted(PART)} = '{name}'"
        ).to_arrow_table()
        if part.num_rows == 0:
            raise SlipwayError(_empty(name, facts))
        found = find_values(part[target.name], classes=bool(target.classes))
        problem.check_target(target, found, f"the {name} rows")
        if name == TRAIN and (absent := set(target.classes) - set(found.counts)):
            classes = ", ".join(sorted(map(repr, absent)))
            raise SlipwayError(
                f"target {target.name!r}: no training row has {classes}; leave such a class out of"
                " ingest.target, or train on more rows"
            )
        weights = _weights(part, facts.weight)
        _require_weights(weights, facts.weight)
        labels = encode(target, part[target.name])
        described[name] = {"rows": part.num_rows, **problem.describe(labels, weights)}
    return described


def _empty(name: str, facts: TableFacts) -> str:
    covers = f"; the data covers {' to '.join(facts.time_range)}" if facts.time_range else ""
    return (
        f"there are no {name} rows among {facts.rows:,}{covers}; see the section split (stop and"
        " choose are the two halves of its validation part)"
    )


def _weights(rows: pa.Table, name: str | None) -> NDArray[np.float64] | None:
    if name is None:
        return None
    column = pc.cast(rows[name], pa.float64(), safe=False)
    weights: NDArray[np.float64] = pc.fill_null(column, float("nan")).to_numpy()
    return weights


def _require_weights(weights: NDArray[np.float64] | None, name: str | None) -> None:
    if weights is None:
        return
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise SlipwayError(
            f"ingest.weight {name!r} must be a finite number of at least 0 in every row, and more"
            " than 0 somewhere in each part"
        )


def _category(
    database: duckdb.DuckDBPyConnection, config: "PrepareConfig", name: str, meaning: str
) -> Category:
    """Keep the values seen often enough to learn something about, in order of their name."""
    column = quoted(name)
    [kind] = database.sql(f"SELECT {column} FROM {PARTED} LIMIT 0").types
    if str(kind) != "VARCHAR":
        raise SlipwayError(
            f"prepare.categories.{name}: must be text, is {kind}; CAST it in ingest.query"
        )
    kept = database.sql(
        f"SELECT {column} FROM {PARTED} WHERE {quoted(PART)} = '{TRAIN}' AND {column} != ''"
        f" GROUP BY 1 HAVING count(*) >= {config.min_category_rows}"
    ).fetchall()
    if not kept:
        raise SlipwayError(
            f"prepare.categories.{name}: no value has {config.min_category_rows} training rows"
        )
    return Category(name, meaning, sorted(value for (value,) in kept))


def _numbers(
    database: duckdb.DuckDBPyConnection,
    config: "PrepareConfig",
    facts: TableFacts,
    train_rows: int,
) -> list[Number]:
    """Measure the numbers: ends and gaps over all training rows, quantiles over some of them."""
    if not config.numbers:
        return []
    place = splitting.fraction_sql(splitting.key_sql(facts), "sample")
    chosen = ", ".join(map(quoted, config.numbers))
    some = f" AND {place} < {SAMPLE_ROWS / train_rows!r}" if train_rows > SAMPLE_ROWS else ""
    where = f"FROM {PARTED} WHERE {quoted(PART)} = '{TRAIN}'"
    sample = database.sql(f"SELECT {chosen} {where}{some}").to_arrow_table()
    return [
        _number(database, where, sample=sample[name], name=name, meaning=meaning)
        for name, meaning in config.numbers.items()
    ]


def _number(
    database: duckdb.DuckDBPyConnection,
    where: str,
    *,
    sample: pa.ChunkedArray,
    name: str,
    meaning: str,
) -> Number:
    value = f"CAST({quoted(name)} AS DOUBLE)"
    found = f"CASE WHEN isfinite({value}) AND abs({value}) <= {FLOAT32_MAX!r} THEN {value} END"
    try:
        [(rows, known, low, high)] = database.sql(
            f"SELECT count(*), count({found}), min({found}), max({found}) {where}"
        ).fetchall()
    except duckdb.Error as error:
        raise SlipwayError(
            f"prepare.numbers.{name}: must be a number: {' '.join(str(error).split())}"
        ) from None
    if not known:
        raise SlipwayError(f"prepare.numbers.{name}: every training row lacks it")
    values = pc.cast(sample, pa.float64(), safe=False).drop_null().to_numpy()
    values = values[np.abs(values) <= FLOAT32_MAX]
    values = values if values.size else np.array([low, high])
    center, scale = _measure(values)
    if abs(center) > FLOAT32_STEPS * scale and high > low:
        raise SlipwayError(
            f"prepare.numbers.{name}: its values lie around {center:.6g} and differ by some"
            f" {scale:.3g}, which float32 cannot tell apart; subtract a constant in ingest.query,"
            " or take it apart (a day, an hour)"
        )
    ends = np.quantile(values, np.linspace(0, 1, BINS + 1)).astype(np.float32)
    return Number(
        name=name,
        meaning=meaning,
        center=center,
        scale=scale,
        min=float(np.float32(low)),
        max=float(np.float32(high)),
        missing_share=1 - known / rows,
        quantiles=[float(v) for v in np.unique(ends)],
    )


def _measure(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle and the spread of numbers, of which a few may be anywhere."""
    first, lower, center, upper, last = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    within = values[(values >= first) & (values <= last)]
    spread = (upper - lower) / NORMAL_IQR or (last - first) / NORMAL_98 or within.std()
    return float(center), float(spread) or float(np.abs(values - center).max()) or 1.0


def _write_parts(
    database: duckdb.DuckDBPyConnection,
    config: "PrepareConfig",
    facts: TableFacts,
    *,
    columns: tuple[Sequence[Category], Sequence[Number]],
    prepared: Path,
) -> None:
    """Write each part in the order of its rows, the training rows in several files."""
    categories, numbers = columns
    wanted = [*(c.name for c in categories), *(n.name for n in numbers), facts.target.name]
    wanted += [facts.weight] if facts.weight and facts.weight not in wanted else []
    chosen = ", ".join(map(quoted, dict.fromkeys([*wanted, UNIT])))
    for name in PARTS:
        rows = database.sql(f"SELECT {chosen} FROM {PARTED} WHERE {quoted(PART)} = '{name}'")
        encoded = (
            _encode(pa.Table.from_batches([batch]), categories, numbers, facts=facts)
            for batch in rows.to_arrow_reader(BATCH_ROWS)
        )
        if name == TRAIN:
            for i, shard in enumerate(_cut(encoded, config.shard_rows)):
                _write(prepared / f"train-{i:05}.arrow", shard)
        else:
            _write(prepared / f"{name}.arrow", pa.concat_tables(encoded))


def _cut(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Cut a stream of rows into tables of so many."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def _encode(
    table: pa.Table,
    categories: Sequence[Category],
    numbers: Sequence[Number],
    *,
    facts: TableFacts,
) -> pa.Table:
    codes = [_codes(table[category.name], category.vocabulary) for category in categories]
    values = [_values(table[number.name], number.name) for number in numbers]
    weights = _weights(table, facts.weight)
    return pa.table(
        {
            "categories": _stack(codes, np.int32, table.num_rows),
            "numbers": _stack(values, np.float32, table.num_rows),
            "label": pa.array(encode(facts.target, table[facts.target.name]), pa.float64()),
            "unit": pc.cast(table[UNIT], pa.int64()),
            **({} if weights is None else {"weight": pa.array(weights, pa.float64())}),
        }
    )


def _codes(column: pa.ChunkedArray, vocabulary: list[str]) -> NDArray[Any]:
    found = pc.index_in(column, pa.array(vocabulary, column.type))
    codes: NDArray[Any] = pc.fill_null(pc.add(found, 1), 0).to_numpy()
    return codes


def _values(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    values: NDArray[Any] = pc.fill_null(_float32(column, name), float("nan")).to_numpy()
    return values


def _stack(columns: list[NDArray[Any]], dtype: type, rows: int) -> pa.FixedSizeListArray:
    """Make one [N, columns] array, so that a reader maps it as a matrix."""
    matrix: NDArray[Any] = np.empty((rows, len(columns)), dtype)
    for i, column in enumerate(columns):
        matrix[:, i] = column
    if not columns:
        return pa.nulls(rows, pa.list_(pa.from_numpy_dtype(dtype), 0)).fill_null([])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _float32(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        values = pc.cast(column, pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SlipwayError(f"prepare.numbers.{name}: must be a number: {error}") from None
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float32()))


def _write(path: Path, table: pa.Table) -> None:
    """Write an Arrow file of one uncompressed batch, which readers map without copying."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())
