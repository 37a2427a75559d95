"""The core and both faces with sessions of paper: no socket, no ONNX Runtime, no store."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from slipway.host.answer.call import Call, Loaded, Outcome, Serving
from slipway.host.answer.core import Core, make_answer
from slipway.host.engine.checks import Checked, make_admission
from slipway.host.engine.engine import Batching, Engine, Shapes, Workers
from slipway.host.guard.caller import OpenGuard
from slipway.host.observe.metrics import Metrics
from slipway.host.request.message import Answer, Array, InputData, Message
from slipway.host.request.refusal import STATUS, RequestRefused
from slipway.host.request.routes import DATA_ROUTES, find_route
from slipway.host.wire.http.admin import Admin, AdminParts
from slipway.host.wire.http.exchange import Head, Response, render_response
from slipway.host.wire.http.rest import Rest
from slipway.store.split import takes_candidate
from tests.support.contracts import make_contract, make_input, make_output
from tests.support.pace import limit
from tests.support.waiting import eventually

A, B = "a" * 64, "b" * 64
AB = "a" * 20 + "b" * 44


class PaperSession:
    """Answers each value plus `add`; waits for `gate` and fails if told to."""

    def __init__(self, add: float = 0.0, fail: bool = False, gate: bool = False) -> None:
        self.add = add
        self.fail = fail
        self.gate = threading.Event()
        self.begun = threading.Event()
        if not gate:
            self.gate.set()
        self.runs = 0

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        self.runs += 1
        self.begun.set()
        self.gate.wait(10)
        if self.fail:
            raise RuntimeError("/opt/model at 0x7f")
        return {"y": inputs["x"] + np.float32(self.add)}

    run_alone = run

    def close(self) -> None:
        """Keep nothing."""


NUMBER = make_contract(
    [make_input("x", kind="number", missing="mean")], [make_output("y")], max_rows=100
)


class Bench:
    """A core and what it counts."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.core = Core(self.metrics)
        self.core.awaited = frozenset()
        self.workers: list[Workers] = []
        self.outcomes: list[Outcome] = []

    def load(
        self, version: str, session: PaperSession, threads: int = 2, **batching: Any
    ) -> Loaded:
        self.workers.append(Workers(threads))
        contract, series = NUMBER, self.metrics.series("m", version)
        engine = Engine(
            Checked(session, contract),
            self.workers[-1],
            Batching(**batching),
            series,
            make_admission(contract),
            Shapes.of(contract),
        )
        return Loaded(version, contract, engine, series)

    def serve(self, stable: Loaded | None, candidate: Loaded | None = None, **fields: Any) -> None:
        self.core.models = {"m": Serving(stable, candidate, **fields)}

    def ask(self, *values: float | None, **call: Any) -> Any:
        item = InputData("x", "FP32", (len(values),), list(values))
        message = Message(call.pop("id", None), (item,), ())
        fields = {"model": "m", "version": None, "request_id": "r", "key": None, **call}
        asked = Call(message=message, **fields)
        asked.reply = lambda call, result: self.outcomes.append(Outcome(call, result))
        return self.core.submit(asked)

    async def settle(self) -> list[Outcome]:
        """Let everything finish that was begun."""
        await asyncio.sleep(0.001)
        await eventually(
            lambda: not self.core.in_flight and not self.core._shadow._running, "all is done"
        )
        return self.outcomes

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def on_loop(test: Callable[[Bench], Any]) -> None:
    async def run() -> None:
        bench = Bench()
        try:
            await test(bench)
        finally:
            for workers in bench.workers:
                workers.close()
                assert workers.join(limit(5))

    asyncio.run(run())


async def begun(session: PaperSession) -> None:
    """Wait for the first run, which begins after this turn of the loop."""
    await eventually(session.begun.is_set, "the run has begun")


def answer(outcome: Outcome) -> Answer:
    assert outcome.code == "ok", outcome
    return make_answer(outcome.call, outcome.result)


def code(outcome: Outcome) -> str:
    return outcome.code


def test_the_stable_version_answers_and_says_so() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession(add=1)))
        bench.ask(1.0, 2.0, id="7")
        (outcome,) = await bench.settle()
        assert (answer(outcome).version, answer(outcome).id, outcome.version) == (A, "7", A)
        assert answer(outcome).outputs[0].values.tolist() == [2.0, 3.0]
        assert bench.count("slipway_requests_total", model="m", version=A, code="ok") == 1
        assert bench.count("slipway_request_seconds_count", model="m", version=A) == 1

    on_loop(test)


