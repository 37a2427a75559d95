"""What is kept of a run: one JSON object a line, its `what` says which kind.

closed   one server, model, payload and number of connections under wrk
open     our host under a planned load: 80 % of capacity, then overload, then recovery
loris    our host with slow connections beside an honest load
gpu      our host on a GPU beside bare ONNX Runtime
"""

import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FAULTS = ("other_answers", "honest_errors")
CALM = 0.15
"""A run counts as disturbed when more of the CPUs went to processes foreign to it."""


def keep(path: Path, record: Record) -> Record:
    """Append a record, at once, so that a broken run leaves what it had."""
    record = {**record, "at": time.strftime("%Y-%m-%d %H:%M:%S")}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    return record


def read(path: Path) -> list[Record]:
    """Read all records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def pick(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Choose the records that have these values."""
    return [r for r in records if all(r.get(k) == v for k, v in wanted.items())]


def calm(records: list[Record]) -> list[Record]:
    """Choose the undisturbed runs, or the least disturbed one where there are none."""
    quiet = [r for r in records if (r["foreign"] or 0) <= CALM]
    return quiet or sorted(records, key=lambda r: r["foreign"])[:1]


def middle(records: list[Record], key: str) -> float:
    """Take the median of a value over the undisturbed runs; NaN where nobody has it."""
    values = [r[key] for r in calm(records) if r[key] is not None]
    return statistics.median(values) if values else float("nan")


def typical(records: Iterable[Record], what: str, *keys: str) -> list[Record]:
    """Make one record of all rounds that are alike in `keys`: the median of every number.

    What went wrong counts from every round; None where a round has none, as what was never
    answered is no better for being rare.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in pick(records, what=what):
        groups.setdefault(tuple(record.get(key) for key in keys), []).append(record)
    return [
        {key: _typical(key, [r.get(key) for r in rounds]) for key in rounds[0]}
        for rounds in groups.values()
    ]


def _typical(key: str, values: list[Any]) -> Any:
    if None in values:
        return None
    if key in FAULTS:
        return sum(values)
    return statistics.median(values) if isinstance(values[0], int | float) else values[0]
