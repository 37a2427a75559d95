"""What a host keeps, how it is started and what it writes to its log."""

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ConfigError, SlipwayError
from slipway.host.follow.followed import KEPT, RETRY_FIRST_S, RETRY_MAX_S, Followed
from slipway.host.follow.memory import Memory, Remembered
from slipway.host.observe.logs import BackgroundHandler, JsonFormatter
from slipway.host.options import HostOptions, check_options

REMEMBERED = Remembered(serial=3, digest="d", envelope="{}", stable="a" * 64, since="2026")


def options(**changes: Any) -> HostOptions:
    fields = {
        "name": "a", "fleet": "local", "port": 18081, "admin_port": 18091, "store": "s",
        "trusted_keys": Path("k"), "state": Path("h"), **changes,
    }  # fmt: skip
    return HostOptions(**fields)


def test_proper_options_are_accepted() -> None:
    check_options(options())
    check_options(options(address="::1"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"address": "0.0.0.0"}, "--address: must be a loopback address, got '0.0.0.0'"),
        ({"address": "10.0.0.1"}, "--address: must be a loopback address"),
        ({"address": "::"}, "--address: must be a loopback address"),
        ({"address": "localhost.evil.example"}, "--address: must be a loopback address"),
        ({"port": 0}, "--port: must be from 1 to 65535, got 0"),
        ({"admin_port": 70000}, "--admin-port: must be from 1 to 65535, got 70000"),
        ({"admin_port": 18081}, "--admin-port: must differ from --port"),
        ({"fleet": "../x"}, "--fleet: must be letters"),
        ({"name": ""}, "--name: must be letters"),
        ({"poll_s": 0.0}, "--poll-s: must be greater than 0"),
        ({"poll_s": float("nan")}, "--poll-s: must be greater than 0"),
        ({"threads": 0}, "--threads: must be at least 1"),
    ],
)
def test_improper_options_are_refused_before_anything_is_opened(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match="has 1 problem") as caught:
        check_options(options(**changes))
    assert problem in str(caught.value)


def test_what_was_applied_is_remembered(tmp_path: Path) -> None:
    Memory(tmp_path).save("m", REMEMBERED)
    assert Memory(tmp_path).load() == {"m": REMEMBERED}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"serial":1}', b"\xff"])
def test_a_damaged_memory_stops_the_start_and_is_named(tmp_path: Path, damage: bytes) -> None:
    memory = Memory(tmp_path)
    memory.save("m", REMEMBERED)
    (tmp_path / "applied" / "m.json").write_bytes(damage)
    with pytest.raises(SlipwayError, match=r"applied/m\.json: cannot be read"):
        memory.load()


def test_the_rest_of_a_write_that_was_cut_short_is_no_memory(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    (tmp_path / "applied" / ".m.json.part").write_bytes(b"{")
    assert memory.load() == {}


def test_a_refused_version_is_tried_again_ever_more_seldom() -> None:
    followed = Followed()
    waits = []
    for _ in range(9):
        followed.refuse("v", "why", now_s=100.0)
        waits.append(followed.refused["v"].retry_s - 100.0)
    assert waits[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert waits[-1] == RETRY_MAX_S
    assert "v" in followed.held(now_s=100.0 + RETRY_MAX_S - 1).busy
    assert "v" not in followed.held(now_s=100.0 + RETRY_MAX_S).busy


def test_refusals_and_alarms_do_not_pile_up() -> None:
    followed = Followed()
    for n in range(100):
        followed.refuse(f"v{n}", "why", now_s=0.0)
        assert followed.alarm(f"text {n}")
        assert not followed.alarm(f"text {n}")
    assert (len(followed.refused), len(followed.alarms)) == (KEPT, KEPT)
    assert followed.alarms[-1] == "text 99"
    followed.alarm("x" * 10_000)
    assert len(followed.alarms[-1]) == 1000


def test_a_log_line_is_json_and_escapes_what_a_caller_sent() -> None:
    record = logging.makeLogRecord(
        {"msg": "refused %s", "args": ("a\r\nb\x1b[31m",), "levelname": "INFO", "model": "m\n"}
    )
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    document = json.loads(line)
    assert (document["message"], document["model"]) == ("refused a\r\nb\x1b[31m", "m\n")


def test_a_log_line_holds_the_traceback_on_one_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: a\nb" in json.loads(line)["traceback"]


class StuckStream(io.StringIO):
    """A full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_harms_nobody() -> None:
    handler = BackgroundHandler(StuckStream())
    handler.setFormatter(JsonFormatter())
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "x"}))
    handler.close()


def test_closing_the_log_writes_what_is_queued() -> None:
    stream = io.StringIO()
    handler = BackgroundHandler(stream)
    handler.setFormatter(JsonFormatter())
    for n in range(100):
        handler.emit(logging.makeLogRecord({"msg": f"line {n}"}))
    handler.close()
    assert len(stream.getvalue().splitlines()) == 100
