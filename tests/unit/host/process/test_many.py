"""Several processes as one host: the parts that need no process."""

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from slipway.errors import ConfigError, SlipwayError
from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.keys import ApiKey, add_key, digest
from slipway.host.guard.rate import RateLimits
from slipway.host.observe.access import group
from slipway.host.observe.merge import merge, parse, past, render
from slipway.host.process.many.ask import ask
from slipway.host.process.many.child import FIRST_S, LONGEST_S, STEADY_S, make_command, next_wait_s
from slipway.host.process.many.ports import hold_port
from slipway.host.process.many.status import merge_status
from slipway.host.process.many.totals import ProcessTotals
from slipway.host.process.options import HostOptions, Part, Records, Work, check_options, take_share
from slipway.host.request.refusal import RequestRefused
from tests.project import free_ports

A, B = "a" * 64, "b" * 64


def options(**fields: Any) -> HostOptions:
    given = {
        "name": "a",
        "port": 1,
        "admin_port": 2,
        "trusted_keys": Path("keys"),
        "state": Path("state"),
        "bundles": (Path("mlp"),),
    }
    return HostOptions(**{**given, **fields})


# --- metrics of several processes


def scrape(requests: int, seconds: tuple[float, ...] = (), **gauges: float) -> bytes:
    """What a process with these numbers tells."""
    registry = CollectorRegistry()
    counter = Counter("slipway_requests", "Requests.", ["code"], registry=registry)
    counter.labels('a "quoted" code').inc(requests)
    histogram = Histogram("slipway_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    for value in seconds:
        histogram.observe(value)
    for name, value in gauges.items():
        Gauge(f"slipway_{name}", "A gauge.", registry=registry).set(value)
    return generate_latest(registry)


def samples(text: bytes) -> dict[str, float]:
    """All samples by name and labels, as Prometheus' own parser reads them."""
    return {
        f"{s.name}{sorted(s.labels.items()) or ''}": s.value
        for family in text_string_to_metric_families(text.decode())
        for s in family.samples
        if not s.name.endswith("_created")
    }


def merged(*texts: bytes) -> dict[str, float]:
    return samples(render(merge(map(parse, texts))))


def test_one_process_alone_is_told_as_it_is():
    text = scrape(3, (0.05, 5.0), loaded=1)
    assert merged(text) == samples(text)


def test_counters_and_histograms_add_up():
    found = merged(scrape(3, (0.05, 0.5)), scrape(4, (0.5, 5.0)))
    assert found["slipway_requests_total[('code', 'a \"quoted\" code')]"] == 7
    assert found["slipway_seconds_bucket[('le', '0.1')]"] == 1
    assert found["slipway_seconds_bucket[('le', '1.0')]"] == 3
    assert found["slipway_seconds_bucket[('le', '+Inf')]"] == 4
    assert (found["slipway_seconds_count"], found["slipway_seconds_sum"]) == (4, 6.05)


@pytest.mark.parametrize(
    ("gauge", "expected"),
    [
        ("requests_in_flight", 5), ("connections", 5), ("cache_bytes", 5),
        ("body_bytes", 5),
        ("store_reachable", 2), ("tls_days_left", 2),
        ("loaded", 3), ("channel_serial", 3), ("of_tomorrow", 3),
    ],
)  # fmt: skip
def test_each_gauge_is_told_as_it_is_meant(gauge: str, expected: float):
    assert merged(scrape(0, **{gauge: 2}), scrape(0, **{gauge: 3}))[f"slipway_{gauge}"] == expected


def test_energy_of_the_gpu_that_all_see_is_not_counted_twice():
    texts = []
    for joules in (10, 11):
        registry = CollectorRegistry()
        Counter("slipway_gpu_energy_joules", "", registry=registry).inc(joules)
        texts.append(generate_latest(registry))
    assert merged(*texts) == {"slipway_gpu_energy_joules_total": 11}


def test_a_series_that_only_one_process_has_is_there():
    registry = CollectorRegistry()
    Counter("slipway_rare", "", registry=registry).inc()
    assert merged(scrape(1), generate_latest(registry))["slipway_rare_total"] == 1


def test_of_a_process_that_ended_only_what_grows_is_true():
    text = render(past(parse(scrape(3, (0.5,), requests_in_flight=2))))
    assert "slipway_requests_in_flight" not in samples(text)
    assert samples(text)["slipway_seconds_count"] == 1


class Processes:
    """What each process tells; None: it does not answer."""

    def __init__(self, *texts: bytes | None) -> None:
        self.texts = list(texts)
        self.totals = ProcessTotals(len(texts), self.ask)
        self.asked, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()

    async def ask(self, number: int) -> bytes:
        self.asked.set()
        await self.free.wait()
        if (text := self.texts[number]) is None:
            raise OSError("nobody there")
        return text

    async def count(self) -> tuple[float, float]:
        found = samples(await self.totals.collect())
        requests = [v for k, v in found.items() if k.startswith("slipway_requests_total")]
        return sum(requests), found["slipway_processes_silent"]


def test_a_process_that_does_not_answer_is_counted_and_no_sum_falls():
    async def test() -> None:
        processes = Processes(scrape(3), scrape(4))
        assert await processes.count() == (7, 0)
        processes.texts[1] = None
        assert await processes.count() == (7, 1)
        processes.texts[1] = scrape(6)
        assert await processes.count() == (9, 0)

    asyncio.run(test())


def test_what_an_ended_process_counted_stays_in_the_sum():
    async def test() -> None:
        processes = Processes(scrape(3), scrape(4, requests_in_flight=1))
        await processes.count()
        processes.totals.restarted(1)
        processes.texts[1] = scrape(0)
        assert await processes.count() == (7, 0)
        processes.texts[1] = scrape(2)
        processes.totals.restarted(1)
        assert await processes.count() == (9, 0)
        found = samples(await processes.totals.collect())
        assert found["slipway_process_restarts_total[('process', '1')]"] == 2

    asyncio.run(test())


def test_the_last_word_of_a_process_that_ends_meanwhile_is_not_taken_for_its_successors():
    async def test() -> None:
        processes = Processes(scrape(3))
        await processes.count()
        processes.texts[0] = scrape(5)
        processes.asked.clear()
        processes.free.clear()
        counting = asyncio.create_task(processes.count())
        await processes.asked.wait()
        processes.totals.restarted(0)
        processes.free.set()
        assert await counting == (3, 0)
        processes.texts[0] = scrape(1)
        assert await processes.count() == (4, 0)

    asyncio.run(test())


# --- one status


def status(stable: str | None = A, ready: bool = True, **fields: Any) -> dict[str, Any]:
    model = {"stable": stable, "candidate": None, "serial": 7, "reason": "pinned", **fields}
    return {"ready": ready, "url": "http://x", "grpc": None, "models": {"m": model}}


def test_processes_that_agree_are_one_host():
    told = merge_status("a", "local", [status(), status()])
    assert (told["name"], told["fleet"], told["ready"]) == ("a", "local", True)
    assert told["models"]["m"] == {
        **status()["models"]["m"],
        "refused": {},
        "alarms": [],
        "untried": [],
        "trouble": None,
    }


@pytest.mark.parametrize("other", [None, status(ready=False)])
def test_it_is_ready_when_all_are(other: Any):
    assert merge_status("a", "", [status(), other])["ready"] is False


def test_a_version_is_stable_when_it_serves_everywhere():
    told = merge_status("a", "", [status(), status(), status(B, reason="slow disk", serial=6)])
    model = told["models"]["m"]
    assert (model["stable"], model["serial"]) == (None, 6)
    expected = f"process 2 serves {B[:12]} and not {A[:12]}: slow disk"
    assert model["reason"] == expected


def test_a_model_that_one_process_does_not_know_serves_nowhere():
    other = {**status(), "models": {}}
    model = merge_status("a", "", [status(), other])["models"]["m"]
    assert model["stable"] is None
    assert "process 1 serves nothing" in model["reason"]


def test_refusals_and_alarms_of_all_are_told():
    first = status(refused={A: "no memory"}, alarms=["forged"])
    second = status(refused={B: "no disk"}, alarms=["forged", "old"])
    model = merge_status("a", "", [first, second])["models"]["m"]
    assert model["refused"] == {A: "no memory", B: "no disk"}
    assert model["alarms"] == ["forged", "old"]


def test_what_one_process_judged_was_tried_whatever_kept_the_others_from_it():
    first = status(refused={A: "no disk", B: "no disk"}, untried=[A, B])
    second = status(refused={B: "forged"}, untried=[], trouble="cannot follow: no disk")
    model = merge_status("a", "", [first, second])["models"]["m"]
    assert (model["untried"], model["trouble"]) == ([A], "cannot follow: no disk")


def test_nobody_answers():
    told = merge_status("a", "", [None, None])
    assert (told["ready"], told["models"]) == (False, {})


# --- starting processes


def test_a_process_that_dies_again_and_again_is_started_ever_more_slowly():
    waits = [0.0]
    for _ in range(9):
        waits.append(next_wait_s(waits[-1], lived_s=0.1))
    assert waits[1:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits[-1] == LONGEST_S
    assert next_wait_s(LONGEST_S, lived_s=STEADY_S) == FIRST_S


def test_a_process_gets_the_same_words_and_a_state_of_its_own():
    words = ["--name", "a", "--processes", "3", "--state", "state"]
    command = make_command(options(processes=3), words, 1, late=True)
    assert command[2:4] == ["-m", "slipway.host"]
    given = command[4:]
    assert given[: len(words)] == words
    assert given[len(words) :][:6] == [
        "--processes", "1", "--state", "state/1", "--admin-socket", "state/1/admin.sock",
    ]  # fmt: skip
    assert given[-5:-2] == ["--part", "1", "3"]
    assert given[-1] == "--late"


def test_what_two_processes_must_not_write_together_is_apart():
    records = Records(audit_log=Path("audit.jsonl"), capture=Path("captures"), access_log="x")
    command = make_command(options(processes=2, records=records), [], 1, late=False)
    assert command[command.index("--audit-log") + 1] == "state/1/audit.jsonl"
    assert command[command.index("--capture") + 1] == "captures/1"
    assert "--access-log" not in command


def test_processes_divide_what_the_host_may_use():
    part = options(part=Part(0, 4, 1), work=Work(cores=8, memory_mib=1000, cache_mib=10, queue=9))
    work = take_share(part, cores=2).work
    assert (work.cores, work.memory_mib, work.cache_mib, work.queue) == (2, 250, 2, 9)
    work = take_share(options(part=Part(0, 4, 1)), cores=2).work
    assert (work.cores, work.memory_mib, work.cache_mib) == (1, None, 0)
    assert take_share(options(), cores=2) == options()


def test_the_number_of_processes_is_checked():
    check_options(options(processes=64))
    with pytest.raises(ConfigError, match="--processes: must be at least 1, got 0"):
        check_options(options(processes=0))


def test_a_state_folder_with_a_path_too_long_for_sockets_is_refused():
    state = Path("/" + "s" * 100)
    check_options(options(state=state))
    with pytest.raises(ConfigError, match=r"--state: .* at most 94 bytes, got 101"):
        check_options(options(state=state, processes=2))
    check_options(options(state=Path("/" + "s" * 93), processes=2))


# --- keys


def test_a_key_has_its_part_of_rate_burst_and_quota():
    assert RateLimits(10.0, 8, 100).divide(4) == RateLimits(2.5, 2, 25)
    assert RateLimits(10.0, 1, 3).divide(4) == RateLimits(2.5, 1, 1)
    assert RateLimits(None, 1, None).divide(4) == RateLimits(None, 1, None)


def test_a_gate_of_one_of_two_processes_lets_half_through(tmp_path: Path):
    path = tmp_path / "keys.json"
    add_key(path, ApiKey(id="k", sha256=digest(b"k"), scopes=("infer",), quota_rows_per_day=10))
    caller = AccessGate(Sources(api_keys=path), parts=2).identify(b"Bearer k")
    caller.charge(5)
    with pytest.raises(RequestRefused, match="used up"):
        caller.charge(1)


# --- ports


@contextmanager
def listening(port: int, reuse_port: bool) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield listener


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_on_which_anybody_listens_is_refused(reuse_port: bool):
    (port,) = free_ports(1)
    with (
        listening(port, reuse_port),
        pytest.raises(SlipwayError, match=f"port {port} on 127.0.0.1 is in use.*--port another"),
        hold_port("127.0.0.1", port, "--port"),
    ):
        pass


def test_a_port_that_another_supervisor_holds_is_refused_though_nobody_listens_yet():
    (port,) = free_ports(1)
    with hold_port("127.0.0.1", port, "--port"):
        with (
            pytest.raises(SlipwayError, match="--grpc-port another"),
            hold_port("127.0.0.1", port, "--grpc-port"),
        ):
            pass
        with pytest.raises(OSError, match="in use"), listening(port, reuse_port=False):
            pass
    with listening(port, reuse_port=False):
        pass


def test_several_listen_on_a_held_port_and_the_holder_takes_no_connection():
    (port,) = free_ports(1)
    with hold_port("127.0.0.1", port, "--port"):
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))
        with listening(port, True) as one, listening(port, True) as other:
            for _ in range(20):
                socket.create_connection(("127.0.0.1", port)).close()
            for listener in (one, other):
                listener.setblocking(False)
            assert sum(map(count_waiting, (one, other))) == 20


