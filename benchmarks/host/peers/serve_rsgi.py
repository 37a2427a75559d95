"""granian's own interface RSGI: a ready-made HTTP server in Rust, and next to nothing in Python."""

from byhand import BYTES, FLAT, JSON, RAW, open_run, read_flat, read_raw, write_flat
from granian import Granian
from settings import PORT, WORKERS

run = open_run()


async def answer_flat(protocol):
    """Answer JSON with JSON."""
    y = run(read_flat(await protocol()))[0]
    protocol.response_bytes(200, [("content-type", JSON)], write_flat(y))


async def answer_raw(protocol):
    """Answer bytes with bytes."""
    y = run(read_raw(await protocol()))
    protocol.response_bytes(200, [("content-type", BYTES)], y.tobytes())


ANSWERS = {FLAT: answer_flat, RAW: answer_raw}


async def app(scope, protocol):
    """Answer one request."""
    await ANSWERS[scope.path](protocol)


if __name__ == "__main__":
    Granian(
        "serve_rsgi:app", address="127.0.0.1", port=PORT, interface="rsgi", loop="uvloop",
        workers=WORKERS, log_access=False,
    ).serve()  # fmt: skip
