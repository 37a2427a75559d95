"""Decide whether a bundle may be loaded: by its files first, then by running it here.

Each file is read once, through a descriptor that follows no link; the digests, the
signature, the parsed documents and the model all come from those bytes. Swapping a file
between check and load changes nothing.
"""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.format import MAX_JSON_BYTES, parse_document, parse_json, refused, short
from slipway.bundle.gate import PASS, PrecisionVerdict, Verdict
from slipway.bundle.golden import Golden, GoldenResult, read_golden, replay, replay_rows
from slipway.bundle.manifest import (
    CONTRACT,
    GATES,
    GOLDEN,
    GRAPH,
    MANIFEST,
    SIGNATURE,
    Manifest,
    ManifestFile,
    parse_manifest,
)
from slipway.bundle.session import Session, device_memory_bytes
from slipway.bundle.signing import TrustedKeys, open_signature
from slipway.errors import BundleRefused, SlipwayError

TROUBLE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What a machine says that cannot read anything just now, whatever the file."""


class _NamedGate(BaseModel):
    gate: str


class _Precision(BaseModel):
    """What is needed of one precision in `gates.json`; its numbers are for people."""

    model_config = ConfigDict(strict=True)

    verdict: PrecisionVerdict
    gates: list[_NamedGate] = Field(default_factory=list)


class _Gates(BaseModel):
    model_config = ConfigDict(strict=True)

    model: str
    chosen: str
    precisions: dict[str, _Precision]


class _ProofGate(BaseModel):
    model_config = ConfigDict(strict=True)

    gate: str
    precision: str
    verdict: PrecisionVerdict


class _Proof(BaseModel):
    model_config = ConfigDict(strict=True)

    version: str
    verdict: Verdict
    precision: str
    provider: str
    gates: list[_ProofGate] = Field(min_length=1)


@dataclass(frozen=True)
class Verified:
    """A bundle whose files are those that a trusted builder signed."""

    folder: Path
    """Where it was read from."""
    manifest: Manifest
    """Its files, name and version."""
    contract: Contract
    """What the model takes and gives."""
    gates: dict[str, Any]
    """`gates.json`."""
    proof: dict[str, Any]
    """`proof.json`."""
    golden: Golden
    """The golden rows and what the model answered."""
    model: bytes
    """The graph, the very bytes that were checked: load these, not the file."""
    key_id: str
    """The builder key that signed it."""

    @property
    def graph(self) -> ManifestFile:
        """The graph's file as it is listed."""
        return self.manifest.payload[self.manifest.file_of(GRAPH)]


def verify_bundle(folder: Path, trusted: TrustedKeys) -> Verified:
    """Check everything that can be checked without running the model, or refuse the bundle."""
    found = _names_in(folder)
    manifest_bytes = _read(folder, MANIFEST, MAX_JSON_BYTES)
    manifest = parse_manifest(manifest_bytes)
    _check_names(folder, found, manifest)
    contents = {name: _read_listed(folder, name, manifest) for name in manifest.files}
    digests = {name: file.sha256 for name, file in manifest.files.items()}
    digests[MANIFEST] = hashlib.sha256(manifest_bytes).hexdigest()
    signature = _read(folder, SIGNATURE, MAX_JSON_BYTES)
    signed, key_id = open_signature(signature, trusted.keys("builder"))
    if differing := sorted(name for name, _ in signed.items() ^ digests.items()):
        names = ", ".join(dict.fromkeys(differing))
        raise BundleRefused(f"{SIGNATURE}: vouches for other contents of: {names}")
    verified = Verified(
        folder=folder,
        manifest=manifest,
        contract=read_contract(contents[manifest.file_of(CONTRACT)]),
        gates=_parse(manifest.file_of(GATES), contents),
        proof=_parse("proof.json", contents),
        golden=read_golden(contents[manifest.file_of(GOLDEN)]),
        model=contents[manifest.file_of(GRAPH)],
        key_id=key_id,
    )
    _check_proof(verified, contents)
    return verified


def check_here(verified: Verified, session: Session) -> GoldenResult:
    """Check that this machine runs the model as proven, or refuse the bundle.

    int8 kernels differ between generations of CPUs, so an answer outside the tolerance is
    a refusal, not a warning.
    """
    _check_machine(verified.contract, session)
    _check_tensors(verified, session)
    result = _replay(verified, session)
    if result.passed:
        return result
    outside = [
        f"{name}: off by up to {result.largest[name]:.3g}, tolerance {result.tolerance[name]:.3g}"
        for name in result.largest
        if not result.largest[name] <= result.tolerance[name]
    ]
    raise BundleRefused(
        f"golden.arrow: {short(verified.manifest.version)} answers its {result.rows} golden rows"
        f" differently on this machine: {'; '.join(outside)}"
    )


def _replay(verified: Verified, session: Session) -> GoldenResult:
    """Re-run the golden set in batches that a request could carry too."""
    try:
        batch_rows = replay_rows(verified.contract.max_rows)
        return replay(session.run, verified.golden, batch_rows)
    except Exception as error:  # ONNX Runtime's errors have no common class
        reason = " ".join(str(error).split())
        raise BundleRefused(f"golden.arrow: the model fails on its golden rows: {reason}") from None


def _names_in(folder: Path) -> set[str]:
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        raise _unreadable(error)(f"{folder}: {error.strerror}") from None
    if MANIFEST not in names:
        raise BundleRefused(f"{folder}: {MANIFEST} is missing")
    return names


