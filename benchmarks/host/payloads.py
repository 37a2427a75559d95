"""One request of each kind of API that is measured here, and the numbers in its answer.

flat     {"data": [v, v, ...]}              one row, flattened (by hand, LitServe, Ray)
raw      the row's bytes, both ways         (by hand)
rows     {"data": [[...row...]]}            a batch of rows, nested (BentoML)
json     Open Inference Protocol, numbers as JSON
binary   Open Inference Protocol with the binary tensor extension, both ways
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.host.peers.specs import SPECS, rows

HEADER_LENGTH = "Inference-Header-Content-Length"
DIGITS = 5
"""Decimals of a number in JSON: what a client that cares for size would send."""

Request = tuple[dict[str, str], bytes]


def request(model: str, payload: str, count: int = 1) -> Request:
    """Build headers and body of a request with `count` rows."""
    return FORMS[payload](model, rows(model, count))


def flat(model: str, x: np.ndarray) -> Request:
    """Write the first row only: these interfaces take one."""
    return document({"data": numbers(x[0].ravel())})


def raw(model: str, x: np.ndarray) -> Request:
    """Write the first row's bytes and nothing else."""
    return {"Content-Type": "application/octet-stream"}, x[0].tobytes()


def nested(model: str, x: np.ndarray) -> Request:
    """Write the rows as they are."""
    return document({"data": numbers(x)})


def v2_json(model: str, x: np.ndarray) -> Request:
    """Write one V2 tensor."""
    return document({"inputs": [tensor(model, x) | {"data": numbers(x.ravel())}]})


def v2_binary(model: str, x: np.ndarray) -> Request:
    """Write one V2 tensor after the JSON part, and ask for the answer in the same form."""
    described = tensor(model, x) | {"parameters": {"binary_data_size": x.nbytes}}
    head = {"inputs": [described], "parameters": {"binary_data_output": True}}
    text = compact(head)
    kind = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return kind, text + x.tobytes()


FORMS = {"flat": flat, "raw": raw, "rows": nested, "json": v2_json, "binary": v2_binary}


def tensor(model: str, x: np.ndarray) -> dict[str, Any]:
    """Describe the input as V2 wants it."""
    spec = SPECS[model]
    return {"name": spec.input, "shape": list(x.shape), "datatype": spec.datatype}


def numbers(x: np.ndarray) -> list[Any]:
    """Turn an array into lists of short numbers."""
    if x.dtype == np.int64:
        return x.tolist()
    return np.round(x.astype(np.float64), DIGITS).tolist()


def document(value: Any) -> Request:
    """Wrap a JSON body with its head."""
    return {"Content-Type": "application/json"}, compact(value)


def compact(value: Any) -> bytes:
    """Write JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def read_answer(payload: str, headers: Mapping[str, str], body: bytes) -> np.ndarray:
    """Take the output's numbers out of an answer; header names are in lower case."""
    if payload == "binary" and HEADER_LENGTH.lower() in headers:
        return np.frombuffer(body[int(headers[HEADER_LENGTH.lower()]) :], np.float32)
    if payload == "raw":
        return np.frombuffer(body, np.float32)
    answer = json.loads(body)
    if payload in ("json", "binary"):
        return np.ravel(answer["outputs"][0]["data"])
    return np.ravel(answer["y"] if isinstance(answer, dict) else answer)