def count_waiting(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


# --- lines of several processes in one pipe


def test_lines_go_out_in_writes_that_a_pipe_does_not_tear():
    lines = [b"%d" % n + b"x" * n + b"\n" for n in range(300)] + [b"long" * 2000 + b"\n"]
    pieces = list(group(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > select.PIPE_BUF] == [8001]
    assert len(pieces) < 20


# --- asking a process


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\n\r\nok", None),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nok", None),
        (b"", None),
        (None, None),
    ],
    ids=["whole", "cut short", "no length", "refused", "closed", "silent"],
)
def test_only_a_whole_answer_is_one(tmp_path: Path, answer: bytes | None, expected: bytes | None):
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()  # until the client gives up
        writer.write(answer or b"")
        writer.close()
        closed.set()

    closed = asyncio.Event()

    async def test() -> bytes | None:
        server = await asyncio.start_unix_server(reply, tmp_path / "s")
        try:
            return await ask(tmp_path / "s", "/metrics", timeout_s=0.2)
        except OSError:
            return None
        finally:
            await closed.wait()
            server.close()

    assert asyncio.run(test()) == expected


def test_the_options_of_a_part_are_those_of_the_host_but_for_its_share():
    part = options(part=Part(1, 2, 1), work=Work(cores=4))
    assert replace(take_share(part, 4), work=part.work) == part
