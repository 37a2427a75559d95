"""The dict of families: names, and modules that nobody imports before they are asked for."""

import subprocess
import sys
from pathlib import Path

from tasks.models import FAMILIES, find_source, is_off, write_off


def modules_after(code: str) -> set[str]:
    """Return what a fresh interpreter has imported after some code."""
    show = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def imported_after(code: str) -> set[str]:
    """Return which families a fresh interpreter has imported after some code."""
    modules = modules_after(code)
    return {name for name, module in FAMILIES.items() if module in modules}


def test_a_stage_imports_no_family_before_it_runs():
    assert imported_after("import tasks.evaluate, tasks.export, tasks.train.worker") == set()


def test_a_family_that_is_asked_for_comes_alone():
    ask = "from tasks.models import load_family; load_family('trees')"
    assert imported_after(ask) == {"trees"}


def test_a_familys_code_is_found_without_importing_it():
    assert imported_after("from tasks.models import find_source; find_source('network')") == set()
    models = Path(str(sys.modules["tasks.models"].__file__)).parent
    assert find_source("network") == models / "network"


def test_a_folder_says_that_its_family_is_off(tmp_path: Path):
    assert not is_off(tmp_path)
    write_off(tmp_path)
    assert is_off(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["off.json"]


def test_trees_are_read_without_the_library_that_fits_them():
    assert "lightgbm" not in modules_after("from tasks.models.trees import load")