def test_a_model_that_no_channel_names_is_not_found_and_makes_no_series() -> None:
    async def test(bench: Bench) -> None:
        bench.ask(1.0, model="made-up")
        (outcome,) = await bench.settle()
        assert (code(outcome), outcome.version) == ("model_not_found", None)
        assert b"made-up" not in bench.metrics.render()

    on_loop(test)


def test_a_model_without_a_stable_version_is_not_ready() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(None)
        bench.ask(1.0)
        assert [code(outcome) for outcome in await bench.settle()] == ["not_ready"]

    on_loop(test)


def test_the_canarys_share_is_sticky_by_key_and_as_the_hash_says() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()), percent=30)
        keys = [f"caller-{n}" for n in range(50)]
        for key in [*keys, *keys]:
            bench.ask(1.0, key=key)
            await bench.settle()
        versions = [outcome.version for outcome in bench.outcomes]
        assert versions[:50] == versions[50:]
        assert versions[:50] == [B if takes_candidate(B, key, 30) else A for key in keys]

    on_loop(test)


def test_without_a_key_the_request_id_decides() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()), percent=50)
        ids = [f"r{n}" for n in range(30)]
        for request_id in ids:
            bench.ask(1.0, request_id=request_id)
            await bench.settle()
        expected = [B if takes_candidate(B, request_id, 50) else A for request_id in ids]
        assert [outcome.version for outcome in bench.outcomes] == expected

    on_loop(test)


def test_an_empty_key_is_a_key() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()), percent=50)
        for n in range(20):
            bench.ask(1.0, key="", request_id=str(n))
        assert len({outcome.version for outcome in await bench.settle()}) == 1

    on_loop(test)


@pytest.mark.parametrize(
    ("version", "expected"),
    [(A, A), (A[:12], A), (B[:12], B), (A[:11], None), ("c" * 64, None), (A + "a", None)],
)
def test_a_version_is_asked_for_by_twelve_digits_or_more(
    version: str, expected: str | None
) -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()), percent=0)
        bench.ask(1.0, version=version)
        (outcome,) = await bench.settle()
        assert outcome.version == expected
        assert expected or code(outcome) == "version_not_found"

    on_loop(test)


def test_digits_that_two_versions_share_name_neither() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(AB, PaperSession()))
        bench.ask(1.0, version="a" * 20)
        assert [code(outcome) for outcome in await bench.settle()] == ["version_not_found"]

    on_loop(test)


def test_a_refused_request_still_says_which_version_it_went_to() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()))
        bench.ask(*[0.0] * 101)
        (outcome,) = await bench.settle()
        assert (code(outcome), outcome.version) == ("bad_request", A)

    on_loop(test)


def test_a_failing_model_is_a_refusal_without_its_details() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession(fail=True)))
        bench.ask(1.0)
        (outcome,) = await bench.settle()
        assert isinstance(outcome.result, RequestRefused)
        assert (outcome.result.code, outcome.version) == ("model_failed", A)
        assert "0x7f" not in outcome.result.message

    on_loop(test)


def test_an_answer_that_is_not_finite_is_no_answer() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()))
        bench.ask(1.0, None)
        assert [code(outcome) for outcome in await bench.settle()] == ["non_finite_output"]

    on_loop(test)


def test_a_full_queue_refuses_at_once_and_takes_requests_again_when_it_has_room() -> None:
    async def test(bench: Bench) -> None:
        session = PaperSession(gate=True)
        bench.serve(bench.load(A, session, queue_jobs=2, threads=1))
        bench.ask(1.0)
        await begun(session)
        for _ in range(3):
            bench.ask(1.0)
        assert [code(outcome) for outcome in bench.outcomes] == ["queue_full"]
        session.gate.set()
        await bench.settle()
        bench.ask(1.0)
        assert [code(outcome) for outcome in await bench.settle()][1:] == ["ok"] * 4

    on_loop(test)


def test_a_request_that_nobody_waits_for_is_never_run() -> None:
    async def test(bench: Bench) -> None:
        session = PaperSession(gate=True)
        bench.serve(bench.load(A, session, threads=1))
        bench.ask(1.0)
        await begun(session)
        bench.ask(1.0).cancel()
        await asyncio.sleep(0)
        session.gate.set()
        await bench.settle()
        assert (session.runs, len(bench.outcomes)) == (1, 1)
        assert bench.count("slipway_requests_total", model="m", version=A, code="cancelled") == 1

    on_loop(test)


def test_a_swap_never_touches_a_request_under_way() -> None:
    async def test(bench: Bench) -> None:
        session = PaperSession(gate=True)
        bench.serve(bench.load(A, session))
        bench.ask(1.0)
        bench.serve(bench.load(B, PaperSession()))
        session.gate.set()
        assert [outcome.version for outcome in await bench.settle()] == [A]

    on_loop(test)


