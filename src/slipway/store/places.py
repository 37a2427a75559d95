"""Where objects lie: a local folder, an SFTP server, an object store, whatever fsspec reaches.

Every place creates an object in one step, for one winner of a race, and never shows half of one:

    a folder         by a hard link, and fsync
    ssh, sftp        by a rename, which fails where the name is taken (SFTP 3, section 6.5; OpenSSH
                     links and unlinks), and fsync where the server offers it
    s3               by one conditional PUT (If-None-Match: *)
    everything else  as its driver does `pipe_file(mode="create")`; one that inherits it from
                     `AbstractFileSystem` looks first and writes then, which is safe for one
                     release at a time
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from fsspec.asyn import sync
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from slipway.bundle.format import sync_folder, write_durably
from slipway.errors import SlipwayError, may_pass

SSH: Final = frozenset({"ssh", "sftp"})
S3: Final = frozenset({"s3", "s3a"})
EXTRAS: Final = {**dict.fromkeys(SSH, "ssh"), **dict.fromkeys(S3, "s3")}
"""Which extra of ours installs a protocol's driver."""

ONE_PUT_BYTES = 5 << 30
"""The most that S3 takes in one request; what is sent in parts is created without a condition."""

CONFLICTS = 5
"""How often a PUT is sent again that S3 could not judge, as another one was at work (409)."""

SSH_OPTIONS: Final[Mapping[str, Any]] = {
    "skip_instance_cache": True,  # one that was kept may have lost its connection
    "known_hosts": (),  # asyncssh's word for ~/.ssh/known_hosts; sshfs would believe any server
    "timeout": 15,
    "keepalive_interval": 5,
    "keepalive_count_max": 3,
}

S3_OPTIONS: Final[Mapping[str, Any]] = {
    "skip_instance_cache": True,  # credentials may have changed since
    "use_listings_cache": False,  # a listing hides what others have written
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"total_max_attempts": 2},
    },
}


class Place(Protocol):
    """One place, with the driver that reads there."""

    fs: Any
    """fsspec's file system."""
    root: str
    """What every path there begins with."""

    @property
    def lost(self) -> bool:
        """Whether the connection is gone, so that only a new one can help."""

    def read(self, where: str, limit: int | None) -> bytes:
        """Return an object's bytes, at least `limit` + 1 of one that is larger than that."""

    def create(self, where: str, data: bytes) -> None:
        """Write what must not exist yet; raise FileExistsError to the loser of a race."""

    def replace(self, where: str, data: bytes) -> None:
        """Write an object whole, whatever was there before."""


def open_place(url: str) -> Place:
    """Open a place; raise SlipwayError where there is no driver for it."""
    protocol = split_protocol(url)[0] or "file"
    try:
        fs, root = url_to_fs(url, **options_for(protocol))
    except (ValueError, ImportError) as error:
        extra = EXTRAS.get(protocol)
        to_do = f". Type: pip install 'slipway-ml[{extra}]'" if extra else ""
        raise SlipwayError(f"{url}: {error}{to_do}") from None
    root = root.rstrip("/")
    if isinstance(fs, LocalFileSystem):
        return LocalPlace(fs, root)
    if protocol in SSH:
        return SftpPlace(fs, root)
    return ObjectPlace(fs, root, {"chunksize": ONE_PUT_BYTES} if protocol in S3 else {})


def options_for(protocol: str) -> Mapping[str, Any]:
    """Return what a driver must be told so that it neither waits for ever nor believes anybody."""
    if protocol in SSH:
        return SSH_OPTIONS
    return S3_OPTIONS if protocol in S3 else {"use_listings_cache": False}


def did_not_answer(error: BaseException) -> bool:
    """Tell whether a place could not be reached, from one that said no."""
    return may_pass(error) or any(
        f"{each.__module__}.{each.__name__}" in UNREACHABLE for each in type(error).__mro__
    )


