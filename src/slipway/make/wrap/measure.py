"""Measure how a model answers its golden rows: alone, once more, in batches, padded.

Differences are per output; what is no floating-point number is equal or infinitely far off.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from slipway.bundle.contract import Padding
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers, float_to_bf16
from slipway.bundle.golden import Golden, Tensors, distance, replay, take
from slipway.bundle.rows import Array, is_ragged, row_of, stack
from slipway.errors import BundleRefused

Run = Callable[[Tensors], Mapping[str, Array]]

SIZES: Final = (2, 3, 8, 32)
"""Rows per batch, besides the most that a request may carry: kernels differ by the size."""

MEASURED_ROWS: Final = 128
"""Golden rows that are run in every size of batch."""

Distances = dict[str, float]


@dataclass(frozen=True)
class Padded:
    """What padding did."""

    distances: Distances
    """Largest difference between padded and unpadded answers, alone and in batches."""
    axes: dict[str, int]
    """Per output that is as long as its padded inputs: the dimension, counted like the graph's."""


@dataclass
class Failures:
    """Why some runs gave nothing, for people."""

    reasons: list[str] = field(default_factory=list)

    def note(self, what: str, error: Exception) -> None:
        """Keep the first few."""
        if len(self.reasons) < 5:
            self.reasons.append(f"{what}: {' '.join(str(error).split())}"[:500])


def answer_alone(run: Run, inputs: Tensors, rows: int, batchable: bool) -> Tensors:
    """Run every row by itself; raise BundleRefused for an answer that no host would give."""
    answers: dict[str, list[Array]] = {}
    for i in range(rows):
        try:
            raw = run(take(inputs, slice(i, i + 1) if batchable else i))
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise BundleRefused(
                f"row {i}: the model fails: {' '.join(str(error).split())}"
            ) from None
        for name, values in raw.items():
            if batchable and values.shape[:1] != (1,):
                raise BundleRefused(
                    f"row {i}: output {name!r} has the shape {list(values.shape)} for one row, so"
                    " its first dimension does not count rows; give --one-row"
                )
            answers.setdefault(name, []).append(values[0, ...] if batchable else values)
    return {name: stack(values) for name, values in answers.items()}


def find_non_finite(golden: Golden) -> list[str]:
    """Name the outputs with an answer that is not finite: a host refuses to send such."""
    problems = []
    for name, values in golden.expected.items():
        if (datatype := golden.datatypes[name]) not in FLOATS:
            continue
        rows = (as_numbers(row_of(values, i), datatype) for i in range(golden.rows))
        bad = [i for i, row in enumerate(rows) if not np.isfinite(row).all()]
        if bad:
            problems.append(f"row {bad[0]}: output {name!r} is not finite")
    return problems


def magnitude(golden: Golden, name: str) -> float:
    """Return the largest absolute value of an output, at least 1; 1 for what is no number."""
    values, datatype = golden.expected[name], golden.datatypes[name]
    if datatype not in FLOATS:
        return 1.0
    parts = list(values) if is_ragged(values) else [values]
    return max(float(np.abs(as_numbers(part, datatype)).max(initial=1.0)) for part in parts)


def measure_batches(run: Run, golden: Golden, max_rows: int, failures: Failures) -> Distances:
    """Return how far answers move with their neighbours, over batches of several sizes."""
    largest = dict.fromkeys(golden.expected, 0.0)
    for size in sorted({min(size, max_rows) for size in (*SIZES, max_rows)}):
        part = pick(golden, _neighbours(golden, size))
        try:
            found = replay(run, part, size).largest
        except Exception as error:  # a batch that cannot be run is as far off as can be
            failures.note(f"a batch of {size} rows", error)
            found = dict.fromkeys(largest, float("inf"))
        largest = {name: max(largest[name], found[name]) for name in largest}
    return largest


def measure_padding(
    run: Run, golden: Golden, paddings: Mapping[str, Padding], max_rows: int
) -> Padded:
    """Pad every golden row to its bucket, alone and among others; raise BundleRefused if none is.

    An output's padded dimension is the one that grew by as much as the inputs did.
    """
    lengths = _lengths(golden, paddings)
    buckets = next(iter(paddings.values())).buckets
    if (longest := max(lengths)) > buckets[-1]:
        raise BundleRefused(f"a golden row has length {longest}, the largest bucket {buckets[-1]}")
    if all(length in buckets for length in lengths):
        raise BundleRefused(
            "every golden row is as long as a bucket, so nothing shows that the model does not"
            " mind padding; give rows of other lengths too"
        )
    axes = _find_axes(run, golden, paddings, lengths)
    largest = dict.fromkeys(golden.expected, 0.0)
    most = min(max_rows, SIZES[-2]) if golden.batchable else 1
    for size in {1, most}:
        for rows in _runs_of(min(golden.rows, MEASURED_ROWS), size):
            bucket = _bucket(max(lengths[i] for i in rows), buckets)
            answers = _run_padded(run, golden, paddings=paddings, rows=rows, bucket=bucket)
            for name, expected in golden.expected.items():
                for k, i in enumerate(rows):
                    answer = answers[name][k, ...] if golden.batchable else answers[name]
                    if name in axes:
                        axis = axes[name] - golden.batchable
                        answer = np.take(answer, np.arange(lengths[i]), axis)
                    found = distance(answer, row_of(expected, i), golden.datatypes[name])
                    largest[name] = max(largest[name], found)
    return Padded(largest, axes)


