"""Hold a batch to its contract on the way into a model and out of it.

Once per batch: a pass over its values costs as much as over one row's, and the engine then finds
the request that caused it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.bundle.contract import Contract, OutputTensor
from slipway.bundle.datatypes import DTYPES, FLOATS, Datatype, as_numbers
from slipway.host.engine.runner import Runner
from slipway.host.request.message import Array
from slipway.host.request.refusal import RequestRefused, bad_request, quote


def make_admission(contract: Contract) -> Callable[[Mapping[str, Array]], RequestRefused | None]:
    """Return the check of a whole batch's values: no session sees one that is not finite.

    A missing number is NaN by contract.
    """
    checks = [
        (tensor.name, tensor.datatype, np.isfinite if tensor.kind == "tensor" else _no_infinity)
        for tensor in contract.inputs
        if tensor.datatype in FLOATS
    ]

    def admit(inputs: Mapping[str, Array]) -> RequestRefused | None:
        for name, datatype, check in checks:
            if not check(as_numbers(inputs[name], datatype)).all():
                what = f"must be finite and fit {datatype}"
                return bad_request(f"input {quote(name)}: every value {what}")
        return None

    return admit


def _no_infinity(values: Array) -> Array:
    return np.isinf(values) ^ True


class Checked:
    """A runner whose outputs are what the contract promises, or an error.

    JSON has no NaN, and a null or a string in its place would be taken for an answer.
    """

    def __init__(self, runner: Runner, contract: Contract) -> None:
        self._runner = runner
        self._batchable = contract.batchable
        self._promises = [_Promise.of(tensor) for tensor in contract.outputs]

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Run a batch."""
        align(inputs)
        return self._check(self._runner.run(inputs), inputs)

    def run_alone(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Run a batch while nothing else wants the machine."""
        align(inputs)
        return self._check(self._runner.run_alone(inputs), inputs)

    def close(self) -> None:
        """Let go of the session."""
        self._runner.close()

    def _check(
        self, outputs: Mapping[str, Array], inputs: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        rows = len(next(iter(inputs.values()))) if self._batchable else None
        for promise in self._promises:
            values = outputs[promise.name]
            if not promise.fits(values, rows):
                raise RequestRefused("model_failed", f"output {quote(promise.name)} is misshapen")
            if promise.datatype in FLOATS and not _finite(values, promise.datatype):
                raise RequestRefused(
                    "non_finite_output",
                    f"output {quote(promise.name)} holds a value that is not finite",
                )
        return outputs


@dataclass(frozen=True, slots=True)
class _Promise:
    """What one output must be, in the form that is quick to compare."""

    name: str
    datatype: Datatype
    dtype: np.dtype[Any]
    fixed: tuple[tuple[int, int], ...]
    """Dimension and its size, for those that are fixed by the contract."""
    rank: int

    @classmethod
    def of(cls, tensor: OutputTensor) -> "_Promise":
        """Read it from the contract."""
        fixed = [(n, dim) for n, dim in enumerate(tensor.shape) if dim != -1]
        dtype = DTYPES[tensor.datatype]
        return cls(tensor.name, tensor.datatype, dtype, fixed=tuple(fixed), rank=len(tensor.shape))

    def fits(self, values: Array, rows: int | None) -> bool:
        """Compare; where rows are counted, the first dimension must count them."""
        shape = values.shape
        if len(shape) != self.rank or (rows is not None and shape[0] != rows):
            return False
        if values.dtype != self.dtype and values.dtype.kind not in "OU":
            return False
        return all(shape[n] == dim for n, dim in self.fixed)


def _finite(values: Array, datatype: Datatype) -> bool:
    return bool(np.isfinite(as_numbers(values, datatype)).all())


def align(inputs: dict[str, Array]) -> None:
    """Copy what lies at an odd address, as a tensor inside a request's bytes may."""
    for name, values in inputs.items():
        if not values.flags.aligned:
            inputs[name] = values.copy()
