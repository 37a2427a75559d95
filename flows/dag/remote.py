"""DVC's default remote during a run: what is missing comes from there, what was made goes there.

Both are a help and no condition. A remote that does not answer is said once, and the run goes on
with what is here; what it could not push, the next one does. What is fetched is held against the
MD5 that it is named by (`verify`), which DVC leaves out by default.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from flows.dag import opening
from flows.dag.lock_file import LockLoader
from flows.dag.stages import Stage
from slipway.errors import SlipwayError
from slipway.remotes import load_remote_config
from slipway.state import NAME, settled
from slipway.wording import scrub

if TYPE_CHECKING:
    from dvc.repo import Repo

Say = Callable[[str], None]
T = TypeVar("T")

ANSWERS_S = 30.0
"""How long a remote may take to answer at all; DVC's drivers would wait for up to half an hour."""

SAY_AFTER_S, SAY_EVERY_S = 5.0, 60.0
"""When a push is told of that keeps the run, and how often again."""

TORN, TORN_S = 10, 0.2
"""How often dvc.lock is read again that DVC, which writes it in place, had half written."""

UNPUSHED = Path(NAME, "unpushed")
"""Is there while the remote lacks something that a run wanted to push."""

RUNS = "runs"
"""DVC's folder of the run-cache, here and in a remote: `runs/<2>/<key>/<value>`."""


@dataclass
class Moved:
    """What went over the wire."""

    objects: int = 0
    entries: int = 0
    """Of the run-cache."""

    def __str__(self) -> str:
        """Say it in a few words."""
        runs = f" and {self.entries} entries of the run-cache" if self.entries else ""
        return f"{self.objects} objects{runs}"


