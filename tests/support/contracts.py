"""Contracts of models that tests make up."""

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.bundle.contract import Contract, Datatype, InputTensor, OutputTensor, Requires

CPU = "CPUExecutionProvider"


def make_input(
    name: str, datatype: Datatype = "FP32", shape: Iterable[int] = (-1,), **fields: Any
) -> InputTensor:
    """Make a tensor of which nothing is missing; `fields` say otherwise."""
    plain = {"kind": "tensor", "meaning": "", "missing": "refused"}
    nothing = dict.fromkeys(("categories", "range", "unknown"))
    return InputTensor(
        name=name, datatype=datatype, shape=list(shape), **{**plain, **nothing, **fields}
    )


def make_output(
    name: str, datatype: Datatype = "FP32", shape: Iterable[int] = (-1,), **fields: Any
) -> OutputTensor:
    """Make an answer of which nothing is known."""
    plain = {"meaning": "", "range": None}
    return OutputTensor(name=name, datatype=datatype, shape=list(shape), **{**plain, **fields})


def make_contract(
    inputs: Iterable[InputTensor], outputs: Iterable[OutputTensor], **fields: Any
) -> Contract:
    """Make the contract of a model `m`, which needs no memory and minds no neighbour."""
    plain = {
        "model": "m",
        "precision": "fp32",
        "max_rows": 1000,
        "requires": Requires(provider=CPU, memory_bytes=0),
        "batch_invariance_max": 0.0,
    }
    return Contract(inputs=list(inputs), outputs=list(outputs), **{**plain, **fields})


def name_contract(
    inputs: Mapping[str, Datatype], outputs: Mapping[str, Datatype], rank: int = 1
) -> Contract:
    """Make a contract of tensors by name and datatype, with variable dimensions."""
    shape = [-1] * rank
    return make_contract(
        [make_input(name, datatype, shape) for name, datatype in inputs.items()],
        [make_output(name, datatype, shape) for name, datatype in outputs.items()],
    )


def echo_contract(
    model: str = "m", shape: Iterable[int] = (-1, 2), max_rows: int = 64, **datatypes: Datatype
) -> Contract:
    """Make the contract of a model that answers what it is given: `y_x` is `x`."""
    dims = list(shape)
    return make_contract(
        [make_input(name, datatype, dims) for name, datatype in datatypes.items()],
        [make_output(f"y_{name}", datatype, dims) for name, datatype in datatypes.items()],
        model=model,
        max_rows=max_rows,
    )
