"""Tell on stdout what a run came to: gates, version, hosts, and an answer fetched just now."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from slipway.bundle.contract import read_contract
from slipway.bundle.gate import SIGNS
from slipway.bundle.golden import read_golden, take
from slipway.bundle.request import write_request
from slipway.errors import SlipwayError
from slipway.fleet.credentials import CallerKeyFile, Stranger, trust
from slipway.fleet.inventory import NO_CREDENTIALS, Credentials
from slipway.runs.run import GateResult, Run
from slipway.wording import compact

ANSWER_TIMEOUT_S = 10


def summary(run: Run, report: Path, payload: Path, credentials: Credentials) -> str:
    """Write the summary of a completed run; asks the first host one golden row over HTTP."""
    assert run.version is not None
    parts = [
        gate_table(run.gates, run.precision),
        f"version  {run.version}  ({run.precision})",
    ]
    if run.release is not None:
        parts.append(f"release  {run.release.decision}: {run.release.reason}")
    parts += [f"host {host.name}   {host.url}" for host in run.hosts]
    if run.hosts:
        url = f"{run.hosts[0].url}/v2/models/{run.pipeline}/infer"
        body = golden_request(payload)
        reply = answer(url, body, credentials)
        parts += ["", curl(url, body, credentials), f"  -> {reply}", ""]
    parts.append(f"report   {report}")
    if run.hosts:
        parts.append(f"stop the hosts with: {_command()} fleet down {run.fleet}")
    return "\n".join(parts)


def _command() -> str:
    """Name the command so that it can be typed: the checkout's environment need not be active."""
    environment = Path(sys.prefix)
    if environment.is_relative_to(Path.cwd()):
        return f"{environment.relative_to(Path.cwd())}/bin/slipway"
    return "slipway"


def gate_table(gates: Sequence[GateResult], chosen: str | None) -> str:
    """Lay out every gate: what was measured, its limit, the verdict; the chosen form's first."""
    rows = [("precision", "gate", "measured", "limit", "verdict")]
    rows += [
        (
            gate.precision,
            gate.gate.replace("_", " "),
            compact(gate.measured),
            f"{SIGNS.get(gate.bound, '')} {compact(gate.limit)}".strip(),
            gate.verdict,
        )
        for gate in sorted(gates, key=lambda g: (g.precision != chosen, g.precision))
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], ""])


def golden_request(payload: Path) -> bytes:
    """Write the V2 request that asks for the first golden row."""
    golden = read_golden(payload / "golden.arrow")
    contract = read_contract(payload / "contract.json")
    return write_request(take(golden.inputs, slice(0, 1)), contract, binary=False).data


def curl(url: str, body: bytes, credentials: Credentials = NO_CREDENTIALS) -> str:
    """Spell the request out for a shell; a secret is read by it, and is no program's argument."""
    words = ["curl", "-s", shlex.quote(url), "-H", "'Content-Type: application/json'"]
    if credentials.ca is not None:
        words += ["--cacert", shlex.quote(str(credentials.ca))]
    if credentials.key_file is not None:
        secret = f'"$(cat {shlex.quote(str(credentials.key_file))})"'
        words = ["printf", "'Authorization: Bearer %s'", secret, "|", *words, "-H", "@-"]
    return " ".join([*words, "-d", shlex.quote(body.decode())])


def answer(url: str, body: bytes, credentials: Credentials = NO_CREDENTIALS) -> str:
    """Send the request now and return the answer on one line."""
    key = CallerKeyFile(credentials.key_file)
    headers = {"Content-Type": "application/json", **key.header()}
    # over TLS a stranger would have to show a certificate
    extensions = {} if url.startswith("https:") else {"trace": key.look}
    try:
        # a proxy in the environment must not see a request to this machine
        with httpx.Client(trust_env=False, verify=trust(credentials.ca)) as http:
            reply = http.post(
                url, content=body, headers=headers, timeout=ANSWER_TIMEOUT_S, extensions=extensions
            )
        return json.dumps(reply.raise_for_status().json())
    except (httpx.HTTPError, ValueError, Stranger) as error:
        raise SlipwayError(f"the released host did not answer {url}: {error}") from None
