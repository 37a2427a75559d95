"""What the host and its models say about themselves, in the protocol's words."""

from typing import Any, Final

from slipway import __version__
from slipway.host.answer.call import Loaded
from slipway.host.answer.core import Core
from slipway.host.wire.grpc.schema import message_class, parse
from slipway.host.wire.grpc.stream import Stream
from slipway.host.wire.metadata import (
    EXTENSIONS,
    PLATFORM,
    describe_tensors,
    make_config,
    statistics,
)

ModelRequest: Final = message_class("ModelMetadataRequest")
"""ModelReady, ModelConfig and ModelStatistics ask with the same two fields."""

LiveResponse: Final = message_class("ServerLiveResponse")
ReadyResponse: Final = message_class("ServerReadyResponse")
ServerResponse: Final = message_class("ServerMetadataResponse")
ModelResponse: Final = message_class("ModelMetadataResponse")
ModelReadyResponse: Final = message_class("ModelReadyResponse")
StatisticsResponse: Final = message_class("ModelStatisticsResponse")
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
            inputs=describe_tensors(loaded.contract.inputs),
            outputs=describe_tensors(loaded.contract.outputs),
        )

    def model_ready(self, stream: Stream, body: bytes) -> Any:
        """Say whether a model, or one version of it, answers."""
        return ModelReadyResponse(ready=self._core.pick(*self._asked(stream, body)) is not None)

    def config(self, stream: Stream, body: bytes) -> Any:
        """Describe a model as Triton's clients want it."""
        name, loaded = self.serving(stream, body)
        return ConfigResponse(config=make_config(name, loaded.contract))

    def statistics(self, stream: Stream, body: bytes) -> Any:
        """Tell how often a version answered, and how long its requests took."""
        return StatisticsResponse(model_stats=[statistics(*self.serving(stream, body))])

    def serving(self, stream: Stream, body: bytes) -> tuple[str, Loaded]:
        """Return the version that a request means, which the caller may know about."""
        name, version = self._asked(stream, body)
        return name, self._core.get(name, version)

    def _asked(self, stream: Stream, body: bytes) -> tuple[str, str | None]:
        request = parse(ModelRequest, body)
        stream.head.permit("metadata", request.name)
        return request.name, request.version or None
