"""Wrap an ONNX model: read its contract from the graph, prove that it repeats itself, sign.

Everything is checked and measured before anything is written; then a folder of another name is
filled and renamed, so that a bundle is there whole or not at all. The payload holds neither
time nor name: the same model and rows on the same kind of machine give the same version.
"""

import getpass
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import Datatype
from slipway.bundle.format import canonical_json, file_digest, sync_folder
from slipway.bundle.gate import INVARIANCE, Gate, verdict
from slipway.bundle.golden import Golden, replay, write_golden
from slipway.bundle.manifest import payload_version, write_manifest
from slipway.bundle.session import Session, open_session
from slipway.bundle.signing import sign_bundle
from slipway.errors import BundleRefused, SlipwayError
from slipway.make.build import Evidence
from slipway.make.evidence import write_evidence
from slipway.make.lineage import SourceFile, lineage
from slipway.make.proof import proof, untimed
from slipway.make.wrap.contract import Shapes, batchable, make_contract, read_shapes
from slipway.make.wrap.measure import (
    Failures,
    answer_alone,
    find_non_finite,
    magnitude,
    measure_batches,
    measure_padding,
)
from slipway.make.wrap.request import WrapRequest, check_request
from slipway.make.wrap.rows import GoldenRows, InputSpec, read_rows
from slipway.make.wrap.tolerance import Movement, choose_tolerance, find_problems, make_gates
from slipway.precision import AS_MADE

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


PROVES: Final = (
    "reproducibility only: a host gives the answers that were recorded here. Nobody measured"
    " whether they are good: the model was made elsewhere, and passed no quality gate"
)


@dataclass(frozen=True)
class Made:
    """The parts of a payload, before they are written."""

    model: bytes
    contract: Contract
    golden: Golden
    gates: Sequence[Gate]


@dataclass(frozen=True)
class Wrapped:
    """A bundle that is complete and signed."""

    folder: Path
    version: str
    contract: Contract
    golden: Golden
    gates: Sequence[Gate]


def wrap_onnx(request: WrapRequest, say: Callable[[str], None] = lambda text: None) -> Wrapped:
    """Make a signed bundle; raise ConfigError or BundleRefused before anything is written."""
    check_request(request)
    model = _read(request.model)  # once: what is measured is what is signed
    session = _open(request, model)
    shapes = read_shapes(request, session)
    rows = _read_rows(request, session, shapes)
    say(f"running {rows.rows} golden rows one by one")
    golden = _record(session, rows, batchable(shapes))
    say("running them again, in batches" + (", and padded" if request.paddings else ""))
    measured, axes = _measure(request, session, _open(request, model), golden)
    tolerance = {n: choose_tolerance(each, request.asked(n)) for n, each in measured.items()}
    golden = replace(golden, tolerance=tolerance)
    contract = make_contract(
        request, session, shapes=shapes, axes=axes, measured=measured, model_bytes=len(model)
    )
    gates = make_gates(measured, tolerance)
    version = _write(request, session, Made(model, contract, golden, gates))
    return Wrapped(request.out, version, contract=contract, golden=golden, gates=gates)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SlipwayError(f"{path}: {error.strerror}") from None


def _open(request: WrapRequest, model: bytes) -> Session:
    """Open the model; say what to do about what no host loads."""
    try:
        return open_session(model, request.provider, THREADS)
    except BundleRefused as refusal:
        reason = str(refusal).replace("model.onnx", request.model.name)
        found = [what for sign, what in ADVICE.items() if sign in reason]
        raise BundleRefused("; ".join([reason, *found])) from None


def _read_rows(request: WrapRequest, session: Session, shapes: Shapes) -> GoldenRows:
    wanted = [
        InputSpec(name, cast(Datatype, datatype), shapes[name])
        for name, datatype in session.inputs.items()
    ]
    return read_rows(
        request.rows, wanted, batchable(shapes), labels=request.labels, target=request.target
    )


