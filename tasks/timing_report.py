"""The latencies that a proof tells of, measured anew where that is due.

Apart from prove, since timings are neither that stage's output nor its business twice.
"""

import json
from pathlib import Path
from typing import Any

from slipway.bundle.golden import read_golden
from slipway.config import load_config
from tasks import sums
from tasks.candidates import parse
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
    golden = read_golden(sums.read(folder / "gates" / "golden.arrow"))
    return time_models(config, models, golden.inputs, reports)


def _models(folder: Path) -> dict[str, Path]:
    """Find the models that prove could examine."""
    gates = json.loads(sums.read(folder / "gates" / "gates.json"))
    return {
        name: folder / (candidate := parse(name)).family / candidate.precision / "model.onnx"
        for name, result in gates["precisions"].items()
        if result["gates"]
    }


def _read(path: Path) -> dict[str, Any]:
    """Read a report; one that is not there or not whole is about nothing."""
    try:
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return report
