import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.golden import Golden, read_golden
from slipway.fleet.client import Answer, read_answer
from slipway.fleet.inventory import Host
from slipway.fleet.traffic import WARM_UP_REQUESTS, make_questions, one_side, send, two_sides
from slipway.store.split import takes_candidate
from tests.bundles import make_payload

HOST = Host(name="a", port=18081, admin_port=18091)
V = "c" * 64


@pytest.fixture(scope="module")
def payload(tmp_path_factory) -> tuple[Golden, Contract]:
    folder: Path = tmp_path_factory.mktemp("payload")
    make_payload(folder)
    return read_golden(folder / "golden.arrow"), read_contract(folder / "contract.json")


def test_questions_go_round_the_golden_rows_until_there_are_enough(payload):
    asked = make_questions(*payload, requests=50, rows_per_request=16)
    assert [len(x) for x in (asked.bodies, asked.rows)] == [50, 50]
    assert [list(rows[[0, -1]]) for rows in asked.rows[:4]] == [[0, 15], [16, 31], [32, 7], [0, 15]]


@pytest.mark.parametrize(("wanted", "rows"), [(16, 16), (1000, 40)])
def test_a_request_is_no_larger_than_the_golden_set(payload, wanted, rows):
    asked = make_questions(*payload, requests=50, rows_per_request=wanted)
    assert {r.size for r in asked.rows} == {rows}


def test_a_request_is_no_larger_than_the_contract_allows(payload):
    golden, contract = payload
    few = contract.model_copy(update={"max_rows": 3})
    assert make_questions(golden, few, 50, 16).rows[0].size == 3


def test_missing_values_are_sent_as_json_null(payload):
    body = json.loads(make_questions(*payload, requests=50, rows_per_request=10).bodies[0])
    carrier, delay = body["inputs"]
    assert carrier["data"][:6] == ["AA", "DL", "UA", "ZZ", None, "AA"]
    assert delay["data"][0] is None
    assert (delay["datatype"], delay["shape"], delay["data"][1]) == ("FP32", [10], -19.0)


@pytest.mark.parametrize("percent", [1, 20, 50, 99, 100])
def test_callers_are_found_for_both_sides_by_the_hosts_own_rule(percent):
    mine, theirs = two_sides(V, "s" * 64, percent)
    for key in itertools.islice(mine.keys, 20):
        assert takes_candidate(V, key, percent)
    for key in itertools.islice(theirs.keys, 20):
        assert theirs.by_name or not takes_candidate(V, key, percent)


class OneHost:
    """Answers each request by the next of the given answers."""

    def __init__(self, *answers):
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))

    def status(self, host):
        raise AssertionError("not to be asked here")

    def infer(self, host, model, body, *, key, version):
        return next(self._answers)


def ask(payload, *answers, requests=50):
    questions = make_questions(*payload, requests=requests, rows_per_request=4)
    (traffic,) = send(OneHost(*answers), [HOST], "flights", [one_side(V)], [questions])
    return traffic


def good(latency_ms=1.0, version=V, rows=4):
    return Answer(latency_ms, version, {"probability": np.full(rows, 0.5)})


def test_every_answered_row_is_taken_down_with_its_label(payload):
    traffic = ask(payload, good())
    assert (traffic.requests, traffic.answered, traffic.answers.size) == (50, 50, 200)
    np.testing.assert_array_equal(traffic.labels, np.tile(payload[0].labels, 5))
    np.testing.assert_array_equal(traffic.questions, np.arange(200))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(1.0, error="HTTP 500: the model failed"), "HTTP 500: the model failed"),
        (good(version="d" * 64), f"answered by version {'d' * 64}, expected {V}"),
        (good(version=None), f"answered by version None, expected {V}"),
        (good(rows=3), "3 answers to 4 rows"),
        (Answer(1.0, V, {"other": np.zeros(4)}), "no answers to 4 rows"),
    ],
)
def test_an_answer_that_is_none_is_counted_as_an_error_and_leaves_no_row(payload, answer, error):
    traffic = ask(payload, answer, good())
    assert traffic.errors == {error: 1}
    assert (traffic.requests, traffic.answered, traffic.answers.size) == (50, 49, 196)
    assert traffic.questions[0] == 4  # the rows of the failed request are left out, not moved up


def test_the_first_requests_pay_for_warming_up_and_their_latency_is_left_out(payload):
    traffic = ask(payload, *[good(latency_ms=900.0)] * WARM_UP_REQUESTS, good(latency_ms=1.0))
    assert traffic.latencies_ms.size == 50 - WARM_UP_REQUESTS
    assert traffic.latencies_ms.max() == 1.0


def test_golden_sets_of_the_same_rows_are_known_by_their_labels(payload):
    golden, contract = payload
    again = make_questions(golden, contract, 50, 4)
    labels = golden.labels.copy()
    labels[0] ^= 1
    other = Golden(golden.inputs, labels, golden.expected, golden.tolerance, golden.precision)
    assert make_questions(golden, contract, 60, 8).golden == again.golden
    assert make_questions(other, contract, 50, 4).golden != again.golden


def answer(outputs, version=V):
    return json.dumps({"model_name": "m", "model_version": version, "outputs": outputs}).encode()


OUTPUT = {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 1]}


def test_a_v2_response_is_read_with_its_version():
    read = read_answer(200, answer([OUTPUT]), 3.5)
    assert (read.version, read.latency_ms, read.error) == (V, 3.5, None)
    np.testing.assert_array_equal(read.outputs["probability"], [0.25, 1.0])


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (503, b'{"error": "draining"}', "HTTP 503: draining"),
        (500, b"oops", "HTTP 500 with a body that is no V2 response"),
        (500, b'{"detail": "x"}', "no V2 response"),
        (500, b"[1]", "no V2 response"),
        (200, b"", "no V2 response"),
        (200, b'{"outputs": []}', "no V2 response"),
        (200, b'{"model_version": "x", "outputs": [{"name": "p"}]}', "no V2 response"),
        (200, b'{"model_version": "x", "outputs": 3}', "no V2 response"),
        (200, answer([OUTPUT | {"data": ["a", "b"]}]), "no V2 response"),
        (200, answer([OUTPUT | {"data": [[1.0], [1.0, 2.0]]}]), "no V2 response"),
        (200, answer([OUTPUT | {"data": [0.5, float("nan")]}]), "not a finite number"),
        (200, answer([OUTPUT | {"data": [0.5, None]}]), "not a finite number"),
        (200, answer([OUTPUT | {"data": [1e999, 0.5]}]), "not a finite number"),
        (200, b"[" * 100_000, "no V2 response"),
    ],
)
def test_whatever_else_a_host_says_is_an_error_and_never_an_exception(status, content, error):
    read = read_answer(status, content, 1.0)
    assert read.version is None
    assert read.error is not None
    assert error in read.error
    assert read.outputs == {}


def test_an_error_of_a_host_is_cut_to_a_length_that_people_read():
    read = read_answer(500, json.dumps({"error": "x" * 10_000}).encode(), 1.0)
    assert len(read.error) < 400
