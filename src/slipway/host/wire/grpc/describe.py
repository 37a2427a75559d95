"""What the host and its models say about themselves, in the protocol's words."""

from collections.abc import Sequence
from typing import Any, Final

from slipway import __version__
from slipway.bundle.contract import Contract, InputTensor, OutputTensor
from slipway.host.answer.core import Core, Loaded
from slipway.host.request.refusal import RequestRefused
from slipway.host.wire.grpc.schema import message_class, parse
from slipway.host.wire.grpc.stream import Stream

EXTENSIONS: Final = ("binary_tensor_data", "model_configuration")
"""`statistics` are served and not named, for the reason that `rest.EXTENSIONS` gives."""

PLATFORM: Final = "onnxruntime_onnx"

TYPE_NAMES: Final = {"BYTES": "TYPE_STRING"}
"""Where a datatype's name in a model's configuration is not TYPE_ before its own."""

ModelRequest: Final = message_class("ModelMetadataRequest")
"""ModelReady, ModelConfig and ModelStatistics ask with the same two fields."""

LiveResponse: Final = message_class("ServerLiveResponse")
ReadyResponse: Final = message_class("ServerReadyResponse")
ServerResponse: Final = message_class("ServerMetadataResponse")
ModelResponse: Final = message_class("ModelMetadataResponse")
ModelReadyResponse: Final = message_class("ModelReadyResponse")
ConfigResponse: Final = message_class("ModelConfigResponse")


class Description:
    """Every method that runs no model."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def live(self, stream: Stream, body: bytes) -> Any:
        """Say that the process answers."""
        return LiveResponse(live=True)

    def ready(self, stream: Stream, body: bytes) -> Any:
        """Say whether every model serves what its channel wants."""
        return ReadyResponse(ready=self._core.ready and not self._core.draining)

    def server(self, stream: Stream, body: bytes) -> Any:
        """Name the host and what it can do."""
        stream.head.permit("metadata")
        return ServerResponse(name="slipway", version=__version__, extensions=EXTENSIONS)

    def model(self, stream: Stream, body: bytes) -> Any:
        """Describe a model's tensors by its contract."""
        name, loaded = self.serving(stream, body)
        return ModelResponse(
            name=name,
            versions=[other.version for other in self._core.find(name).versions],
            platform=PLATFORM,
            inputs=_tensors(loaded.contract.inputs),
            outputs=_tensors(loaded.contract.outputs),
        )

    def model_ready(self, stream: Stream, body: bytes) -> Any:
        """Say whether a model, or one version of it, answers."""
        return ModelReadyResponse(ready=self._pick(stream, body)[1] is not None)

    def config(self, stream: Stream, body: bytes) -> Any:
        """Describe a model as Triton's clients want it."""
        name, loaded = self.serving(stream, body)
        return ConfigResponse(config=make_config(name, loaded.contract))

    def serving(self, stream: Stream, body: bytes) -> tuple[str, Loaded]:
        """Return the version that a request means, which the caller may know about."""
        name, loaded = self._pick(stream, body)
        if loaded is None:
            raise RequestRefused("not_ready", "this model has no stable version here yet")
        return name, loaded

    def _pick(self, stream: Stream, body: bytes) -> tuple[str, Loaded | None]:
        request = parse(ModelRequest, body)
        stream.head.permit("metadata", request.name)
        if request.version:
            return request.name, self._core.find_version(request.name, request.version)
        return request.name, self._core.find(request.name).stable


def make_config(name: str, contract: Contract) -> dict[str, Any]:
    """Return a model's configuration.

    Where rows can be batched their dimension is left out of the shapes, as Triton does it. A
    tensor that has no other dimension would be left with none, which its clients do not take:
    such a model is described as it is, without batching.
    """
    shapes = [t.shape for t in contract.inputs] + [t.shape for t in contract.outputs]
    batched = contract.batchable and min(map(len, shapes)) > 1
    skip = 1 if batched else 0
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": contract.max_rows if batched else 0,
        "input": [_config_tensor(tensor, skip) for tensor in contract.inputs],
        "output": [_config_tensor(tensor, skip) for tensor in contract.outputs],
    }


def _config_tensor(tensor: InputTensor | OutputTensor, skip: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": TYPE_NAMES.get(tensor.datatype, f"TYPE_{tensor.datatype}"),
        "dims": tensor.shape[skip:],
    }


def _tensors(tensors: Sequence[InputTensor | OutputTensor]) -> list[dict[str, Any]]:
    return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in tensors]
