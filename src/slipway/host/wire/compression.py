"""Unpack what came compressed, to a limit: a few bytes can stand for very many."""

import zlib

from slipway.host.request.refusal import RequestRefused, bad_request


def unpack(body: bytes | bytearray, encoding: bytes, size_max: int) -> bytes | bytearray:
    """Decompress a body; raise RequestRefused for a damaged one, or one that grows too large."""
    encoding = encoding.lower()
    if encoding == b"identity":
        return body
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == b"gzip" else zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(body, size_max + 1)
    except zlib.error:
        raise bad_request("the body is not what Content-Encoding says") from None
    if len(data) > size_max:
        raise too_large(size_max)
    if not unpacker.eof or unpacker.unused_data:
        raise bad_request("the body is not what Content-Encoding says")
    return data


def too_large(size_max: int) -> RequestRefused:
    """Make the refusal of a body over the limit."""
    return RequestRefused("too_large", f"the body has more than {size_max} bytes")
