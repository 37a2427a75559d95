"""Clients that nobody here wrote, each in an environment of its own: `make clients`.

The scripts beside this file are run by the Python of those environments, which knows nothing of
this project. Each function `check_...` of a script is one test; `checks.py` runs them all and
prints what became of each as a line of JSON.
"""

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.pace import limit

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / ".venv-clients"

MISSING = "needs clients that others wrote: make clients"


def find_python(name: str) -> str | None:
    """Return the Python of an environment, `triton`, `kserve` or `kubernetes`, or None.

    SLIPWAY_CLIENTS names another Python with tritonclient; the others are expected beside it.
    """
    named = os.environ.get("SLIPWAY_CLIENTS")
    environments = Path(named).parents[2] if named else ENVIRONMENTS
    if named and name == "triton":
        return named
    python = environments / name / "bin/python"
    return str(python) if (environments / name / ".ready").exists() else None


def find_checks(script: str) -> list[str]:
    """Name the checks of a script without running it."""
    tree = ast.parse((FOLDER / script).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in tree.body if isinstance(node, functions)]
    return [name for name in names if name.startswith("check_")]


def run_checks(python: str, script: str, site: dict[str, Any]) -> dict[str, str]:
    """Run a script against hosts; return the traceback of each check, empty if it passed."""
    done = subprocess.run(
        [python, "-W", "ignore", FOLDER / script, json.dumps(site)],
        capture_output=True, text=True, timeout=limit(120), check=False,
        env={key: text for key, text in os.environ.items() if "proxy" not in key.lower()},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())
