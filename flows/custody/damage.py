"""One piece of damage: where, what, what becomes of it, and how that is done."""

from collections.abc import Callable
from dataclasses import dataclass

Mend = Callable[[], str | None]
"""Mends one piece; returns None, or what is left to do by hand."""


@dataclass(frozen=True)
class Damage:
    """Something that is not what it was when it was written."""

    kind: str
    """`cache`, `remote`, `output`, `checkpoint`, `bundle`, `copy` (a host's, of one), `channel`,
    `ledger`, `run` or `dvc.lock`."""
    place: str
    """A path, relative to the project where it lies inside."""
    problem: str
    cure: str
    """What --heal does about it, or, where it can do nothing, what a person can."""
    mend: Mend | None = None
    """None: it cannot be healed from what is here."""
