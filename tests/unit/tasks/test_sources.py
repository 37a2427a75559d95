"""What cannot be read now is told apart from what never can."""

from pathlib import Path

import pytest

from slipway.config import Source
from slipway.errors import SlipwayError, Unavailable
from tasks.sources import read_sources
from tests.support.ports import free_port


def table(url: str) -> dict[str, Source]:
    return {"trips": Source(url=url, columns={"a": "int64"}, known_later=[])}


def test_a_source_whose_server_refuses_the_connection_may_answer_later(tmp_path: Path):
    url = f"http://127.0.0.1:{free_port()}/table.csv"
    with pytest.raises(Unavailable, match=rf"source 'trips' \({url}\) does not answer"):
        read_sources(tmp_path, "p", table(url))


def test_a_file_that_is_not_there_is_not_there_next_time(tmp_path: Path):
    with pytest.raises(SlipwayError, match="does not exist") as refused:
        read_sources(tmp_path, "p", table(f"file://{tmp_path}/table.csv"))
    assert not isinstance(refused.value, Unavailable)
