"""A folder to write sources to."""

from pathlib import Path

import pytest

from tests.unit.tasks.reading.sources import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