UNREACHABLE: Final = frozenset(
    {
        "asyncssh.misc.ChannelOpenError",
        "asyncssh.misc.ConnectionLost",
        "asyncssh.sftp.SFTPConnectionLost",
        "asyncssh.sftp.SFTPNoConnection",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "fsspec.exceptions.FSTimeoutError",
    }
)
"""Errors of drivers that derive from none of Python's own for it."""


class Folder:
    """What is read through a handle, which goes on showing one object when another replaces it."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    @property
    def lost(self) -> bool:
        """There is no connection to lose."""
        return False

    def read(self, where: str, limit: int | None) -> bytes:
        """Read no more than one byte over the limit."""
        with self.fs.open(where, "rb") as file:
            data: bytes = file.read(-1 if limit is None else limit + 1)
        return data


class LocalPlace(Folder):
    """A folder of this machine, or one that is mounted."""

    def create(self, where: str, data: bytes) -> None:
        """Link a complete file to its name."""
        _make_folders(Path(where).parent)
        write_durably(Path(where), data, exclusive=True)

    def replace(self, where: str, data: bytes) -> None:
        """Rename a complete file over its name."""
        _make_folders(Path(where).parent)
        write_durably(Path(where), data, exclusive=False)


class SftpPlace(Folder):
    """A folder that an SSH server gives access to."""

    @property
    def lost(self) -> bool:
        """What sshfs raises then says nothing of it."""
        return bool(self.fs.client.is_closed())

    def create(self, where: str, data: bytes) -> None:
        """Rename a complete file to a name that must be free."""
        sync(self.fs.loop, self._put, where, data, exclusive=True)

    def replace(self, where: str, data: bytes) -> None:
        """Rename a complete file over its name, by OpenSSH's extension."""
        sync(self.fs.loop, self._put, where, data, exclusive=False)

    async def _put(self, where: str, data: bytes, *, exclusive: bool) -> None:
        from asyncssh import SFTPError, SFTPFailure, SFTPOpUnsupported

        path = PurePosixPath(where)
        aside = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}.part"))
        async with self.fs.client.start_sftp_client() as sftp:
            await sftp.makedirs(str(path.parent), exist_ok=True)
            try:
                async with sftp.open(aside, "xb") as file:
                    await file.write(data)
                    with suppress(SFTPOpUnsupported):
                        await file.fsync()
                await (sftp.rename if exclusive else sftp.posix_rename)(aside, where)
            except BaseException as error:
                with suppress(SFTPError):
                    await sftp.remove(aside)
                if exclusive and isinstance(error, SFTPFailure) and await sftp.exists(where):
                    raise FileExistsError(where) from None
                raise


class ObjectPlace:
    """An object store, which shows an object when all of it has arrived."""

    def __init__(self, fs: Any, root: str, options: Mapping[str, Any]) -> None:
        self.fs, self.root, self._options = fs, root, options

    @property
    def lost(self) -> bool:
        """Each request has a connection of its own, as far as one can tell."""
        return False

    def read(self, where: str, limit: int | None) -> bytes:
        """Read in one request: an object that is replaced meanwhile would be torn between two."""
        if limit is not None and self.fs.info(where)["size"] > limit:
            with self.fs.open(where, "rb") as file:
                start: bytes = file.read(limit + 1)
            return start
        data: bytes = self.fs.cat_file(where)
        return data

    def create(self, where: str, data: bytes) -> None:
        """Have the server write an object only if there is none."""
        for left in reversed(range(CONFLICTS)):
            try:
                self.fs.pipe_file(where, data, mode="create", **self._options)
                return
            except OSError as error:
                status = _status(error)
                if status == PRECONDITION_FAILED:
                    raise FileExistsError(where) from None
                if status != CONFLICT or not left:
                    raise

    def replace(self, where: str, data: bytes) -> None:
        """Write an object over what is there."""
        self.fs.pipe_file(where, data, **self._options)


CONFLICT, PRECONDITION_FAILED = 409, 412


def _status(error: BaseException) -> int | None:
    """Return what an S3 server answered; s3fs turns some of it into numbers of the kernel's."""
    answer = getattr(error.__cause__, "response", None)
    found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if answer else None
    return found if isinstance(found, int) else None


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
