"""Candidates: one family at one precision, each a folder of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slipway.precision import PRECISIONS, REFERENCE, name_of

V = TypeVar("V")


@dataclass(frozen=True)
class CandidateModel:
    """One family at one precision."""

    family: str
    precision: str

    def __str__(self) -> str:
        return f"{self.family}-{self.precision}"

    @property
    def is_reference(self) -> bool:
        """Tell whether others of its family are compared with it."""
        return self.precision == REFERENCE

    @property
    def reference(self) -> "CandidateModel":
        """Name the one of its family that it is compared with."""
        return CandidateModel(self.family, REFERENCE)


def candidate_of(path: Path) -> CandidateModel | None:
    """Name the candidate of `models/PIPELINE/FAMILY/PRECISION`; None for any other path."""
    match path.parts:
        case ("models", _, family, form) if name_of(form) in PRECISIONS:
            return CandidateModel(family, name_of(form))
    return None


def parse(name: str) -> CandidateModel:
    """Read a candidate's name back."""
    family, _, precision = name.partition("-")
    return CandidateModel(family, precision)


def in_order(candidates: Mapping[CandidateModel, V], prefer: list[str]) -> dict[CandidateModel, V]:
    """Sort candidates as they are tried: every family's fp32 first, then the cheaper forms."""
    places = {name: i for i, name in enumerate(prefer)}
    forms = {name: i for i, name in enumerate(PRECISIONS)}
    order = sorted(
        (c for c in candidates if c.family in places),
        key=lambda c: (not c.is_reference, places[c.family], forms[c.precision]),
    )
    return {candidate: candidates[candidate] for candidate in order}
