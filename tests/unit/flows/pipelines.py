"""Pipelines of every problem and split: their config, beside what their stages leave."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.project import REPOSITORY
from tests.stage_files import FAMILIES, write_stage_files

TARGETS: dict[str, dict[str, Any]] = {
    "binary": {"problem": "binary", "column": "late", "positive": 1, "negative": 0},
    "multiclass": {
        "problem": "multiclass",
        "column": "delay",
        "classes": ["none", "short", "long"],
    },
    "regression": {"problem": "regression", "column": "taxi", "unit": "minutes"},
}
SHARES = {"validation": 0.1, "test": 0.1, "choose": 0.5}
SPLITS: dict[str, dict[str, Any]] = {
    "rows": SHARES | {"by": "rows"},
    "group": SHARES | {"by": "group", "column": "tailnum"},
    "given": {"by": "given", "column": "part", "train": 1, "validation": 2, "test": 3}
    | {"choose": 0.5},
}


def write_project(
    root: Path,
    problem: str = "binary",
    families: Sequence[str] = FAMILIES,
    by: str = "time",
) -> Path:
    """Write the stages' files and the config of the pipeline that they belong to."""
    write_stage_files(root, problem=problem, families=families, by="rows" if by == "given" else by)
    config = yaml.safe_load((REPOSITORY / "configs/flights.yaml").read_text("utf-8"))
    config["ingest"]["target"] = TARGETS[problem]
    config["split"] = SPLITS.get(by, config["split"])
    if "network" not in families:
        config["families"]["network"] = "off"
        config["prove"]["prefer"] = ["trees"]
    (root / "configs").mkdir(parents=True)
    (root / "configs/flights.yaml").write_text(yaml.safe_dump(config))
    return root
