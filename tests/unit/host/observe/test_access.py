"""The access log tells where the time went, and never holds up or forges anything."""

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SlipwayError
from slipway.host.observe.access import AccessLog
from slipway.host.observe.sink import Sink
from tests.host_calls import VERSION, answer, make_batch, make_call, make_job, refuse
from tests.support.pace import limit, within
from tests.support.waiting import wait_until


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_asked_what_and_where_the_time_went(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    access = AccessLog(str(path))
    call, job = make_call(request_id="r-7", caller="ann"), make_job(2, queue_s=0.001, run_s=0.004)
    make_batch([job, make_job(6)], number=9, run_s=0.004)
    access.finished(answer(call, job=job))
    access.close()
    (line,) = lines(path)
    named = {key: line[key] for key in ("request_id", "caller", "model", "version", "code")}
    assert named == {
        "request_id": "r-7", "caller": "ann", "model": "m", "version": VERSION, "code": "ok",
    }  # fmt: skip
    assert (line["rows"], line["batch"]) == (2, 9)
    assert line["queue_ms"] == pytest.approx(1, abs=0.5)
    assert (line["run_ms"], line["share_ms"]) == (4.0, 1.0)
    assert line["total_ms"] >= 4.9
    assert line["time"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_refusal_has_its_code_and_no_times(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    access = AccessLog(str(path))
    access.finished(refuse("queue_full", make_call()))
    access.close()
    (line,) = lines(path)
    assert line["code"] == "queue_full"
    assert [line[key] for key in ("version", "rows", "run_ms", "total_ms", "batch")] == [None] * 5


def test_nothing_that_a_caller_sends_can_forge_a_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    access = AccessLog(str(path))
    evil = 'x"}\r\n{"code":"ok"}\x1b[2J\x9b1m\u2028\ud800'
    call = make_call(request_id=evil, model=evil, caller=evil)
    access.finished(refuse("model_not_found", call))
    access.close()
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in data.rstrip(b"\n"))
    assert lines(path)[0]["request_id"] == evil


def test_after_rotation_lines_go_to_the_new_file(tmp_path: Path) -> None:
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    access = AccessLog(str(path))
    access.finished(refuse("draining", make_call(request_id="before")))
    wait_until(lambda: path.stat().st_size, "written")
    path.rename(old)
    access.reopen()
    access.finished(refuse("draining", make_call(request_id="after")))
    access.close()
    assert [line["request_id"] for line in lines(old)] == ["before"]
    assert [line["request_id"] for line in lines(path)] == ["after"]


def test_a_new_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for name in ("first", "second"):
        access = AccessLog(str(path))
        access.finished(refuse("draining", make_call(request_id=name)))
        access.close()
    assert [line["request_id"] for line in lines(path)] == ["first", "second"]


def test_a_rotation_that_fails_leaves_the_old_file_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    access = AccessLog(str(folder / "access.log"))
    folder.rename(tmp_path / "moved")
    access.reopen()
    access.finished(refuse("draining", make_call()))
    access.close()
    assert len(lines(tmp_path / "moved" / "access.log")) == 1
    assert access.dropped == 0


def test_a_full_disk_costs_lines_that_are_counted() -> None:
    access = AccessLog("/dev/full")
    for _ in range(5):
        access.finished(refuse("draining", make_call()))
    access.close()
    assert access.dropped == 5


def test_a_path_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match=r"--access-log: .*No such file"):
        AccessLog(str(tmp_path / "none" / "access.log"))


def test_a_reader_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    access = AccessLog(str(fifo))
    refused = refuse("draining", make_call(request_id="r" * 200))
    with within(0.5):
        for _ in range(2000):
            access.finished(refused)
    access.close()
    os.close(reader)


def test_a_sink_that_is_full_drops_and_counts() -> None:
    gate, written = threading.Event(), []

    def write(records: list[int]) -> None:
        gate.wait(limit(5))
        written.extend(records)

    sink = Sink("test", write, waiting_max=3, look_s=60)
    taken = [sink.put(i) for i in range(5)]
    gate.set()
    sink.close()
    assert taken == [True] * 3 + [False] * 2
    assert (written, sink.dropped) == ([0, 1, 2], 2)


def test_a_sink_goes_on_after_a_write_that_failed() -> None:
    written: list[int] = []

    def write(records: list[int]) -> None:
        if 0 in records:
            raise OSError("no")
        written.extend(records)

    sink = Sink("test", write, waiting_max=10, look_s=0.005)
    sink.put(0)
    wait_until(lambda: sink.dropped, "dropped")
    sink.put(1)
    sink.close()
    assert (written, sink.dropped) == ([1], 1)
