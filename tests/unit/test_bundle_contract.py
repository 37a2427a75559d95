import copy
import json

import pytest

from slipway.bundle.contract import read_contract
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
