"""Thousands of switches between versions under load: no label is ever wrong."""

import sys
from pathlib import Path

import pytest

from tests.support.switching import switch_under_load

SWITCHES = 1000


@pytest.mark.parametrize("part", range(5))
def test_a_thousand_switches_under_load_lose_no_request_and_no_label(
    tmp_path: Path, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    done = switch_under_load(tmp_path, SWITCHES)
    with capsys.disabled():
        sys.stdout.write(f"\n{done.switches} switches under load, {done.answers} answers\n")