def _record(session: Session, rows: GoldenRows, batchable: bool) -> Golden:
    """Let the model answer every row alone: what a host is held to from now on."""
    golden = Golden(
        inputs=rows.inputs,
        labels=rows.labels,
        expected=answer_alone(session.run, rows.inputs, rows.rows, batchable),
        tolerance={},
        precision=AS_MADE,
        datatypes=cast(dict[str, Datatype], {**session.inputs, **session.outputs}),
        batchable=batchable,
    )
    if problems := find_non_finite(golden):
        raise BundleRefused(f"{'; '.join(problems)}: a host refuses to send such an answer")
    return golden


def _measure(
    request: WrapRequest, session: Session, another: Session, golden: Golden
) -> tuple[dict[str, Movement], dict[str, int]]:
    """Measure, and refuse what is too far off for a host to be held to it."""
    failures = Failures()
    golden = replace(golden, tolerance=dict.fromkeys(golden.expected, math.inf))
    found = {"repeatability": replay(another.run, golden, 1).largest}
    axes: dict[str, int] = {}
    if golden.batchable:
        found[INVARIANCE] = measure_batches(session.run, golden, request.max_rows, failures)
    if request.paddings:
        padded = measure_padding(session.run, golden, request.paddings, request.max_rows)
        found["padding"], axes = padded.distances, padded.axes
    measured = {
        name: Movement(
            datatype=golden.datatypes[name],
            magnitude=magnitude(golden, name),
            distances={what: largest[name] for what, largest in found.items()},
        )
        for name in golden.expected
    }
    problems = [p for n, each in measured.items() for p in find_problems(n, each, request.asked(n))]
    if problems:
        raise BundleRefused("\n  ".join([f"{request.model.name}:", *problems, *failures.reasons]))
    return measured, axes


def _write(request: WrapRequest, session: Session, made: Made) -> str:
    """Fill a folder beside the wanted one and rename it."""
    part, out = None, request.out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        version = _fill(part, request, session, made)
        part.chmod(0o755)
        os.rename(part, out)
        sync_folder(out.parent)
    except OSError as error:
        raise SlipwayError(f"{out}: not written: {error.strerror}") from None
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
    return version


def _fill(folder: Path, request: WrapRequest, session: Session, made: Made) -> str:
    """Write the payload, then the evidence about its version, then manifest and signature."""
    gates = _gates(request, made.gates)
    (folder / "model.onnx").write_bytes(made.model)
    write_golden(folder / "golden.arrow", made.golden)
    (folder / "contract.json").write_bytes(canonical_json(made.contract.model_dump(mode="json")))
    (folder / "gates.json").write_bytes(canonical_json(gates))
    version = payload_version(folder)
    proven = proof(gates, untimed(request.provider), version)
    write_evidence(folder, Evidence(proven, _lineage(request, session, made, proven), None), folder)
    write_manifest(folder, request.name)
    sign_bundle(folder, request.key)
    return version


def _gates(request: WrapRequest, gates: Sequence[Gate]) -> dict[str, Any]:
    result = verdict(gates) | {"reason": PROVES}
    return {
        "model": request.name,
        "chosen": AS_MADE,
        "provider": request.provider,
        "proves": PROVES,
        "precisions": {AS_MADE: result},
    }


def _lineage(
    request: WrapRequest, session: Session, made: Made, proven: Mapping[str, Any]
) -> dict[str, Any]:
    """Trace back as far as anything is known: to the two files, and who wrapped them."""
    model, rows = request.model, request.rows
    sources = {
        "model": SourceFile(
            url=model.name,
            sha256=hashlib.sha256(made.model).hexdigest(),
            size_bytes=len(made.model),
            about=session.about,
        ),
        "golden rows": SourceFile(
            url=rows.name,
            sha256=file_digest(rows),
            size_bytes=rows.stat().st_size,
            rows=made.golden.rows,
        ),
    }
    by = {"at": proven["measured_at"], "by": _person(), "with": "slipway bundle onnx"}
    return lineage(proven, request.name, sources, {"wrapped": by})


def _person() -> str:
    """Return the login name; the signature, not this, says who vouches."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return f"user {os.getuid()}"
