"""Where a training's checkpoints lie: in a folder of this machine, and elsewhere if asked for.

`configs/remote.yaml` may name a place that another machine can go on from when this one is lost.
A folder `<digest>/step-<n>` is complete there when its seal is, which is written last; whoever
takes it holds every file against that. A copy that fails is said, and costs the training nothing.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any

from slipway.errors import SlipwayError
from slipway.wording import scrub
from tasks import sums

Say = Callable[[str], None]

KEPT = 2
"""Complete checkpoints kept elsewhere, as here: one more in case the newest is damaged."""

LOOK_S = 0.5
"""Between two looks for a new checkpoint."""

STEP = "step-"


class _Stopped(BaseException):
    """SIGTERM: what is to be saved is saved, then it ends the process as it would have."""


@dataclass(frozen=True)
class Checkpoints:
    """A folder with one folder for each digest of a training's inputs."""

    folder: Path
    url: str | None = None
    every_s: float = 60.0
    say: Say = print

    @contextmanager
    def kept(self, digest: str) -> Iterator[Path]:
        """Give a training its folder; when that ends well, its checkpoints are of no use."""
        folder = self.folder / digest
        folder.mkdir(parents=True, exist_ok=True)
        if self.url is None:
            yield folder
        else:
            mirror = Mirror(
                folder,
                shown=scrub(self.url),
                url=f"{self.url}/{digest}",
                every_s=self.every_s,
                say=self.say,
            )
            mirror.fetch()
            with _terminated_late():
                mirror.start()
                try:
                    yield folder
                except BaseException:
                    mirror.finish()
                    raise
                mirror.clear()
        shutil.rmtree(folder)


@dataclass
class Mirror:
    """Copies the newest checkpoint of one training elsewhere, beside the training."""

    folder: Path
    shown: str
    """The place, without secrets."""
    url: str
    every_s: float
    say: Say
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _copied: str = ""
    _at_s: float = 0.0
    _failing: bool = False

    def fetch(self) -> None:
        """Bring in the newest complete checkpoint, if it is newer than what is here."""
        here = _newest(self.folder)
        with self._told("fetched from"):
            fs, root = self._open()
            for name in sorted(_names(fs, root), reverse=True):
                if here and name <= here:
                    return
                if self._take(fs, f"{root}/{name}", name):
                    self.say(f"checkpoint {name} fetched from {self.shown}")
                    self._copied = name
                    return

    def start(self) -> None:
        """Watch the folder from now on."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Copy the last checkpoint, whenever the one before it was copied."""
        self._stop()
        self._copy()

    def clear(self) -> None:
        """Remove what lies elsewhere: the training is done."""
        self._stop()
        with self._told("removed from"):
            fs, root = self._open()
            if fs.exists(root):
                fs.rm(root, recursive=True)

    def _stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_S):
            if time.monotonic() - self._at_s >= self.every_s or not self._at_s:
                self._copy()

    def _copy(self) -> None:
        """Copy the newest checkpoint, its seal last, and drop those before it."""
        name = _newest(self.folder)
        if not name or name <= self._copied:
            return
        self._at_s = time.monotonic()
        with self._told("kept at"), self._held(name) as source:
            fs, root = self._open()
            fs.makedirs(f"{root}/{name}", exist_ok=True)
            for path in sorted(source.iterdir(), key=lambda path: path.name == sums.SUMS):
                fs.put_file(str(path), f"{root}/{name}/{path.name}")
            self._copied, self._failing = name, False
            for old in sorted(_names(fs, root), reverse=True)[KEPT:]:
                fs.rm(f"{root}/{old}", recursive=True)

    @contextmanager
    def _held(self, name: str) -> Iterator[Path]:
        """Keep a checkpoint's files for as long as they are copied: training drops the third last.

        By other names for the same bytes, so it takes no time and no room.
        """
        held = self.folder / f"{name}.copy"
        shutil.rmtree(held, ignore_errors=True)
        try:
            shutil.copytree(self.folder / name, held, copy_function=os.link)
            yield held
        finally:
            shutil.rmtree(held, ignore_errors=True)

    def _take(self, fs: Any, where: str, name: str) -> bool:
        """Fetch one checkpoint; return False for one that is not complete."""
        aside, target = self.folder / f"{name}.new", self.folder / name
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            fs.get_file(f"{where}/{sums.SUMS}", str(aside / sums.SUMS))
            for file in _files(aside / sums.SUMS):
                fs.get_file(f"{where}/{file}", str(aside / file))
            sums.check(aside)
        except (FileNotFoundError, SlipwayError):
            shutil.rmtree(aside)
            return False
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        return True

    def _open(self) -> tuple[Any, str]:
        from slipway.store.places import open_place  # most trainings do without

        place = open_place(self.url)
        return place.fs, place.root

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say once what fails, until it goes well again."""
        try:
            yield
        except Exception as error:  # each driver has its own
            if not self._failing:
                why = scrub(str(error).strip() or type(error).__name__).splitlines()[0]
                self.say(f"checkpoints cannot be {what} {self.shown}: {why}")
            self._failing = True


def _newest(folder: Path) -> str:
    """Name the newest complete checkpoint; one that is being written ends in .new."""
    names = (path.name for path in folder.glob(f"{STEP}*") if _is_name(path.name))
    return max((name for name in names if (folder / name / sums.SUMS).is_file()), default="")


def _names(fs: Any, root: str) -> list[str]:
    try:
        found = fs.ls(root, detail=False)
    except FileNotFoundError:
        return []
    return [name for name in (PurePosixPath(each).name for each in found) if _is_name(name)]


def _is_name(name: str) -> bool:
    return name.startswith(STEP) and name.removeprefix(STEP).isdigit()


def _files(seal: Path) -> list[str]:
    """Read which files a seal names; a name may lead nowhere else."""
    names = [line.partition("  ")[2] for line in seal.read_text("utf-8").splitlines()]
    if any(not name or PurePosixPath(name).name != name for name in names):
        raise SlipwayError(f"{seal} names what is no file of a checkpoint")
    return names


@contextmanager
def _terminated_late() -> Iterator[None]:
    """Have SIGTERM end what is at work by an exception first, and the process then."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # told twice, it is under way
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
