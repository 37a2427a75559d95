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
from slipway.host.guard.access import Access
from slipway.host.observe.logs import BackgroundHandler, JsonFormatter
from slipway.host.process.options import HostOptions, Records, Work, check_options

REMEMBERED = Remembered(serial=3, digest="d", envelope="{}", stable="a" * 64, since="2026")


def options(**changes: Any) -> HostOptions:
    fields = {
        "name": "a", "fleet": "local", "port": 18081, "admin_port": 18091, "store": "s",
        "trusted_keys": Path("k"), "state": Path("h"), **changes,
    }  # fmt: skip
    return HostOptions(**fields)


def test_proper_options_are_accepted() -> None:
    check_options(options())
    check_options(options(access=Access(address="::1"), grpc_port=18082))
    check_options(options(store="", fleet="", bundles=(Path("b"),), splits=(("m", 10),)))
    check_options(options(admin_port=0, access=Access(admin_socket=Path("s"))))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"access": Access(address="localhost.evil.example")}, "--address: must be an IP address"),
        ({"port": 0}, "--port: must be from 1 to 65535, got 0"),
        ({"admin_port": 70000}, "--admin-port: must be from 1 to 65535, got 70000"),
        ({"admin_port": 18081}, "--port, --admin-port: must differ, got [18081, 18081]"),
        ({"grpc_port": 18081}, "--port, --grpc-port, --admin-port: must differ"),
        ({"grpc_port": 70000}, "--grpc-port: must be from 1 to 65535, got 70000"),
        ({"bundles": (Path("b"),)}, "--bundle: serves folders instead of a store"),
        ({"store": ""}, "--store and --fleet: say what to follow"),
        ({"splits": (("m", 10),)}, "--split: is for --bundle"),
        ({"store": "", "fleet": "", "bundles": (Path("b"),), "splits": (("m", 101),)},
         "--split: a percentage is from 0 to 100, got m=101"),
        ({"work": Work(max_rows=0)}, "--max-rows: must be greater than 0, got 0"),
        ({"work": Work(max_delay_us=-1)}, "--max-delay-us: must be 0 or more, got -1"),
        ({"work": Work(queue=0)}, "--queue: must be greater than 0"),
        ({"work": Work(p95_ms=0.0)}, "--p95-ms: must be greater than 0, got 0.0"),
        ({"work": Work(cache_mib=-1)}, "--cache-mib: must be 0 or more"),
        ({"work": Work(body_memory_mib=15)}, "--body-memory-mib: must be at least 16"),
        ({"work": Work(memory_mib=0)}, "--memory-mib: must be greater than 0"),
        ({"work": Work(instances=0)}, "--instances: must be greater than 0"),
        ({"records": Records(capture_ratio=1.5)}, "--capture-ratio: 0 to 1, got 1.5"),
        ({"records": Records(trace_ratio=float("nan"))}, "--trace-ratio: 0 to 1, got nan"),
        ({"fleet": "../x"}, "--fleet: must be letters"),
        ({"name": ""}, "--name: must be letters"),
        ({"poll_s": 0.0}, "--poll-s: must be greater than 0"),
        ({"poll_s": float("nan")}, "--poll-s: must be greater than 0"),
        ({"work": Work(cores=0)}, "--threads: must be greater than 0"),
    ],
)  # fmt: skip
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
        followed.refuse("v", "why", now_s=100.0, untried=False)
        waits.append(followed.refused["v"].retry_s - 100.0)
    assert waits[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert waits[-1] == RETRY_MAX_S
    assert "v" in followed.held(now_s=100.0 + RETRY_MAX_S - 1).busy
    assert "v" not in followed.held(now_s=100.0 + RETRY_MAX_S).busy


def test_status_tells_what_was_refused_from_what_could_not_be_tried() -> None:
    followed = Followed(trouble="cannot follow: no space left")
    followed.refuse("bad", "forged", now_s=0.0, untried=False)
    followed.refuse("good", "no space left", now_s=0.0, untried=True)
    status = followed.status(now_s=0.0)
    assert status["refused"] == {"bad": "forged", "good": "no space left"}
    assert (status["untried"], status["trouble"]) == (["good"], "cannot follow: no space left")


def test_refusals_and_alarms_do_not_pile_up() -> None:
    followed = Followed()
    for n in range(100):
        followed.refuse(f"v{n}", "why", now_s=0.0, untried=False)
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
