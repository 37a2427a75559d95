"""Traces say where a request's time went, and a collector's troubles are never a request's."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from slipway.errors import SlipwayError
from slipway.host.observe.tracing import (
    Parent,
    Traced,
    Tracer,
    parse_traceparent,
)
from slipway.host.process.recording import start_tracer
from tests.collector import Collector, attributes
from tests.host_calls import VERSION, answer, make_batch, make_call, make_job, refuse
from tests.support.pace import cpu_s, within

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}


class Kept:
    """Keeps what would be exported."""

    def __init__(self) -> None:
        self.records: list[Traced] = []

    def write(self, records: list[Traced]) -> None:
        self.records += records

    def close(self) -> None:
        """Nothing to send."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def trace_requests(tracer: Tracer, count: int, number: int = 1) -> None:
    """Run so many traced requests as one batch."""
    traces = [tracer.begin(SAMPLED) for _ in range(count)]
    calls = [make_call(request_id=f"r-{i}", trace=trace) for i, trace in enumerate(traces)]
    now = time.perf_counter()
    for trace in traces:
        assert trace is not None
        trace.step("read", now - 0.020, now - 0.010)
    jobs = [make_job() for _ in calls]
    make_batch(jobs, number)
    for call, job in zip(calls, jobs, strict=True):
        tracer.finished(answer(call, job=job))


def test_a_traced_request_has_a_span_and_one_for_each_step(collector: Collector) -> None:
    tracer = start_tracer(collector.endpoint, "gpu-1", "f")
    trace_requests(tracer, 1)
    tracer.close()
    spans = collector.wait(5)
    (request,) = collector.named("infer")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, SPAN)
    assert attributes(request) == {
        "slipway.request_id": "r-0", "slipway.model": "m", "slipway.version": VERSION,
        "slipway.caller": 0, "slipway.code": "ok",
    }  # fmt: skip
    steps = [span for span in spans if span.parent_span_id == request.span_id]
    assert sorted(span.name for span in steps) == ["queue", "read", "run"]
    assert {span.trace_id.hex() for span in steps} == {TRACE}
    for span in steps:
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    assert collector.resource["service.instance.id"] == "gpu-1"
    took_s = (request.end_time_unix_nano - request.start_time_unix_nano) / 1e9
    assert took_s == pytest.approx(0.020, abs=0.02)
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 10


def test_a_batch_links_to_its_requests_and_their_runs_link_to_it(collector: Collector) -> None:
    tracer = start_tracer(collector.endpoint, "h", "f")
    trace_requests(tracer, 3, number=1)
    trace_requests(tracer, 2, number=2)
    tracer.close()
    collector.wait(22)
    requests = {span.span_id for span in collector.named("infer")}
    batches = collector.named("batch")
    assert [attributes(batch)["slipway.batch"] for batch in batches] == [1, 2]
    assert [len(batch.links) for batch in batches] == [3, 2]
    assert {link.span_id for batch in batches for link in batch.links} == requests
    assert {batch.parent_span_id for batch in batches} == {b""}
    assert TRACE not in {batch.trace_id.hex() for batch in batches}
    runs = collector.named("run")
    linked = [(link.trace_id, link.span_id) for run in runs for link in run.links]
    assert sorted(linked) == sorted(
        (batch.trace_id, batch.span_id) for batch in batches for _ in batch.links
    )


def test_a_refused_request_is_an_error_with_its_code(collector: Collector) -> None:
    tracer = start_tracer(collector.endpoint, "h", "f")
    call = make_call(trace=tracer.begin(SAMPLED))
    tracer.finished(refuse("queue_full", call))
    tracer.close()
    (span,) = collector.wait(1)
    assert (span.status.code, span.status.message) == (2, "queue_full")


def test_a_batch_of_traces_that_come_apart_is_still_one_span(collector: Collector) -> None:
    tracer = start_tracer(collector.endpoint, "h", "f")
    calls = [make_call(trace=tracer.begin(SAMPLED)) for _ in range(2)]
    jobs = [make_job() for _ in calls]
    make_batch(jobs)
    for call, job in zip(calls, jobs, strict=True):
        tracer.finished(answer(call, job=job))
        time.sleep(0.15)
    tracer.close()
    collector.wait(7)
    assert [len(batch.links) for batch in collector.named("batch")] == [2]


@pytest.mark.parametrize("listens", [False, True], ids=["dead", "silent"])
def test_a_collector_that_does_not_answer_blocks_nobody_and_not_the_stop(listens: bool) -> None:
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    before = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listens:
            taken.listen()
        tracer = start_tracer(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces", "h", "f")
        with within(0.5):
            trace_requests(tracer, 50)
        with within(3):
            tracer.close()
    for left in set(threading.enumerate()) - before:
        left.join(10)  # it tries again at random moments, which would disturb later tests
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-02",
    ],
)
def test_a_request_that_its_caller_did_not_sample_is_not_traced(header: str) -> None:
    tracer = Tracer(Kept(), ratio=1.0)
    assert tracer.begin({b"traceparent": header.encode()}) is None
    tracer.close()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01 ",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}g-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.extra",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_a_traceparent_that_is_not_exactly_right_is_none(header: str) -> None:
    assert parse_traceparent(header.encode()) is None


def test_a_traceparent_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    expected = Parent(int(TRACE, 16), int(SPAN, 16), True)
    assert parse_traceparent(SAMPLED[b"traceparent"]) == expected
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes".encode()) == expected
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-03".encode()) == expected


def test_without_a_traceparent_chance_decides() -> None:
    drawn = iter([0.05, 0.5])
    tracer = Tracer(Kept(), ratio=0.1, draw=lambda: next(drawn))
    assert tracer.begin({}) is not None
    assert tracer.begin({}) is None
    tracer.close()


def test_no_caller_can_have_more_traced_than_the_rate() -> None:
    tracer = Tracer(Kept(), per_second=5)
    traces = [tracer.begin(SAMPLED) for _ in range(400)]
    taken = sum(trace is not None for trace in traces)
    assert taken in (5, 10)  # 10 when a second began meanwhile
    assert tracer.dropped == 400 - taken
    tracer.close()


def test_steps_are_bounded() -> None:
    kept = Kept()
    tracer = Tracer(kept)
    trace = tracer.begin(SAMPLED)
    assert trace is not None
    for _ in range(10_000):
        trace.step("read", 0.0, 1.0)
    call = make_call(trace=trace)
    tracer.finished(answer(call))
    tracer.close()
    assert len(kept.records[0].steps) == 32


def test_a_request_that_is_not_traced_costs_next_to_nothing() -> None:
    tracer, headers = Tracer(Kept()), {b"content-type": b"application/json"}
    assert cpu_s(lambda: [tracer.begin(headers) for _ in range(10_000)]) / 10_000 < 2e-6
    tracer.close()


def test_without_opentelemetry_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "slipway.host.observe.spans", None)
    with pytest.raises(SlipwayError, match=r"pip install 'slipway-ml\[host,otel\]'"):
        start_tracer("http://127.0.0.1:1/v1/traces", "h", "f")
