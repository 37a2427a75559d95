"""Log lines are JSON, and what cannot be written is counted."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from slipway.host.observe.logs import BackgroundHandler, start_logging


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("slipway", "opentelemetry")]
    before = [(one, one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_our_lines_and_opentelemetrys_warnings_are_json() -> None:
    text = io.StringIO()
    handler = start_logging(text)
    logging.getLogger("slipway.host").info("begun\r\n\x1b[0m", extra={"model": "m"})
    logging.getLogger("opentelemetry.exporter").warning("no collector")
    logging.getLogger("opentelemetry.exporter").info("chatter")
    handler.close()
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["begun\r\n\x1b[0m", "no collector"]
    assert lines[0]["model"] == "m"
    assert "\x1b" not in text.getvalue()


def test_lines_that_a_closed_stream_did_not_take_are_counted() -> None:
    text = io.StringIO()
    text.close()
    handler: BackgroundHandler = start_logging(text)
    logging.getLogger("slipway").info("one")
    logging.getLogger("slipway").info("two")
    handler.close()
    assert handler.dropped == 2
