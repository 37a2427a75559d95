"""What a peer is told through its environment; the bench sets it.

Every server serves one model, so all start under the same conditions.
"""

import os
from pathlib import Path
from typing import Any

from specs import SPECS, open_session

MODEL = os.environ.get("MODEL", "mlp")
PORT = int(os.environ.get("PORT", "9000"))
WORKERS = int(os.environ.get("WORKERS", "1"))
"""Processes that serve, where the peer can have several."""
MAX_BATCH = int(os.environ.get("MAX_BATCH", "32"))
DELAY_S = float(os.environ.get("DELAY_MS", "5")) / 1000
"""How long the peer's own batching may wait for more rows."""
SPEC = SPECS[MODEL]


def open_model() -> Any:
    """Open the session as the environment wants it."""
    folder = Path(os.environ.get("MODELS", "models"))
    return open_session(folder / f"{MODEL}.onnx", int(os.environ.get("ORT_THREADS", "1")))