def _neighbours(golden: Golden, size: int) -> Array:
    """Choose rows so that batches of this size form, again and again the same ones if need be."""
    most = max(size, MEASURED_ROWS)
    ragged = [values for values in golden.inputs.values() if is_ragged(values)]
    groups: dict[str, list[int]] = {}
    for i in range(golden.rows):
        groups.setdefault(str([values[i].shape for values in ragged]), []).append(i)
    chosen: list[int] = []
    for group in groups.values():
        if len(chosen) < most:
            chosen += [group[k % len(group)] for k in range(max(size, min(len(group), most)))]
    return np.array(chosen)


def pick(golden: Golden, rows: Array) -> Golden:
    """Return some golden rows, in this order."""
    return Golden(
        inputs={name: values[rows] for name, values in golden.inputs.items()},
        labels=golden.labels[rows],
        expected={name: values[rows] for name, values in golden.expected.items()},
        tolerance=golden.tolerance,
        precision=golden.precision,
        datatypes=golden.datatypes,
        batchable=golden.batchable,
    )


def _lengths(golden: Golden, paddings: Mapping[str, Padding]) -> list[int]:
    """Return each row's length in the padded dimension, which all padded inputs share."""
    found: list[set[int]] = [set() for _ in range(golden.rows)]
    for name, padding in paddings.items():
        for i in range(golden.rows):
            row = row_of(golden.inputs[name], i)
            found[i].add(row.shape[padding.axis - golden.batchable])
    for i, lengths in enumerate(found):
        if len(lengths) != 1:
            raise BundleRefused(f"row {i}: padded inputs differ in length: {sorted(lengths)}")
    return [next(iter(lengths)) for lengths in found]


def _bucket(length: int, buckets: list[int]) -> int:
    return next(bucket for bucket in buckets if bucket >= length)


def _runs_of(count: int, size: int) -> Iterator[list[int]]:
    for start in range(0, count, size):
        yield list(range(start, min(start + size, count)))


def _run_padded(
    run: Run, golden: Golden, paddings: Mapping[str, Padding], rows: list[int], bucket: int
) -> Mapping[str, Array]:
    try:
        return run(_padded(golden, paddings, rows, bucket))
    except Exception as error:  # ONNX Runtime's errors have no common class
        reason = " ".join(str(error).split())
        raise BundleRefused(
            f"row {rows[0]}: the model fails when it is padded to {bucket}; pad every input that"
            f" has this dimension: {reason}"
        ) from None


def _padded(
    golden: Golden, paddings: Mapping[str, Padding], rows: list[int], bucket: int
) -> Tensors:
    tensors = {}
    for name, values in golden.inputs.items():
        parts = [row_of(values, i) for i in rows]
        if padding := paddings.get(name):
            axis = padding.axis - golden.batchable
            fill = as_value(padding.value, golden.datatypes[name])
            parts = [_extend(part, axis, bucket, fill) for part in parts]
        tensors[name] = np.stack(parts) if golden.batchable else parts[0]
    return tensors


def as_value(value: float, datatype: Datatype) -> Array:
    """Return a padding value as the datatype holds it."""
    if datatype == "BF16":
        return float_to_bf16(np.array(value, np.float32))
    return np.array(value).astype(DTYPES[datatype])


def _extend(row: Array, axis: int, length: int, fill: Array) -> Array:
    widths = [(0, length - size if n == axis else 0) for n, size in enumerate(row.shape)]
    return np.pad(row, widths, constant_values=fill.item())


def _find_axes(
    run: Run, golden: Golden, paddings: Mapping[str, Padding], lengths: list[int]
) -> dict[str, int]:
    """Find, from one padded row, which dimension of which output grew with the inputs'."""
    buckets = next(iter(paddings.values())).buckets
    i = next(i for i, length in enumerate(lengths) if length not in buckets)
    answers = _run_padded(
        run, golden, paddings=paddings, rows=[i], bucket=_bucket(lengths[i], buckets)
    )
    axes = {}
    for name, values in golden.expected.items():
        before = row_of(values, i).shape
        after = answers[name].shape[1:] if golden.batchable else answers[name].shape
        grown = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        if grown[1:] or any(before[n] != lengths[i] for n in grown):
            raise BundleRefused(
                f"output {name!r} has the shape {list(before)} unpadded and {list(after)} padded:"
                " only one dimension may grow, with the inputs'"
            )
        if grown:
            axes[name] = grown[0] + golden.batchable
    return axes
