"""Raw columns in front of a core, what is left of a graph, and parity with what was trained."""

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch

from slipway.bundle.session import open_session
from slipway.errors import GateError, SlipwayError
from tasks import columns, export, graph
from tests.small_models import EFFECTS, WEIGHTS, make_core, make_model, small_columns, small_rows

NAN = float("nan")


def answer(model: bytes, origins: list[str], delay: float, wind: float) -> list[float]:
    rows = len(origins)
    inputs = {
        "origin": np.array(origins, object),
        "delay": np.full(rows, delay, np.float32),
        "wind": np.full(rows, wind, np.float32),
    }
    return open_session(model, "CPUExecutionProvider", 1).run(inputs)["probability"].tolist()


class SmallNetwork(torch.nn.Module):
    """The hand-made core once more, in torch; `blind` is what it makes of a missing number."""

    def __init__(self, blind: float = 0.0) -> None:
        super().__init__()
        self.blind = blind

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        filled = torch.nan_to_num(numbers, nan=self.blind)
        scores: torch.Tensor = (
            filled @ torch.tensor(WEIGHTS) + torch.tensor(EFFECTS)[categories[:, 0]]
        )
        return scores[:, None]

    def score(self, categories: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return self(torch.from_numpy(categories), torch.from_numpy(numbers)).numpy()


def compare(network: SmallNetwork, rows: pa.Table) -> dict[int, float]:
    session = open_session(make_model(make_core()), "CPUExecutionProvider", 1)
    raw = small_columns()
    return export.compare(
        lambda arrays: session.run(arrays)["probability"],
        lambda arrays: raw.answering.respond(network.score(*raw.codes(arrays))),
        raw=raw,
        rows=small_columns().table(rows),
        batches=[1, 7, 256],
    )


def test_every_category_gets_the_effect_of_its_own_code() -> None:
    answers = answer(make_model(make_core()), ["EWR", "JFK", "LGA"], 0.0, 0.0)
    assert answers == pytest.approx([1 / (1 + np.exp(-e)) for e in EFFECTS[1:]])


def test_an_unknown_category_and_a_missing_one_get_the_unknown_effect() -> None:
    answers = answer(make_model(make_core()), ["XXX", "", "ewr", "EWR "], 0.0, 0.0)
    assert answers == pytest.approx([1 / (1 + np.exp(-EFFECTS[0]))] * 4)


def test_a_missing_number_takes_the_path_that_the_trained_model_takes() -> None:
    network = SmallNetwork()
    codes = torch.tensor([[1]])
    expected = torch.sigmoid(network(codes, torch.tensor([[NAN, 0.5]]))).item()
    assert answer(make_model(make_core()), ["EWR"], NAN, 0.5) == pytest.approx([expected])


def test_a_column_may_be_called_like_a_name_inside_the_core() -> None:
    inputs = [
        column.model_copy(update={"name": name})
        for column, name in zip(
            small_columns().inputs, ["categories", "numbers", "scores"], strict=True
        )
    ]
    model = graph.to_bytes(graph.assemble(make_core(), inputs, small_columns().answering))
    rows = {
        "categories": np.array(["EWR"], object),
        "numbers": np.array([1.0], np.float32),
        "scores": np.array([2.0], np.float32),
    }
    renamed = open_session(model, "CPUExecutionProvider", 1).run(rows)["probability"]
    assert renamed.tolist() == answer(make_model(make_core()), ["EWR"], 1.0, 2.0)


def test_a_column_cannot_be_called_like_an_output() -> None:
    inputs = [
        small_columns().inputs[0].model_copy(update={"name": "probability"}),
        *small_columns().inputs[1:],
    ]
    with pytest.raises(SlipwayError, match="cannot be called 'probability'"):
        graph.assemble(make_core(), inputs, small_columns().answering)


def test_an_empty_string_is_no_category() -> None:
    origin = small_columns().inputs[0].model_copy(update={"categories": ["", "EWR"]})
    inputs = [origin, *small_columns().inputs[1:]]
    with pytest.raises(SlipwayError, match="'origin': an empty string"):
        graph.assemble(make_core(), inputs, small_columns().answering)


def test_a_reduced_graph_keeps_no_path_no_trace_and_no_unused_domain() -> None:
    core = make_core()
    core.producer_version = "/home/someone"
    core.doc_string = "/home/someone"
    core.metadata_props.add(key="stack", value="/home/someone/net.py")
    core.graph.node[0].metadata_props.add(key="stack", value="/home/someone/net.py")
    core.graph.initializer[0].doc_string = "/home/someone"
    core.graph.value_info.add(name="filled", doc_string="/home/someone")
    core.opset_import.add(domain="org.pytorch.aten", version=1)
    reduced = graph.reduce(core)
    assert b"someone" not in graph.to_bytes(reduced)
    assert [entry.domain for entry in reduced.opset_import] == [""]
    assert len(reduced.graph.value_info) == 0


def test_a_reduced_graph_is_reduced_inside_its_branches_too() -> None:
    core = make_core()
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("PyOp", [], [], "x", "/home/me")], "b", [], []
    )
    core.graph.node.append(onnx.helper.make_node("If", ["missing"], [], then_branch=branch))
    core.graph.node[-1].attribute[0].g.node[0].domain = "com.microsoft"
    core.opset_import.add(domain="com.microsoft", version=1)
    reduced = graph.reduce(core)
    assert b"/home/me" not in graph.to_bytes(reduced)
    assert {entry.domain for entry in reduced.opset_import} == {"", "com.microsoft"}


def test_the_same_graph_answers_like_the_trained_model_at_every_batch_size() -> None:
    parity = compare(SmallNetwork(), small_rows())
    assert list(parity) == [1, 7, 256]
    export.check_parity(parity, 1e-6)


def test_a_difference_that_only_missing_values_show_is_found_without_a_golden_row_for_it() -> None:
    complete = small_rows().drop_null()
    assert max(compare(SmallNetwork(blind=1.0), complete).values()) > 0.01


def test_a_graph_that_answers_otherwise_than_the_trained_model_stops_the_line() -> None:
    with pytest.raises(
        GateError, match=r"does not answer like the trained model[\s\S]*  256  3\.00e-02"
    ):
        export.check_parity({1: 1e-7, 256: 0.03}, 1e-5)


def test_a_graph_that_answers_nan_stops_the_line() -> None:
    rows = small_columns().table(small_rows(20))
    parity = export.compare(
        lambda arrays: np.full(columns.count_rows(arrays), NAN),
        lambda arrays: np.zeros(columns.count_rows(arrays)),
        raw=small_columns(),
        rows=rows,
        batches=[7],
    )
    with pytest.raises(GateError, match="nan"):
        export.check_parity(parity, 1e-5)


def test_golden_rows_reach_a_session_with_missing_values_marked() -> None:
    table = pa.table({"origin": ["EWR", None], "delay": [None, 3], "wind": [1.5, None]})
    arrays = columns.as_arrays(small_columns().table(table))
    assert arrays["origin"].tolist() == ["EWR", ""]
    np.testing.assert_array_equal(arrays["delay"], np.array([NAN, 3], np.float32))
    assert arrays["delay"].dtype == np.float32
