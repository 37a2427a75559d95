"""FastAPI by somebody who cares: bodies read and written by hand, the model run on the loop.

No pydantic model for the row, and no plain `def`, which FastAPI would call in its thread pool.
"""

import uvicorn
from byhand import BYTES, FLAT, JSON, RAW, open_run, read_flat, read_raw, write_flat
from fastapi import FastAPI, Request, Response
from settings import PORT, WORKERS

app, run = FastAPI(), open_run()


@app.post(FLAT)
async def answer_flat(request: Request) -> Response:
    """Answer JSON with JSON."""
    y = run(read_flat(await request.body()))[0]
    return Response(write_flat(y), media_type=JSON)


@app.post(RAW)
async def answer_raw(request: Request) -> Response:
    """Answer bytes with bytes."""
    y = run(read_raw(await request.body()))
    return Response(y.tobytes(), media_type=BYTES)


if __name__ == "__main__":
    uvicorn.run(
        "serve_fastapi:app", host="127.0.0.1", port=PORT, workers=WORKERS, loop="uvloop",
        http="httptools", access_log=False, log_level="warning",
    )  # fmt: skip
