"""Write the papers of a bundle whose model was made elsewhere: what is known, and what is not.

All that depends on the clock, the person or the machine stands here, outside the payload.
"""

import getpass
import json
import os
import platform
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import onnxruntime

from slipway import __version__
from slipway.bundle.contract import Contract
from slipway.bundle.format import canonical_json, file_digest
from slipway.bundle.golden import Golden, take
from slipway.bundle.rows import is_ragged

PROVES: Final = (
    "reproducibility only: a host gives the answers that were recorded here. Nobody measured"
    " whether they are good: the model was made elsewhere, and passed no quality gate"
)

PACKAGES: Final = ("slipway-ml", "onnxruntime-gpu", "onnxruntime", "numpy", "pyarrow")

EXAMPLE_VALUES_MAX: Final = 64
"""A request of more values is no example that anybody reads."""


@dataclass(frozen=True)
class Origin:
    """Where model and rows came from."""

    model: Path
    rows: Path
    about: Mapping[str, str]
    """What the ONNX file says about its making."""


def write_papers(
    folder: Path,
    version: str,
    contract: Contract,
    golden: Golden,
    gates: Mapping[str, Any],
    origin: Origin,
) -> None:
    """Write the four evidence files beside a complete payload."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    documents = {
        "proof.json": _proof(version, gates, at),
        "lineage.json": _lineage(folder, version, golden, gates, origin, at),
        "sbom.cdx.json": _sbom(folder, version, contract, origin, at),
    }
    for name, document in documents.items():
        (folder / name).write_bytes(canonical_json(document))
    (folder / "card.md").write_text(_card(version, contract, golden, gates, origin), "utf-8")


def _proof(version: str, gates: Mapping[str, Any], at: str) -> dict[str, Any]:
    precision = gates["chosen"]
    return {
        "version": version,
        "verdict": gates["precisions"][precision]["verdict"],
        "proves": PROVES,
        "precision": precision,
        "provider": gates["provider"],
        "hardware": {"cores": os.cpu_count(), "cpu": _cpu(), "machine": platform.machine()},
        "onnxruntime": onnxruntime.__version__,
        "gates": [
            {**gate, "precision": precision} for gate in gates["precisions"][precision]["gates"]
        ],
        "latency": {},
        "measured_at": at,
    }


def _lineage(
    folder: Path, version: str, golden: Golden, gates: Mapping[str, Any], origin: Origin, at: str
) -> dict[str, Any]:
    """Trace back as far as anything is known; nothing in it names a path of this machine."""
    return {
        "pipeline": gates["model"],
        "version": version,
        "precision": gates["chosen"],
        "proves": PROVES,
        "sources": {
            "model": {
                **_file(folder / "model.onnx"),
                "file": origin.model.name,
                "about": dict(origin.about),
            },
            "golden rows": {**_file(origin.rows), "rows": golden.rows},
        },
        "wrapped": {"at": at, "by": _person(), "with": "slipway bundle onnx"},
        "toolchain": {
            "slipway": __version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "packages": _packages(),
        },
    }


def _sbom(
    folder: Path, version: str, contract: Contract, origin: Origin, at: str
) -> dict[str, Any]:
    """Name the model and what ran it; of what it was made with, nothing is known."""
    libraries = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{number}",
            "name": name,
            "version": number,
            "purl": f"pkg:pypi/{name}@{number}",
        }
        for name, number in _packages().items()
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": contract.model,
        "version": version,
        "description": f"made elsewhere, from {origin.model.name}; {PROVES}",
        "hashes": [{"alg": "SHA-256", "content": file_digest(folder / "model.onnx")}],
    }
    bundle = {
        "type": "application",
        "bom-ref": "bundle",
        "name": f"{contract.model}-bundle",
        "version": version,
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{version} {at}')}",
        "metadata": {"timestamp": at, "component": bundle},
        "components": [model, *libraries],
        "dependencies": [
            {"ref": "bundle", "dependsOn": ["model"]},
            {"ref": "model", "dependsOn": [library["bom-ref"] for library in libraries]},
        ],
        "compositions": [{"aggregate": "incomplete", "assemblies": ["model"]}],
    }


def _card(
    version: str, contract: Contract, golden: Golden, gates: Mapping[str, Any], origin: Origin
) -> str:
    tensors = [
        f"| {role} | `{t.name}` | {t.datatype} | {t.shape} |"
        for role, many in (("input", contract.inputs), ("output", contract.outputs))
        for t in many
    ]
    measured = [
        f"| {gate['gate']} | {gate['measured']:.3g} | {gate['limit']:.3g} |"
        for gate in gates["precisions"][gates["chosen"]]["gates"]
    ]
    requests = f"up to {contract.max_rows} rows a request, batched with others"
    if not contract.batchable:
        requests = "one whole request at a time, never batched"
    lines = [
        f"# {contract.model}",
        "",
        f"Version `{version}`, made elsewhere and wrapped from `{origin.model.name}`.",
        "",
        f"**What is proven:** {PROVES}.",
        "",
        f"Runs on {contract.requires.provider}; {requests}.",
        "",
        "| | name | datatype | shape (-1: any) |",
        "|---|---|---|---|",
        *tensors,
        "",
        f"Measured on {golden.rows} golden rows of `{origin.rows.name}`, each first run alone:",
        "",
        "| | largest difference | limit |",
        "|---|---|---|",
        *measured,
        *_example(contract, golden),
    ]
    return "\n".join(lines) + "\n"


def _example(contract: Contract, golden: Golden) -> list[str]:
    """Spell out the request for the first golden row, unless it is too long to read."""
    tensors = take(golden.inputs, slice(0, 1) if golden.batchable else 0)
    plain = all(t.datatype != "BF16" and not is_ragged(tensors[t.name]) for t in contract.inputs)
    if not plain or sum(values.size for values in tensors.values()) > EXAMPLE_VALUES_MAX:
        return []
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensors[tensor.name].shape),
            "data": tensors[tensor.name].reshape(-1).tolist(),
        }
        for tensor in contract.inputs
    ]
    body = shlex.quote(json.dumps({"inputs": inputs}))
    url = f'"$HOST/v2/models/{contract.model}/infer"'
    header = "'Content-Type: application/json'"
    call = f"curl -s {url} \\\n  -H {header} \\\n  -d {body}"
    return ["", "Ask it:", "", "```sh", call, "```"]


def _file(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": file_digest(path), "bytes": path.stat().st_size}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _person() -> str:
    """Return the login name; the signature, not this, says who vouches."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return f"user {os.getuid()}"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
