"""Make a cheaper precision from the fp32 core, in a child process, and say how it went.

Only matrix products are quantized: embeddings, missing numbers and normalisation stay float,
and the raw columns are attached afterwards. A precision that cannot be made is a result like
any other: `result.json` says why, and prove carries on without it.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from slipway.bundle.format import canonical_json
from slipway.bundle.session import open_session
from slipway.errors import SlipwayError
from slipway.precision import INT8_DYNAMIC, INT8_STATIC, PRECISIONS
from slipway.provider import CPU
from tasks import columns, graph
from tasks.child import attempt
from tasks.models import is_off, write_off
from tasks.shards import read_shards

if TYPE_CHECKING:
    from slipway.config import QuantizeConfig

RESULT = "result.json"

OPERATORS = ["Gemm", "MatMul"]
"""What is quantized: nearly all of the time is spent there, and nothing there sees a NaN."""

WEIGHTS: dict[str, Any] = {
    "weight_type": QuantType.QInt8,
    # x86 without VNNI multiplies by VPMADDUBSW, which adds two u8 * s8 products in 16 bits and
    # saturates: answers would differ between CPUs. With weights of 7 bits it cannot:
    # 2 * 255 * 64 = 32,640 < 32,767. s8 activations are no way out; ONNX Runtime makes them u8.
    "reduce_range": True,
}

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}

CALIBRATION_BATCH_ROWS = 256
CHECK_ROWS = 64
"""Golden rows that a fresh model must answer before it counts as made."""


def run(
    config: "QuantizeConfig",
    *,
    precision: str,
    fp32: Path,
    prepared: Path,
    golden: Path,
    out: Path,
) -> None:
    """Convert and check in a child; record what came of it."""
    if is_off(fp32):
        write_off(out)
        return
    if precision not in CONVERSIONS:
        known = ", ".join(CONVERSIONS)
        raise SlipwayError(f"no conversion to precision {precision!r}; known: {known}")
    settings = getattr(config, PRECISIONS[precision].keyword).model_dump()
    # what the child leaves behind counts only if it came to its end
    with tempfile.TemporaryDirectory(prefix="slipway-quantize-") as folder:
        made = Path(folder) / graph.MODEL
        reason = attempt(
            convert, precision, settings, fp32, prepared, golden, made, timeout_s=config.timeout_s
        )
        if reason is None:
            (out / graph.MODEL).write_bytes(made.read_bytes())
    result = {
        "precision": precision,
        "made": reason is None,
        "reason": reason,
        "size_bytes": None if reason else (out / graph.MODEL).stat().st_size,
    }
    (out / RESULT).write_bytes(canonical_json(result))


def convert(
    precision: str, settings: dict[str, Any], fp32: Path, prepared: Path, golden: Path, made: Path
) -> None:
    """Quantize the core, attach the raw columns, and let the model answer golden rows."""
    with tempfile.TemporaryDirectory(prefix="slipway-core-") as folder:
        ready, core = Path(folder) / "ready.onnx", Path(folder) / "core.onnx"
        quant_pre_process(fp32 / graph.CORE, ready, skip_symbolic_shape=True)
        CONVERSIONS[precision](settings, ready, core, prepared)
        reduced = graph.reduce(onnx.load(core))
    raw = columns.read_columns(fp32)
    model = graph.to_bytes(graph.assemble(reduced, raw.inputs, raw.answering))
    rows, _ = columns.read_golden_rows(golden, raw)
    session = open_session(model, CPU, 1)
    judged = raw.answering.judged
    answers = session.run(columns.as_arrays(rows.slice(0, CHECK_ROWS)))[judged]
    low, high = raw.problem.output.range or (-np.inf, np.inf)
    if not np.all(np.isfinite(answers) & (answers >= low) & (answers <= high)):
        raise ValueError(f"answers are no {judged}")
    made.write_bytes(model)


def find_small_products(ready: Path) -> list[str]:
    """Name the products with a stack of small matrices: one per number, one per member.

    ONNX Runtime 1.31 has no kernel for such a stack with a scale per channel, and nearly all of
    the time is spent elsewhere.
    """
    model = onnx.load(ready).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in model.initializer}
    return [
        node.name
        for node in model.node
        if node.op_type in OPERATORS and any(ranks.get(name, 2) > 2 for name in node.input)
    ]


def quantize_statically(settings: dict[str, Any], ready: Path, core: Path, prepared: Path) -> None:
    """Fix every scale beforehand, from training rows."""
    quantize_static(
        ready,
        core,
        CalibrationRows(prepared, settings["calibration_rows"]),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=OPERATORS,
        nodes_to_exclude=find_small_products(ready),
        per_channel=settings["per_channel"],
        activation_type=QuantType.QUInt8,
        calibrate_method=METHODS[settings["method"]],
        extra_options={"OpTypesToExcludeOutputQuantization": OPERATORS},
        **WEIGHTS,
    )


def quantize_dynamically(settings: dict[str, Any], ready: Path, core: Path, prepared: Path) -> None:
    """Fix the weights' scales only; those of activations come from each batch."""
    quantize_dynamic(
        ready,
        core,
        op_types_to_quantize=OPERATORS,
        nodes_to_exclude=find_small_products(ready),
        per_channel=settings["per_channel"],
        **WEIGHTS,
    )


CONVERSIONS: dict[str, Callable[[dict[str, Any], Path, Path, Path], None]] = {
    INT8_STATIC.name: quantize_statically,
    INT8_DYNAMIC.name: quantize_dynamically,
}


class CalibrationRows(CalibrationDataReader):  # type: ignore[misc]
    """Training rows at equal distances, so that every part of the period is among them."""

    def __init__(self, prepared: Path, count: int) -> None:
        shards = read_shards(prepared)
        count = min(count, len(shards))
        rows = shards.take(np.arange(count) * len(shards) // count)
        self._rows, self._starts = rows, iter(range(0, count, CALIBRATION_BATCH_ROWS))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Give the next batch, or None at the end."""
        start = next(self._starts, None)
        if start is None:
            return None
        part = slice(start, start + CALIBRATION_BATCH_ROWS)
        categories: np.ndarray = self._rows.categories[part].astype(np.int64)
        numbers: np.ndarray = self._rows.numbers[part]
        given = {graph.CATEGORIES: categories, graph.NUMBERS: numbers}
        return {name: values for name, values in given.items() if values.shape[1]}
