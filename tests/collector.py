"""An OTLP/HTTP collector on a local socket that decodes what it is sent."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import wait_until


class Collector:
    """Keeps the raw bodies and headers, and the spans by name."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        keep = self._keep

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(
                    str(self.headers).encode(), self.rfile.read(int(self.headers["Content-Length"]))
                )
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def wait(self, spans: int) -> list[Any]:
        """Return the spans when there are so many."""
        wait_until(lambda: len(self.spans) >= spans, lambda: f"{spans} spans: {self.spans}", 5)
        return self.spans

    def named(self, name: str) -> list[Any]:
        """Return the spans of one name, the earliest first."""
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _keep(self, headers: bytes, body: bytes) -> None:
        self.raw += [headers, body]
        request = ExportTraceServiceRequest.FromString(body)
        for resource_spans in request.resource_spans:
            self.resource |= {
                pair.key: pair.value.string_value for pair in resource_spans.resource.attributes
            }
            for scope in resource_spans.scope_spans:
                self.spans += scope.spans


def attributes(span: Any) -> dict[str, str | int]:
    """Return a span's attributes."""
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
