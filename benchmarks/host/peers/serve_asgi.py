"""uvicorn and ASGI without a framework."""

import uvicorn
from byhand import BYTES, FLAT, JSON, RAW, open_run, read_flat, read_raw, write_flat
from settings import PORT, WORKERS

run = open_run()


def answer_flat(body):
    """Answer JSON with JSON."""
    return JSON, write_flat(run(read_flat(body))[0])


def answer_raw(body):
    """Answer bytes with bytes."""
    return BYTES, run(read_raw(body)).tobytes()


ANSWERS = {FLAT: answer_flat, RAW: answer_raw}


async def app(scope, receive, send):
    """Answer one request."""
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    kind, answer = ANSWERS[scope["path"]](body)
    head = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        "serve_asgi:app", host="127.0.0.1", port=PORT, workers=WORKERS, loop="uvloop",
        http="httptools", lifespan="off", access_log=False, log_level="warning",
    )  # fmt: skip
