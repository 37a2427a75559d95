"""Make requests of golden rows, with what is looked for in their answers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slipway.bundle.contract import Contract
from slipway.bundle.datatypes import FLOATS, as_numbers
from slipway.bundle.format import short
from slipway.bundle.golden import Golden, Part, Tensors, take
from slipway.bundle.request import Body, needs_binary, write_request
from slipway.bundle.rows import is_ragged
from slipway.bundle.verify import Verified
from slipway.errors import SlipwayError
from slipway.problem import BINARY, PROBLEMS, Problem, Target

REQUEST_BYTES: Final = 1 << 20
"""About as much as one request carries, unless one row is more: hosts take 16 MiB, and 100
requests are held in memory."""

LABELLED_ROWS_MIN: Final = 200
"""Fewer labels than this judge no model that only looks like a classifier: one row would decide,
and a rejected version never comes back."""


@dataclass(frozen=True)
class JudgedBy:
    """The output that labels can judge, and the problem that says how."""

    problem: Problem
    output: str
    target: Target
    """What the labels stand for."""

    def values(self, answer: NDArray[Any]) -> NDArray[np.float64]:
        """Return an answer as the problem measures it: [N], or [N, K] with one per class."""
        numbers = answer.astype(np.float64)
        if self.problem.output.per_class:
            return numbers.reshape(len(numbers), -1)
        return numbers.reshape(-1)

    def fits(self, answer: NDArray[Any], rows: int) -> bool:
        """Tell whether an answer is one to so many rows."""
        per_class = self.problem.output.per_class
        return bool(answer.size == rows * (len(self.target.classes) if per_class else 1))


@dataclass(frozen=True)
class Questions:
    """Golden rows cut into requests, encoded before any clock runs."""

    golden: str
    """Digest of the labels: equal for bundles whose golden sets hold the same rows."""
    bodies: Sequence[Body]
    rows: Sequence[NDArray[np.int64]]
    """The golden rows of each body."""
    proven: Sequence[Tensors] | None
    """Per body, the answers recorded when the version was proven; None for a version that is
    asked another's golden rows."""
    labels: NDArray[Any]
    """Per golden row, as the problem measures by; empty where none does."""
    weights: NDArray[np.float64] | None
    """Per golden row, how much it counts; None: all alike."""
    judged: JudgedBy | None
    """What its answers are judged by; None where nobody knows what a good one is."""


def make_questions(
    golden: Golden, contract: Contract, requests: int, rows_per_request: int
) -> Questions:
    """Cut the golden set into request bodies, going round it until there are enough."""
    parts = _parts(golden, min(rows_per_request, _rows_max(golden, contract)), requests)
    expected = [take(golden.expected, part) for part in parts]
    inputs = [take(golden.inputs, part) for part in parts]
    most = max(_count(*pair) for pair in zip(inputs, expected, strict=True))
    binary = needs_binary(contract, most)
    bodies = [write_request(each, contract, binary) for each in inputs]
    datatypes = {tensor.name: tensor.datatype for tensor in contract.outputs}
    decided = golden.decision.output if golden.decision else None  # hosts hold it to the tolerance
    proven = [
        {n: as_numbers(v, datatypes[n]) for n, v in each.items() if n != decided}
        for each in expected
    ]
    judged = find_judged(golden, contract)
    numbers = [np.atleast_1d(np.arange(golden.rows)[part]) for part in parts]
    turns = [i % len(parts) for i in range(requests)]
    return Questions(
        golden=hashlib.sha256(json.dumps(golden.labels.tolist()).encode()).hexdigest(),
        bodies=[bodies[i] for i in turns],
        rows=[numbers[i] for i in turns],
        proven=[proven[i] for i in turns],
        labels=judged.target.encode(golden.labels) if judged else np.empty(0),
        weights=golden.weights,
        judged=judged,
    )


def find_judged(golden: Golden, contract: Contract, sure: bool = False) -> JudgedBy | None:
    """Return the output that labels can judge, if every golden row has one.

    A contract that names a problem is judged by that. A model that was made elsewhere may have no
    labels, several outputs, or one of any shape: it is judged as one of two outcomes where its
    only output is one number a row. Its contract has no range, so its recorded answers must lie in
    0..1 unless it is `sure` to give a probability.
    """
    if contract.problem is not None:
        return _named(golden, contract)
    (output, *others), labels = contract.outputs, set(golden.labels.tolist())
    if others or output.datatype not in FLOATS or output.shape not in ([-1], [-1, 1]):
        return None
    answers = golden.expected[output.name]
    if not golden.batchable or labels != {0, 1} or is_ragged(answers):
        return None
    judged = JudgedBy(BINARY, output.name, Target("", BINARY.name, (0, 1)))
    if output.range == BINARY.output.range:
        return judged
    if golden.rows < LABELLED_ROWS_MIN:
        return None
    numbers = as_numbers(answers, output.datatype)
    return judged if sure or (numbers.min() >= 0 and numbers.max() <= 1) else None


