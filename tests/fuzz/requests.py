"""Ask a host what it should refuse, by the million.

    python -m tests.fuzz.requests --count 1000000 [--seed 7] [--port 8000 --grpc-port 8001]

Without a port, a host of its own is started. Everything goes over real sockets: bodies that are
broken in their bytes or their JSON (pipelined, on connections that are kept), broken heads and
broken streams (each on a connection of its own), and requests that are said in three encodings
(REST JSON, REST binary, gRPC), which must get one verdict and, if it is good, the same bits. A
crash, a hang over 2 s, a 5xx that no request may get, and two verdicts are defects. Equal seeds
and counts ask the same.
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import orjson

from slipway.bundle.datatypes import DTYPES, float_to_bf16
from slipway.host.request.binary import decode
from slipway.host.wire.grpc.convert import FIELDS
from tests.fuzz.client import Defect, Grpc, Wire, stream
from tests.fuzz.logical import Logical, as_binary, as_grpc, as_json, make_logical
from tests.fuzz.mutate import change_bytes, change_head, change_json, chunk, frame, pack

WINDOW = 12
"""Requests sent at once; a host reads on while up to 16 wait."""

HARMLESS = {"an element of no value"}
"""What is no fault in a tensor of whole numbers, nor where NaN means a missing one."""

DEFECTS_MAX = 20
"""So many are enough to begin with."""


@dataclass
class Report:
    """What came of it."""

    asked: Counter[str] = field(default_factory=Counter)
    """Requests by kind."""
    codes: Counter[str] = field(default_factory=Counter)
    """Answers by code."""
    defects: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All requests."""
        return sum(self.asked.values())

    def __str__(self) -> str:
        lines = [f"{self.count:,} requests in {self.seconds:.1f} s"]
        lines += [f"  {kind:<12} {n:>9,}" for kind, n in sorted(self.asked.items())]
        lines += [f"  -> {code:<24} {n:>9,}" for code, n in self.codes.most_common()]
        return "\n".join((*lines, f"{len(self.defects)} defects", *self.defects))