def test_a_stopping_host_takes_nothing_new_and_finishes_what_it_took() -> None:
    async def test(bench: Bench) -> None:
        session = PaperSession(gate=True)
        bench.serve(bench.load(A, session))
        bench.ask(1.0)
        bench.core.draining = True
        bench.ask(1.0)
        session.gate.set()
        refused, answered = await bench.settle()
        assert (code(refused), answer(answered).version) == ("draining", A)

    on_loop(test)


def test_a_shadow_is_asked_after_the_answer_and_only_counted() -> None:
    async def test(bench: Bench) -> None:
        shadow = PaperSession(add=0.25)
        bench.serve(
            bench.load(A, PaperSession()), bench.load(B, shadow), mode="shadow", percent=100
        )
        seen: list[int] = []
        bench.outcomes = type("Spy", (list,), {
            "append": lambda self, item: (seen.append(shadow.runs), list.append(self, item))
        })()  # fmt: skip
        bench.ask(1.0, 2.0)
        (outcome,) = await bench.settle()
        assert (seen, shadow.runs) == ([0], 1)
        assert answer(outcome).outputs[0].values.tolist() == [1.0, 2.0]
        labels = {"model": "m", "version": B}
        assert bench.count("slipway_shadow_requests_total", outcome="compared", **labels) == 1
        assert bench.count("slipway_shadow_difference_max", **labels) == 0.25

    on_loop(test)


@pytest.mark.parametrize("shadow", [PaperSession(fail=True), PaperSession(np.nan)])
def test_a_broken_shadow_harms_nobody(shadow: PaperSession) -> None:
    async def test(bench: Bench) -> None:
        bench.serve(
            bench.load(A, PaperSession()), bench.load(B, shadow), mode="shadow", percent=100
        )
        bench.ask(1.0)
        assert [answer(o).version for o in await bench.settle()] == [A]
        labels = {"model": "m", "version": B, "outcome": "failed"}
        assert bench.count("slipway_shadow_requests_total", **labels) == 1

    on_loop(test)


def test_a_slow_shadow_is_skipped_rather_than_waited_for() -> None:
    async def test(bench: Bench) -> None:
        shadow = PaperSession(gate=True)
        bench.serve(
            bench.load(A, PaperSession()), bench.load(B, shadow), mode="shadow", percent=100
        )
        for _ in range(5):
            bench.ask(1.0)
        await eventually(lambda: len(bench.outcomes) == 5, "all are answered")
        shadow.gate.set()
        await bench.settle()
        labels = {"model": "m", "version": B}
        assert bench.count("slipway_shadow_requests_total", outcome="compared", **labels) == 2
        assert bench.count("slipway_shadow_requests_total", outcome="skipped", **labels) == 3

    on_loop(test)


def test_an_explicit_version_and_a_shadow_of_no_percent_cause_no_shadow_run() -> None:
    async def test(bench: Bench) -> None:
        stable, shadow = bench.load(A, PaperSession()), PaperSession()
        bench.serve(stable, bench.load(B, shadow), mode="shadow", percent=100)
        bench.ask(1.0, version=A)
        bench.serve(stable, bench.load(B, shadow), mode="shadow", percent=0)
        bench.ask(1.0)
        await bench.settle()
        assert shadow.runs == 0

    on_loop(test)


# --- the REST face


def rest(bench: Bench, method: str, path: str, body: Any = b"", **headers: str) -> list[Response]:
    """Send a request to the face; the list gets the response when there is one."""
    responses: list[Response] = []
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    head = Head(method.encode(), path.encode(), named)
    Rest(bench.core, bench.metrics.render).handle(head, raw, responses.append)
    return responses


def good(**extra: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], **extra}


INFER = "/v2/models/m/infer"


def written(response: Response) -> tuple[int, dict[str, str], Any]:
    """Return a response as a client reads it: status, headers in lower case, body."""
    head, _, body = render_response(response, keep=True, head_only=False).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(body)


def test_an_inference_response_carries_version_and_id_the_first_time_and_after() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()))
        for _ in range(4):  # read at length, learnt, written by a template
            (response,) = await asked(bench, good(id="a\r\nb"))
            status, headers, body = written(response)
            assert (status, headers["slipway-version"], body["id"]) == (200, A, "a\r\nb")

    on_loop(test)


def test_an_error_after_routing_carries_version_and_id_the_first_time_and_after() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession(fail=True)))
        for _ in range(3):
            (response,) = await asked(bench, good(id="mine"))
            status, headers, body = written(response)
            assert (status, headers["slipway-version"], body["request_id"]) == (500, A, "mine")

    on_loop(test)


