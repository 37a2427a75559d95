"""The hosts of a fleet speak gRPC on the ports that its file gives, and `status` tells them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.fleet_site import MODEL, Site, running_site
from tests.grpc_host import make_request, message_class, method
from tests.system.test_fleet_guarded import Guarded

ROW: list[dict[str, Any]] = [
    {"name": "carrier", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"AA"]}},
    {"name": "delay", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [30.0]}},
]

PROBABILITY = 0.7310586
"""sigmoid(30 * 0.05 - 0.5)"""


def told(site: Site) -> dict[str, str]:
    """Return each host's gRPC address, as `status` tells it to machines."""
    command = [sys.executable, "-m", "slipway.cli", "status", "--json"]
    shown = subprocess.run(command, cwd=site.root, capture_output=True, check=True, timeout=120)
    return {host["name"]: host["grpc"] for host in json.loads(shown.stdout)["hosts"]}


def check_answers(channel: grpc.Channel, version: str, *metadata: tuple[str, str]) -> None:
    request = make_request(model_name=MODEL, inputs=ROW, raw_input_contents=[])
    answer = method(channel, "ModelInfer")(request, timeout=60, metadata=metadata)
    assert answer.model_version == version
    [output] = answer.outputs
    [value] = output.contents.fp32_contents
    assert value == pytest.approx(PROBABILITY, abs=1e-6)


def test_every_host_of_a_fleet_answers_over_grpc_where_status_says(tmp_path: Path):
    with running_site(tmp_path / "project") as site:
        version = site.publish()
        site.release(version)
        addresses = told(site)
        assert addresses == {host.name: host.grpc for host in site.fleet.hosts}
        for address in addresses.values():
            with grpc.insecure_channel(address) as channel:
                asked = message_class("ServerReadyRequest")()
                assert method(channel, "ServerReady")(asked, timeout=60).ready
                check_answers(channel, version)


def test_a_guarded_fleet_answers_over_grpc_with_tls_to_those_who_have_a_key(tmp_path: Path):
    guarded = Guarded(tmp_path / "project")
    site = guarded.site
    try:
        site.up()
        version = site.publish()
        site.release(version)
        authority = grpc.ssl_channel_credentials((guarded.folder / "tls.crt").read_bytes())
        for address in told(site).values():
            with grpc.secure_channel(address, authority) as channel:
                check_answers(channel, version, ("authorization", f"Bearer {guarded.secrets[0]}"))
                with pytest.raises(grpc.RpcError) as caught:
                    check_answers(channel, version)
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    finally:
        site.down()
