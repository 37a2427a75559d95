import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.golden import Golden, read_golden
from slipway.bundle.request import Body
from slipway.errors import SlipwayError
from slipway.fleet.answers import Apart
from slipway.fleet.client import INFER_TIMEOUT_S, HostAnswer, HostStatus, read_answer
from slipway.fleet.inventory import Host
from slipway.fleet.questions import Questions, make_questions
from slipway.fleet.traffic import (
    NOT_ASKED,
    TIMEOUTS_MAX,
    WARM_UP_REQUESTS,
    one_side,
    send,
    two_sides,
)
from slipway.store.split import takes_candidate
from tests.bundles import make_payload

HOST = Host(name="a", port=18081, admin_port=18091)
V = "c" * 64


@pytest.fixture(scope="module")
def payload(tmp_path_factory) -> tuple[Golden, Contract]:
    folder: Path = tmp_path_factory.mktemp("payload")
    make_payload(folder)
    return read_golden(folder / "golden.arrow"), read_contract(folder / "contract.json")


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
        return HostStatus(name=host.name, fleet="local", ready=True)

    def infer(self, host, model, body, *, key, version, json_bytes=None):
        return next(self._answers)


def ask(payload, *answers, requests=50):
    questions = make_questions(*payload, requests=requests, rows_per_request=4)
    (traffic,) = send(OneHost(*answers), [HOST], "flights", [(one_side(V), questions)])
    return traffic


def good(latency_ms=1.0, version=V, rows=4):
    return HostAnswer(latency_ms, version, {"probability": np.full(rows, 0.5)})


def test_every_answered_row_is_taken_down_with_its_label(payload):
    traffic = ask(payload, good())
    assert (traffic.requests, traffic.answered, traffic.rows) == (50, 50, 200)
    np.testing.assert_array_equal(traffic.scored.labels, np.tile(payload[0].labels.astype(int), 5))
    np.testing.assert_array_equal(traffic.scored.questions, np.arange(200))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HostAnswer(1.0, error="HTTP 500: the model failed"), "HTTP 500: the model failed"),
        (good(version="d" * 64), f"answered by version {'d' * 64}, expected {V}"),
        (good(version=None), f"answered by version None, expected {V}"),
        (good(rows=3), "3 answers to 4 rows"),
        (HostAnswer(1.0, V, {"other": np.zeros(4)}), "no answers to 4 rows"),
    ],
)
def test_an_answer_that_is_none_is_counted_as_an_error_and_leaves_no_row(payload, answer, error):
    traffic = ask(payload, answer, good())
    assert traffic.errors == {error: 1}
    assert (traffic.requests, traffic.answered, traffic.rows) == (50, 49, 196)
    assert traffic.scored.questions[0] == 4  # left out, not moved up


def test_the_first_requests_pay_for_warming_up_and_their_latency_is_left_out(payload):
    traffic = ask(payload, *[good(latency_ms=900.0)] * WARM_UP_REQUESTS, good(latency_ms=1.0))
    assert traffic.latencies_ms.size == 50 - WARM_UP_REQUESTS
    assert traffic.latencies_ms.max() == 1.0


TEXT, FLOATS, ROWS = "label", "score", 3


def unlabelled(proven: bool = True) -> Questions:
    """Ask fifty requests of three rows, of which nobody knows what is right."""
    text = np.array([["a"], ["b"], ["c"]], dtype=object)
    expected = {TEXT: text, FLOATS: np.zeros((ROWS, 2), np.float32)}
    return Questions(
        golden="",
        bodies=[Body(b"{}")] * 50,
        rows=[np.arange(ROWS)] * 50,
        proven=[expected] * 50 if proven else None,
        labels=np.full(ROWS, None, object),
        weights=None,
        judged=None,
    )


def reply(version=V, score=0.0, text="abc", shape=(ROWS, 2)):
    texts = np.array([[each] for each in text], dtype=object)
    return HostAnswer(1.0, version, {TEXT: texts, FLOATS: np.full(shape, score, np.float32)})


def test_every_output_is_measured_from_what_was_proven_as_the_answers_come():
    (traffic,) = send(
        OneHost(reply(), reply(score=0.5, text="abd"), reply()),
        [HOST],
        "m",
        [(one_side(V), unlabelled())],
    )
    assert traffic.proven == {
        TEXT: Apart(values=150, exact=True, differing=1),
        FLOATS: Apart(values=300, largest=0.5, total=3.0),
    }
    assert (traffic.scored, traffic.rows, traffic.errors) == (None, 150, {})


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (reply(shape=(ROWS, 3)), "output 'score' has the shape (3, 3), proven was (3, 2)"),
        (HostAnswer(1.0, V, {TEXT: reply().outputs[TEXT]}), "an answer without output 'score'"),
    ],
)
def test_an_answer_that_lacks_an_output_or_has_another_shape_is_an_error(bad, error):
    (traffic,) = send(OneHost(bad, reply()), [HOST], "m", [(one_side(V), unlabelled())])
    assert traffic.errors == {error: 1}
    assert traffic.rows == 147


