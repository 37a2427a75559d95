"""The messages of the `.proto` files, in a pool of their own.

Clients of this protocol register its names in the process-wide pool, each with its own idea of
them, and the second to come would be refused. A pool of our own also needs no generated Python.
"""

from importlib import resources
from typing import Any, Final

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from slipway.host.request.refusal import bad_request

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = "grpc.reflection.v1.ServerReflection"


def _fill_pool() -> DescriptorPool:
    pool = DescriptorPool()
    compiled = resources.files(__package__).joinpath("protocol.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


POOL: Final = _fill_pool()


def message_class(name: str, package: str = "inference") -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{package}.{name}"))


def parse(kind: Any, body: bytes) -> Any:
    """Read a message; raise RequestRefused on bytes that are none."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise bad_request(f"the message is no {kind.DESCRIPTOR.full_name}") from None