def test_without_a_key_the_id_in_the_body_splits_the_callers() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()), percent=50)
        for request_id in [f"r{n}" for n in range(20)] * 2:
            (response,) = await asked(bench, good(id=request_id))
            expected = B if takes_candidate(B, request_id, 50) else A
            assert written(response)[1]["slipway-version"] == expected

    on_loop(test)


async def asked(bench: Bench, document: Any) -> list[Response]:
    responses = rest(bench, "POST", INFER, document)
    await bench.settle()
    return responses


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content_type": "application/json; charset=utf-8"}, None),
        ({"content_type": "Application/JSON"}, None),
        ({"content_type": "text/plain"}, "unsupported_media_type"),
        ({"content_type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content_type": "multipart/form-data; boundary=x"}, "unsupported_media_type"),
        ({"content_type": "application/x-python-pickle"}, "unsupported_media_type"),
        ({"content_type": "application/octet-stream"}, None),
        ({"inference_header_content_length": "99999999999"}, "bad_request"),
        ({"inference_header_content_length": "-1"}, "bad_request"),
        ({"inference_header_content_length": "0x10"}, "bad_request"),
        ({"inference_header_content_length": ""}, "bad_request"),
        ({"inference_header_content_length": str(len(json.dumps(good())))}, None),
    ],
)
def test_only_json_and_tensors_are_taken_and_only_of_their_own_length(
    headers: dict[str, str], expected: str | None
) -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()))
        if expected is None:
            responses = rest(bench, "POST", INFER, good(), **headers)
            await bench.settle()
            assert responses[0].status == 200
            return
        with pytest.raises(RequestRefused) as caught:
            rest(bench, "POST", INFER, good(), **headers)
        assert caught.value.code == expected
        labels = {"model": "m", "version": "", "code": expected}
        assert bench.count("slipway_requests_total", **labels) == 1

    on_loop(test)


@pytest.mark.parametrize(
    ("awaited", "model", "expected"),
    [
        (None, "n", "not_ready"),
        (frozenset({"n"}), "n", "not_ready"),
        (frozenset({"n"}), "o", "model_not_found"),
        (frozenset(), "n", "model_not_found"),
    ],
)
def test_a_model_that_may_still_come_is_not_said_to_be_missing(
    awaited: frozenset[str] | None, model: str, expected: str
) -> None:
    async def test(bench: Bench) -> None:
        bench.core.awaited = awaited
        bench.ask(1.0, model=model)
        assert [code(outcome) for outcome in await bench.settle()] == [expected]

    on_loop(test)


@pytest.mark.parametrize(
    ("awaited", "version", "expected"),
    [
        (frozenset(), B, "not_ready"),
        (frozenset(), B[:12], "not_ready"),
        (frozenset(), B[:11], "version_not_found"),
        (frozenset(), "c" * 64, "version_not_found"),
        (None, "c" * 64, "not_ready"),
    ],
)
def test_a_version_that_may_still_come_is_not_said_to_be_missing(
    awaited: frozenset[str] | None, version: str, expected: str
) -> None:
    async def test(bench: Bench) -> None:
        bench.core.awaited = awaited
        bench.serve(bench.load(A, PaperSession()), awaited=(B,))
        bench.ask(1.0, version=version)
        assert [code(outcome) for outcome in await bench.settle()] == [expected]

    on_loop(test)


def test_an_unknown_model_is_not_found_whatever_the_body() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(RequestRefused) as caught:
            rest(bench, "POST", "/v2/models/nope/infer", b"{")
        assert caught.value.code == "model_not_found"

    on_loop(test)


@pytest.mark.parametrize(
    ("ready", "draining", "status"), [(True, False, 200), (False, False, 503), (True, True, 503)]
)
def test_ready_means_ready(ready: bool, draining: bool, status: int) -> None:
    async def test(bench: Bench) -> None:
        bench.core.ready, bench.core.draining = ready, draining
        (response,) = rest(bench, "GET", "/v2/health/ready")
        body = json.loads(response.body)
        assert (response.status, body["ready"], "error" in body) == (
            status, status == 200, status != 200,
        )  # fmt: skip
        assert rest(bench, "GET", "/v2/health/live")[0].status == 200

    on_loop(test)


