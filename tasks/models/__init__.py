"""Families of models by name; a family is a package, imported when a stage asks for it.

So a stage depends on the family that it is about, and on no other: an edit of one makes nobody
else stale, and nobody waits for libraries that only others need.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from tasks.models.family import Family, FittedFamily, LoopFamily

FAMILIES = {
    "trees": "tasks.models.trees",
    "network": "tasks.models.network",
}

OFF = "off.json"
"""Written, and nothing else, by the stages of a family that a pipeline does not want."""


def load_family(name: str) -> "Family":
    """Import a family."""
    return cast("Family", import_module(FAMILIES[name]))


def load_loop_family(name: str) -> "LoopFamily":
    """Import a family that the training loop trains."""
    return cast("LoopFamily", import_module(FAMILIES[name]))


def load_fitted_family(name: str) -> "FittedFamily":
    """Import a family that is fitted in one call."""
    return cast("FittedFamily", import_module(FAMILIES[name]))


def find_source(name: str) -> Path:
    """Return the folder of a family's code, without importing it."""
    spec = find_spec(FAMILIES[name])
    if spec is None or spec.origin is None:
        raise SlipwayError(f"family {name!r}: there is no module {FAMILIES[name]}")
    return Path(spec.origin).parent


def is_off(folder: Path) -> bool:
    """Tell whether a folder is one of a family that is off."""
    return (folder / OFF).is_file()


def write_off(*folders: Path) -> None:
    """Say in each folder that its family is off."""
    for folder in folders:
        (folder / OFF).write_text('{"off": true}\n', "utf-8")
