"""The file of API keys: who may ask for what. It holds no secret, only what one is known by.

A secret is 256 random bits, so its plain SHA-256 is enough: slow hashes and salts protect
what people can remember and others can guess, and would cost each request milliseconds. The
file is replaced whole, under a lock on its folder, so two commands never lose each other's
work and the host never reads half of it.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from slipway.bundle.format import (
    Document,
    canonical_json,
    parse_document,
    sync_folder,
    write_durably,
)
from slipway.errors import KEY_PREFIX, SlipwayError
from slipway.guarded_files import SECRET, read_guarded
from slipway.host.guard.policy import Scope
from slipway.host.guard.rate import RateLimits
from slipway.host.request.routes import NAME


class ApiKey(Document):
    """One key, as the file has it."""

    id: str = Field(pattern=rf"^{NAME.decode()}$")
    """Its name in metrics, logs and audit."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """What the secret is known by."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    """What it may ask for: infer, metadata, metrics, admin."""
    models: tuple[str, ...] | None = None
    """The models it may ask; null: every one."""
    rate_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Rows per second on average; null: no limit."""
    burst: int | None = Field(default=None, ge=1)
    """Rows at once after a pause; null: those of one second, at least one."""
    quota_rows_per_day: int | None = Field(default=None, ge=1)
    """Rows per UTC day; null: no limit."""
    expires: AwareDatetime | None = None
    """When it ends, with a zone; null: never."""

    @model_validator(mode="after")
    def _burst_belongs_to_a_rate(self) -> Self:
        if self.burst is not None and self.rate_per_s is None:
            raise ValueError("burst needs rate_per_s")
        return self

    @property
    def limits(self) -> RateLimits | None:
        """What its meter holds it to; None: nothing is metered."""
        if self.rate_per_s is None and self.quota_rows_per_day is None:
            return None
        rate = self.rate_per_s
        burst = self.burst or max(1, int(rate or 1))
        return RateLimits(rate, burst, self.quota_rows_per_day)

    def expired(self, now: datetime) -> bool:
        """Tell whether it means nobody any more."""
        return self.expires is not None and self.expires <= now


class KeyFile(Document):
    """The whole file."""

    keys: tuple[ApiKey, ...] = ()
    """Ids and secrets are unique among them."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for what, values in (
            ("id", [key.id for key in self.keys]),
            ("sha256", [key.sha256 for key in self.keys]),
        ):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} {twice[0]!r} is given to two keys")
        return self


def new_secret() -> str:
    """Make the secret of one key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(secret: bytes) -> str:
    """Return what a secret is known by."""
    return hashlib.sha256(secret).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read the file; raise SlipwayError if others could read it or anything in it is wrong."""
    data = read_guarded(path, SECRET)
    try:
        return parse_document(KeyFile, data).keys
    except ValueError as error:
        raise SlipwayError(f"{path}: {' '.join(str(error).split())}") from None


def add_key(path: Path, key: ApiKey) -> None:
    """Add a key to the file, which is made if it is missing; refuse a name that is taken."""
    with _locked(path.parent):
        keys = read_keys(path) if path.exists() else ()
        if any(other.id == key.id for other in keys):
            raise SlipwayError(f"{path}: {key.id!r} is there already; revoke it or take another")
        _write(path, (*keys, key))


def revoke_key(path: Path, name: str) -> None:
    """Remove a key from the file; refuse a name that is not there."""
    with _locked(path.parent):
        keys = read_keys(path)
        rest = tuple(key for key in keys if key.id != name)
        if len(rest) == len(keys):
            near = get_close_matches(name, [key.id for key in keys], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SlipwayError(f"{path}: there is no key {name!r}{hint}")
        _write(path, rest)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which needs no lock file that somebody would tidy away."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SlipwayError(f"{folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Replace the file; owner, group and mode stay, or the host could not read it any more."""
    draft = path.with_name(f".{path.name}.draft")
    document = KeyFile(keys=keys).model_dump(mode="json")
    try:
        write_durably(draft, canonical_json(document), mode=0o600)
        if path.exists():
            before = path.stat()
            os.chown(draft, before.st_uid, before.st_gid)
            draft.chmod(stat.S_IMODE(before.st_mode))
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SlipwayError(f"{path}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
