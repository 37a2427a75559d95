"""Judge a candidate's lease by the beats that this host saw arrive, on its own clock."""

from typing import Final

NEVER: Final = float("-inf")


class Lease:
    """The lease of one model's candidate.

    What is there at the first look says nothing about now: the release that wrote it may be
    long gone. So the first look only sets the mark, and what grows after it renews.
    """

    def __init__(self) -> None:
        self._mark: tuple[int, int] | None = None
        self._looked = False
        self._serial = 0
        self._renewed_s = NEVER

    def grant(self, serial: int, now_s: float) -> None:
        """Begin a lease for a channel that this host saw appear."""
        self._renew(serial, now_s)

    def observe(self, beat: tuple[int, int] | None, now_s: float) -> None:
        """Take note of the (serial, number) in the store; only a larger one renews."""
        first, self._looked = not self._looked, True
        if beat is None or (self._mark is not None and beat <= self._mark):
            return
        self._mark = beat
        if not first and beat[0] >= self._serial:
            self._renew(beat[0], now_s)

    def alive(self, serial: int, lease_s: float, now_s: float) -> bool:
        """Tell whether the candidate of a channel may serve."""
        return serial == self._serial and now_s - self._renewed_s <= lease_s

    def _renew(self, serial: int, now_s: float) -> None:
        self._serial, self._renewed_s = serial, now_s
