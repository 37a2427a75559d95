"""How a refusal is said in gRPC: one table, from the HTTP status that belongs to its code."""

from enum import IntEnum
from typing import Final

from slipway.host.request.refusal import STATUS, RequestRefused

Metadata = tuple[tuple[str, str], ...]


class Status(IntEnum):
    """gRPC's own status codes."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


BY_HTTP: Final = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED,
    408: Status.DEADLINE_EXCEEDED,
    409: Status.FAILED_PRECONDITION,
    413: Status.RESOURCE_EXHAUSTED,
    415: Status.INVALID_ARGUMENT,
    417: Status.INVALID_ARGUMENT,
    422: Status.FAILED_PRECONDITION,
    426: Status.INVALID_ARGUMENT,
    429: Status.RESOURCE_EXHAUSTED,
    431: Status.RESOURCE_EXHAUSTED,
    499: Status.CANCELLED,
    500: Status.INTERNAL,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}
"""Both faces give the same verdict, so there is no second table of codes to keep."""

GRPC_STATUS: Final = {code: BY_HTTP[status] for code, status in STATUS.items()}

RETRIED: Final = frozenset({429, 503})
"""Said with `retry-after`: asking again later, or elsewhere, can help."""


def error_metadata(refusal: RequestRefused, version: str | None = None) -> Metadata:
    """Return the trailing metadata of a refusal."""
    found = [("slipway-code", refusal.code)]
    if refusal.status in RETRIED:
        found.append(("retry-after", str(refusal.retry_after_s)))
    if version:
        found.append(("slipway-version", version))
    return tuple(found)
