"""What is kept of a run: one JSON object a line, its `what` says which kind.

closed   one server, model, payload and number of connections under wrk
about    one server: its software with versions, and how it was set up
open     our host under a planned load: 80 % of capacity, then overload, then recovery
loris    our host with slow connections beside an honest load
gpu      our host on a GPU beside bare ONNX Runtime
"""

import json
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FAULTS = ("other_answers", "honest_errors")
CALM = 0.15
"""A run is disturbed when more of the CPUs went to processes foreign to it: shown, never judged."""


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


def calm(records: Iterable[Record]) -> list[Record]:
    """Choose the undisturbed runs; one that cannot be told from a disturbed one is none."""
    return [r for r in records if r["foreign"] is not None and r["foreign"] <= CALM]


def disturbance(records: Sequence[Record]) -> str | None:
    """Say why runs allow no verdict: how much was foreign in the best; None where one was calm."""
    if calm(records):
        return None
    shares = [r["foreign"] for r in records if r["foreign"] is not None]
    return f"{min(shares):.0%} foreign CPU" if shares else "foreign CPU unknown"


def middle(records: Sequence[Record], key: str) -> float:
    """Take the median of a value over the undisturbed runs, or over all where there are none.

    NaN where nobody has it.
    """
    values = [r[key] for r in calm(records) or records if r[key] is not None]
    return statistics.median(values) if values else float("nan")


def group(records: Iterable[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    """Put rounds that are alike in `keys` together."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record.get(key) for key in keys), []).append(record)
    return groups


def typical(rounds: Sequence[Record]) -> Record:
    """Make one record of several rounds: the median of every number.

    What went wrong counts from every round; None where a round has none, as what was never
    answered is no better for being rare.
    """
    return {key: _typical(key, [r.get(key) for r in rounds]) for key in rounds[0]}


def _typical(key: str, values: list[Any]) -> Any:
    if None in values:
        return None
    if key in FAULTS:
        return sum(values)
    return statistics.median(values) if isinstance(values[0], int | float) else values[0]
