"""The runner binds what dvc.yaml declares to what a stage takes, or refuses."""

from pathlib import Path

import pytest

from slipway.errors import ConfigError
from tasks.__main__ import check_signature, gathered, keyword


@pytest.mark.parametrize(
    ("path", "precision", "expected"),
    [
        ("data/flights/raw", None, "raw"),
        ("data/flights/sources.lock", None, "sources"),
        ("models/flights/training-report", None, "training_report"),
        ("models/flights/int8-static", None, "int8_static"),
        ("models/flights/int8-static", "int8-static", "out"),
        ("configs/expectations/flights.json", None, "expectations"),
    ],
)
def test_a_path_is_bound_by_its_base_name(path: str, precision: str | None, expected: str):
    assert keyword(Path(path), precision) == expected


def stage(config: object, *, raw: Path, valid: Path) -> None: ...


def test_a_signature_that_matches_passes():
    check_signature(stage, "validate@flights", {"raw", "valid"})


def test_both_sides_of_a_mismatch_are_named():
    with pytest.raises(ConfigError) as caught:
        check_signature(stage, "validate@flights", {"raw", "golden"})
    assert caught.value.problems == [
        "run() takes 'valid', which validate@flights does not declare",
        "validate@flights declares 'golden', which run() does not take",
    ]


def test_a_stage_that_takes_all_precisions_gets_them_by_name():
    def run(config, *, precisions, gates):
        pass

    deps = {each: Path(each) for each in ("gates", "fp32", "int8_static")}
    forms = {"fp32": Path("fp32"), "int8-static": Path("int8_static")}
    assert gathered(run, deps) == {"gates": Path("gates"), "precisions": forms}


def test_a_stage_that_takes_one_precision_gets_that_path():
    def run(config, *, fp32):
        pass

    assert gathered(run, {"fp32": Path("fp32")}) == {"fp32": Path("fp32")}
