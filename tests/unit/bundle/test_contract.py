import copy
import json

import pytest

from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.datatypes import DTYPES
from slipway.bundle.format import canonical_json
from slipway.errors import BundleRefused
from tests.bundles import CARRIERS, make_payload


@pytest.fixture(scope="module")
def contract(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("payload")
    make_payload(folder)
    return json.loads((folder / "contract.json").read_bytes())


def test_a_contract_says_what_the_model_takes_and_gives(contract, tmp_path):
    (tmp_path / "contract.json").write_bytes(canonical_json(contract))
    read = read_contract(tmp_path / "contract.json")
    assert [(t.name, t.datatype) for t in read.inputs] == [("carrier", "BYTES"), ("delay", "FP32")]
    assert read.inputs[0].categories == CARRIERS
    assert read.inputs[1].range == (-20.0, 70.0)
    assert read == read_contract(canonical_json(contract))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("inputs", 0, "datatype"), "STRING", "inputs.0.datatype"),
        (("inputs", 0, "kind"), "text", "inputs.0.kind"),
        (("inputs", 0, "shape"), [-2], "inputs.0.shape"),
        (("inputs", 1, "range"), [0.0], "inputs.1.range"),
        (("inputs", 1, "name"), "carrier", "named twice: carrier"),
        (("outputs", 0, "name"), "delay", "named twice: delay"),
        (("inputs",), [], "inputs"),
        (("max_rows",), 0, "max_rows"),
        (("max_rows",), "256", "max_rows"),
        (("requires", "gpu"), 1, "requires.gpu"),
        (("more",), 1, "more"),
    ],
)
def test_a_contract_that_says_anything_else_is_refused(contract, path, value, said):
    broken = copy.deepcopy(contract)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(BundleRefused, match=rf"contract\.json: .*{said}"):
        read_contract(canonical_json(broken))


PADDING = {"axis": 1, "value": 0.0, "buckets": [8, 16]}


def tensors(contract: dict, **changes) -> dict:
    """A contract of one padded input and one output as long."""
    ids = {
        "name": "ids",
        "datatype": "INT64",
        "shape": [-1, -1],
        "kind": "tensor",
        "meaning": "",
        "categories": None,
        "range": None,
        "missing": "refused",
        "unknown": None,
        "padding": PADDING,
    }
    each = {
        "name": "each",
        "datatype": "FP16",
        "shape": [-1, -1],
        "meaning": "",
        "range": None,
        "padded_axis": 1,
    }
    return {
        **contract,
        "inputs": [{**ids, **changes.pop("input", {})}],
        "outputs": [{**each, **changes.pop("output", {})}],
        **changes,
    }


def test_a_contract_without_tensors_keeps_its_bytes(contract):
    read = read_contract(canonical_json(contract))
    assert canonical_json(read.model_dump(mode="json")) == canonical_json(contract)


def test_a_padded_tensor_reads_back(contract):
    read = read_contract(canonical_json(tensors(contract)))
    assert read.inputs[0].padding is not None
    assert read.inputs[0].padding.buckets == [8, 16]
    assert read.outputs[0].padded_axis == 1
    assert read == Contract.model_validate(read.model_dump())


@pytest.mark.parametrize("datatype", DTYPES)
def test_tensors_have_any_datatype(contract, datatype):
    changed = tensors(contract, input={"datatype": datatype, "padding": None},
                      output={"datatype": datatype, "padded_axis": None})  # fmt: skip
    assert read_contract(canonical_json(changed)).inputs[0].datatype == datatype


@pytest.mark.parametrize(
    ("first_in", "first_out", "batchable"),
    [(-1, -1, True), (1, 1, False), (-1, 1, False), (1, -1, False)],
)
def test_rows_share_a_run_only_where_every_first_dimension_counts_them(
    contract, first_in, first_out, batchable
):
    changed = tensors(contract, input={"shape": [first_in, -1]}, output={"shape": [first_out, -1]})
    assert read_contract(canonical_json(changed)).batchable is batchable


def test_one_value_for_a_whole_request_is_not_batchable(contract):
    changed = tensors(contract, output={"shape": [], "padded_axis": None})
    assert read_contract(canonical_json(changed)).batchable is False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": {"padding": {**PADDING, "axis": 0}}}, "padding.axis"),
        ({"input": {"padding": {**PADDING, "axis": 2}}}, "padding.axis must be a variable"),
        ({"input": {"shape": [-1, 8]}}, "padding.axis must be a variable"),
        ({"input": {"padding": {**PADDING, "buckets": [16, 8]}}}, "buckets must ascend"),
        ({"input": {"padding": {**PADDING, "buckets": [8, 8]}}}, "buckets must ascend"),
        ({"input": {"padding": {**PADDING, "buckets": []}}}, "buckets"),
        ({"input": {"padding": {**PADDING, "buckets": [0]}}}, "buckets"),
        ({"input": {"datatype": "BYTES"}}, "padding is for tensors of numbers"),
        ({"input": {"kind": "number"}}, "padding is for tensors of numbers"),
        ({"input": {"padding": None}}, "without a padded input"),
        ({"output": {"padded_axis": 2}}, "padded_axis must be a variable"),
        ({"output": {"padded_axis": 0}}, "padded_axis must be a variable"),
        ({"output": {"shape": [-1, 3]}}, "padded_axis must be a variable"),
        ({"input": {"datatype": "FP8"}}, "inputs.0.datatype"),
    ],
)
def test_padding_that_cannot_be_is_refused(contract, changes, said):
    with pytest.raises(BundleRefused, match=rf"contract\.json: .*{said}"):
        read_contract(canonical_json(tensors(contract, **changes)))


def test_padded_inputs_share_their_buckets(contract):
    changed = tensors(contract)
    other = {**changed["inputs"][0], "name": "mask", "padding": {**PADDING, "buckets": [8]}}
    changed["inputs"].append(other)
    with pytest.raises(BundleRefused, match="different buckets"):
        read_contract(canonical_json(changed))
