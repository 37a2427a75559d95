"""What runs pin is merged by entries."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.checkout.lock_merge import is_pinned, merge_entries, merge_file

REPOSITORY = Path(__file__).parents[4]

ENTRIES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


def lock(**stages: str) -> str:
    """Write a dvc.lock whose stages have one output each, with these digests."""
    entry = "  {0}@p:\n    cmd: c\n    outs:\n    - path: {0}\n      md5: {1}\n"
    return "schema: '2.0'\nstages:\n" + "".join(entry.format(*item) for item in stages.items())


@pytest.mark.parametrize(
    ("path", "pinned"),
    [
        ("dvc.lock", True),
        ("data/flights/sources.lock", True),
        ("data/flights/accepted.json", True),
        ("data/flights/raw/sources.lock", False),
        ("requirements.lock", False),
        ("sub/dvc.lock", False),
    ],
)
def test_locks_of_the_project_are_pinned_and_no_others(path: str, pinned: bool) -> None:
    assert is_pinned(path) is pinned


@settings(deadline=None)
@given(ENTRIES, ENTRIES, ENTRIES)
def test_an_entry_comes_whole_from_one_side(base, ours, theirs) -> None:
    merged, both = merge_entries(base, ours, theirs)
    for name in {*base, *ours, *theirs}:
        assert merged.get(name) in (ours.get(name), theirs.get(name))
        if ours.get(name) == base.get(name):
            assert merged.get(name) == theirs.get(name)
        elif name not in both:
            assert merged.get(name) == ours.get(name)


@settings(deadline=None)
@given(ENTRIES, ENTRIES)
def test_what_only_one_side_changed_needs_no_choice(base, changed) -> None:
    assert merge_entries(base, base, changed) == (dict(changed), [])
    assert merge_entries(base, changed, base)[0] == changed
    assert merge_entries(base, changed, changed) == (dict(changed), [])


def test_two_runs_of_different_stages_both_stay() -> None:
    base = lock(train="1", other="1")
    merged = merge_file(
        "dvc.lock", base=base, ours=lock(train="2", other="1"), theirs=lock(train="1", other="3")
    )
    assert merged.text == lock(train="2", other="3")
    assert merged.kept == ()


def test_of_two_runs_of_one_stage_ours_stays_whole_and_is_named() -> None:
    merged = merge_file(
        "dvc.lock", base=lock(train="1"), ours=lock(train="2"), theirs=lock(train="3")
    )
    assert merged.text == lock(train="2")
    assert merged.kept == ("train@p",)


def test_a_stage_that_one_side_took_out_is_out() -> None:
    base = lock(train="1", old="1")
    merged = merge_file("dvc.lock", base=base, ours=lock(train="1"), theirs=base)
    assert merged.text == lock(train="1")


def test_an_entry_keeps_the_form_in_which_dvc_wrote_it() -> None:
    ours = (REPOSITORY / "dvc.lock").read_text("utf-8")
    assert "1e-05" in ours, "a number that YAML 1.1 reads as a text"
    theirs = ours + lock(more="1").split("stages:\n")[1]
    assert merge_file("dvc.lock", base=ours, ours=ours, theirs=theirs).text == theirs


def test_a_file_that_one_side_lacks_is_the_others() -> None:
    assert merge_file("dvc.lock", base="", ours="", theirs=lock(train="1")).text == lock(train="1")
    assert merge_file("dvc.lock", base="", ours=lock(train="1"), theirs="").text == lock(train="1")


def test_source_pins_are_merged_by_sources() -> None:
    def pins(**sizes: int) -> str:
        return json.dumps({name: {"size": size} for name, size in sizes.items()}, indent=2) + "\n"

    merged = merge_file(
        "data/p/sources.lock",
        base=pins(a=1, b=1),
        ours=pins(a=2, b=1),
        theirs=pins(a=1, b=3, c=1),
    )
    assert merged.text == pins(a=2, b=3, c=1)


def test_profiles_are_merged_by_sources_and_keep_their_form() -> None:
    ours = (REPOSITORY / "data/flights/accepted.json").read_text("utf-8")
    content = json.loads(ours)
    content["sources"]["weather"]["rows"] = 1
    theirs = json.dumps(content, indent=1) + "\n"
    path = "data/flights/accepted.json"
    assert merge_file(path, base=ours, ours=ours, theirs=theirs).text == theirs
    assert merge_file(path, base=ours, ours=theirs, theirs=ours).text == theirs
