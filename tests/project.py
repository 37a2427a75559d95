"""A checkout of this project with a small pipeline in it: the real stages on 12,000 rows.

The pipeline keeps the name `flights`, so the DAG is the one in dvc.yaml, to the letter; only
the sources, the query and the sizes are others. A whole line takes well under a minute.
"""

import csv
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.support.pace import limit
from tests.support.ports import free_ports

REPOSITORY = Path(__file__).parents[1]
CODE = ("dvc.yaml", "requirements.lock", "src", "tasks", "flows", ".dvcignore")
ROWS = 12_000
KINDS = ("alpha", "beta", "gamma", "delta")

QUERY = """
SELECT moment, id, kind, CAST(size AS FLOAT) AS size, CAST(weight AS FLOAT) AS weight,
  CAST(delay > 10 AS TINYINT) AS late
FROM things
WHERE delay IS NOT NULL
"""


def make_project(root: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Make a checkout at `root` with its own git, DVC, data and ports; return `root`."""
    root.mkdir(parents=True, exist_ok=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in CODE:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=ignore)
        else:
            shutil.copy(source, root / name)
    write_rows(root / "rows.csv")
    write_config(root, change)
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    shutil.copy(REPOSITORY / ".gitignore", root / ".gitignore")
    run(root, "git", "add", ".")
    run(root, "git", *IDENTITY, "commit", "--quiet", "--message", "A small pipeline")
    return root


IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "gc.auto=0")


def write_rows(path: Path, rows: int = ROWS, label: Callable[[float], bool] | None = None) -> None:
    """Write rows of ninety days whose label depends on kind, size and weight."""
    generator = random.Random(5)
    start = datetime(2024, 1, 1)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "moment", "kind", "size", "weight", "delay"])
        for i in range(rows):
            kind = generator.choice(KINDS)
            size, weight = generator.gauss(0, 1), generator.gauss(50, 10)
            score = 1.4 * size + (KINDS.index(kind) - 1.5) + (weight - 50) / 20
            chance = 1 / (1 + math.exp(-score))
            late = label(chance) if label else generator.random() < chance
            at = start + timedelta(minutes=i * 90 * 24 * 60 / rows)
            shown = "" if generator.random() < 0.05 else f"{weight:.4f}"
            out.writerow(
                [i, f"{at:%Y-%m-%dT%H:%M:%S}", kind, f"{size:.4f}", shown, 20 if late else 1]
            )


def write_config(root: Path, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Write the pipeline's config, suite and fleet; `change` may edit the config first."""
    config = yaml.safe_load((REPOSITORY / "configs/flights.yaml").read_text("utf-8"))
    config["ingest"] = {
        "sources": {
            "things": {
                "url": (root / "rows.csv").as_uri(),
                "columns": {
                    "id": "int64",
                    "moment": "datetime",
                    "kind": "string",
                    "size": "float64",
                    "weight": "float64",
                    "delay": "float64",
                },
                "known_later": ["delay"],
            }
        },
        "query": QUERY,
        "key": ["id"],
        "time": "moment",
        "target": {"problem": "binary", "column": "late", "positive": 1, "negative": 0},
        "weight": None,
    }
    config["validate"].update(rows_min=1000, rows_max=100_000, quarantine_share_max=0.01)
    config["split"].update(
        train={"start": "2024-01-01", "end": "2024-02-15"},
        validation={"start": "2024-02-15", "end": "2024-03-01"},
        test={"start": "2024-03-01", "end": "2024-04-01"},
    )
    config["golden"].update(rows=600)
    config["prepare"].update(
        categories={"kind": "What it is"},
        numbers={"size": "How large", "weight": "How heavy, kg"},
        min_category_rows=5,
        shard_rows=2500,
    )
    config["families"]["trees"].update(iterations=30, leaves=8, min_leaf_rows=20)
    config["families"]["network"].update(
        epochs=2, batch_rows=64, learning_rate=0.01, hidden=16, blocks=1, dropout=0.1,
        evaluate_every_steps=20, checkpoint_every_steps=10, warmup_steps=5,
        members=2, number_width=2, bins=4,
    )  # fmt: skip
    config["evaluate"].update(slices=["kind"], slice_rows_min=100)
    config["quantize"]["int8-static"].update(calibration_rows=256)
    config["prove"].update(
        quality={
            "auc": {"worst": 0.7, "loss_max": 0.02},
            "log_loss": {"worst": 0.65, "loss_max": 0.05},
        },
        family_margin=0.5, prefer=["network", "trees"],
        parity_max=0.2, latency_rounds=3, latency_calls=20,
        cheaper_by_min=0.9,  # fp32 always: at this size the faster one is a matter of luck

    )  # fmt: skip
    config["release"].update(requests=50, rows_per_request=10, lease_s=limit(3.0))
    config["release"]["limits"].update(quality={"auc": 0.1, "log_loss": 0.2}, p99_slack_ms=60_000.0)
    if change:
        change(config)
    (root / "configs/expectations").mkdir(parents=True, exist_ok=True)
    (root / "configs/pipelines.yaml").write_text("tables: [flights]\n")
    (root / "configs/flights.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    write_suite(root, [])
    ports = free_ports(4)
    fleet = {
        "store": ".slipway/store",
        "trusted_keys": ".slipway/fleets/local/trusted_keys",
        "state": ".slipway/fleets/local/hosts",
        "launch": "local",
        "hosts": [
            {"name": "a", "port": ports[0], "admin_port": ports[1]},
            {"name": "b", "port": ports[2], "admin_port": ports[3]},
        ],
    }
    (root / "configs/fleets").mkdir(exist_ok=True)
    (root / "configs/fleets/local.yaml").write_text(yaml.safe_dump(fleet))


def write_suite(root: Path, more: list[dict[str, Any]]) -> None:
    """Write the expectation suite, with more rules if wanted."""
    rules = [
        rule("column_values_to_be_in_set", "suite", column="kind", value_set=list(KINDS)),
        rule("column_values_to_be_unique", "suite", column="id"),
        rule("column_values_to_be_between", "row", column="size", min_value=-10, max_value=10),
        *more,
    ]
    suite = {"name": "flights", "expectations": rules}
    (root / "configs/expectations/flights.json").write_text(json.dumps(suite))


def rule(kind: str, level: str, **kwargs: Any) -> dict[str, Any]:
    """Make one expectation of a suite."""
    return {"type": f"expect_{kind}", "kwargs": kwargs, "meta": {"level": level}}


def environment() -> dict[str, str]:
    """Return the environment in which a checkout's own code is found before this one's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": f"src{os.pathsep}."}


def run(root: Path, *command: str, within_s: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout; return what it said, whether it failed or not."""
    return subprocess.run(
        command, cwd=root, env=environment(), text=True, capture_output=True,
        timeout=limit(within_s),
    )  # fmt: skip


def stage(root: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc repro` up to some stages."""
    return run(root, sys.executable, "-m", "dvc", "repro", *names)


def slipway(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool in a checkout."""
    return run(root, sys.executable, "-m", "slipway.cli", *arguments)


def pin(root: Path) -> subprocess.CompletedProcess[str]:
    """Pin the sources as they are now, as the flow does first."""
    code = (
        "from pathlib import Path; from slipway.config import load_config;"
        "from tasks.sources import refresh_pin; c = load_config(Path('.'), 'flights');"
        "refresh_pin(Path('.'), 'flights', c.ingest.sources)"
    )
    return run(root, sys.executable, "-c", code)