def test_two_versions_that_were_asked_the_same_are_compared_answer_by_answer():
    asked = unlabelled()
    sides = [one_side(V), one_side("d" * 64)]
    answers = itertools.cycle([reply(), reply("d" * 64, 0.25), reply("d" * 64, 0.25), reply()])
    mine, theirs = send(
        OneHost(*itertools.islice(answers, 100)),
        [HOST],
        "m",
        list(zip(sides, [asked, replace(asked, proven=None)], strict=True)),
    )
    assert mine.apart[FLOATS] == Apart(values=300, largest=0.25, total=75.0)
    assert mine.apart[TEXT] == Apart(values=150, exact=True, differing=0)
    assert (theirs.apart, theirs.proven) == ({}, {})
    assert mine.errors == theirs.errors == {}


def test_answers_to_other_questions_are_not_compared():
    answers = itertools.cycle([reply(), reply("d" * 64), reply("d" * 64), reply()])
    mine, _ = send(
        OneHost(*itertools.islice(answers, 100)),
        [HOST],
        "m",
        [
            (one_side(V), unlabelled()),
            (one_side("d" * 64), replace(unlabelled(), bodies=[Body(b"[]")] * 50)),
        ],
    )
    assert mine.apart == {}


def test_a_stable_version_with_outputs_of_its_own_is_no_error():
    other = HostAnswer(1.0, V, {"else": np.zeros(7)})
    (traffic,) = send(OneHost(other), [HOST], "m", [(one_side(V), unlabelled(proven=False))])
    assert (traffic.errors, traffic.answered) == ({}, 50)


def test_a_host_that_refuses_this_caller_says_nothing_about_the_version():
    refused = HostAnswer(1.0, error="the key is not known there", ours=True)
    with pytest.raises(SlipwayError, match="host a: the key is not known there"):
        send(OneHost(refused), [HOST], "m", [(one_side(V), unlabelled())])


TIMED_OUT = HostAnswer(INFER_TIMEOUT_S * 1000.0, error="ReadTimeout: timed out", unserved=True)
BUSY = HostAnswer(1.0, error="HTTP 503: this host is stopping", unserved=True)


class SilentHost(OneHost):
    """Answers nothing, not even how it is."""

    def status(self, host):
        return None


@pytest.mark.parametrize("answer", [TIMED_OUT, BUSY])
def test_a_host_that_does_not_say_how_it_is_ends_the_asking_and_is_named(answer):
    said = "host a does not answer .*says nothing about vcccccccccccc"
    with pytest.raises(SlipwayError, match=said):
        send(SilentHost(reply(), answer), [HOST], "m", [(one_side(V), unlabelled())])


def test_requests_that_a_host_did_not_serve_are_counted_apart():
    answers = [BUSY, TIMED_OUT, HostAnswer(1.0, error="HTTP 500: the model failed"), reply()]
    (traffic,) = send(OneHost(*answers), [HOST], "m", [(one_side(V), unlabelled())])
    assert (traffic.failed, traffic.unserved) == (3, 2)


def test_only_503_is_an_answer_that_says_nothing_about_the_version():
    body = b'{"error": "e"}'
    unserved = [s for s in (400, 404, 500, 503, 504) if read_answer(s, body, 1.0).unserved]
    assert unserved == [503]


@dataclass
class HangingHost:
    """Gives the candidate's callers no answer once it has given some."""

    answers: int
    clock_s: float = 0.0

    def status(self, host):
        return HostStatus(name=host.name, fleet="local", ready=True)

    def infer(self, host, model, body, *, key, version, json_bytes=None):
        if not takes_candidate(V, key, 50):
            return reply("d" * 64)
        self.answers -= 1
        if self.answers >= 0:
            return reply()
        self.clock_s += INFER_TIMEOUT_S
        return TIMED_OUT


@pytest.mark.parametrize("answered", [0, 60])
def test_a_version_that_hangs_is_asked_no_more_and_fails_all_the_rest(answered):
    client = HangingHost(answered)
    sides, asked = two_sides(V, "d" * 64, 50), unlabelled(proven=False)
    mine, theirs = send(client, [HOST, HOST], "m", [(side, asked) for side in sides])
    assert client.clock_s == TIMEOUTS_MAX * INFER_TIMEOUT_S
    unsent = 100 - answered - TIMEOUTS_MAX
    assert (mine.requests, mine.answered) == (100, answered)
    assert mine.errors == {TIMED_OUT.error: TIMEOUTS_MAX, NOT_ASKED.error: unsent}
    assert mine.unserved == 0  # its host answers: hanging is its own doing
    assert (theirs.requests, theirs.answered) == (100, 100)


def test_an_answer_or_a_quick_error_in_between_is_no_hanging():
    quick = HostAnswer(1.0, error="HTTP 500: the model failed")
    answers = [TIMED_OUT, TIMED_OUT, reply(), TIMED_OUT, TIMED_OUT, quick, reply()]
    (traffic,) = send(OneHost(*answers), [HOST], "m", [(one_side(V), unlabelled())])
    assert traffic.errors == {TIMED_OUT.error: 4, quick.error: 1}
