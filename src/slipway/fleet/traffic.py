"""Send golden rows to hosts as callers would, to both versions in turn.

Answers are compared as they come and then forgotten: those of one request may be large.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.bundle.format import short
from slipway.errors import SlipwayError
from slipway.fleet.answers import Apart, add, compare_all
from slipway.fleet.client import INFER_TIMEOUT_S, HostAnswer, HostClient
from slipway.fleet.inventory import Host
from slipway.fleet.judge import Scored, Traffic
from slipway.fleet.questions import JudgedBy, Questions
from slipway.store.split import takes_candidate

WARM_UP_REQUESTS = 5
"""The first requests to a version pay for memory and caches; their latency is left out."""

TIMEOUTS_MAX = 3
"""A version that leaves so many requests in a row without an answer is asked no more."""

NOT_ASKED = HostAnswer(
    INFER_TIMEOUT_S * 1000.0,
    error=f"not asked: {TIMEOUTS_MAX} requests in a row got no answer within"
    f" {INFER_TIMEOUT_S:.0f} s",
)
"""What counts as the answer to the rest: a window of them would take an hour."""


@dataclass(frozen=True)
class Side:
    """One version and the callers whose requests it must answer."""

    version: str
    keys: Iterator[str]
    """Values of `Slipway-Key` that the hosts route to this version."""
    by_name: bool = False
    """Ask for the version in the URL, when no caller is left for it (a canary of 100 %)."""


def two_sides(candidate: str, stable: str, percent: int) -> tuple[Side, Side]:
    """Find callers for both versions by the rule that the hosts split by."""
    mine = (k for k in _callers() if takes_candidate(candidate, k, percent))
    if percent >= 100:
        return Side(candidate, mine), Side(stable, _callers(), by_name=True)
    theirs = (k for k in _callers() if not takes_candidate(candidate, k, percent))
    return Side(candidate, mine), Side(stable, theirs)


def one_side(version: str) -> Side:
    """Take any callers: there is only one version."""
    return Side(version, _callers())


def send(
    client: HostClient,
    hosts: Sequence[Host],
    model: str,
    asking: Sequence[tuple[Side, Questions]],
) -> list[Traffic]:
    """Ask every host every question, of each side in turn.

    Side by side and taking turns at going first, so that whatever else the machine does
    slows both alike.
    """
    sides, questions = zip(*asking, strict=True)
    tallies = [_Tally(side.version, asked) for side, asked in asking]
    comparable = len(sides) == 2 and questions[0].bodies is questions[1].bodies
    for host in hosts:
        for i in range(len(questions[0].bodies)):
            turn = list(range(len(sides)))
            answers: list[HostAnswer | None] = [None] * len(sides)
            for s in turn if i % 2 == 0 else reversed(turn):
                answer = (
                    NOT_ASKED
                    if tallies[s].hangs
                    else _ask(client, host, model=model, side=sides[s], questions=questions[s], i=i)
                )
                answers[s] = tallies[s].count(i, answer)
            if comparable and answers[0] and answers[1]:
                tallies[0].compare(answers[0], answers[1])
    return [tally.traffic() for tally in tallies]


def _ask(
    client: HostClient, host: Host, model: str, side: Side, questions: Questions, i: int
) -> HostAnswer:
    body = questions.bodies[i]
    answer = client.infer(
        host,
        model,
        body.data,
        key=next(side.keys),
        version=side.version if side.by_name else None,
        json_bytes=body.json_bytes,
    )
    if answer.ours:
        raise SlipwayError(f"host {host.name}: {answer.error}")
    if answer.unserved and client.status(host) is None:
        raise SlipwayError(
            f"host {host.name} does not answer ({answer.error}); that says nothing about v"
            f"{short(side.version)}, which it was asked for. See its log, and slipway status"
        )
    return answer


class _Tally:
    """Collect what the answers of one side say."""

    def __init__(self, version: str, questions: Questions) -> None:
        self._version = version
        self._questions = questions
        self._requests = 0
        self._timeouts = 0
        self._unserved = 0
        self._asked_rows = 0
        self._errors: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._golden_rows: list[NDArray[np.int64]] = []
        self._judged_answers: list[NDArray[np.float64]] = []
        self._proven: dict[str, Apart] = {}
        self._apart: dict[str, Apart] = {}

    @property
    def hangs(self) -> bool:
        """Whether the last requests all went without an answer."""
        return self._timeouts >= TIMEOUTS_MAX

    def count(self, i: int, answer: HostAnswer) -> HostAnswer | None:
        """Take down one answer; None if it is an error, such as an answer by another version."""
        rows = self._questions.rows[i]
        numbers = np.arange(self._asked_rows, self._asked_rows + rows.size)
        self._requests += 1
        self._asked_rows += rows.size
        timed_out = answer.error is not None and answer.latency_ms >= INFER_TIMEOUT_S * 1000.0
        self._timeouts = self._timeouts + 1 if timed_out else 0
        self._unserved += answer.unserved
        if (problem := self._problem(i, answer)) is not None:
            self._errors[problem] += 1
            return None
        if i >= WARM_UP_REQUESTS:
            self._latencies.append(answer.latency_ms)
        self._numbers.append(numbers)
        self._golden_rows.append(rows)
        if self._questions.judged is not None:
            values = answer.outputs[self._questions.judged.output]
            self._judged_answers.append(self._questions.judged.values(values))
        if self._questions.proven is not None:
            compared = compare_all(self._questions.proven[i], answer.outputs)
            self._proven = add(self._proven, compared)
        return answer

    def compare(self, mine: HostAnswer, theirs: HostAnswer) -> None:
        """Take down how far the other side's answer to the same question was."""
        self._apart = add(self._apart, compare_all(mine.outputs, theirs.outputs))

    def traffic(self) -> Traffic:
        """Hand over what was collected."""
        return Traffic(
            version=self._version,
            requests=self._requests,
            errors=dict(self._errors),
            unserved=0 if self.hangs else self._unserved,
            latencies_ms=np.asarray(self._latencies, dtype=np.float64),
            rows=sum(rows.size for rows in self._golden_rows),
            proven=self._proven,
            apart=self._apart,
            scored=self._scored(judged) if (judged := self._questions.judged) is not None else None,
        )

    def _scored(self, judged: JudgedBy) -> Scored:
        asked, weights = _joined(self._golden_rows, np.int64), self._questions.weights
        return Scored(
            problem=judged.problem,
            golden=self._questions.golden,
            questions=_joined(self._numbers, np.int64),
            labels=self._questions.labels[asked],
            answers=_joined(self._judged_answers, np.float64),
            weights=None if weights is None else weights[asked],
        )

    def _problem(self, i: int, answer: HostAnswer) -> str | None:
        if answer.error is not None:
            return answer.error
        if answer.version != self._version:
            return f"answered by version {answer.version}, expected {self._version}"
        asked = self._questions.rows[i].size
        if (judged := self._questions.judged) is not None:
            values = answer.outputs.get(judged.output)
            if values is None or not judged.fits(values, asked):
                return f"{'no' if values is None else values.size} answers to {asked} rows"
        proven = self._questions.proven[i] if self._questions.proven is not None else {}
        for name, expected in proven.items():
            if name not in answer.outputs:
                return f"an answer without output {name!r}"
            if (shape := answer.outputs[name].shape) != expected.shape:
                return f"output {name!r} has the shape {shape}, proven was {expected.shape}"
        return None


def _callers() -> Iterator[str]:
    return (f"release-{i}" for i in itertools.count())


def _joined(parts: Sequence[NDArray], dtype: type) -> NDArray:  # type: ignore[type-arg]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
