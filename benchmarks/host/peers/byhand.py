"""One row in, one row out, for the peers that are written by hand.

Two paths: `/flat` takes and gives JSON, `/raw` the bytes of little-endian numbers. Both are as
cheap as Python libraries make them: no schema, no names, no versions, no errors.
"""

from collections.abc import Callable

import numpy as np
import orjson
from settings import SPEC, open_model

FLAT, RAW = "/flat", "/raw"
JSON, BYTES = "application/json", "application/octet-stream"
SHAPE = (1, *SPEC.shape)


def read_flat(body: bytes) -> np.ndarray:
    """Read a row's numbers out of JSON."""
    return np.array(orjson.loads(body)["data"], SPEC.dtype).reshape(SHAPE)


def read_raw(body: bytes) -> np.ndarray:
    """Take a row's numbers as they lie."""
    return np.frombuffer(body, SPEC.dtype).reshape(SHAPE)


def write_flat(y: np.ndarray) -> bytes:
    """Write one row's answer as JSON."""
    return orjson.dumps({"y": y}, option=orjson.OPT_SERIALIZE_NUMPY)


def open_run() -> Callable[[np.ndarray], np.ndarray]:
    """Open the model; return the function that runs it."""
    session = open_model()
    return lambda x: session.run(None, {SPEC.input: x})[0]
