"""What the outputs of a stage say about the run that made them, for the run's record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.runs.attempt import Results
from slipway.runs.parsing import parse
from slipway.runs.run import GateResult


def read_results(outs: Mapping[str, Path]) -> Results:
    """Read what is known after a stage, by the keywords of the outputs that it has."""
    gates, chosen = _gates(outs)
    return Results(
        version=_version(outs),
        precision=chosen,
        metrics=_metrics(outs),
        gates=gates,
        rows=_rows(_json(outs, "raw", "table.json").get("sources")),
    )


def _json(outs: Mapping[str, Path], keyword: str, name: str) -> dict[str, Any]:
    if keyword not in outs:
        return {}
    try:
        found = json.loads((outs[keyword] / name).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(outs: Mapping[str, Path]) -> str | None:
    if "payload" not in outs:
        return None
    from slipway.bundle.manifest import payload_version

    return payload_version(outs["payload"])


def _gates(outs: Mapping[str, Path]) -> tuple[tuple[GateResult, ...], str | None]:
    proof = _json(outs, "gates", "gates.json")
    found = [
        parse(GateResult, {**gate, "precision": precision})
        for precision, form in proof.get("precisions", {}).items()
        for gate in form.get("gates", [])
    ]
    return tuple(found), proof.get("chosen")


def _metrics(outs: Mapping[str, Path]) -> dict[str, float]:
    """Take the measures of the best family on the rows that choose: which ships comes later."""
    best = _json(outs, "evaluation", "choice.json").get("best")
    families = _json(outs, "evaluation", "metrics.json").get("families")
    return _numbers(families.get(best)) if isinstance(families, dict) else {}


def _rows(sources: Any) -> dict[str, int]:
    given = sources if isinstance(sources, dict) else {}
    return {name: source["rows"] for name, source in given.items() if "rows" in source}


def _numbers(value: Any) -> dict[str, float]:
    given = value if isinstance(value, dict) else {}
    return {
        name: number
        for name, number in given.items()
        if isinstance(number, int | float) and not isinstance(number, bool)
    }
