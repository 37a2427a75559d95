"""Ask a host over HTTP, as somebody does who knows nothing of this project."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.pace import limit


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit(30))
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def sum_metric(text: str, name: str, **labels: str) -> float:
    """Sum the samples of a metric that carry these labels."""
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        wanted = all(f'{key}="{text}"' in series for key, text in labels.items())
        if series.partition("{")[0] == name and wanted:
            total += float(value)
    return total
