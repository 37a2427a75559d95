"""Open a verified model for serving: as many sessions as it is worth, measured, warm, proven.

On a CPU one session with one thread per run is shared by all threads of the host: that gives
the most rows per second (two threads on one core each: 3,300 rows/s of the cnn; one run on
both cores: 2,500). A lone request is the exception. It may have a second, wide session over
all cores, which spins while it runs and only then; it is kept where it is clearly faster and
answers as alike as the proof says a row in a batch does.

On a GPU the same session is run through bound buffers, with CUDA graphs where every operator
runs on the GPU. What fails there at load falls back to the plain way, and says so in the log.
Every session re-runs the golden set before it serves: what was proven is what runs.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import onnxruntime as ort

from slipway.bundle.contract import Contract
from slipway.bundle.golden import distance, replay
from slipway.bundle.session import Session, Tuning, open_session
from slipway.bundle.verify import Verified, check_here
from slipway.errors import BundleRefused
from slipway.host.engine import devices, measure
from slipway.host.engine.binding import GATE, BoundRunner, CaptureGate, Device
from slipway.host.engine.measure import Measured
from slipway.host.engine.runner import Runner
from slipway.host.request.message import Array
from slipway.provider import CPU, CUDA, TENSORRT

log = logging.getLogger(__name__)


WIDE: Final = Tuning(
    session={"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}
)
"""Spinning between the steps of one run makes the cnn 1.4 times as fast where sleeping makes it
slower (430, 622, 787 µs for spinning, one thread, sleeping); stopped at its end, it costs
nothing between runs."""

GRAPHS: Final = Tuning(
    provider={"enable_cuda_graph": "1"}, session={"session.disable_cpu_ep_fallback": "1"}
)
"""Opening fails where an operator would run on the CPU: no graph can hold such a model."""

SAMPLE_ROWS: Final = 64

USUAL_ROWS: Final = 64
"""Batches up to this, or to the size measured if that is larger, keep their memory; tuning tries
them. To give it back and take it again costs a sixth of a run of the encoder."""


@dataclass(frozen=True)
class SessionSettings:
    """How a host runs its models."""

    cores: int = 1
    """Threads of a lone request; `cores.count_cores()` for a host that has the machine."""
    instances: int = 1
    """Runs of one version at once on a GPU, each with its own buffers and stream."""
    cuda_graphs: bool = True
    """Whether to use CUDA graphs where a model allows it."""
    device_id: int = 0
    """Which GPU."""
    engines: Path | None = None
    """Folder for what TensorRT builds; only this host's user may write there."""


