"""Send golden rows to hosts as callers would, to both versions in turn."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.bundle.contract import Contract
from slipway.bundle.golden import Golden
from slipway.fleet.client import Answer, HostClient
from slipway.fleet.inventory import Host
from slipway.fleet.judge import Traffic
from slipway.store.split import takes_candidate

WARM_UP_REQUESTS = 5
"""The first requests to a version pay for memory and caches; their latency is left out."""


@dataclass(frozen=True)
class Questions:
    """Golden rows cut into requests, encoded before any clock runs."""

    golden: str
    """Digest of the labels: equal for bundles whose golden sets hold the same rows."""
    output: str
    """The output that is compared."""
    bodies: Sequence[bytes]
    rows: Sequence[NDArray[np.int64]]
    """The golden rows of each body."""
    labels: NDArray[np.int64]
    """Per golden row."""


@dataclass(frozen=True)
class Side:
    """One version and the callers whose requests it must answer."""

    version: str
    keys: Iterator[str]
    """Values of `Slipway-Key` that the hosts route to this version."""
    by_name: bool = False
    """Ask for the version in the URL, when no caller is left for it (a canary of 100 %)."""


def make_questions(
    golden: Golden, contract: Contract, requests: int, rows_per_request: int
) -> Questions:
    """Cut the golden set into request bodies, going round it until there are enough."""
    size = min(rows_per_request, contract.max_rows, golden.rows)
    distinct = min(requests, -(-golden.rows // size))
    rows = [np.arange(i * size, (i + 1) * size) % golden.rows for i in range(distinct)]
    bodies = [_body(golden, contract, picked) for picked in rows]
    which = [i % distinct for i in range(requests)]
    return Questions(
        golden=hashlib.sha256(golden.labels.tobytes()).hexdigest(),
        output=contract.outputs[0].name,
        bodies=[bodies[i] for i in which],
        rows=[rows[i] for i in which],
        labels=golden.labels.astype(np.int64),
    )


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
    sides: Sequence[Side],
    questions: Sequence[Questions],
) -> list[Traffic]:
    """Ask every host every question, of each side in turn; `questions` stand per side.

    Side by side and taking turns at going first, so that whatever else the machine does
    slows both alike.
    """
    tallies = [_Tally(side.version, asked) for side, asked in zip(sides, questions, strict=True)]
    for host in hosts:
        for i in range(len(questions[0].bodies)):
            turn = list(range(len(sides)))
            for s in turn if i % 2 == 0 else reversed(turn):
                side = sides[s]
                answer = client.infer(
                    host,
                    model,
                    questions[s].bodies[i],
                    key=next(side.keys),
                    version=side.version if side.by_name else None,
                )
                tallies[s].count(i, answer)
    return [tally.traffic() for tally in tallies]


class _Tally:
    """Collect the answers of one side."""

    def __init__(self, version: str, questions: Questions) -> None:
        self._version = version
        self._questions = questions
        self._requests = 0
        self._asked_rows = 0
        self._errors: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._golden_rows: list[NDArray[np.int64]] = []
        self._answers: list[NDArray[np.float64]] = []

    def count(self, i: int, answer: Answer) -> None:
        """Take down one answer; one by another version than was asked for is an error."""
        rows = self._questions.rows[i]
        numbers = np.arange(self._asked_rows, self._asked_rows + rows.size)
        self._requests += 1
        self._asked_rows += rows.size
        if (problem := self._problem(answer, rows.size)) is not None:
            self._errors[problem] += 1
            return
        if i >= WARM_UP_REQUESTS:
            self._latencies.append(answer.latency_ms)
        self._numbers.append(numbers)
        self._golden_rows.append(rows)
        self._answers.append(answer.outputs[self._questions.output])

    def traffic(self) -> Traffic:
        """Hand over what was collected."""
        golden_rows = _joined(self._golden_rows, np.int64)
        return Traffic(
            version=self._version,
            requests=self._requests,
            errors=dict(self._errors),
            latencies_ms=np.asarray(self._latencies, dtype=np.float64),
            golden=self._questions.golden,
            questions=_joined(self._numbers, np.int64),
            golden_rows=golden_rows,
            labels=self._questions.labels[golden_rows],
            answers=_joined(self._answers, np.float64),
        )

    def _problem(self, answer: Answer, rows: int) -> str | None:
        if answer.error is not None:
            return answer.error
        if answer.version != self._version:
            return f"answered by version {answer.version}, expected {self._version}"
        values = answer.outputs.get(self._questions.output)
        if values is None or values.size != rows:
            return f"{'no' if values is None else values.size} answers to {rows} rows"
        return None


def _callers() -> Iterator[str]:
    return (f"release-{i}" for i in itertools.count())


def _joined(parts: Sequence[NDArray], dtype: type) -> NDArray:  # type: ignore[type-arg]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _body(golden: Golden, contract: Contract, rows: NDArray[np.int64]) -> bytes:
    """Write one V2 request; missing values are JSON null, as the contract says."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [rows.size],
            "data": [_json_value(v) for v in golden.inputs[tensor.name][rows].tolist()],
        }
        for tensor in contract.inputs
    ]
    return json.dumps({"inputs": inputs}, allow_nan=False).encode()


def _json_value(value: str | float | int) -> str | float | int | None:
    missing = value == "" or value != value  # NaN is the one number unequal to itself
    return None if missing else value
