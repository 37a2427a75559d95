"""What is counted about following, told through a port: who counts knows nothing of this room."""

from collections.abc import Iterable
from typing import Protocol


class FollowCounts(Protocol):
    """Counts for one host."""

    def applied(self, model: str, serial: int) -> None:
        """Note the channel that was applied last."""

    def bundle_refused(self, model: str) -> None:
        """Count a bundle that is not loaded."""

    def alarm(self, model: str) -> None:
        """Count a channel or beat that someone may have tampered with."""

    def lease_dropped(self, model: str) -> None:
        """Count a candidate that was dropped because no beat came."""

    def store_seen(self, reachable: bool) -> None:
        """Note whether the last look at the store succeeded."""

    def serving(self, roles: Iterable[tuple[str, str, str]]) -> None:
        """Note every loaded version: model, version, and its role."""
