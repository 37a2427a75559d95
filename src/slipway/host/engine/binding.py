"""Run a model on a device through buffers that stay: bound once per shape, then reused.

A run copies rows into pinned host memory, from there to the device, runs, and copies the
answers back. Batches are filled up to the next power of two by repeating the last row, so a
few shapes serve all sizes, and each may have its CUDA graph. A lane is one run at a time; the
lanes of one session share its weights, but with CUDA graphs each lane has a session and a
thread of its own, because ONNX Runtime keeps captured graphs per thread and allows one thread
per such session.

Text cannot be bound, so models that take or give it run plainly (`sessions`), without CUDA
graphs; splitting the text's part off would need the onnx package, which a host has not.

Nothing else in the process may allocate or copy on the device while a graph is captured (ONNX
Runtime captures in CUDA's global mode), hence the gate.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import LifoQueue
from time import perf_counter
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from slipway.bundle.datatypes import DTYPES
from slipway.bundle.session import Session
from slipway.host.engine.runner import Copied
from slipway.host.request.message import Array

SLOTS_MAX: Final = 48
"""Shapes with buffers of their own, per lane; more run unbound. Powers of two up to 256 rows
make nine, times a few lengths."""

ONNX_TYPES: Final[Mapping[str, int]] = {
    "FP32": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7,
    "BOOL": 9, "FP16": 10, "FP64": 11, "UINT32": 12, "UINT64": 13, "BF16": 16,
}  # fmt: skip
"""`onnx.TensorProto.DataType`."""

NO_GRAPH: Final = "-1"
"""The id that says: neither capture nor replay."""

Shapes = tuple[tuple[int, ...], ...]
Pin = Callable[[Array], Callable[[], None]]


@dataclass(frozen=True)
class Device:
    """Where buffers lie."""

    kind: str
    """By ONNX Runtime's names: cuda or cpu."""
    id: int
    pin: Pin
    """Locks host memory for fast copies; returns what undoes it."""


class CaptureGate:
    """Many may run, or one may capture."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._alone = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Run beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Run while nobody else does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: self._running == 0)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


GATE: Final = CaptureGate()
"""One per process, as CUDA's rule about captures is."""


def without_graph() -> ort.RunOptions:
    """Make the options of a run that is neither captured nor replayed."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", NO_GRAPH)
    return options


class Buffer:
    """One tensor in pinned host memory, seen by numpy and by ONNX Runtime."""

    def __init__(self, shape: tuple[int, ...], datatype: str, device: Device) -> None:
        self.array: Array = np.zeros(shape, DTYPES[datatype])  # type: ignore[index]
        self.value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            self.array, ONNX_TYPES[datatype]
        )
        self.unpin = device.pin(self.array)


@dataclass
class ShapeBuffers:
    """The buffers of one shape."""

    binding: ort.IOBinding
    options: ort.RunOptions
    inputs: dict[str, tuple[Buffer, ort.OrtValue]]
    outputs: dict[str, Buffer] = field(default_factory=dict)
    fixed: list[ort.OrtValue] = field(default_factory=list)
    """Outputs on the device, where a graph writes to them each time."""

    def feed(self, inputs: Mapping[str, Array]) -> None:
        """Copy rows to the device."""
        for name, (buffer, value) in self.inputs.items():
            buffer.array[...] = inputs[name]
            value.update_inplace(buffer.array)

    def free(self) -> None:
        """Let go of the buffers."""
        self.binding.clear_binding_inputs()
        self.binding.clear_binding_outputs()
        for buffer in [*(buffer for buffer, _ in self.inputs.values()), *self.outputs.values()]:
            buffer.unpin()


class Lane:
    """One run at a time: a session's buffers, and its captured graphs."""

    def __init__(self, session: Session, device: Device, graphs: bool) -> None:
        self._session = session
        self._device = device
        self._graphs = graphs
        self._slots: dict[Shapes, ShapeBuffers] = {}
        self._graph_ids = itertools.count(1)
        if graphs:
            session.options = without_graph()
        self._thread = ThreadPoolExecutor(1, "graphs") if graphs else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return outputs that are the caller's own."""
        if self._thread:
            return self._thread.submit(self._run, inputs).result()
        return self._run(inputs)

    def close(self) -> None:
        """Let go of the buffers."""
        if self._thread:
            self._thread.shutdown()
        for slot in self._slots.values():
            slot.free()
        self._slots.clear()

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        shapes = tuple(inputs[name].shape for name in self._session.inputs)
        slot = self._slots.get(shapes)
        with GATE.alone() if slot is None and self._graphs else GATE.shared():
            if slot:
                return self._run_bound(slot, inputs)
            if len(self._slots) >= SLOTS_MAX:
                return self._session.run(dict(inputs))
            slot = self._bind(inputs)
            try:
                answers = self._run_bound(slot, inputs)
            except BaseException:  # a shape that fails must not hold pinned memory
                slot.free()
                raise
            self._slots[shapes] = slot
            return answers

    def _run_bound(self, slot: ShapeBuffers, inputs: Mapping[str, Array]) -> dict[str, Array]:
        begun = perf_counter()
        slot.feed(inputs)
        copy_s = perf_counter() - begun
        if not self._graphs:
            self._free_outputs(slot)
        elif not slot.fixed:
            self._fix_outputs(slot)
        self._session.bare.run_with_iobinding(slot.binding, slot.options)
        begun = perf_counter()
        answers = self._fetch(slot)
        return Copied(answers, copy_s + perf_counter() - begun)

    def _bind(self, inputs: Mapping[str, Array]) -> ShapeBuffers:
        """Make buffers for a shape, and bind the inputs."""
        binding = self._session.bare.io_binding()
        bound = {}
        for name, datatype in self._session.inputs.items():
            shape = inputs[name].shape
            value = self._place(shape, datatype)
            binding.bind_ortvalue_input(name, value)
            bound[name] = Buffer(shape, datatype, self._device), value
        return ShapeBuffers(binding, ort.RunOptions(), bound)

    def _free_outputs(self, slot: ShapeBuffers) -> None:
        """Let the next run place its outputs: their shapes may depend on the values."""
        for name in self._session.outputs:
            slot.binding.bind_output(name, self._device.kind, self._device.id)

    def _fix_outputs(self, slot: ShapeBuffers) -> None:
        """Run once without a graph, then bind outputs of the shapes that came of it."""
        self._free_outputs(slot)
        self._session.bare.run_with_iobinding(slot.binding, self._session.options)
        made = slot.binding.get_outputs()
        for (name, datatype), value in zip(self._session.outputs.items(), made, strict=True):
            place = self._place(tuple(value.shape()), datatype)
            slot.binding.bind_ortvalue_output(name, place)
            slot.fixed.append(place)
        slot.options.add_run_config_entry("gpu_graph_id", str(next(self._graph_ids)))

    def _place(self, shape: tuple[int, ...], datatype: str) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), ONNX_TYPES[datatype], self._device.kind, self._device.id
        )

    def _fetch(self, slot: ShapeBuffers) -> dict[str, Array]:
        """Copy the outputs to the host, and out of the buffers that the next run overwrites."""
        values = slot.fixed or slot.binding.get_outputs()
        answers = {}
        for (name, datatype), value in zip(self._session.outputs.items(), values, strict=True):
            shape = tuple(value.shape())
            buffer = slot.outputs.get(name)
            if buffer is None or buffer.array.shape != shape:
                if buffer is not None:
                    buffer.unpin()
                buffer = slot.outputs[name] = Buffer(shape, datatype, self._device)
            buffer.value.update_inplace(value)
            answers[name] = buffer.array.copy()
        return answers


