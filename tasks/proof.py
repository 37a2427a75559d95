"""What publish adds to the gates: the latencies, measured anew where that is due, and the proof.

Apart from prove, since timings are neither that stage's output nor its business twice.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.bundle.gate import at_most
from slipway.bundle.golden import read_golden
from slipway.config import load_config
from slipway.precision import REFERENCE
from tasks.gates import worst_share
from tasks.timing import REPORT, measured_object, time_models


def timing_report(root: Path, pipeline: str) -> dict[str, Any]:
    """Return the timings of a pipeline's models as they are on disk.

    prove leaves a report, but DVC may have restored models that were proven in another
    checkout or an earlier run: then there is none, or it is about other bytes, and the models
    are timed again.
    """
    config = load_config(root, pipeline).prove
    reports = root / ".slipway" / "reports" / pipeline
    folder = root / "models" / pipeline
    models = _models(folder)
    wanted = measured_object(config, models)
    found = _read(reports / REPORT)
    if wanted.items() <= found.items():
        return found
    reports.mkdir(parents=True, exist_ok=True)
    golden = read_golden(folder / "gates" / "golden.arrow")
    return time_models(config, models, golden.inputs, reports)


def proof(gates: Mapping[str, Any], timing: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Put gates.json and the timings together into proof.json.

    The verdict is that of the chosen precision's gates. Latencies stand beside them: they say
    why a precision was chosen, not whether its answers are right.
    """
    precisions, chosen = gates["precisions"], gates["chosen"]
    flat = [
        {**gate, "precision": precision}
        for precision, result in precisions.items()
        for gate in result["gates"]
    ]
    return {
        "version": version,
        "verdict": precisions[chosen]["verdict"],
        "precision": chosen,
        "provider": timing["provider"],
        "hardware": timing["hardware"],
        "onnxruntime": timing["onnxruntime"],
        "gates": [*flat, *latency_lines(timing)],
        "latency": {
            name: {key: entry[key] for key in ("p50_ms", "p99_ms", "rows", "size_bytes")}
            for name, entry in timing["latency"].items()
        },
        "measured_at": timing["measured_at"],
    }


def latency_lines(timing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Hold each precision's p50 to that of fp32, in the round that was worst for it."""
    latency, limit = timing["latency"], timing["p50_share_max"]
    reference = latency[REFERENCE]["rounds_p50_ms"]
    lines = []
    for precision in sorted(latency.keys() - {REFERENCE}):
        share = worst_share(latency[precision]["rounds_p50_ms"], reference)
        gate = at_most(f"p50 as a share of {REFERENCE}'s", share, limit)
        lines.append({**asdict(gate), "precision": precision})
    return lines


def _models(folder: Path) -> dict[str, Path]:
    """Find the models that prove could examine."""
    gates = json.loads((folder / "gates" / "gates.json").read_text("utf-8"))
    return {
        precision: folder / precision / "model.onnx"
        for precision, result in gates["precisions"].items()
        if result["gates"]
    }


def _read(path: Path) -> dict[str, Any]:
    """Read a report; one that is not there or not whole is about nothing."""
    try:
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return report
