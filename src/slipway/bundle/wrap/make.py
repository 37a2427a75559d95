"""Wrap an ONNX model: read its contract from the graph, prove that it repeats itself, sign.

Everything is checked and measured before anything is written; then a folder of another name is
filled and renamed, so that a bundle is there whole or not at all. The payload holds neither
time nor name: the same model and rows on the same kind of machine give the same version.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import Datatype
from slipway.bundle.format import canonical_json, sync_folder
from slipway.bundle.golden import Golden, replay, write_golden
from slipway.bundle.manifest import payload_version, write_manifest
from slipway.bundle.session import Session, open_session
from slipway.bundle.signing import sign_bundle
from slipway.bundle.wrap.derive import PRECISION, Shapes, batchable, make_contract, read_shapes
from slipway.bundle.wrap.given import Given, Wanted, read_given
from slipway.bundle.wrap.judge import Measured, choose_tolerance, find_problems, make_gates
from slipway.bundle.wrap.measure import (
    Failures,
    answer_alone,
    find_non_finite,
    magnitude,
    measure_batches,
    measure_padding,
)
from slipway.bundle.wrap.papers import PROVES, Origin, write_papers
from slipway.bundle.wrap.wish import Wish, check_wish
from slipway.errors import BundleRefused, SlipwayError

THREADS: Final = 1
"""As a host runs it: sums over several threads may round otherwise."""


ADVICE: Final = {
    "external data": 'put the weights inside: python -c "import onnx;'
    " onnx.save(onnx.load('MODEL.onnx'), 'WHOLE.onnx')\"",
    "which no host runs": "export it with standard operators only; model-local functions are"
    " inlined by onnx.inliner.inline_local_functions",
    "reaches outside": "export it without this operator",
}
"""What to do, by what a refusal says."""


@dataclass(frozen=True)
class Wrapped:
    """A bundle that is complete and signed."""

    folder: Path
    version: str
    contract: Contract
    golden: Golden
    gates: list[dict[str, Any]]


def wrap_onnx(wish: Wish, say: Callable[[str], None] = lambda text: None) -> Wrapped:
    """Make a signed bundle; raise ConfigError or BundleRefused before anything is written."""
    check_wish(wish)
    model = _read(wish.model)  # once: what is measured is what is signed
    session = _open(wish, model)
    shapes = read_shapes(wish, session)
    given = _read_rows(wish, session, shapes)
    say(f"running {given.rows} golden rows one by one")
    golden = _record(session, given, batchable(shapes))
    say("running them again, in batches" + (", and padded" if wish.paddings else ""))
    measured, axes = _measure(wish, session, _open(wish, model), golden)
    tolerance = {n: choose_tolerance(each, wish.asked(n)) for n, each in measured.items()}
    golden = replace(golden, tolerance=tolerance)
    contract = make_contract(wish, session, shapes, axes, measured, len(model))
    gates = make_gates(measured, tolerance)
    version = _write(wish, model, session.about, contract, golden, gates)
    return Wrapped(wish.out, version, contract, golden, gates)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SlipwayError(f"{path}: {error.strerror}") from None


def _open(wish: Wish, model: bytes) -> Session:
    """Open the model; say what to do about what no host loads."""
    try:
        return open_session(model, wish.provider, THREADS)
    except BundleRefused as refusal:
        reason = str(refusal).replace("model.onnx", wish.model.name)
        found = [what for sign, what in ADVICE.items() if sign in reason]
        raise BundleRefused("; ".join([reason, *found])) from None


def _read_rows(wish: Wish, session: Session, shapes: Shapes) -> Given:
    wanted = [
        Wanted(name, cast(Datatype, datatype), shapes[name])
        for name, datatype in session.inputs.items()
    ]
    return read_given(wish.rows, wanted, batchable(shapes), wish.labels)


def _record(session: Session, given: Given, batchable: bool) -> Golden:
    """Let the model answer every row alone: what a host is held to from now on."""
    golden = Golden(
        inputs=given.inputs,
        labels=given.labels,
        expected=answer_alone(session.run, given.inputs, given.rows, batchable),
        tolerance={},
        precision=PRECISION,
        datatypes=cast(dict[str, Datatype], {**session.inputs, **session.outputs}),
        batchable=batchable,
    )
    if problems := find_non_finite(golden):
        raise BundleRefused(f"{'; '.join(problems)}: a host refuses to send such an answer")
    return golden


def _measure(
    wish: Wish, session: Session, another: Session, golden: Golden
) -> tuple[dict[str, Measured], dict[str, int]]:
    """Measure, and refuse what is too far off for a host to be held to it."""
    failures = Failures()
    golden = replace(golden, tolerance=dict.fromkeys(golden.expected, math.inf))
    found = {"repeatability": replay(another.run, golden, 1).largest}
    axes: dict[str, int] = {}
    if golden.batchable:
        found["batch invariance"] = measure_batches(session.run, golden, wish.max_rows, failures)
    if wish.paddings:
        padded = measure_padding(session.run, golden, wish.paddings, wish.max_rows)
        found["padding"], axes = padded.distances, padded.axes
    measured = {
        name: Measured(
            datatype=golden.datatypes[name],
            magnitude=magnitude(golden, name),
            distances={what: largest[name] for what, largest in found.items()},
        )
        for name in golden.expected
    }
    problems = [p for n, each in measured.items() for p in find_problems(n, each, wish.asked(n))]
    if problems:
        raise BundleRefused("\n  ".join([f"{wish.model.name}:", *problems, *failures.reasons]))
    return measured, axes


def _write(
    wish: Wish,
    model: bytes,
    about: dict[str, str],
    contract: Contract,
    golden: Golden,
    gates: list[Any],
) -> str:
    """Fill a folder beside the wanted one and rename it."""
    part = None
    try:
        wish.out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=wish.out.parent, prefix=f".{wish.out.name}."))
        version = _fill(part, wish, model, about, contract, golden, gates)
        part.chmod(0o755)
        os.rename(part, wish.out)
        sync_folder(wish.out.parent)
    except OSError as error:
        raise SlipwayError(f"{wish.out}: not written: {error.strerror}") from None
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
    return version


def _fill(
    folder: Path,
    wish: Wish,
    model: bytes,
    about: dict[str, str],
    contract: Contract,
    golden: Golden,
    gates: list[Any],
) -> str:
    """Write the payload, then the papers about its version, then manifest and signature."""
    judged = _gates(wish, gates)
    (folder / "model.onnx").write_bytes(model)
    write_golden(folder / "golden.arrow", golden)
    (folder / "contract.json").write_bytes(canonical_json(contract.model_dump(mode="json")))
    (folder / "gates.json").write_bytes(canonical_json(judged))
    version = payload_version(folder)
    origin = Origin(wish.model, wish.rows, about)
    write_papers(folder, version, contract, golden, judged, origin)
    write_manifest(folder, wish.name)
    sign_bundle(folder, wish.key)
    return version


def _gates(wish: Wish, gates: list[Any]) -> dict[str, Any]:
    verdict = "pass" if all(gate["verdict"] == "pass" for gate in gates) else "fail"
    return {
        "model": wish.name,
        "chosen": PRECISION,
        "provider": wish.provider,
        "proves": PROVES,
        "precisions": {PRECISION: {"verdict": verdict, "reason": PROVES, "gates": gates}},
    }
