"""Read a contract from a graph: the shapes that requests will have, and what they may ask."""

import math
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from slipway.bundle.contract import Contract, InputTensor, OutputTensor, Requires
from slipway.bundle.datatypes import FLOATS, Datatype
from slipway.bundle.gate import INVARIANCE
from slipway.bundle.memory import memory_bytes
from slipway.bundle.session import Session
from slipway.errors import ConfigError
from slipway.make.wrap.request import WrapRequest
from slipway.make.wrap.tolerance import Movement
from slipway.precision import AS_MADE
from slipway.problem import PROBLEMS

Shapes = dict[str, list[int]]

PER_VALUE_BYTES: Final = 64
"""8 values in between for each value that goes in or comes out of the largest request."""


def read_shapes(request: WrapRequest, session: Session) -> Shapes:
    """Return the tensors' shapes as requests will have them; refuse what no request can carry."""
    if problems := [*_unfit(session), *_unknown(request, session)]:
        raise ConfigError(request.model.name, problems)
    shapes = {name: list(shape) for name, shape in session.shapes.items()}
    if request.one_row:
        shapes = {n: [1, *s[1:]] if s[:1] == [-1] else s for n, s in shapes.items()}
    return shapes


def _unfit(session: Session) -> list[str]:
    zipmap = "; for scikit-learn, convert with options={'zipmap': False}"
    problems = [
        f"{name!r} is {datatype}, no tensor of the protocol{zipmap if 'map' in datatype else ''}"
        for name, datatype in {**session.inputs, **session.outputs}.items()
        if datatype not in get_args(Datatype)
    ]
    if twice := sorted(session.inputs.keys() & session.outputs.keys()):
        problems.append(f"both input and output: {', '.join(twice)}; rename one")
    if not session.inputs:
        problems.append("has no input")
    return problems


def _unknown(request: WrapRequest, session: Session) -> list[str]:
    named = [
        ("--pad", "input", set(request.paddings), session.inputs),
        ("--tolerance", "output", set(request.tolerance) - {""}, session.outputs),
    ]
    return [
        f"{option}: there is no {role} {name!r}; there are {list(there)}"
        for option, role, names, there in named
        for name in sorted(names - set(there))
    ]


def batchable(shapes: Shapes) -> bool:
    """Tell whether every first dimension counts rows, as `Contract.batchable` does."""
    return all(shape[:1] == [-1] for shape in shapes.values())


def make_contract(
    request: WrapRequest,
    session: Session,
    shapes: Shapes,
    axes: Mapping[str, int],
    measured: Mapping[str, Movement],
    model_bytes: int,
) -> Contract:
    """Write down what the graph says and what was measured; meanings and ranges nobody knows."""
    moved = [m.distances.get(INVARIANCE, 0.0) for m in measured.values()]
    moved += [m.distances.get("padding", 0.0) for m in measured.values()]
    return Contract(
        model=request.name,
        precision=AS_MADE,
        inputs=[
            InputTensor(
                name=name,
                datatype=cast(Datatype, datatype),
                shape=shapes[name],
                kind="tensor",
                meaning="",
                categories=None,
                range=None,
                missing="refused",
                unknown=None,
                padding=request.paddings.get(name),
            )
            for name, datatype in session.inputs.items()
        ],
        outputs=[
            OutputTensor(
                name=name,
                datatype=cast(Datatype, datatype),
                shape=shapes[name],
                meaning="",
                range=None,
                padded_axis=axes.get(name),
            )
            for name, datatype in session.outputs.items()
        ],
        max_rows=request.max_rows if batchable(shapes) else 1,
        requires=Requires(
            provider=request.provider, memory_bytes=_memory(request, shapes, model_bytes)
        ),
        batch_invariance_max=max(moved),
        **_judged(request, session, shapes),
    )


def _judged(request: WrapRequest, session: Session, shapes: Shapes) -> dict[str, Any]:
    """Say what labels judge, where the maker names a problem; refuse an output that cannot be."""
    if (target := request.target) is None:
        return {}
    problem = PROBLEMS[target.problem]
    only = next(iter(session.outputs)) if len(session.outputs) == 1 else problem.output.name
    name = request.judged or only
    wanted = [problem.output.shape(target), [-1, *problem.output.shape(target)[1:], 1]]
    if name not in session.outputs or session.outputs[name] not in FLOATS:
        there = ", ".join(f"{n} ({d})" for n, d in session.outputs.items())
        raise ConfigError(
            request.model.name,
            [f"--judged: no output {name!r} of floating-point numbers; there is: {there}"],
        )
    if shapes[name] not in wanted:
        raise ConfigError(
            request.model.name,
            [f"--judged: {name!r} has the shape {shapes[name]}, {problem.name} is {wanted[0]}"],
        )
    return {
        "problem": problem.name,
        "target": target.name,
        "classes": list(target.classes) or None,
        "judged": None if name == problem.output.name else name,
    }


def _memory(request: WrapRequest, shapes: Shapes, model_bytes: int) -> int:
    """Estimate what a host must have free; a variable dimension counts as its largest bucket."""
    bucket = max((p.buckets[-1] for p in request.paddings.values()), default=1)
    values = 0
    for shape in shapes.values():
        values += math.prod(bucket if dim == -1 else dim for dim in (shape[1:] or [1]))
    rows = request.max_rows if batchable(shapes) else 1
    return memory_bytes(model_bytes, PER_VALUE_BYTES * rows * values)
