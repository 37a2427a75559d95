"""How files of a bundle are written and read: JSON in one form, durably, or refused."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from slipway.errors import BundleRefused

MAX_JSON_BYTES = 16_000_000
"""The largest JSON file that is parsed; an SBOM of hundreds of packages takes a tenth of it."""

VERSION = re.compile(r"[0-9a-f]{64}")


class Document(BaseModel):
    """A frozen JSON document that knows all of its keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


D = TypeVar("D", bound=BaseModel)


def canonical_json(value: Any) -> bytes:
    """Write JSON in the one form that its digest is taken of."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_json(data: bytes) -> Any:
    """Read JSON as RFC 8259 has it: no NaN, no key given twice; raise ValueError otherwise.

    Two parsers that disagree on which of two equal keys counts can be played off against
    each other, so such a document has no meaning here.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data):,} bytes, at most {MAX_JSON_BYTES:,} are read")
    try:
        text = data.decode()
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_document(model: type[D], data: bytes) -> D:
    """Read JSON into its model; raise ValueError with every problem on one line."""
    parse_json(data)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(e) for e in error.errors())) from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_version(text: str) -> str:
    """Return a full version, or refuse what is none."""
    if not VERSION.fullmatch(text):
        raise BundleRefused(f"{text!r} is no version: expected 64 lowercase hex digits")
    return text


def short(version: str) -> str:
    """Return the part of a version that people read."""
    return version[:12]


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Turn a ValueError from a file of a bundle into a refusal that names the file."""
    try:
        yield
    except ValueError as error:
        raise BundleRefused(f"{name}: {' '.join(str(error).split())}") from None


def write_durably(path: Path, data: bytes, *, exclusive: bool = False, mode: int = 0o644) -> None:
    """Write a file whole or not at all, and on the disk when this returns.

    With `exclusive`, an existing file stays and FileExistsError is raised.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if exclusive:
            os.link(part, path)  # fails if it exists, where a rename would overwrite
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk: without it a power cut undoes a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is given twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _explain(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
