"""Put gates and timings together into proof.json."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import onnxruntime

from slipway.bundle.gate import at_most, worst_share
from slipway.bundle.machine import hardware

Json = dict[str, Any]


def proof(gates: Mapping[str, Any], timing: Mapping[str, Any], version: str) -> Json:
    """Write the proof of a version from its gates.json and the timings of its precisions.

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
        "gates": [*flat, *latency_lines(timing, chosen)],
        "latency": {
            name: {key: entry[key] for key in ("p50_ms", "p99_ms", "rows", "size_bytes")}
            for name, entry in timing["latency"].items()
        },
        "measured_at": timing["measured_at"],
        **({"proves": gates["proves"]} if "proves" in gates else {}),
    }


def untimed(provider: str) -> Json:
    """Return what stands for timings where nothing was compared: the machine and the time."""
    return {
        "provider": provider,
        "hardware": hardware(provider),
        "onnxruntime": onnxruntime.__version__,
        "latency": {},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def latency_lines(timing: Mapping[str, Any], chosen: str) -> list[Json]:
    """Hold each candidate's p50 to that of the chosen one, in the round that was worst for it."""
    rounds = {name: entry["rounds_p50_ms"] for name, entry in timing["latency"].items()}
    lines = []
    for precision in sorted(rounds.keys() - {chosen}) if chosen in rounds else ():
        gate = at_most(
            f"p50 as a share of {chosen}'s",
            worst_share(rounds[precision], rounds[chosen]),
            timing["p50_share_max"],
        )
        lines.append({**asdict(gate), "precision": precision})
    return lines
