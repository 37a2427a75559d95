"""What all unit tests share."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_power_cut() -> Iterator[None]:
    """Write to the page cache only: no test outlives the machine, and disks take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
