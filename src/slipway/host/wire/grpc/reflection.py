"""The standard reflection service: tell clients without `.proto` files what can be called."""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf import descriptor_pb2

from slipway.host.wire.grpc.schema import HEALTH, POOL, REFLECTION, SERVICE, message_class, parse
from slipway.host.wire.grpc.status import Status
from slipway.host.wire.grpc.stream import Stream

PACKAGE: Final = REFLECTION.rpartition(".")[0]

Request: Final = message_class("ServerReflectionRequest", PACKAGE)
Response: Final = message_class("ServerReflectionResponse", PACKAGE)


def _find_symbol(name: str) -> Any:
    """Return the file of a message, a service or a method, which the pool finds by its service."""
    try:
        return POOL.FindFileContainingSymbol(name)
    except KeyError:
        service, _, method = name.rpartition(".")
        return POOL.FindServiceByName(service).methods_by_name[method].containing_service.file


FINDERS: Final[dict[str, Callable[[str], Any]]] = {
    "file_by_filename": POOL.FindFileByName,
    "file_containing_symbol": _find_symbol,
}


def reflect(stream: Stream, body: bytes) -> Any:
    """Answer one question. No message here has extensions, so none is ever found."""
    stream.head.permit("metadata")
    request = parse(Request, body)
    asked = request.WhichOneof("message_request")
    response = Response(valid_host=request.host, original_request=request)
    if asked == "list_services":
        for name in (SERVICE, HEALTH, REFLECTION):
            response.list_services_response.service.add(name=name)
        return response
    try:
        found = FINDERS[asked](getattr(request, asked))
    except KeyError:
        response.error_response.error_code = Status.NOT_FOUND
        response.error_response.error_message = "there is no such file or symbol"
        return response
    file = descriptor_pb2.FileDescriptorProto()
    found.CopyToProto(file)
    response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
    return response