def _shrinking() -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class PlainRunner:
    """Run through ONNX Runtime's plain call: on a CPU nothing is faster.

    For one row of a small model: 6.5 µs, with new bindings 9.6, with OrtValues 41; bindings that
    are reused take 5.1, but copy rows in and answers out, and hold one run at a time.
    """

    def __init__(
        self,
        session: Session,
        usual_rows: int,
        wide: Session | None = None,
        gate: CaptureGate | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = session.run
        self._wide = wide.run if wide else self._run
        self._usual_rows = usual_rows
        self._shrinking = _shrinking() if gate is None else None
        self._gate = gate
        self._on_close = on_close

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Answer a batch.

        One of an unusual size gives its memory back: a single request of 128 rows would leave
        the encoder's arena at 409 MiB for good, where its usual batches need 163.
        """
        if self._gate:
            with self._gate.shared():
                return self._run(inputs)
        first = next(iter(inputs.values()))
        if first.ndim and len(first) > self._usual_rows:
            return self._run(inputs, self._shrinking)
        return self._run(inputs)

    def run_alone(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Answer a lone request, one row with all cores."""
        first = next(iter(inputs.values()))
        if first.ndim and len(first) == 1 and not self._gate:
            return self._wide(inputs)
        return self.run(inputs)

    def close(self) -> None:
        """Let go of the sessions."""
        del self._run, self._wide
        self._on_close()


def open_runner(
    verified: Verified, settings: SessionSettings, on_close: Callable[[], None] = lambda: None
) -> tuple[Runner, Measured]:
    """Open a model on the provider that its contract names, or refuse the bundle."""
    if verified.contract.requires.provider == CPU:
        return _open_on_cpu(verified, settings, on_close)
    return _open_on_gpu(verified, settings, on_close)


def _open_on_cpu(
    verified: Verified, settings: SessionSettings, on_close: Callable[[], None]
) -> tuple[PlainRunner, Measured]:
    session = _open(verified, 1, None)
    sample, most_rows = _sample(verified)
    measured = measure.measure(session.run, sample, most_rows)
    wide = None
    if settings.cores > 1 and most_rows and measured.row_s >= measure.WIDE_ROW_S:
        wide = _open_wide(verified, settings.cores, session, sample)
    if most_rows:
        measure.warm(session.run, sample, measured.best_rows)
    usual_rows = max(measured.best_rows, USUAL_ROWS) if most_rows else 1 << 62
    runner = PlainRunner(session, usual_rows, wide, on_close=on_close)
    return runner, replace(measured, wide=wide is not None)


def _open_wide(
    verified: Verified, cores: int, narrow: Session, sample: Mapping[str, Array]
) -> Session | None:
    """Open a second session over all cores, if a lone row gains by it and keeps its answer."""
    try:
        wide = _open(verified, cores, WIDE)
    except BundleRefused as refusal:
        log.warning("no wide session", extra={"reason": str(refusal)})
        return None
    row = measure.take_rows(sample, 1)
    if not alike(narrow.run(row), wide.run(row), verified.contract):
        return None
    return wide if measure.gains(narrow.run, wide.run, sample) else None


def alike(one: Mapping[str, Array], other: Mapping[str, Array], contract: Contract) -> bool:
    """Tell whether two answers to a row differ no more than its neighbours may change them."""
    limit = contract.batch_invariance_max
    return all(
        distance(other[tensor.name], one[tensor.name], tensor.datatype) <= limit
        for tensor in contract.outputs
    )


def _open_on_gpu(
    verified: Verified, settings: SessionSettings, on_close: Callable[[], None]
) -> tuple[Runner, Measured]:
    provider = verified.contract.requires.provider
    tuning = tune(provider, settings, verified.graph.sha256)
    with GATE.shared():
        session = _open(verified, 1, tuning)
        sample, most_rows = _sample(verified)
        measured = measure.measure(session.run, sample, most_rows)
    wide = measured if not most_rows else replace(measured, best_rows=_up(measured.best_rows))
    text = "BYTES" in {*session.inputs.values(), *session.outputs.values()}
    for graphs in (True, False) if provider == CUDA and settings.cuda_graphs else (False,):
        if text:
            break
        try:
            return _bind(
                verified,
                session,
                settings,
                tuning,
                measured=wide,
                graphs=graphs,
                on_close=on_close,
            ), wide
        except Exception as error:  # ONNX Runtime's errors have no common class
            said = {"graphs": graphs, "reason": " ".join(str(error).split())}
            log.warning("bound buffers refused", extra=said)
    return PlainRunner(session, measured.best_rows, gate=GATE, on_close=on_close), measured


def _bind(
    verified: Verified,
    session: Session,
    settings: SessionSettings,
    tuning: Tuning,
    measured: Measured,
    graphs: bool,
    on_close: Callable[[], None],
) -> BoundRunner:
    """Make the lanes, warm them at every size, and re-run the golden set through them."""
    sessions = [session]
    if graphs:
        tuning = Tuning({**tuning.provider, **GRAPHS.provider}, GRAPHS.session)
        provider = verified.contract.requires.provider
        with GATE.shared():
            sessions = [
                open_session(verified.model, provider, 1, tuning) for _ in range(settings.instances)
            ]
    device = _device(settings)
    sample, most_rows = _sample(verified)
    runner = BoundRunner(
        sessions, settings.instances, device, batchable=bool(most_rows), graphs=graphs
    )
    try:
        sizes = [1 << n for n in range(measured.best_rows.bit_length())]
        runner.warm([measure.take_rows(sample, n) for n in sizes] if most_rows else [dict(sample)])
        result = replay(runner.run, verified.golden, max(most_rows, 1))
        if not result.passed:
            raise BundleRefused(f"the golden rows differ by up to {result.largest}")
    except BaseException:
        runner.close()
        raise
    runner.on_close = on_close
    return runner


def _device(settings: SessionSettings) -> Device:
    return Device("cuda", settings.device_id, partial(devices.pin, device_id=settings.device_id))


def tune(provider: str, settings: SessionSettings, model_sha256: str) -> Tuning:
    """Return a provider's options.

    An arena that grows by what is asked leaves the rest of the GPU's memory to other versions.
    TensorRT's engines take minutes to build, so they are kept, where only the same model on the
    same GPU and TensorRT finds them.
    """
    options = {"device_id": str(settings.device_id)}
    if provider == CUDA:
        options["arena_extend_strategy"] = "kSameAsRequested"
    gpu, tensorrt = devices.find_gpu(settings.device_id), devices.find_tensorrt()
    if provider == TENSORRT and settings.engines and gpu and tensorrt:
        folder = settings.engines / devices.name_engines(model_sha256, gpu, tensorrt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for cache in ("engine", "timing"):
            options[f"trt_{cache}_cache_enable"] = "1"
            options[f"trt_{cache}_cache_path"] = str(folder)
    return Tuning(options)


def _open(verified: Verified, threads: int, tuning: Tuning | None) -> Session:
    session = open_session(verified.model, verified.contract.requires.provider, threads, tuning)
    check_here(verified, session)
    return session


def _sample(verified: Verified) -> tuple[dict[str, Array], int]:
    """Return golden rows of one shape, and the most rows of a run; 0: it is a whole request."""
    contract = verified.contract
    sample, _ = next(verified.golden.batches(min(SAMPLE_ROWS, contract.max_rows)))
    return sample, contract.max_rows if contract.batchable else 0


def _up(rows: int) -> int:
    return 1 << (rows - 1).bit_length()