class Fuzzer:
    """One host, and the means to ask it."""

    def __init__(self, port: int, grpc_port: int | None, seed: int, models: list[str]) -> None:
        self._port = port
        self._random = Random(seed)
        self._wire = Wire(port)
        self._grpc = Grpc(grpc_port) if grpc_port else None
        self._models = {name: self._look(name) for name in models}
        self.report = Report()

    def close(self) -> None:
        """Let go of the host."""
        self._wire.close()
        if self._grpc:
            self._grpc.close()

    def run(self, count: int) -> Report:
        """Ask so many requests, or a few more."""
        began = time.perf_counter()
        kinds = (self._bodies, self._heads, self._streams, self._encodings)
        weights = (20, 45, 30, 6)
        while self.report.count < count and len(self.report.defects) < DEFECTS_MAX:
            (ask,) = self._random.choices(kinds, weights)
            self._try(ask)
        self.report.seconds = time.perf_counter() - began
        return self.report

    def _try(self, ask: Callable[[], None]) -> None:
        """Ask; whatever came of it, the next good request must be answered."""
        try:
            ask()
            if self._random.random() < 0.05:
                self._ask_good()
        except (Defect, OSError, ValueError) as defect:
            self.report.defects.append(f"{ask.__name__[1:]}: {defect}"[:1000])
            self._wire.close()

    def _look(self, model: str) -> dict[str, Any]:
        """Read a model's metadata: what there is to ask."""
        raw = b"GET /v2/models/%b HTTP/1.1\r\nHost: a\r\n\r\n" % model.encode()
        (reply,) = self._wire.ask_all([raw])
        metadata: dict[str, Any] = orjson.loads(reply.body)
        return metadata

    # --- kinds of requests

    def _bodies(self) -> None:
        """Break bodies, keep heads; all on one connection."""
        requests = []
        for _ in range(WINDOW):
            asked = self._logical()
            if self._random.random() < 0.5:
                body, length = as_json(asked, self._random), None
                change = self._random.choice((change_bytes, change_json, change_json))
                body = change(self._random, body)
            else:
                whole, length = as_binary(asked)
                text, data = whole[:length], whole[length:]
                if self._random.random() < 0.5:
                    text = change_json(self._random, text)
                    length = len(text)
                elif self._random.random() < 0.5:
                    data = change_bytes(self._random, data)
                else:
                    length += self._random.choice((-1, 1, 8, 1000, -length))
                body = text + data
            more = []
            if self._random.random() < 0.1:
                body, header = pack(self._random, body)
                more.append(header)
            length = None if length is None else max(0, length)
            requests.append(frame(asked.path, body, length, *more))
        self._count("bodies", [reply.code for reply in self._wire.ask_all(requests)])

    def _heads(self) -> None:
        """Break one head among good requests."""
        requests = self._good_ones(self._random.randint(1, 3))
        at = self._random.randrange(len(requests))
        model = self._random.choice(sorted(self._models))
        requests[at] = change_head(self._random, model, requests[at])
        if requests[at].startswith(b"HEAD "):  # its answer cannot be told from others'
            requests = [requests[at]]
        self._stream("heads", requests)

    def _streams(self) -> None:
        """Break a stream anywhere, or send it in chunks."""
        requests = self._good_ones(self._random.randint(1, 3))
        if self._random.random() < 0.5:
            requests = [chunk(self._random, request) for request in requests]
        data = b"".join(requests)
        if self._random.random() < 0.7:
            data = change_bytes(self._random, data)
        self._stream("streams", [data])

    def _encodings(self) -> None:
        """Say requests in three encodings."""
        asked = [self._logical() for _ in range(WINDOW)]
        texts = [frame(one.path, as_json(one, self._random), None) for one in asked]
        binary = [frame(one.path, *as_binary(one)) for one in asked]
        answers = [
            [(r.code, r.body) for r in self._wire.ask_all(requests)] for requests in (texts, binary)
        ]
        if self._grpc:
            raw = self._random.random() < 0.5
            answers.append(self._grpc.ask_all([as_grpc(one, raw) for one in asked]))
        for one, *said in zip(asked, *answers, strict=True):
            self._count("encodings", [code for code, _ in said])
            self._compare(one, said)

    def _compare(self, asked: Logical, said: list[tuple[str, Any]]) -> None:
        verdicts = [code for code, _ in said]
        what = f"{asked.faults} {asked.model}"
        if len(set(verdicts)) > 1:
            raise Defect(f"verdicts {verdicts} on {what}: {asked}")
        if not asked.faults and verdicts[0] != "ok":
            raise Defect(f"refused a good request: {what}: {said[0][1]!r}")
        if verdicts[0] == "ok" and not {*asked.faults} <= HARMLESS:
            raise Defect(f"answered a wrong request: {what}: {asked}")
        if verdicts[0] == "ok":
            values = [_outputs(answer) for _, answer in said]
            if any(one != values[0] for one in values):
                raise Defect(f"answers differ on {what}: {values}")

    # --- in between

    def _logical(self) -> Logical:
        return make_logical(self._random, self._models)

    def _good_ones(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            asked = self._logical()
            if asked.faults:
                continue
            if self._random.random() < 0.5:
                found.append(frame(asked.path, as_json(asked, self._random), None))
            else:
                found.append(frame(asked.path, *as_binary(asked)))
        return found

    def _ask_good(self) -> None:
        good = self._good_ones(1)
        for wire in (self._wire, Wire(self._port)):
            (reply,) = wire.ask_all(good)
            self._count("good", [reply.code])
            if reply.code != "ok":
                raise Defect(f"refused a good request: {reply.body!r}")
            if wire is not self._wire:
                wire.close()

    def _stream(self, kind: str, requests: list[bytes]) -> None:
        replies = stream(self._port, b"".join(requests))
        self._count(kind, [reply.code or "bodiless" for reply in replies] or ["closed"])

    def _count(self, kind: str, codes: list[str]) -> None:
        self.report.asked[kind] += len(codes)
        self.report.codes.update(codes)


def _outputs(answer: Any) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Return the bits of an answer in whatever encoding."""
    if isinstance(answer, bytes):
        return {
            output["name"]: (tuple(output["shape"]), _bits(output["data"], output["datatype"]))
            for output in orjson.loads(answer)["outputs"]
        }
    found = {}
    for n, output in enumerate(answer.outputs):
        kind, shape = output.datatype, tuple(output.shape)
        if answer.raw_output_contents:
            raw = answer.raw_output_contents[n]
            found[output.name] = (shape, _bits(decode(raw, kind, int(np.prod(shape))), kind, raw))
            continue
        elements = list(getattr(output.contents, FIELDS[kind]))
        if kind == "BYTES":
            elements = [text.decode() for text in elements]
        found[output.name] = (shape, _bits(elements, kind))
    return found


def _bits(values: Any, kind: str, raw: bytes | None = None) -> bytes:
    if kind == "BYTES":
        return orjson.dumps(list(values))
    if raw is not None:
        return raw
    if kind == "BF16":
        return float_to_bf16(np.array(values, np.float32)).tobytes()
    return np.array(values, DTYPES[kind]).tobytes()  # type: ignore[index]


@contextmanager
def own_host() -> Iterator[tuple[int, int]]:
    """Start a host of paper models in a process of its own; give its ports."""
    command = [sys.executable, "-m", "tests.fuzz.host"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        port, grpc_port = map(int, process.stdout.readline().split())
        try:
            yield port, grpc_port
            assert process.poll() is None, "the host has died"
        finally:
            process.stdin.close()
    assert process.returncode == 0, "the host met what nobody handled"


OWN_MODELS = [*(f"m-{kind.lower()}" for kind in DTYPES), "flat", "free", "two"]


def fuzz(count: int, seed: int, port: int, grpc_port: int | None, models: list[str]) -> Report:
    """Ask a host; return what came of it."""
    fuzzer = Fuzzer(port, grpc_port, seed, models)
    try:
        return fuzzer.run(count)
    finally:
        fuzzer.close()


def main() -> None:
    """Ask; exit with 1 if there were defects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50_000, help="requests")
    parser.add_argument("--seed", type=int, default=1, help="another one asks others")
    parser.add_argument("--port", type=int, help="a host that runs; without, one is started")
    parser.add_argument("--grpc-port", type=int, help="its gRPC port")
    parser.add_argument("--model", action="append", help="a model of it; may be given again")
    asked = parser.parse_args()
    if asked.port:
        report = fuzz(asked.count, asked.seed, asked.port, asked.grpc_port, asked.model)
    else:
        with own_host() as (port, grpc_port):
            report = fuzz(asked.count, asked.seed, port, grpc_port, OWN_MODELS)
    sys.stdout.write(f"{report}\n")
    sys.exit(bool(report.defects))


if __name__ == "__main__":
    main()
