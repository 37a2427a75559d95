"""Run one stage: `python -m tasks STAGE PIPELINE [FAMILY|PRECISION]`, from the project's root.

DVC decides whether a stage runs and calls this; paths stand only in dvc.yaml. Outputs get a
`SHA256SUMS` when they are complete, and inputs are checked against theirs before they are
read: DVC itself hands out a damaged cache object without a word. A stage with `meta: gpu: true`
has the GPUs that it sees to itself, whoever started it. Nothing that a stage starts outlives it,
nor whoever started it (`slipway.processes.containment`).
"""

import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from slipway import full_disk
from slipway.config import Config, load_config
from slipway.errors import ConfigError, SlipwayError, Unavailable
from slipway.gpu.devices import MEMORY_SHARE, GpuDevice, environment, visible
from slipway.gpu.slots import Slots, hold
from slipway.processes import containment
from slipway.processes.containment import Above, Say, Within
from slipway.processes.priority import stand_back
from slipway.remotes import load_remote_config
from slipway.runs import attempt
from slipway.runs.attempt import Attempt
from slipway.sections import Section
from slipway.state import share_state
from tasks import installed, names, reasons, results, sums
from tasks.candidates import candidate_of
from tasks.checkpoints import Checkpoints
from tasks.timeouts import limited, timeout_of

STATE = Path(".slipway")

Enter = Callable[[Above, Within, Say], int | None]
ROOMS = ("data", "models", STATE)
"""Where stages write; each may be a file system of its own."""

GATHERED = "candidates"
"""The keyword of a stage that takes whatever candidates dvc.yaml gives it."""


@dataclass(frozen=True)
class Declared:
    """What dvc.yaml declares for a stage: paths by the keyword that run() takes, and a GPU."""

    deps: dict[str, Path]
    outs: dict[str, Path]
    gpu: bool
    gpu_memory_share: float
    """How much of a GPU's memory it may take, 0 to 1: `meta: {gpu_memory_share: 0.8}`."""
    grace_s: float
    """How long it may take to save its work when it is told to stop."""
    nice: int
    """How far it stands back behind what else runs on the machine: `meta: {nice: 10}`."""
    timeout_s: float | None
    why: Callable[[], tuple[str, ...]]
    """Asks DVC what made the stage stale."""


def main(
    argv: list[str], slots: Slots | None = None, enter: Enter = lambda above, within, say: None
) -> int:
    """Run the stage that the command line names; return the exit code.

    `enter` may return twice: with None where the stage is to run, and with its exit code where
    it was waited for.
    """
    if not 2 <= len(argv) <= 3:
        print(f"slipway: {__doc__.splitlines()[0]}", file=sys.stderr)
        return 2
    # stages run side by side: an OpenMP thread that spins while it waits starves the others
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    called = Called(*argv)
    try:
        share_state(Path.cwd())
    except SlipwayError as error:
        print(f"slipway: {error}", file=sys.stderr)
        return error.exit_code
    entry = attempt.begin(Path.cwd(), called.pipeline, called.address)
    within, runner = Within(), os.getpid()
    if (code := enter(Above.up_to(attempt.starter(), os.environ), within, _say)) is not None:
        if not within.ended:
            entry.end(code, f"the stage was {attempt.exit_words(code)}")
        return code
    try:
        return _carry_out(called, entry, within, slots or replace(Slots.here(), pid=runner))
    finally:
        within.end()


def _carry_out(called: "Called", entry: Attempt, within: Within, slots: Slots) -> int:
    """Run the stage and note how it ended."""
    try:
        outs = run_stage(Path.cwd(), called, entry, slots=slots, within=within)
    except Exception as error:
        full = full_disk.explain(error, *(Path(room) for room in ROOMS))
        if full is None and not isinstance(error, SlipwayError):
            entry.end(1, f"{type(error).__name__}: {error}")
            raise
        message = f"{error}\n  {full}" if full else str(error)
        print(f"slipway: {message}", file=sys.stderr)
        code = _exit_code(error)
        entry.end(code, message)
        return code
    except BaseException as error:
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        entry.end(code, f"{type(error).__name__}: {error}")
        raise
    entry.end(0, outs=sums.seals(outs.values()), results=lambda: results.read_results(outs))
    return 0


def _exit_code(error: Exception) -> int:
    """Tell a flow by the exit code whether another try may succeed."""
    if isinstance(error, Unavailable):
        return attempt.MAY_PASS
    return error.exit_code if isinstance(error, SlipwayError) else 1


@dataclass(frozen=True)
class Called:
    """Which stage the command line names."""

    stage: str
    pipeline: str
    branch: str | None = None
    """The family or the precision that the stage is about, where it has several."""

    @property
    def address(self) -> str:
        """DVC's name for it."""
        return f"{self.stage}@{self.pipeline}" + (f"-{self.branch}" if self.branch else "")


