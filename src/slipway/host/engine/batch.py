"""Make one run's inputs of several jobs, and the jobs' answers of its outputs.

Fresh arrays each time: writing into a buffer that is kept gained 0 to 4 % (64 rows of 32 or
3,072 floats), and an answer that still points into it would change under its reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from slipway.bundle.contract import Contract
from slipway.host.engine.job import Job
from slipway.host.request.message import Array


@dataclass(frozen=True, slots=True)
class Pad:
    """How one input's variable dimension is brought to one of a few lengths."""

    axis: int
    """Never the first, which counts the rows."""
    value: float
    buckets: tuple[int, ...]
    """Ascending. What is longer than the last stays as it is."""

    def length(self, values: Array) -> int:
        """Return the length that these values are padded to."""
        length: int = values.shape[self.axis]
        return next((bucket for bucket in self.buckets if bucket >= length), length)


@dataclass(frozen=True, slots=True)
class Shapes:
    """What batching must know of a contract."""

    batchable: bool = True
    """Whether the first dimension of every tensor counts rows; if not, each job runs alone."""
    pads: Mapping[str, Pad] = field(default_factory=dict)
    """By input. All padded inputs of a request have the same length."""
    cuts: Mapping[str, int] = field(default_factory=dict)
    """By output: the dimension that is as long as the padded inputs, and is cut back."""

    @classmethod
    def of(cls, contract: Contract) -> "Shapes":
        """Read them from a contract."""
        return cls(
            batchable=contract.batchable,
            pads={
                tensor.name: Pad(
                    tensor.padding.axis, tensor.padding.value, tuple(tensor.padding.buckets)
                )
                for tensor in contract.inputs
                if tensor.padding is not None
            },
            cuts={
                tensor.name: tensor.padded_axis
                for tensor in contract.outputs
                if tensor.padded_axis is not None
            },
        )

    def group(self, inputs: Mapping[str, Array]) -> tuple[tuple[int, ...], ...]:
        """Return what jobs must have in common: all dimensions but the first, as padded."""
        return tuple(self._padded(name, values)[1:] for name, values in inputs.items())

    def _padded(self, name: str, values: Array) -> tuple[int, ...]:
        shape = values.shape
        if (pad := self.pads.get(name)) is None:
            return shape
        return (*shape[: pad.axis], pad.length(values), *shape[pad.axis + 1 :])

    def assemble(self, jobs: Sequence[Job]) -> dict[str, Array]:
        """Return the inputs of one run, the jobs' rows one after the other."""
        if self.pads:
            return {name: self._stack(name, jobs) for name in jobs[0].inputs}
        if len(jobs) == 1:
            return dict(jobs[0].inputs)
        return {name: np.concatenate([job.inputs[name] for job in jobs]) for name in jobs[0].inputs}

    def _stack(self, name: str, jobs: Sequence[Job]) -> Array:
        parts = [job.inputs[name] for job in jobs]
        pad = self.pads.get(name)
        if pad is None:
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        rows = sum(job.rows for job in jobs)
        stacked = np.full(
            (rows, *self._padded(name, parts[0])[1:]), pad.value, dtype=parts[0].dtype
        )
        start = 0
        for part in parts:
            place: list[slice] = [slice(start, start + len(part))]
            place += [slice(None)] * (pad.axis - 1) + [slice(part.shape[pad.axis])]
            stacked[tuple(place)] = part
            start += len(part)
        return stacked

    def divide(self, outputs: Mapping[str, Array], jobs: Sequence[Job]) -> list[dict[str, Array]]:
        """Return each job's own rows of the outputs; raise WrongRows if they cannot be told.

        The answers are views of the outputs, except where padding is cut off.
        """
        if not self.batchable:
            return [dict(outputs)]
        total = sum([job.rows for job in jobs])
        for name, values in outputs.items():
            if not values.shape or values.shape[0] != total:
                raise WrongRows(f"output {name!r} has shape {values.shape}, expected {total} rows")
        if self.cuts:
            return self._cut(outputs, jobs)
        if len(outputs) == 1:
            ((name, values),) = outputs.items()
            if total == len(jobs):
                return [{name: values[n : n + 1]} for n in range(total)]
        answers = []
        start = 0
        for job in jobs:
            stop = start + job.rows
            answers.append({name: values[start:stop] for name, values in outputs.items()})
            start = stop
        return answers

    def _cut(self, outputs: Mapping[str, Array], jobs: Sequence[Job]) -> list[dict[str, Array]]:
        first, pad = next(iter(self.pads.items()))
        answers = []
        start = 0
        for job in jobs:
            values = job.inputs[first]
            stop = start + job.rows
            answers.append(
                {
                    name: self._cut_one(
                        name, whole[start:stop], values.shape[pad.axis], pad.length(values)
                    )
                    for name, whole in outputs.items()
                }
            )
            start = stop
        return answers

    def _cut_one(self, name: str, values: Array, length: int, padded: int) -> Array:
        if (axis := self.cuts.get(name)) is None:
            return values
        if values.shape[axis] != padded:
            raise WrongRows(
                f"output {name!r} has shape {values.shape}, expected {padded} in dimension {axis}"
            )
        place: tuple[Any, ...] = (*[slice(None)] * axis, slice(length))
        return np.ascontiguousarray(values[place])


class WrongRows(Exception):
    """A model's output cannot be divided among the jobs of its batch."""


ROWS: Final = Shapes()
"""The common case: rows, and nothing padded."""
