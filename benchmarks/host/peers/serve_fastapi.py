"""FastAPI, uvicorn and ONNX Runtime without batching: what most people write by hand."""

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from settings import PORT, SPEC, WORKERS, open_model

app, model = FastAPI(), open_model()


class Row(BaseModel):
    """One row, flattened."""

    data: list[float]


@app.post("/predict")
def predict(row: Row) -> dict[str, list[float]]:
    """Run one row; a plain def, so FastAPI calls it in its thread pool."""
    x = np.array(row.data, SPEC.dtype).reshape(1, *SPEC.shape)
    return {"y": model.run(None, {SPEC.input: x})[0][0].tolist()}


if __name__ == "__main__":
    uvicorn.run(
        "serve_fastapi:app", host="127.0.0.1", port=PORT, workers=WORKERS,
        access_log=False, log_level="warning",
    )  # fmt: skip
