"""DVC's default remote: every object is what its name says, as in the cache.

Reading all of it is what a remote charges for, so it is looked through when asked to. What comes
from there in a run is held against its name anyway; this is for what nobody fetches.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml

from flows.custody.cache import ObjectCache, run_digest
from flows.custody.damage import Damage
from flows.dag.lock_file import LockLoader
from flows.dag.remote import run_entries
from flows.dag.seals import SUFFIX
from slipway.errors import SlipwayError
from slipway.wording import scrub

if TYPE_CHECKING:
    from dvc.repo import Repo

Say = Callable[[str], None]

SAY_EVERY_S = 5.0
CHUNK = 1 << 20

PUT_AGAIN = "is put there again from this machine's cache"
DROPPED = "is dropped, so that it is missing: whoever has it pushes it by dvc push --run-cache"


def remote_damage(repo: "Repo", cache: ObjectCache, say: Say) -> Iterator[Damage]:
    """Read everything in the default remote; raise SlipwayError where it cannot be read."""
    if not (name := repo.config["core"].get("remote")):
        raise SlipwayError("DVC has no default remote: dvc remote add --default NAME URL")
    url = scrub(str(repo.config["remote"].get(name, {}).get("url", name)))
    try:
        yield from _objects(repo, cache, url, say)
        yield from _runs(repo, url)
    except SlipwayError:
        raise
    except Exception as error:  # each driver has its own
        said = scrub(str(error).strip() or type(error).__name__).splitlines()[0]
        raise SlipwayError(f"{url} cannot be read: {said}") from None


def _objects(repo: "Repo", cache: ObjectCache, url: str, say: Say) -> Iterator[Damage]:
    odb = repo.cloud.get_remote_odb()
    names = sorted(odb.all()) if odb.fs.exists(odb.path) else []
    if not names:
        say(f"{url} is empty: dvc push --run-cache")
    said_s = time.monotonic()
    for number, name in enumerate(names, start=1):
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"{number} of {len(names)} objects of {url} read")
        if _digest(odb, name) == name.removesuffix(SUFFIX):
            continue
        whole = cache.is_whole(name)
        yield Damage(
            "remote",
            f"{url}/files/md5/{name[:2]}/{name[2:]}",
            "its MD5 is not its name",
            PUT_AGAIN if whole else DROPPED,
            mend=lambda name=name, whole=whole: _mend(odb, cache if whole else None, name),  # type: ignore[misc]
        )


def _runs(repo: "Repo", url: str) -> Iterator[Damage]:
    odb = repo.cloud.get_remote_odb(None, hash_name="md5-dos2unix")
    for parts in run_entries(odb):
        path = odb.fs.join(odb.path, *parts)
        entry = None
        with suppress(ValueError, yaml.YAMLError):
            entry = yaml.load(odb.fs.read_text(path), LockLoader)  # noqa: S506  a safe one
        if run_digest(entry) != parts[-1]:
            problem = "its content is not that of its name"
            where = f"{url}/{'/'.join(parts)}"
            yield Damage("remote", where, problem, DROPPED, mend=lambda p=path: odb.fs.remove(p))  # type: ignore[misc]


def _digest(odb: Any, name: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with odb.fs.open(odb.oid_to_path(name), "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _mend(odb: Any, cache: ObjectCache | None, name: str) -> None:
    """Replace an object by the cache's; DVC adds none whose name is there, so that goes first."""
    from dvc.fs import LocalFileSystem

    path = odb.oid_to_path(name)
    if odb.fs.protocol == "local":  # what DVC puts there is read-only
        odb.unprotect(path)
    odb.fs.remove(path)
    if cache is not None:
        odb.add(str(cache.path(name)), LocalFileSystem(), name)
