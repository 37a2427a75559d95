"""Split the rows in time and write them as Arrow files that training maps into memory.

Vocabularies and statistics come from the training rows alone. Categories become codes (0 is
unknown or missing); numbers stay raw, because the network normalises them itself.
"""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipway.errors import SlipwayError
from tasks.tables import read_facts, read_table, require_columns, write_json
from tasks.target import require_target

if TYPE_CHECKING:
    from slipway.config import Period, PrepareConfig


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
    mean: float
    std: float
    min: float
    max: float
    missing_share: float


def run(config: "PrepareConfig", *, valid: Path, golden: Path, prepared: Path) -> None:
    """Write shards of the training rows, the other two splits, and the features' facts."""
    facts, table = read_facts(valid), read_table(valid)
    wanted = [*config.categories, *config.numbers]
    require_columns(table, wanted, "prepare")
    days = pc.cast(table[facts.time], pa.date32())
    held_out = json.loads((golden / "golden.json").read_text("utf-8"))["days"]
    golden_day = pc.is_in(days, pa.array(map(date.fromisoformat, held_out), pa.date32()))
    splits = {
        "train": table.filter(pc.and_not(_within(days, config.train), golden_day)),
        "validation": table.filter(pc.and_not(_within(days, config.validation), golden_day)),
        "test": table.filter(_within(days, config.test)),
    }
    for name, split in splits.items():
        if split.num_rows == 0:
            raise SlipwayError(f"no rows in prepare.{name}; the data covers {facts.time_range}")
        require_target(facts, split, f"the {name} rows")
    train = splits["train"]
    categories = [
        _category(train, name, meaning, config.min_category_rows)
        for name, meaning in config.categories.items()
    ]
    numbers = [_number(train, name, meaning) for name, meaning in config.numbers.items()]
    encoded = {
        name: _encode(split, categories, numbers, facts.label) for name, split in splits.items()
    }
    for i, start in enumerate(range(0, train.num_rows, config.shard_rows)):
        shard = encoded["train"].slice(start, config.shard_rows)
        _write(prepared / f"train-{i:05}.arrow", shard)
    for name in ("validation", "test"):
        _write(prepared / f"{name}.arrow", encoded[name])
    write_json(
        prepared / "features.json",
        {
            "label": facts.label,
            "problem": facts.problem,
            "categories": [vars(category) for category in categories],
            "numbers": [vars(number) for number in numbers],
            "rows": {name: split.num_rows for name, split in splits.items()},
            "base_rate": {n: pc.mean(s[facts.label]).as_py() for n, s in splits.items()},
        },
    )


def _within(days: pa.ChunkedArray, period: "Period") -> pa.ChunkedArray:
    start, end = pa.scalar(period.start, pa.date32()), pa.scalar(period.end, pa.date32())
    return pc.and_(pc.greater_equal(days, start), pc.less(days, end))


def _category(train: pa.Table, name: str, meaning: str, min_rows: int) -> Category:
    """Keep the values seen often enough to learn something about, in order of their name."""
    column = train[name]
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise SlipwayError(
            f"prepare.categories.{name}: must be text, is {column.type}; CAST it in ingest.query"
        )
    counts = pc.value_counts(column).to_pylist()
    kept = sorted(c["values"] for c in counts if c["values"] and c["counts"] >= min_rows)
    if not kept:
        raise SlipwayError(f"prepare.categories.{name}: no value has {min_rows} training rows")
    return Category(name, meaning, kept)


def _number(train: pa.Table, name: str, meaning: str) -> Number:
    column = _float32(train[name], name)
    values = pc.cast(column.drop_null(), pa.float64())
    if len(values) == 0:
        raise SlipwayError(f"prepare.numbers.{name}: every training row lacks it")
    bounds = pc.min_max(values).as_py()
    return Number(
        name=name,
        meaning=meaning,
        mean=pc.mean(values).as_py(),
        std=pc.stddev(values).as_py() or 1.0,  # a constant says nothing, and must not divide by 0
        min=bounds["min"],
        max=bounds["max"],
        missing_share=1 - len(values) / train.num_rows,
    )


def _encode(
    table: pa.Table, categories: list[Category], numbers: list[Number], label: str
) -> pa.Table:
    codes = [_codes(table[category.name], category.vocabulary) for category in categories]
    values = [_values(table[number.name], number.name) for number in numbers]
    return pa.table(
        {
            "categories": _stack(codes, np.int32),
            "numbers": _stack(values, np.float32),
            "label": pc.cast(table[label], pa.float32()),
        }
    )


def _codes(column: pa.ChunkedArray, vocabulary: list[str]) -> NDArray[Any]:
    found = pc.index_in(column, pa.array(vocabulary))
    codes: NDArray[Any] = pc.fill_null(pc.add(found, 1), 0).to_numpy()
    return codes


def _values(column: pa.ChunkedArray, name: str) -> NDArray[Any]:
    values: NDArray[Any] = pc.fill_null(_float32(column, name), float("nan")).to_numpy()
    return values


def _stack(columns: list[NDArray[Any]], dtype: type) -> pa.FixedSizeListArray:
    """Make one [N, columns] array, so that a reader maps it as a matrix."""
    matrix: NDArray[Any] = np.stack(columns, axis=1).astype(dtype)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _float32(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        values = pc.cast(column, pa.float32(), safe=False)
    except pa.ArrowInvalid as error:
        raise SlipwayError(f"prepare.numbers.{name}: must be a number: {error}") from None
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float32()))


def _write(path: Path, table: pa.Table) -> None:
    """Write an Arrow file of one uncompressed batch, which readers map without copying."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())
