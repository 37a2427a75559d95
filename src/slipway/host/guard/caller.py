"""Who asks: what a key or a token allows. Checked on each request, so it is small."""

import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from slipway.host.request.refusal import RequestRefused

NEVER: Final = float("inf")


class Meter(Protocol):
    """Counts what a caller uses."""

    def take(self, rows: int) -> float:
        """Take rows from the allowance; return 0.0, or the seconds until there is some again."""


@dataclass(frozen=True)
class Caller:
    """One key, one token's subject, or nobody in particular."""

    id: str
    """Stands in metrics, logs and audit; never the secret."""
    scopes: frozenset[str] = frozenset({"infer", "metadata", "metrics"})
    """Actions: infer, metadata, metrics, admin."""
    models: frozenset[str] | None = None
    """None: every model."""
    expires: float = NEVER
    """Unix time after which it means nobody."""
    meter: Meter | None = field(default=None, compare=False)
    """None: no limit."""

    def permit(self, scope: str, model: str | None = None) -> None:
        """Raise RequestRefused unless this caller may do this now."""
        if self.expires < time.time():
            raise RequestRefused("unauthenticated", "the key or token has expired")
        if scope not in self.scopes or (
            model is not None and self.models is not None and model not in self.models
        ):
            raise RequestRefused("forbidden", "this key does not allow that")

    def charge(self, rows: int) -> None:
        """Raise RequestRefused if the caller has used up what it may use for now."""
        if self.meter and (wait_s := self.meter.take(rows)) > 0:
            raise RequestRefused(
                "rate_limited", "this key's allowance is used up for now", int(wait_s) + 1
            )


ANYBODY: Final = Caller("")
"""Everyone, where no authentication is configured."""


class Guard(Protocol):
    """Tells who sends a request."""

    generation: int
    """Goes up whenever keys change: verdicts of earlier generations are void."""

    def identify(self, authorization: bytes | None) -> Caller:
        """Return whose `Authorization` header this is; raise RequestRefused (unauthenticated)."""


class OpenGuard:
    """No authentication; a public address is refused with it."""

    generation = 0

    def identify(self, authorization: bytes | None) -> Caller:
        """Return ANYBODY."""
        return ANYBODY
