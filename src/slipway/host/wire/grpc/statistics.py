"""What was counted about a model: the same figures as the REST face gives, in another form."""

from typing import Any, Final

from slipway.host.wire.grpc.describe import Description
from slipway.host.wire.grpc.schema import message_class
from slipway.host.wire.grpc.stream import Stream
from slipway.host.wire.http.rest import statistics

Response: Final = message_class("ModelStatisticsResponse")


def count(description: Description, stream: Stream, body: bytes) -> Any:
    """Tell how often a version answered, and how long its requests took."""
    name, loaded = description.serving(stream, body)
    return Response(model_stats=[statistics(name, loaded)])
