"""The dict of families: names, and modules that nobody imports before they are asked for."""

import subprocess
import sys
from pathlib import Path

from tasks.models import FAMILIES, find_source


def imported_after(code: str) -> set[str]:
    """Return which families a fresh interpreter has imported after some code."""
    show = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    return {name for name, module in FAMILIES.items() if module in modules}


def test_a_stage_imports_no_family_before_it_runs():
    assert imported_after("import tasks.evaluate, tasks.export, tasks.train.worker") == set()


def test_a_family_that_is_asked_for_comes_alone():
    ask = "from tasks.models import load_reference; load_reference('trees')"
    assert imported_after(ask) == {"trees"}


def test_a_familys_code_is_found_without_importing_it():
    assert imported_after("from tasks.models import find_source; find_source('network')") == set()
    assert (
        find_source("network") == Path(sys.modules["tasks.models"].__file__).parent / "network.py"
    )