class Remote:
    """The default remote, from the start of a run to its end."""

    def __init__(self, root: Path, name: str, url: str, *, push: bool, say: Say) -> None:
        """Take what DVC's config says; nothing is asked yet."""
        self._root, self._name, self._say = root, name, say
        self.url = scrub(url)
        self._pushes = push
        self._away: str | None = None
        self._asked = False
        self._incomplete: dict[str, list[CachedRun]] = {}
        self._pushed = Moved()
        self._made: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._pusher: threading.Thread | None = None

    @classmethod
    def find(cls, root: Path, say: Say) -> "Remote | None":
        """Return the project's remote; None where DVC has no default one."""
        from dvc.config import Config
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        settings = load_remote_config(root)
        try:
            config = Config(Repo.find_dvc_dir(str(root)))
        except DvcException as error:
            raise SlipwayError(f"DVC cannot read this project: {error}") from None
        name = config["core"].get("remote")
        if not name:
            return None
        if name not in config["remote"]:
            raise SlipwayError(
                f"DVC's default remote {name!r} is not in .dvc/config: dvc remote add {name} URL,"
                f" or dvc remote default --unset"
            )
        url = str(config["remote"][name].get("url", name))
        return cls(root, name, url, push=settings.push, say=say)

    def bring_in(self, stale: Iterable[Stage]) -> bool:
        """Fetch what dvc.lock and the run-cache name of stale stages; return if anything came.

        Outputs that are not in the workspace are put there; what somebody changed stays.
        """
        addresses = [each.address for each in stale]

        def fetch(repo: "Repo") -> Moved:
            came = Moved()
            known = [stage for stage in self._load(repo, addresses) if _is_known(stage)]
            came.entries = _copy_runs(self._runs_odb(repo), repo.cache.legacy)
            came.objects = _pull(repo, _used(known))
            absent = [stage.name for stage in known if not any(out.exists for out in stage.outs)]
            if absent:
                with opening.locked(repo):  # whoever has it now is waited for
                    pass
                repo.checkout(targets=absent, allow_missing=True)
            self._incomplete = _incomplete(repo)
            return came

        came = self._exchange("fetch", fetch) or Moved()
        if came.objects or came.entries:
            self._say(f"{came} fetched from {self.url}")
        return bool(came.objects)

    def restore(self, address: str) -> None:
        """Fetch what another machine made of a stage from the same inputs, if it did.

        DVC finds it in its cache then, when it is asked to run the stage.
        """
        if not self._incomplete or self._away:
            return

        def fetch(repo: "Repo") -> int:
            (stage,) = self._load(repo, [address])
            entries = self._incomplete.get(stage.cmd, [])
            if entries:
                stage.save_deps(allow_missing=True)
            wanted = [entry.where for entry in entries if entry.is_of(stage)]
            objects = repo.stage_cache.get_used_objs(wanted).values()
            return _pull(repo, set().union(*objects))

        if came := self._exchange("fetch", fetch):
            self._say(f"{address}: {came} objects fetched from {self.url}")

    def push_soon(self, address: str) -> None:
        """Push what a stage made, beside the stages that follow."""
        if not self._pushes or self._away:
            return
        if self._pusher is None:
            self._pusher = threading.Thread(target=self._push_made, daemon=True)
            self._pusher.start()
        self._made.put(address)

    def finish(self, stages: Iterable[str] = ()) -> str | None:
        """Push what is left, and all of these; return what came of it in a line."""
        if not self._pushes:
            return None
        if self._pusher is not None:
            self._made.put(None)
            self._wait_for(self._pusher)
            self._pusher = None
        rest = threading.Thread(target=self._push, args=(list(stages),), daemon=True)
        rest.start()
        self._wait_for(rest)
        marker = settled(self._root / UNPUSHED)
        if self._away:
            marker.touch()
            return f"not pushed to {self.url}: {self._away}"
        marker.unlink(missing_ok=True)
        if not (self._pushed.objects or self._pushed.entries):
            return f"{self.url} had everything"
        self._say(line := f"{self._pushed} pushed to {self.url}")
        return line

    def _wait_for(self, pushing: threading.Thread) -> None:
        """Wait until a push is over, and say that it takes its time."""
        began = time.monotonic()
        pushing.join(SAY_AFTER_S)
        while pushing.is_alive():
            waited_s = time.monotonic() - began
            since = f", for {waited_s / 60:.0f} min now" if waited_s >= SAY_EVERY_S else ""
            self._say(f"pushing to {self.url}{since} (Ctrl-C ends it; the next run goes on)")
            pushing.join(SAY_EVERY_S)

    def _push_made(self) -> None:
        while (address := self._made.get()) is not None:
            self._push([address], everything=False)

    def _push(self, addresses: list[str], *, everything: bool = True) -> None:
        """Push stages' outputs, then the run-cache's entries, which name them."""
        if self._away:
            return

        def push(repo: "Repo") -> None:
            known = [stage for stage in self._load(repo, addresses) if _is_known(stage)]
            if objects := _used(known):
                done = repo.cloud.push(objects)
                self._pushed.objects += len(done.transferred)
                if done.failed:
                    raise SlipwayError(f"{len(done.failed)} objects could not be pushed")
            if everything:
                self._pushed.entries += _copy_runs(repo.cache.legacy, self._runs_odb(repo))

        self._exchange("push", push)

    def _load(self, repo: "Repo", addresses: list[str]) -> list[Any]:
        """Read stages with what dvc.lock says of them, which a stage beside may be writing."""
        from dvc.exceptions import DvcException

        path = str(self._root / "dvc.yaml")
        for left in reversed(range(TORN)):
            try:
                return [repo.stage.load_one(path=path, name=each) for each in addresses]
            except DvcException:
                if not left:
                    raise
                time.sleep(TORN_S)
        raise AssertionError

    def _runs_odb(self, repo: "Repo") -> Any:
        return repo.cloud.get_remote_odb(None, hash_name="md5-dos2unix")

    def _exchange(self, what: str, work: Callable[["Repo"], T]) -> T | None:
        """Do what the remote takes part in; whatever goes wrong in it ends all exchanges."""
        logging.getLogger("dvc").setLevel(logging.CRITICAL)  # what it misses is made, not lost
        try:
            with opening.opened(self._root) as repo:
                repo.config["remote"][self._name]["verify"] = True
                if not self._asked:
                    self._require_answer(repo)
                    self._asked = True
                return work(repo)
        except Exception as error:  # each driver has its own
            self._away = scrub(str(error).strip() or type(error).__name__).splitlines()[0]
            self._say(f"{self.url}: cannot {what}: {self._away}; the run goes on with what is here")
            return None

    def _require_answer(self, repo: "Repo") -> None:
        """Ask for anything at all, in a thread that may hang."""
        answered: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def ask() -> None:
            try:
                odb = self._runs_odb(repo)
                odb.fs.exists(odb.path)
                answered.put(None)
            except BaseException as error:
                answered.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            error = answered.get(timeout=ANSWERS_S)
        except queue.Empty:
            raise SlipwayError(f"no answer within {ANSWERS_S:.0f} s") from None
        if error is not None:
            raise error


