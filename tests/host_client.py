"""What every host client must do, the fake one and the real one alike."""

import json

import numpy as np

from slipway.fleet.client import HostClient
from slipway.fleet.inventory import Host

BODY = json.dumps(
    {
        "inputs": [
            {"name": "carrier", "datatype": "BYTES", "shape": [2], "data": ["AA", None]},
            {"name": "delay", "datatype": "FP32", "shape": [2], "data": [30.0, None]},
        ]
    }
).encode()


def check_serving(client: HostClient, host: Host, model: str, version: str) -> None:
    """Check a host that serves `version` of the tests' model."""
    status = client.status(host)
    assert status is not None
    assert (status.name, status.ready, status.models[model].stable) == (host.name, True, version)
    for asked in (None, version, version[:12]):
        answer = client.infer(host, model, BODY, key="k", version=asked)
        assert (answer.error, answer.version) == (None, version)
        assert answer.latency_ms > 0
        # sigmoid(30 * 0.05 - 0.5) and sigmoid(10 * 0.05 + 0.25)
        expected = [0.7310586, 0.6791787]
        np.testing.assert_allclose(answer.outputs["probability"], expected, atol=1e-6)


def check_refusals(client: HostClient, host: Host, model: str) -> None:
    """Check what a host that serves does not answer: an error in place of an answer."""
    for asked_model, version in ((model, "0" * 64), ("nothing", None)):
        answer = client.infer(host, asked_model, BODY, key="k", version=version)
        assert answer.version is None
        assert answer.error is not None
        assert "404" in answer.error


def check_down(client: HostClient, host: Host, model: str) -> None:
    """Check a host that does not run."""
    assert client.status(host) is None
    answer = client.infer(host, model, BODY, key="k", version=None)
    assert answer.version is None
    assert answer.error is not None
    assert "Connect" in answer.error
