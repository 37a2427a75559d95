"""A budget of memory for all loaded versions together, decided before a model is opened.

What serves is never unloaded to make room: the newcomer is refused, and the release that
brought it sees why. A version is first counted with an estimate from its size and, once it has
run, with what the process really grew by.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from slipway.errors import SlipwayError

WEIGHTS: Final = 1.6
"""Memory per byte of model after loading, warm: the weights, most of them once more in the
layout that the kernels want, and the arena. Measured: encoder 122 + 41 MiB of 85, cnn 20 of 1."""

FLOOR_BYTES: Final = 16_000_000
"""What even the smallest model takes: 8 to 15 MiB measured, mostly the first one's."""


def estimate(model_bytes: int, sessions: int) -> int:
    """Return the memory that a model will probably take, opened so many times."""
    return FLOOR_BYTES + int(WEIGHTS * model_bytes) * sessions


def fits(budget: int, held: Mapping[str, int], needed: int) -> bool:
    """Tell whether a newcomer may be loaded beside what is held."""
    return sum(held.values()) + needed <= budget


class Budget:
    """What is loaded, by version; any thread."""

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def held(self) -> dict[str, int]:
        """Bytes by version."""
        with self._lock:
            return dict(self._held)

    def reserve(self, name: str, needed: int) -> None:
        """Count a version in, or raise SlipwayError: another host may have the room."""
        with self._lock:
            if fits(self.limit, self._held, needed):
                self._held[name] = needed
                return
            used = sum(self._held.values())
        raise SlipwayError(
            f"model.onnx: needs about {_mib(needed)} MiB, and {len(self._held)} loaded versions"
            f" hold {_mib(used)} of the {_mib(self.limit)} MiB that this host may use; raise"
            " --memory-mib, or let another host serve it"
        )

    def settle(self, name: str, grown: int, model_bytes: int) -> None:
        """Replace an estimate by what was measured; never less than the weights themselves.

        Pages that an earlier model freed may be used again, and then nothing seems to grow.
        """
        with self._lock:
            self._held[name] = max(grown, model_bytes)

    def release(self, name: str) -> None:
        """Count a version out."""
        with self._lock:
            self._held.pop(name, None)


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"
