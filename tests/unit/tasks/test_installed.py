"""What is installed is held against the lock, whichever form either takes."""

import importlib.metadata
import time
from pathlib import Path

import pytest

from slipway.errors import ConfigError
from tasks import installed
from tasks.installed import VersionDifference
from tests.project import REPOSITORY


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder on the import path with some distributions."""
    folder = tmp_path / "site-packages"
    for name, version in (("torch", "2.13.0+cpu"), ("ruamel.yaml", "0.19"), ("My_Tool", "1.0")):
        install(folder, name, version)
    return folder


def install(folder: Path, name: str, version: str, stem: str | None = None) -> None:
    metadata = folder / f"{stem or f'{name}-{version}'}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def compare(site: Path, *lines: str) -> list[str]:
    lock = site.parent / "requirements.lock"
    lock.write_text("\n".join(lines) + "\n")
    return [str(each) for each in installed.differences(lock, [str(site)])]


def test_nothing_differs_where_all_is_installed_as_locked(site: Path):
    assert compare(site, "torch==2.13.0", "ruamel-yaml==0.19", "my.tool==1.0") == []


def test_another_version_and_a_missing_distribution_are_told(site: Path):
    assert compare(site, "ruamel.yaml==0.18", "numpy==2.2.1") == [
        "ruamel.yaml: locked 0.18, installed 0.19",
        "numpy: locked 2.2.1, installed not at all",
    ]


def test_what_is_not_locked_may_be_installed(site: Path):
    assert compare(site, "my-tool==1.0") == []


def test_a_local_build_counts_only_where_the_lock_names_one(site: Path):
    assert compare(site, "torch==2.13.0+cu126") == [
        "torch: locked 2.13.0+cu126, installed 2.13.0+cpu"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "# a comment",
        "--index-url https://example.org/simple",
        "-r other.txt",
        "my-tool[fast]==1.0  # why",
        "my-tool==1.0 --hash=sha256:abc",
        "my-tool==1.0 \\\n    --hash=sha256:abc",
        'tool-of-windows==3 ; sys_platform == "win32"',
        'my-tool==1.0 ; python_version >= "3.11"',
        "my-tool>=0.9",
        "",
    ],
)
def test_every_form_of_a_line_is_understood(site: Path, line: str):
    assert compare(site, line) == []


def test_a_line_that_is_meant_for_this_machine_is_held_to(site: Path):
    assert compare(site, 'my-tool==2 ; python_version >= "3.11"') == [
        "my-tool: locked 2, installed 1.0"
    ]


def test_a_line_that_is_no_requirement_is_named(site: Path):
    with pytest.raises(ConfigError, match="'what is this' is no requirement"):
        compare(site, "what is this")


def test_of_two_folders_in_one_place_the_one_that_is_imported_counts(site: Path):
    install(site, "My_Tool", "2.0")
    there = next(iter(importlib.metadata.distributions(name="my-tool", path=[str(site)])))
    other = {"1.0": "2.0", "2.0": "1.0"}[there.version]
    assert compare(site, f"my-tool=={there.version}") == []
    assert len(compare(site, f"my-tool=={other}")) == 1


def test_what_comes_first_on_the_path_counts(site: Path):
    first = site.parent / "first"
    install(first, "my-tool", "2.0", stem="my_tool-2.0")
    lock = site.parent / "requirements.lock"
    lock.write_text("my-tool==1.0\n")
    path = [str(site.parent / "no such folder"), str(first), str(site)]
    assert installed.differences(lock, path) == (VersionDifference("my-tool", "1.0", "2.0"),)


def test_a_distribution_in_another_form_is_asked_for_its_version(site: Path):
    egg = site / "oldish.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: oldish\nVersion: 0.4\n")
    assert compare(site, "oldish==0.4") == []
    assert compare(site, "oldish==0.5") == ["oldish: locked 0.5, installed 0.4"]


def test_without_a_lock_nothing_differs(tmp_path: Path):
    assert installed.check(tmp_path, "refuse", "flights") == ()


def test_a_refusal_names_ten_differences_and_both_ways_on(tmp_path: Path):
    (tmp_path / "requirements.lock").write_text("".join(f"no-such-{i}==1\n" for i in range(13)))
    with pytest.raises(ConfigError) as caught:
        installed.check(tmp_path, "refuse", "flights")
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[1] == "13 distributions are not installed as requirements.lock has them:"
    assert lines[2:12] == [f"no-such-{i}: locked 1, installed not at all" for i in range(10)]
    assert lines[12] == "and 3 more"
    assert lines[13].endswith("-m pip install -r requirements.lock")
    assert "`environment: record` in configs/flights.yaml" in lines[14]
    assert caught.value.exit_code == 2


def test_a_recorded_difference_is_returned_and_told_in_one_line(tmp_path: Path):
    (tmp_path / "requirements.lock").write_text("".join(f"no-such-{i}==1\n" for i in range(5)))
    found = installed.check(tmp_path, "record", "flights")
    assert len(found) == 5
    told = installed.one_line(found)
    assert "\n" not in told
    assert told.endswith("no-such-2: locked 1, installed not at all; and 2 more")


def test_a_whole_environment_is_looked_at_in_less_than_a_third_of_a_second():
    installed.differences(REPOSITORY / "requirements.lock")  # the disk's cache is warm by then
    began = time.process_time()
    installed.differences(REPOSITORY / "requirements.lock")
    assert time.process_time() - began < 0.3
