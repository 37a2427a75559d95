"""A small real bundle for the tests of the bundle, the store, the host and the fleet.

The model: a carrier (string) and a departure delay (float) give a probability. `bias`
moves the probability, so another bias is another version.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper

from slipway.bundle.contract import Contract, Requires
from slipway.bundle.format import canonical_json, file_digest
from slipway.bundle.golden import Golden, write_golden
from slipway.bundle.manifest import (
    EVIDENCE_FILES,
    PAYLOAD_FILES,
    payload_version,
    write_manifest,
)
from slipway.bundle.session import open_session
from slipway.bundle.signing import TrustedKeys, make_key_pair, sign_bundle, trust
from tests.support.contracts import make_contract, make_input, make_output

CARRIERS = ["AA", "DL", "UA"]
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Keys:
    """A builder's and a release key, and the folder in which both are trusted."""

    folder: Path

    @property
    def builder(self) -> Path:
        return self.folder / "builder.key"

    @property
    def release(self) -> Path:
        return self.folder / "release.key"

    @property
    def trusted_folder(self) -> Path:
        return self.folder / "trusted_keys"

    @property
    def trusted(self) -> TrustedKeys:
        return TrustedKeys.load(self.trusted_folder)


def make_keys(folder: Path) -> Keys:
    """Make and trust both keys; a second call gives the same ones."""
    for role in ("builder", "release"):
        make_key_pair(folder, role)
        trust(folder / f"{role}.pub", folder / "trusted_keys", role)
    return Keys(folder)


def make_model(bias: float = 0.0) -> bytes:
    """Make a graph with strings inside: carrier -> weight, delay (NaN = mean) -> probability."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["carrier"],
            ["weight"],
            domain="ai.onnx.ml",
            keys_strings=CARRIERS,
            values_floats=[-0.5, 0.0, 0.5],
            default_float=0.25,
        ),
        helper.make_node("IsNaN", ["delay"], ["missing"]),
        helper.make_node("Where", ["missing", "mean", "delay"], ["filled"]),
        helper.make_node("Mul", ["filled", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "weight"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = {"mean": 10.0, "scale": 0.05, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "late",
        [
            helper.make_tensor_value_info("carrier", TensorProto.STRING, ["rows"]),
            helper.make_tensor_value_info("delay", TensorProto.FLOAT, ["rows"]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows"])],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [v]) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def golden_rows(rows: int = 40) -> tuple[pa.Table, np.ndarray]:
    """Return golden inputs, with missing and unknown values among them, and labels."""
    cycle: list[str | None] = [*CARRIERS, "ZZ", None]
    carriers = [cycle[i % 5] for i in range(rows)]
    delays = [None if i % 7 == 0 else float(i % 90 - 20) for i in range(rows)]
    table = pa.table(
        {"carrier": pa.array(carriers, pa.string()), "delay": pa.array(delays, pa.float32())}
    )
    return table, np.array([int(i % 3 == 0) for i in range(rows)], object)


def make_payload(
    folder: Path,
    model: str = "flights",
    bias: float = 0.0,
    shift: float = 0.0,
    memory_bytes: int = 1_000_000,
) -> str:
    """Write the four payload files; `shift` moves the expected answers off the real ones."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx_bytes = make_model(bias)
    table, labels = golden_rows()
    inputs = {
        "carrier": np.array(table["carrier"].fill_null("").to_pylist(), object),
        "delay": table["delay"].fill_null(float("nan")).to_numpy(),
    }
    expected = open_session(onnx_bytes, CPU, threads=1).run(inputs)
    moved = {name: values + np.float32(shift) for name, values in expected.items()}
    (folder / "model.onnx").write_bytes(onnx_bytes)
    golden = Golden(
        inputs=inputs,
        labels=labels,
        expected=moved,
        tolerance={"probability": 1e-5},
        precision="fp32",
        datatypes={"carrier": "BYTES", "delay": "FP32", "probability": "FP32"},
    )
    write_golden(folder / "golden.arrow", golden)
    _write(folder / "contract.json", _contract(model, memory_bytes).model_dump(mode="json"))
    _write(folder / "gates.json", _gates(model))
    return payload_version(folder)


def make_bundle(
    folder: Path,
    model: str = "flights",
    keys: Keys | None = None,
    bias: float = 0.0,
    commit: str = "0" * 40,
    proof: dict[str, Any] | None = None,
    **payload: Any,
) -> str:
    """Make a whole signed bundle and return its version.

    Without keys, they are made beside the folder. Another `commit` is another lineage of
    the same version; `proof` overrides fields of `proof.json`.
    """
    keys = keys or make_keys(folder.parent / "keys")
    version = make_payload(folder, model, bias, **payload)
    _write(folder / "proof.json", {**_proof(version), **(proof or {})})
    _write(folder / "lineage.json", {"pipeline": model, "commit": commit})
    _write(folder / "sbom.cdx.json", {"bomFormat": "CycloneDX", "specVersion": "1.6"})
    (folder / "card.md").write_text(f"# {model}\n\nFor tests.\n")
    write_manifest(folder, model)
    sign_bundle(folder, keys.builder)
    return version


def write_first_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Write the manifest that was written before roles, as its last version did."""
    sums = {n: file_digest(folder / n) for n in (*PAYLOAD_FILES, *EVIDENCE_FILES)}
    listing = "".join(f"{sums[n]}  {n}\n" for n in sorted(PAYLOAD_FILES))
    files = {n: {"sha256": s, "bytes": (folder / n).stat().st_size} for n, s in sums.items()}
    version = hashlib.sha256(listing.encode()).hexdigest()
    manifest = {"format": "slipway-bundle/1", "name": name, "version": version, "files": files}
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    return manifest


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, value: Any) -> None:
    path.write_bytes(canonical_json(value))


def _contract(model: str, memory_bytes: int) -> Contract:
    carrier = make_input(
        "carrier", "BYTES", kind="category", meaning="airline", categories=CARRIERS,
        missing="treated as unknown", unknown="answered as an unseen carrier",
    )  # fmt: skip
    delay = make_input(
        "delay", kind="number", meaning="departure delay in minutes", range=(-20.0, 70.0),
        missing="replaced by the training mean",
    )  # fmt: skip
    probability = make_output(
        "probability", meaning="probability of arriving late", range=(0.0, 1.0)
    )
    return make_contract(
        [carrier, delay], [probability], model=model, max_rows=256,
        requires=Requires(provider=CPU, memory_bytes=memory_bytes), batch_invariance_max=1e-6,
    )  # fmt: skip


def _gates(model: str) -> dict[str, Any]:
    gate = {"gate": "parity", "measured": 0.0, "limit": 1e-5, "verdict": "pass"}
    fp32 = {"verdict": "pass", "reason": None, "gates": [gate]}
    return {"model": model, "chosen": "fp32", "precisions": {"fp32": fp32}}


def _proof(version: str) -> dict[str, Any]:
    gate = {
        "gate": "parity",
        "precision": "fp32",
        "measured": 0.0,
        "limit": 1e-5,
        "verdict": "pass",
    }
    latency = {"p50_ms": 0.1, "p99_ms": 0.2, "rows": 1, "size_bytes": 500}
    return {
        "version": version,
        "verdict": "pass",
        "precision": "fp32",
        "provider": CPU,
        "hardware": {"cpu": "test"},
        "gates": [gate],
        "latency": {"fp32": latency},
        "measured_at": "2026-11-20T00:00:00Z",
    }