def test_a_models_metadata_come_from_its_contract() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(bench.load(A, PaperSession()), bench.load(B, PaperSession()))
        for path in ("/v2/models/m", f"/v2/models/m/versions/{B[:12]}"):
            body = json.loads(rest(bench, "GET", path)[0].body)
            assert body["versions"] == [A, B]
            assert body["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}]

    on_loop(test)


def test_a_model_is_ready_when_its_stable_version_serves() -> None:
    async def test(bench: Bench) -> None:
        bench.serve(None)
        assert rest(bench, "GET", "/v2/models/m/ready")[0].status == 503
        bench.serve(bench.load(A, PaperSession()))
        assert rest(bench, "GET", "/v2/models/m/ready")[0].status == 200
        assert rest(bench, "GET", f"/v2/models/m/versions/{A}/ready")[0].status == 200

    on_loop(test)


def test_every_route_has_an_action_and_every_action_a_route() -> None:
    bench = Bench()
    actions = set(Rest(bench.core, bench.metrics.render).actions) | {"infer"}
    assert {route.action for route in DATA_ROUTES} == actions


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "FOO"])
@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", INFER, "/metrics"])
def test_a_wrong_method_is_refused_with_the_right_one(method: str, path: str) -> None:
    async def test(bench: Bench) -> None:
        (response,) = rest(bench, method, path)
        allowed = b"POST" if path == INFER else b"GET"
        assert (response.status, response.headers) == (405, ((b"Allow", allowed),))

    on_loop(test)


PATHS_TO_NOWHERE = [
    "", "/", "*", "v2", "/v1", "/V2", "//v2", "/v2//", "/v2?x=1", "/v2#x", "/./v2", "/v2/.",
    "/v2/health", "/v2/health/live/", "/v2/models", "/v2/models/", "/v2/models/m/",
    "/v2/models/.", "/v2/models/..", "/v2/models/../models/m", "/v2/models/.m/infer",
    "/v2/models/-m/infer", "/v2/models/m%2fx/infer", "/v2/models/..%2f..%2fetc/infer",
    "/v2/models/%2e%2e/infer", "/v2/models/%252e/infer", "/v2/models/m\\x/infer",
    "/v2/models/m x/infer", "/v2/models/m\0/infer", "/v2/models/é/infer",
    "/v2/models/" + "m" * 129 + "/infer", "/v2/models/m/infer/", "/v2/models/m/infer?a",
    "/v2/models/m/versions//infer", "/v2/models/m/versions/../infer", "/v2/models/m\n/infer",
    "/v2/models/m/infer\n", "/v2/repository/models/m/unload", "/v2/repository/index",
    "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/a/register", "/status",
    "/v2/logging", "/v2/trace/setting", "http://127.0.0.1/v2", "/metrics/", "/admin",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS_TO_NOWHERE)
def test_there_is_nothing_at_any_other_path(path: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        find_route(DATA_ROUTES, path.encode())
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("name", ["ready", "health", "infer", "versions", "a..b", "0", "m" * 128])
def test_a_model_may_have_any_proper_name(name: str) -> None:
    route, names = find_route(DATA_ROUTES, f"/v2/models/{name}/infer".encode())
    assert (route.action, dict(names)) == ("infer", {"model": name})


# --- the admin face


def admin(headers: dict[bytes, bytes], path: bytes = b"/status", method: bytes = b"GET") -> int:
    responses: list[Response] = []
    face = Admin(
        AdminParts(
            guard=OpenGuard(),
            status=lambda: {"name": "a"},
            reload=lambda: None,
            record=lambda event, caller: asyncio.Future(),
            port=9000,
        )
    )
    try:
        face.handle(Head(method, path, headers), b"", responses.append)
    except RequestRefused as refusal:
        return refusal.status
    return responses[0].status


@pytest.mark.parametrize("host", [b"127.0.0.1:9000", b"localhost:9000", b"[::1]:9000"])
def test_the_admin_port_answers_on_loopback_names(host: bytes) -> None:
    assert admin({b"host": host}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"host": b"evil.example:9000"},
        {b"host": b"127.0.0.1"},
        {b"host": b"127.0.0.1:9001"},
        {b"host": b"127.0.0.1:9000", b"origin": b"http://evil.example"},
        {b"host": b"127.0.0.1:9000", b"origin": b"null"},
    ],
)
def test_the_admin_port_answers_no_browser_and_no_other_name(headers: dict[bytes, bytes]) -> None:
    assert admin(headers) == 403


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH"])
def test_the_admin_ports_status_can_only_be_read(method: bytes) -> None:
    assert admin({b"host": b"localhost:9000"}, method=method) == 405


def test_the_data_ports_paths_are_not_on_the_admin_port() -> None:
    assert admin({b"host": b"localhost:9000"}, path=b"/v2") == 404


def test_every_code_has_a_status_that_is_an_error() -> None:
    assert all(400 <= status < 600 for status in STATUS.values())
