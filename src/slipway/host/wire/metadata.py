"""What the host and its models say about themselves, the same over every transport."""

from collections.abc import Sequence
from typing import Any, Final

from slipway.bundle.contract import Contract, InputTensor, OutputTensor
from slipway.host.answer.call import Loaded

PLATFORM: Final = "onnxruntime_onnx"

TYPE_NAMES: Final = {"BYTES": "TYPE_STRING"}
"""Where a datatype's name in a model's configuration is not TYPE_ before its own."""

EXTENSIONS: Final = ["binary_tensor_data", "model_configuration"]
"""`statistics` are served and not named here: perf_analyzer reads them wherever they are named,
takes a version for a number, and dies of one that is a digest."""


def describe_tensors(tensors: Sequence[InputTensor | OutputTensor]) -> list[dict[str, Any]]:
    """Return tensors in the protocol's words."""
    return [{"name": t.name, "datatype": t.datatype, "shape": t.shape} for t in tensors]


def statistics(model: str, loaded: Loaded) -> dict[str, Any]:
    """Return what was counted about a version, in the form of Triton's statistics extension."""
    totals = loaded.series.totals()
    answered = totals.answered

    def spent(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": int(seconds * 1e9)}

    return {
        "name": model,
        "version": loaded.version,
        "inference_count": totals.rows,
        "execution_count": totals.runs,
        "inference_stats": {
            "success": spent(answered, totals.request_s),
            "fail": spent(totals.refused, 0.0),
            "queue": spent(answered, totals.queue_s),
            "compute_input": spent(answered, totals.copy_s),
            "compute_infer": spent(answered, totals.run_s - totals.copy_s),
            "compute_output": spent(answered, 0.0),
        },
        "batch_stats": [],
    }


def make_config(name: str, contract: Contract) -> dict[str, Any]:
    """Return a model's configuration.

    Where rows can be batched their dimension is left out of the shapes, as Triton does it. A
    tensor that has no other dimension would be left with none, which its clients do not take:
    such a model is described as it is, without batching.
    """
    shapes = [t.shape for t in contract.inputs] + [t.shape for t in contract.outputs]
    batched = contract.batchable and min(map(len, shapes)) > 1
    skip = 1 if batched else 0
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": contract.max_rows if batched else 0,
        "input": [_config_tensor(tensor, skip) for tensor in contract.inputs],
        "output": [_config_tensor(tensor, skip) for tensor in contract.outputs],
    }


def _config_tensor(tensor: InputTensor | OutputTensor, skip: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": TYPE_NAMES.get(tensor.datatype, f"TYPE_{tensor.datatype}"),
        "dims": tensor.shape[skip:],
    }
