"""What a caller is told when a request is not answered, whatever the transport."""

from typing import Final

STATUS: Final = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "model_not_found": 404,
    "version_not_found": 404,
    "method_not_allowed": 405,
    "client_too_slow": 408,
    "too_large": 413,
    "unsupported_media_type": 415,
    "expectation_failed": 417,
    "upgrade_refused": 426,
    "rate_limited": 429,
    "headers_too_large": 431,
    "model_failed": 500,
    "non_finite_output": 500,
    "queue_full": 503,
    "draining": 503,
    "not_ready": 503,
    "out_of_memory": 503,
    "audit_failed": 503,
    "queue_timeout": 504,
}
"""The published error codes and their HTTP status."""

RETRY_AFTER_S: Final = 1
"""After a 503 another host, or this one in a moment, can answer."""

FAILED: Final = "the host failed on this request"
"""What a caller hears of a defect of ours."""

QUOTED_MAX: Final = 64
"""A caller's own text comes back cut to this length."""


class RequestRefused(Exception):
    """Refuse one request; the connection and every other request go on.

    The message goes to the caller, so it is made of fixed words, of the contract's names and
    of the caller's own text (through `quote`): never of a path or of a library's message.
    """

    def __init__(self, code: str, message: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        """Said with 429 and 503 only."""
        super().__init__(message)

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return STATUS[self.code]


def bad_request(message: str) -> RequestRefused:
    """Make the refusal of a request that no version of the model could answer."""
    return RequestRefused("bad_request", message)


def quote(text: str) -> str:
    """Quote a caller's text in ASCII, without control characters and not at length."""
    return ascii(text if len(text) <= QUOTED_MAX else text[:QUOTED_MAX] + "...")