def run_stage(
    root: Path, called: Called, entry: Attempt, *, slots: Slots, within: Within
) -> dict[str, Path]:
    """Check environment, names and inputs, call the stage's run(), seal and return the outputs."""
    config = load_config(root, called.pipeline)
    if differing := installed.check(root, config.environment, called.pipeline):
        print(installed.one_line(differing), file=sys.stderr, flush=True)
    declared = read_declared(root, called.address, called.branch)
    within.be_patient(declared.grace_s)
    stand_back(declared.nice)
    entry.explain(declared.why)
    deps, outs = declared.deps, declared.outs
    names.check(root, called.pipeline, config, deps.get("expectations"))
    # before the stage's libraries look for any
    gpus = _claim(slots, declared.gpu_memory_share) if declared.gpu else ()
    run = importlib.import_module(f"tasks.{called.stage}").run
    extras = _extras(run, called.pipeline, called.branch)
    taken = gathered(run, deps)
    check_signature(run, called.address, {*taken, *outs, *extras})
    for path in deps.values():
        if path.is_dir():
            sums.check(path)
    for path in outs.values():
        path.mkdir(parents=True)
    with hold(slots, gpus, called.address, _say), limited(declared.timeout_s):
        if declared.gpu:
            entry.gpu.start()
        run(*_sections(run, config, called), **taken, **outs, **extras)
    for path in outs.values():
        sums.write(path)
    return outs


def _sections(run: Callable[..., None], config: Config, called: "Called") -> Iterator[Section]:
    """Give a stage its own section, and those that it names besides."""
    for i, each in enumerate(inspect.signature(run).parameters.values()):
        if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and each.default is each.empty:
            yield config.section(called.stage if i == 0 else each.name, called.branch)


def read_declared(root: Path, address: str, branch: str | None) -> Declared:
    """Read what dvc.yaml declares for a stage."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        stage = Repo(root).stage.load_one(path="dvc.yaml", name=address)
    except DvcException as error:
        raise ConfigError("dvc.yaml", [f"no stage {address!r}: {error}"]) from None
    deps = [Path(dep.def_path) for dep in stage.deps]
    outs = [Path(out.def_path) for out in stage.outs]
    bound = {keyword(p, branch): p for p in deps if p.parts[0] in ("data", "models", "configs")}
    bound.pop("", None)
    meta = stage.meta or {}
    return Declared(
        deps=bound,
        outs={keyword(p, branch): p for p in outs},
        gpu=bool(meta.get("gpu")),
        gpu_memory_share=gpu_memory_share(address, meta),
        grace_s=float(meta.get("grace_s", 0)),
        nice=int(meta.get("nice", 0)),
        timeout_s=timeout_of(address, meta),
        why=partial(reasons.of_inputs, stage),
    )


def gathered(run: Callable[..., None], deps: dict[str, Path]) -> dict[str, Any]:
    """Bind all candidates to `candidates`, by family and precision, where run() takes them so."""
    if GATHERED not in inspect.signature(run).parameters:
        return dict(deps)
    found = {keyword: candidate_of(path) for keyword, path in deps.items()}
    candidates = {found[each]: path for each, path in deps.items() if found[each]}
    rest = {each: path for each, path in deps.items() if not found[each]}
    return {**rest, GATHERED: candidates}


def keyword(path: Path, branch: str | None) -> str:
    """Name the keyword that a declared path is bound to."""
    match path.parts:
        case ("configs", kind, _):
            return kind
        case ("configs", _):
            return ""  # the pipeline's config: its values arrive as the section
        case ("models", _, _, name) if name == branch:
            return "out"
        case ("models", _, family, name) if branch is None:
            return f"{family}/{name}"  # one of several candidates
        case _:
            return path.stem.replace("-", "_")


def check_signature(run: Callable[..., None], address: str, bound: set[str]) -> None:
    """Refuse a run() that does not take exactly what dvc.yaml declares."""
    parameters = inspect.signature(run).parameters.values()
    wanted = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    problems = [
        f"{address} declares {name!r}, which run() does not take" for name in bound - wanted
    ]
    problems += [
        f"run() takes {name!r}, which {address} does not declare" for name in wanted - bound
    ]
    if problems:
        raise ConfigError("dvc.yaml", sorted(problems))


def gpu_memory_share(address: str, meta: Mapping[str, Any]) -> float:
    """Read how much of a GPU's memory a stage may take."""
    share = meta.get("gpu_memory_share", 1)
    if not isinstance(share, int | float) or not 0 < share <= 1:
        problem = f"{address}: meta.gpu_memory_share: must be above 0 and at most 1, got {share!r}"
        raise ConfigError("dvc.yaml", [problem])
    return float(share)


def _claim(slots: Slots, memory_share: float) -> tuple[GpuDevice, ...]:
    """Return the GPUs that this process sees, and have CUDA see these and no other."""
    os.environ[MEMORY_SHARE] = str(memory_share)
    gpus = visible(slots.devices, os.environ)
    if slots.devices:
        os.environ.update(environment(slots.devices, os.environ))
    return gpus


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _extras(run: Callable[..., None], pipeline: str, branch: str | None) -> dict[str, Any]:
    """Offer what is not an output: where time-bearing reports and checkpoints go."""
    offered: dict[str, Any] = {
        "reports": STATE / "reports" / pipeline,
        "checkpoints": STATE / "checkpoints",
    }
    if branch:
        offered["family"] = offered["precision"] = branch
    wanted = inspect.signature(run).parameters
    taken = {name: value for name, value in offered.items() if name in wanted}
    for value in taken.values():
        if isinstance(value, Path):
            value.mkdir(parents=True, exist_ok=True)
    if "checkpoints" in taken:
        asked = load_remote_config(Path.cwd())
        taken["checkpoints"] = Checkpoints(
            taken["checkpoints"], asked.checkpoints, asked.checkpoints_every_s, _say
        )
    return taken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], enter=containment.enter))
