import pytest

from slipway.bundle.format import (
    canonical_json,
    file_digest,
    parse_json,
    parse_version,
    short,
    write_durably,
)
from slipway.errors import BundleRefused

VERSION = "ab" * 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' is given twice"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "Infinity"),
        (b"{} {}", "Extra data"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * 16_000_001, "are read"),
        (b"\xff\xfe{\0}\0", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_parsers_could_disagree_on_is_no_json(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1})


def test_canonical_json_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_a_version_is_64_lowercase_hex_digits():
    assert parse_version(VERSION) == VERSION
    assert short(VERSION) == VERSION[:12]


@pytest.mark.parametrize("text", ["", "ab", VERSION.upper(), VERSION + "\n", "../" + VERSION])
def test_anything_else_is_no_version(text):
    with pytest.raises(BundleRefused, match="is no version"):
        parse_version(text)


def test_a_durable_write_leaves_nothing_beside_the_file(tmp_path):
    write_durably(tmp_path / "a", b"1")
    write_durably(tmp_path / "a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert file_digest(tmp_path / "a").startswith("d4735e3a265e16ee")