def is_pushed(root: Path) -> bool:
    """Tell whether the last run could push all that it wanted to."""
    return not settled(root / UNPUSHED).exists()


def _is_known(stage: Any) -> bool:
    """Tell whether dvc.lock knows what a stage made."""
    return all(out.hash_info for out in stage.outs)


def _used(stages: Iterable[Any]) -> set[Any]:
    """Name the objects of stages' outputs, as dvc.lock has them."""
    return {each for stage in stages for found in stage.get_used_objs().values() for each in found}


def _pull(repo: "Repo", objects: set[Any]) -> int:
    """Fetch what is not here; what the remote lacks is made anew."""
    return len(repo.cloud.pull(objects).transferred) if objects else 0


def _copy_runs(source: Any, target: Any) -> int:
    """Copy the run-cache's entries that the other side lacks; DVC itself copies all, each time."""
    from dvc.fs import generic

    there = set(run_entries(target))
    missing = [name for name in run_entries(source) if name not in there]
    for name in missing:
        path = target.fs.join(target.path, *name)
        target.fs.makedirs(target.fs.parent(path), exist_ok=True)
        generic.copy(source.fs, source.fs.join(source.path, *name), target.fs, path)
    return len(missing)


def run_entries(odb: Any) -> Iterator[tuple[str, ...]]:
    """List the entries of a run-cache, here or in a remote, by the parts of their paths."""
    folder = odb.fs.join(odb.path, RUNS)
    if odb.fs.exists(folder):
        for path in odb.fs.find(folder):
            yield odb.fs.relparts(path, odb.path)


@dataclass(frozen=True)
class CachedRun:
    """An entry of the run-cache: what a command made of which inputs."""

    where: tuple[str, str]
    """DVC's key for the inputs and for the outputs."""
    deps: Mapping[str, str]
    params: Mapping[str, Any]

    def is_of(self, stage: Any) -> bool:
        """Tell whether a stage would run on these inputs now."""
        files = {dep.def_path: dep.hash_info.value for dep in stage.deps if not _is_params(dep)}
        params = {dep.def_path: dep.hash_info.value for dep in stage.deps if _is_params(dep)}
        return (files, params) == (self.deps, self.params)


def _is_params(dep: Any) -> bool:
    return isinstance(dep.hash_info.value, dict)


def _incomplete(repo: "Repo") -> dict[str, list[CachedRun]]:
    """Return by command the entries of the run-cache whose outputs are not all here."""
    found: dict[str, list[CachedRun]] = {}
    for path in Path(repo.cache.legacy.path, RUNS).glob("*/*/*"):
        try:
            said = yaml.load(path.read_text("utf-8"), LockLoader)  # noqa: S506  a SafeLoader
            names = [out["md5"] for out in said.get("outs") or []]
            deps = {dep["path"]: dep["md5"] for dep in said.get("deps") or []}
            entry = CachedRun((path.parent.name, path.name), deps, said.get("params") or {})
            command = str(said["cmd"])
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            continue
        if not all(Path(repo.cache.local.oid_to_path(name)).exists() for name in names):
            found.setdefault(command, []).append(entry)
    return found
