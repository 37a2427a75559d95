"""Numbers of dvc.lock and of DVC's run-cache are read as DVC wrote them."""

import pytest
import yaml

from flows.dag.lock_file import LockLoader


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-05", 1e-05), ("-2E+3", -2000.0), ("1.5e3", 1500.0), ("'1e-05'", "1e-05"), ("e5", "e5")],
)
def test_a_number_in_short_is_a_number_and_a_text_stays_one(text: str, value: object) -> None:
    assert yaml.load(f"limit: {text}", LockLoader) == {"limit": value}
