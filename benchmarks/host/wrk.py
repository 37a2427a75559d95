"""Closed-loop load with wrk: each connection sends when its last answer has come.

wrk is fast enough to share two cores with a fast server, and its latency figures are filled up
for late answers. It cannot overload a server: for that there is openload.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.host.machine import pass_priority_on

SCRIPT = """
local body = io.open("%(body)s", "rb"); wrk.body = body:read("*a"); body:close()
wrk.method = "POST"
%(headers)s
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '@{"count":%%d,"us":%%d,"p50":%%d,"p99":%%d,"max":%%d,"errors":%%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    rps: float
    """Requests per second that were answered with 2xx or 3xx."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    client_cpu_s: float


def run_wrk(
    url: str, request: tuple[dict[str, str], bytes], connections: int, seconds: int, folder: Path
) -> Load:
    """Send one request again and again for some seconds."""
    headers, body = request
    (folder / "body").write_bytes(body)
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = folder / "post.lua"
    script.write_text(SCRIPT % {"body": folder / "body", "headers": "\n".join(lines)})
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    with subprocess.Popen(
        ["wrk", *options, url], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as wrk:
        pass_priority_on(wrk.pid)
        text = wrk.stdout.read()
        _, status, used = os.wait4(wrk.pid, 0)
        wrk.returncode = os.waitstatus_to_exitcode(status)
    return parse(text, used.ru_utime + used.ru_stime)


def version() -> str:
    """Ask wrk which one it is."""
    told = subprocess.run(["wrk", "-v"], text=True, capture_output=True, check=False)
    return " ".join((told.stdout or told.stderr).split()[:2])


def parse(text: str, client_cpu_s: float) -> Load:
    """Read the line that the script printed."""
    if "@{" not in text:
        raise RuntimeError(f"wrk ended without a result: {text[-500:]!r}")
    seen = json.loads(text[text.index("@{") + 1 :].splitlines()[0])
    good = seen["count"] - seen["errors"]
    return Load(
        seen["count"], good / (seen["us"] / 1e6), seen["p50"] / 1e3, seen["p99"] / 1e3,
        seen["max"] / 1e3, seen["errors"], client_cpu_s,
    )  # fmt: skip
