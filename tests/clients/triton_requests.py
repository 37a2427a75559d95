"""What tritonclient is asked over either protocol; the scripts beside this one import it."""

import numpy as np
from checks import Said, refused
from tritonclient.utils import InferenceServerException
from values import ROW, same, tensors


def say(error):
    return Said(error.status(), error.message())


def denied():
    """Expect a refusal."""
    return refused(InferenceServerException, say)


def expect(answer):
    """Expect every datatype back as it went."""
    for name, values in tensors().items():
        found = answer.as_numpy(f"out_{name}")
        assert same(found, values), (name, found, values)


class Requests:
    """Inputs and outputs, made by the classes of one protocol's client.

    `form` is what only the client for HTTP can be told: `binary_data`.
    """

    def __init__(self, client):
        self._client = client

    def make(self, name, datatype, values, **form):
        made = self._client.InferInput(name, list(values.shape), datatype)
        return made.set_data_from_numpy(values, **form)

    def row(self, values=ROW, **form):
        """Ask `mlp` about rows."""
        return [self.make("x", "FP32", values, **form)]

    def give(self, **form):
        """Ask `types` with every datatype."""
        return [self.make(f"in_{name}", name, v, **form) for name, v in tensors().items()]

    def want(self, **form):
        """Ask it for every output."""
        return [self._client.InferRequestedOutput(f"out_{name}", **form) for name in tensors()]

    def refusals(self):
        """Return model, inputs and options of calls: those to nowhere, and those that are wrong."""
        row, output = self.row, self._client.InferRequestedOutput
        shared = self._client.InferInput("x", [1, 64], "FP32").set_shared_memory("r", 256)
        nowhere = [("nope", row(), {}), ("mlp", row(), {"model_version": "f" * 64})]
        wrong = [
            ("mlp", row(ROW[:, :63]), {}),
            ("mlp", [self.make("x", "FP64", ROW.astype(np.float64))], {}),
            ("mlp", [self.make("z", "FP32", ROW)], {}),
            ("types", self.give()[:5], {}),
            ("mlp", row(), {"outputs": [output("nope")]}),
            ("mlp", row(), {"outputs": [output("y", class_count=3)]}),
            ("mlp", row(np.full((1, 64), np.nan, np.float32)), {}),
            ("mlp", row(np.repeat(ROW, 65, 0)), {}),
            ("mlp", [shared], {}),
        ]
        return nowhere, wrong

    def expect_refusals(self, connected, not_found, bad_request):
        """Expect each of them refused with its status, and the next call answered."""
        for status, calls in zip((not_found, bad_request), self.refusals(), strict=True):
            for model, inputs, more in calls:
                with denied() as refusal:
                    connected.infer(model, inputs, **more)
                assert refusal.status == status, (refusal.said, model, more)
                assert refusal.message
        self.expect_row(connected)

    def expect_row(self, connected, **more):
        """Expect one row answered."""
        assert connected.infer("mlp", self.row(), **more).as_numpy("y").shape == (1, 10)

    def expect_parameters(self, connected, **more):
        """Expect a row answered whatever else is said."""
        said = {"a": "b", "c": 3, "d": True}
        self.expect_row(connected, priority=1, timeout=10**7, parameters=said, **more)
        self.expect_row(connected, priority=2)


def expect_refused(calls, *statuses):
    """Expect calls of which the host does nothing."""
    for call in calls:
        with denied() as refusal:
            call()
        assert refusal.status in statuses, refusal.said