def _check_names(folder: Path, names: set[str], manifest: Manifest) -> None:
    """Refuse a folder that holds anything but the files that are listed, of whatever kind."""
    wanted = {*manifest.files, MANIFEST, SIGNATURE}
    problems = [f"{name} is missing" for name in sorted(wanted - names)]
    problems += [f"{name!r} does not belong to a bundle" for name in sorted(names - wanted)]
    if problems:
        raise BundleRefused(f"{folder}: {'; '.join(problems)}")


def _read_listed(folder: Path, name: str, manifest: Manifest) -> bytes:
    listed = manifest.files[name]
    data = _read(folder, name, listed.bytes)
    if len(data) != listed.bytes:
        raise BundleRefused(f"{name}: {len(data):,} bytes, the manifest says {listed.bytes:,}")
    if (digest := hashlib.sha256(data).hexdigest()) != listed.sha256:
        raise BundleRefused(f"{name}: SHA-256 is {digest}, the manifest says {listed.sha256}")
    return data


def _read(folder: Path, name: str, most: int) -> bytes:
    """Read a regular file with one name and at most so many bytes.

    A second hard link would let someone write into the file from elsewhere.
    """
    try:
        file = open(folder / name, "rb", opener=_open_itself)  # noqa: SIM115  closed below
    except OSError as error:
        why = f"{name}: must be a regular file: {error.strerror}"
        raise _unreadable(error)(why) from None
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{name}: must be a regular file")
        if status.st_nlink != 1:
            raise BundleRefused(f"{name}: has {status.st_nlink} hard links, expected 1")
        if status.st_size > most:
            raise BundleRefused(f"{name}: {status.st_size:,} bytes, expected at most {most:,}")
        return file.read(most + 1)


def _unreadable(error: OSError) -> type[SlipwayError]:
    """Tell a file that is none from a machine that is in trouble: only one speaks against it."""
    return SlipwayError if error.errno in TROUBLE else BundleRefused


def _open_itself(path: str, flags: int) -> int:
    """Open a name without following a link, nor waiting for a pipe's other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _parse(name: str, contents: dict[str, bytes]) -> dict[str, Any]:
    with refused(name):
        value: dict[str, Any] = parse_json(contents[name])
        return value


def _check_proof(verified: Verified, contents: dict[str, bytes]) -> None:
    """Check that the documents speak of this model and that every verdict is a pass."""
    with refused("gates.json"):
        gates = parse_document(_Gates, contents[verified.manifest.file_of(GATES)])
    with refused("proof.json"):
        proof = parse_document(_Proof, contents["proof.json"])
    manifest, contract, golden = verified.manifest, verified.contract, verified.golden
    chosen = gates.precisions.get(gates.chosen)
    held_to = {each.gate for each in chosen.gates} if chosen else set()  # latency is told only
    ours = [g for g in proof.gates if g.precision == gates.chosen and g.gate in held_to]
    failed = sorted({g.gate for g in ours if g.verdict != PASS})
    promised = {t.name: t.datatype for t in contract.inputs}
    promised |= {t.name: t.datatype for t in contract.outputs}
    inputs = {tensor.name for tensor in contract.inputs}
    outputs = {tensor.name for tensor in contract.outputs}
    problems = [
        (proof.verdict != PASS, "proof.json: the verdict is fail"),
        (bool(failed), f"proof.json: failed gates: {', '.join(failed)}"),
        (proof.version != manifest.version, f"proof.json: proves version {proof.version}"),
        (chosen is None or chosen.verdict != PASS, f"gates.json: {gates.chosen} did not pass"),
        (
            len({contract.precision, golden.precision, proof.precision, gates.chosen}) != 1,
            "contract, golden set, proof and gates name different precisions",
        ),
        (
            len({contract.model, manifest.name, gates.model}) != 1,
            "contract, manifest and gates name different models",
        ),
        (
            contract.requires.provider != proof.provider,
            f"proof.json: proven on {proof.provider}, requires {contract.requires.provider}",
        ),
        (
            (set(golden.inputs), set(golden.expected)) != (inputs, outputs),
            "golden.arrow: its columns are not the contract's inputs and outputs",
        ),
        (
            any(promised.get(name) != datatype for name, datatype in golden.datatypes.items()),
            "golden.arrow: its datatypes are not the contract's",
        ),
        (
            golden.batchable != contract.batchable,
            "golden.arrow: its rows are whole requests where the contract has rows, or the reverse",
        ),
    ]
    if found := [problem for wrong, problem in problems if wrong]:
        raise BundleRefused("; ".join(found))


def _check_machine(contract: Contract, session: Session) -> None:
    requires, provider = contract.requires, session.providers[0]
    if provider != requires.provider:
        raise BundleRefused(
            f"contract.json: requires {requires.provider}, this session runs on {provider}"
        )
    if (memory := device_memory_bytes(provider)) < requires.memory_bytes:
        raise BundleRefused(
            f"contract.json: requires {requires.memory_bytes:,} bytes of memory for {provider},"
            f" this machine has {memory:,}"
        )


def _check_tensors(verified: Verified, session: Session) -> None:
    """Check that the graph takes and gives what the contract says."""
    contract = verified.contract
    promised = (
        {tensor.name: tensor.datatype for tensor in contract.inputs},
        {tensor.name: tensor.datatype for tensor in contract.outputs},
    )
    if promised != (actual := (session.inputs, session.outputs)):
        raise BundleRefused(f"contract.json: says {promised}, the graph has {actual}")