class BoundRunner:
    """A few lanes of one model; any thread."""

    def __init__(
        self,
        sessions: list[Session],
        lanes: int,
        device: Device,
        *,
        batchable: bool,
        graphs: bool,
    ) -> None:
        self.graphs: Final = graphs
        """Whether batches are replayed as CUDA graphs."""
        self.on_close: Callable[[], None] = lambda: None
        self._batchable = batchable
        self._lanes = [Lane(sessions[n % len(sessions)], device, graphs) for n in range(lanes)]
        self._idle: LifoQueue[Lane] = LifoQueue()  # the one used last is the warmest
        for lane in self._lanes:
            self._idle.put(lane)

    def run(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        """Answer a batch; waits for a lane if all are busy."""
        rows = len(next(iter(inputs.values()))) if self._batchable else 0
        filled = fill(inputs, rows) if self._batchable else inputs
        lane = self._idle.get()
        try:
            outputs = lane.run(filled)
        finally:
            self._idle.put(lane)
        if filled is inputs:
            return outputs
        kept = {name: values[:rows] for name, values in outputs.items()}
        return Copied(kept, outputs.copy_s) if type(outputs) is Copied else kept

    run_alone = run  # a lone run has the whole device anyway

    def warm(self, batches: list[dict[str, Array]]) -> None:
        """Run each batch on each lane, so that none allocates, chooses or captures later."""
        for lane in self._lanes:
            for batch in batches:
                rows = len(next(iter(batch.values()))) if self._batchable else 0
                lane.run(fill(batch, rows) if self._batchable else batch)

    def close(self) -> None:
        """Let go of sessions and buffers."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._idle = LifoQueue()
        self.on_close()


def fill(inputs: dict[str, Array], rows: int) -> dict[str, Array]:
    """Repeat the last row up to the next power of two; a model has seen its like already."""
    size = 1 << (rows - 1).bit_length()
    if size == rows:
        return inputs
    return {name: _filled(values, size) for name, values in inputs.items()}


def _filled(values: Array, size: int) -> Array:
    wide: Any = np.empty((size, *values.shape[1:]), values.dtype)
    wide[: len(values)] = values
    wide[len(values) :] = values[-1]
    return wide  # type: ignore[no-any-return]