def _named(golden: Golden, contract: Contract) -> JudgedBy | None:
    """Return what a contract names, where its golden rows can be measured by it."""
    if (problem := PROBLEMS.get(str(contract.problem))) is None:
        return None
    classes = tuple(contract.classes or ((0, 1) if problem is BINARY else ()))
    target = Target(contract.target or "", problem.name, classes)
    judged = JudgedBy(problem, contract.judged or problem.output.name, target)
    answers = golden.expected.get(judged.output)
    known = all(label is not None for label in golden.labels)
    if answers is None or not known or is_ragged(answers) or not golden.batchable:
        return None
    labels, values = target.encode(golden.labels), judged.values(answers)
    measured = [each(labels, values, golden.weights) for each in problem.gated]
    return None if None in measured else judged


def ask_both(
    candidate: Verified, stable: Verified | None, requests: int, rows_per_request: int
) -> tuple[Questions, Questions]:
    """Return what either side is asked: the same, or their own golden rows where inputs differ.

    Either is asked as many rows at once, so that latency compares the same work. Labels count
    where stable is judged by them and the candidate can be; SlipwayError if it cannot. Of a
    stable version that is None, pruned from the store, nobody knows; it is taken to be like the
    candidate.
    """
    both = (candidate, stable or candidate)
    rows_per_request = min(rows_per_request, *(_rows_max(s.golden, s.contract) for s in both))
    mine = make_questions(candidate.golden, candidate.contract, requests, rows_per_request)
    if stable is None:
        return mine, replace(mine, proven=None)
    if how_asked_apart(candidate.contract, stable.contract) is None:
        judged = find_judged(stable.golden, stable.contract)
        labels = judged.target.encode(candidate.golden.labels) if judged else mine.labels
        theirs = replace(mine, proven=None, judged=judged, labels=labels)
    else:
        theirs = make_questions(stable.golden, stable.contract, requests, rows_per_request)
    if theirs.judged is None:
        return replace(mine, judged=None), theirs
    alike = _judged_alike(candidate, stable, theirs.judged)
    labels = alike.target.encode(candidate.golden.labels)
    return replace(mine, judged=alike, labels=labels), theirs


def how_asked_apart(candidate: Contract, stable: Contract) -> str | None:
    """Say why the candidate cannot take the requests of stable; None where it can."""

    def inputs(of: Contract) -> list[Any]:
        found = [(t.name, t.datatype, t.shape, t.kind, t.padding) for t in of.inputs]
        return sorted(found, key=lambda each: each[0])

    if inputs(candidate) != inputs(stable):
        return "takes other inputs than stable"
    if candidate.batchable != stable.batchable:
        takes = "rows", "whole requests"
        mine, theirs = takes if candidate.batchable else reversed(takes)
        return f"takes {mine} where stable takes {theirs}"
    return None


def _judged_alike(candidate: Verified, stable: Verified, by: JudgedBy) -> JudgedBy:
    """Return the output that is held to what stable is held to: no release may end that."""
    found = find_judged(candidate.golden, candidate.contract, sure=True)
    names = (
        f"v{short(candidate.manifest.version)} of {candidate.manifest.name} cannot be judged by"
        f" labels as stable v{short(stable.manifest.version)} is"
    )
    if found is None:
        raise SlipwayError(
            f"{names}: that takes one number a row as its only output, or a contract that names the"
            f" problem, and golden rows ({LABELLED_ROWS_MIN} or more) whose labels are all known"
            " and of both classes. Wrap it with --labels, or release it under another name"
        )
    mine, theirs = ((each.problem.name, each.target.classes) for each in (found, by))
    if mine != theirs:
        raise SlipwayError(
            f"{names}: it answers {_in_words(found)}, stable {_in_words(by)}; release it under"
            " another name"
        )
    return found


def _in_words(judged: JudgedBy) -> str:
    classes = ", ".join(map(str, judged.target.classes))
    return f"a {judged.problem.name} problem" + (f" ({classes})" if classes else "")


def _rows_max(golden: Golden, contract: Contract) -> int:
    """Count the rows that one request carries at most."""
    if not golden.batchable:
        return 1
    return min(contract.max_rows, _fitting(golden), golden.rows)


def _parts(golden: Golden, size: int, requests: int) -> list[Part]:
    """Cut the golden set into as many different requests as are asked, from all over it."""
    ragged = any(is_ragged(v) for v in (*golden.inputs.values(), *golden.expected.values()))
    if golden.batchable and not ragged:
        size = min(size, golden.rows)
        distinct = min(requests, -(-golden.rows // size))
        return [np.arange(i * size, (i + 1) * size) % golden.rows for i in range(distinct)]
    parts = list(golden.parts(size))
    distinct = min(requests, len(parts))
    return [parts[i * len(parts) // distinct] for i in range(distinct)]


def _fitting(golden: Golden) -> int:
    """Count the rows that a request of ordinary size holds."""
    size = sum(_bytes(values) for values in (*golden.inputs.values(), *golden.expected.values()))
    return max(1, REQUEST_BYTES * golden.rows // max(size, 1))


def _bytes(values: NDArray[Any]) -> int:
    if is_ragged(values):
        return sum(_bytes(row) for row in values)
    if values.dtype == object:
        return sum(len(text) for text in values.reshape(-1))
    return values.nbytes


def _count(inputs: Tensors, expected: Tensors) -> int:
    return sum(values.size for values in (*inputs.values(), *expected.values()))
