"""Families of models by name; a family is a module, imported when a stage asks for it.

So a stage depends on the families that it names in its own `FAMILIES`, and on no other: an
edit of one makes nobody else stale, and nobody waits for libraries that only others need.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from tasks.models.family import Family, Reference

FAMILIES = {
    "network": "tasks.models.network",
    "trees": "tasks.models.trees",
}


def load_family(name: str) -> "Family":
    """Import a family that train makes weights of."""
    return cast("Family", import_module(FAMILIES[name]))


def load_reference(name: str) -> "Reference":
    """Import a family that is only measured against."""
    return cast("Reference", import_module(FAMILIES[name]))


def find_source(name: str) -> Path:
    """Return the file of a family's code, without importing it."""
    spec = find_spec(FAMILIES[name])
    if spec is None or spec.origin is None:
        raise SlipwayError(f"family {name!r}: there is no module {FAMILIES[name]}")
    return Path(spec.origin)
