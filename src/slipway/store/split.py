"""Which callers a candidate answers."""

import hashlib


def takes_candidate(candidate_version: str, key: str, percent: int) -> bool:
    """Decide by hash of version and caller's key: sticky, equal on all hosts, no shared state.

    The version is hashed too, so that it is not always the same callers who try what is new.
    """
    digest = hashlib.sha256(f"{candidate_version}\n{key}".encode("utf-8", "replace")).hexdigest()
    return int(digest[:8], 16) % 100 < percent
