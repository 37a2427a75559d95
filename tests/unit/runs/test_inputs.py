"""What goes into a run is written down whole, and what cannot be read stops nobody."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from slipway.runs.inputs import Inputs, SourcePin, flat, read_inputs
from tests.project import REPOSITORY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a config, a lock and pins."""
    for name in ("configs/flights.yaml", "data/flights/sources.lock", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def test_every_value_and_every_library_is_kept(root: Path) -> None:
    found = read_inputs(root, "flights")
    assert found.config["families.network.processes"] == 2
    assert found.config["validate.timeout_s"] > 0
    assert found.libraries["torch"] == "2.13.0"
    assert found.libraries["ast-serialize"]
    text = (root / "configs/flights.yaml").read_bytes()
    assert found.config_sha256 == hashlib.sha256(text).hexdigest()
    pins = json.loads((root / "data/flights/sources.lock").read_text())
    assert found.sources == {name: SourcePin(**pin) for name, pin in pins.items()}


def test_a_broken_config_leaves_its_digest(root: Path) -> None:
    (root / "configs/flights.yaml").write_text("train: [")
    found = read_inputs(root, "flights")
    assert found.config == {}
    assert found.config_sha256 is not None
    assert found.libraries


def test_of_a_project_with_nothing_nothing_is_known(tmp_path: Path) -> None:
    assert read_inputs(tmp_path, "flights") == Inputs()


def test_a_key_in_a_url_is_not_written_down(root: Path) -> None:
    lock = root / "data/flights/sources.lock"
    pins = json.loads(lock.read_text())
    pins["flights"]["url"] = "https://me:hunter2@host/x.csv?token=hunter2"
    lock.write_text(json.dumps(pins))
    assert read_inputs(root, "flights").sources["flights"].url == "https://host/x.csv?token=***"
    assert flat({"a": {"b": ["https://me:hunter2@host/"], "c": {}}}) == {
        "a.b": ["https://host/"],
        "a.c": {},
    }
