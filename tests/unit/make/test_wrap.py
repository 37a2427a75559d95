"""Bundles of models that were made elsewhere."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from onnx import TensorProto, helper

from slipway.bundle.contract import Padding
from slipway.bundle.format import canonical_json
from slipway.bundle.manifest import payload_version, write_manifest
from slipway.bundle.session import Session, open_session
from slipway.bundle.signing import sign_bundle
from slipway.bundle.verify import check_here, verify_bundle
from slipway.errors import BundleRefused, ConfigError, SlipwayError
from slipway.make.wrap.request import WrapRequest
from slipway.make.wrap.rows import InputSpec, read_rows
from slipway.make.wrap.tolerance import Movement, choose_tolerance, find_problems
from slipway.make.wrap.wrap import wrap_onnx
from tests.bundles import CPU, Keys, make_keys
from tests.tensors import (
    V2_DATATYPES,
    golden_arrays,
    make_onnx,
    make_tensor_bundle,
    random_tensor,
    to_bytes,
    token_request,
    write_rows,
)

KINDS = ["types", "bf16", "mlp", "gather", "fixed", "tokens"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


def save_rows(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "rows.npz", **arrays)
    return folder / "rows.npz"


def wrap(folder: Path, keys: Keys, model: bytes, rows: Path, **request):
    (folder / "model.onnx").write_bytes(model)
    usual = {"model": folder / "model.onnx", "name": "m", "out": folder / "out", "max_rows": 16}
    return wrap_onnx(WrapRequest(**{**usual, "rows": rows, "key": keys.builder, **request}))


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_model_is_a_bundle_that_a_host_accepts(kind, keys, tmp_path):
    wrapped = make_tensor_bundle(tmp_path / "bundle", kind, keys=keys)
    verified = verify_bundle(tmp_path / "bundle", keys.trusted)
    result = check_here(verified, open_session(verified.model, CPU, threads=1))
    assert verified.manifest.version == wrapped.version
    assert set(result.largest.values()) == {0.0}
    assert {t.kind for t in verified.contract.inputs} == {"tensor"}


def test_the_contract_is_that_of_the_graph(keys, tmp_path):
    contract = make_tensor_bundle(tmp_path / "bundle", "types", keys=keys).contract
    assert [t.datatype for t in contract.inputs] == list(V2_DATATYPES)
    assert [t.datatype for t in contract.outputs] == list(V2_DATATYPES)
    assert {tuple(t.shape) for t in contract.inputs} == {(-1, 2)}
    assert (contract.batchable, contract.max_rows, contract.batch_invariance_max) == (True, 64, 0.0)
    assert contract.requires.provider == CPU


def test_the_same_model_and_rows_give_the_same_version_and_another_model_another(keys, tmp_path):
    versions = [
        make_tensor_bundle(tmp_path / name, "mlp", keys=keys, seed=seed).version
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert versions[0] == versions[1] != versions[2]


def test_every_paper_says_that_only_reproducibility_was_proven(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys)
    for name in ("gates.json", "proof.json", "lineage.json", "card.md", "sbom.cdx.json"):
        assert "reproducibility only" in (tmp_path / "bundle" / name).read_text(), name


def test_the_lineage_leads_to_the_files_and_names_no_path(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys)
    text = (tmp_path / "bundle/lineage.json").read_text()
    sources = json.loads(text)["sources"]
    model = tmp_path / "bundle-source/model.onnx"
    assert sources["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (sources["model"]["url"], sources["golden rows"]["rows"]) == ("model.onnx", 12)
    assert sources["model"]["about"]["producer"] == "tests"
    assert str(tmp_path) not in text


def test_the_bill_of_materials_is_valid_cyclonedx(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys)
    text = (tmp_path / "bundle/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_a_model_for_one_row_at_a_time_is_not_batchable(keys, tmp_path):
    wrapped = make_tensor_bundle(tmp_path / "bundle", "fixed", keys=keys)
    assert [t.shape for t in wrapped.contract.inputs] == [[1, 4]]
    assert (wrapped.contract.batchable, wrapped.contract.max_rows) == (False, 1)
    assert wrapped.golden.inputs["x"].shape == (12, 1, 4)


def test_padding_that_the_model_does_not_mind_stands_in_the_contract(keys, tmp_path):
    contract = make_tensor_bundle(tmp_path / "bundle", "tokens", keys=keys, padded=True).contract
    assert contract.inputs[0].padding == Padding(axis=1, value=0, buckets=[4, 8, 16])
    assert {t.name: t.padded_axis for t in contract.outputs} == {"mean": None, "each": 1}
    gates = json.loads((tmp_path / "bundle/gates.json").read_bytes())["precisions"]["as-made"]
    assert "padding of mean" in {gate["gate"] for gate in gates["gates"]}


@pytest.mark.parametrize(
    ("paddings", "said"),
    [
        (
            {"ids": Padding(axis=1, value=5, buckets=[4, 8, 16])},
            "fails when it is padded to 4; pad every input",
        ),
        (
            {
                "ids": Padding(axis=1, value=5, buckets=[4, 8, 16]),
                "mask": Padding(axis=1, value=1, buckets=[4, 8, 16]),
            },
            "'mean': padding moved it by .* minds padding",
        ),
        (
            {n: Padding(axis=1, value=0, buckets=[4, 8]) for n in ("ids", "mask")},
            "length 12, the largest bucket 8",
        ),
        (
            {n: Padding(axis=1, value=0, buckets=[1, 3, 4, 7, 12]) for n in ("ids", "mask")},
            "every golden row is as long as a bucket",
        ),
        ({"id": Padding(axis=1, value=0, buckets=[4])}, "no input 'id'"),
    ],
    ids=["mask not padded", "mask padded with 1", "row too long", "no row padded", "no such input"],
)
def test_padding_that_changes_answers_or_cannot_be_shown_is_refused(paddings, said, keys, tmp_path):
    with pytest.raises(SlipwayError, match=said):
        make_tensor_bundle(tmp_path / "bundle", "tokens", keys=keys, paddings=paddings)
    assert not (tmp_path / "bundle").exists()


def make_centred() -> bytes:
    """A model whose rows are not independent: each is taken relative to the batch's mean."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "zero"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    shape = ("FP32", ["rows", 2])
    return to_bytes(nodes, {"x": shape}, {"y": shape}, {"zero": np.array([0], np.int64)})


def test_a_model_whose_rows_depend_on_each_other_is_refused_and_can_be_wrapped_for_one_row(
    keys, tmp_path
):
    rows = save_rows(tmp_path, x=np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32))
    before = left_behind(tmp_path)
    with pytest.raises(BundleRefused, match="depends on its neighbours; give --one-row"):
        wrap(tmp_path, keys, make_centred(), rows)
    assert left_behind(tmp_path) == sorted([*before, "model.onnx"])
    wrapped = wrap(tmp_path, keys, make_centred(), rows, one_row=True)
    assert (wrapped.contract.batchable, wrapped.contract.inputs[0].shape) == (False, [1, 2])
    verified = verify_bundle(tmp_path / "out", keys.trusted)
    assert check_here(verified, open_session(verified.model, CPU, 1)).passed


def test_a_first_dimension_that_does_not_count_rows_is_refused(keys, tmp_path):
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    model = to_bytes(nodes, {"x": ("FP32", ["n"])}, {"y": ("FP32", ["m"])}, {})
    rows = save_rows(tmp_path, x=np.arange(3, dtype=np.float32))
    with pytest.raises(BundleRefused, match="does not count rows; give --one-row"):
        wrap(tmp_path, keys, model, rows)


def test_a_row_that_the_model_fails_on_is_named(keys, tmp_path):
    rows = save_rows(tmp_path, index=np.array([1, 2, 99]))
    with pytest.raises(BundleRefused, match=r"row 2: the model fails: .*99"):
        wrap(tmp_path, keys, make_onnx("gather"), rows)


def test_an_answer_that_is_not_finite_is_refused(keys, tmp_path):
    shape = ("FP32", ["rows"])
    model = to_bytes([helper.make_node("Log", ["x"], ["y"])], {"x": shape}, {"y": shape}, {})
    rows = save_rows(tmp_path, x=np.float32([1, 2, -1]))
    with pytest.raises(BundleRefused, match="row 2: output 'y' is not finite"):
        wrap(tmp_path, keys, model, rows)


def test_a_tolerance_may_be_asked_for_but_not_one_that_the_model_breaks(keys, tmp_path):
    rows = save_rows(tmp_path, x=np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32))
    with pytest.raises(BundleRefused, match=r"--tolerance allows 0\.001"):
        wrap(tmp_path, keys, make_centred(), rows, tolerance={"y": 0.001})
    wrapped = wrap(tmp_path, keys, make_centred(), rows, tolerance={"": 9.0})
    assert wrapped.golden.tolerance == {"y": 9.0}
    assert 0.1 < wrapped.contract.batch_invariance_max < 9.0


def test_weights_outside_the_file_are_refused_with_what_to_do(keys, tmp_path):
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="w.bin")
    model = onnx.load_from_string(make_onnx("gather"))
    model.graph.initializer.append(weights)
    rows = save_rows(tmp_path, index=np.arange(3))
    with pytest.raises(BundleRefused, match=r"external data.*onnx\.save\(onnx\.load"):
        wrap(tmp_path, keys, model.SerializeToString(), rows)


def test_foreign_operators_are_refused_with_what_to_do(keys, tmp_path):
    model = onnx.load_from_string(make_onnx("gather"))
    model.graph.node[0].domain = "example.com"
    rows = save_rows(tmp_path, index=np.arange(3))
    with pytest.raises(BundleRefused, match=r"domain 'example\.com'.*standard operators"):
        wrap(tmp_path, keys, model.SerializeToString(), rows)


def test_an_output_that_is_no_tensor_is_refused_with_what_to_do(keys, tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ZipMap", ["f"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    kind = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(kind))],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    rows = save_rows(tmp_path, x=np.zeros((3, 2), np.float32))
    with pytest.raises(ConfigError, match=r"'y' is seq.*options=\{'zipmap': False\}"):
        wrap(tmp_path, keys, model, rows)


def test_every_wrong_wish_is_told_at_once(keys, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError) as refused:
        wrap(
            tmp_path,
            Keys(tmp_path / "nowhere"),
            b"",
            tmp_path / "no.npz",
            name="a/b",
            max_rows=0,
            tolerance={"": -1.0},
        )
    problems = " ".join(refused.value.problems)
    assert len(refused.value.problems) == 6
    for option in ("--name", "--out", "--golden", "--key", "--max-rows", "--tolerance"):
        assert option in problems


def test_a_failure_while_writing_leaves_nothing_behind(keys, tmp_path):
    bad = tmp_path / "bad.key"
    bad.write_text("no key")
    bad.chmod(0o600)
    rows = save_rows(tmp_path, index=np.arange(3))
    with pytest.raises(SlipwayError, match="no readable private key"):
        wrap(tmp_path, keys, make_onnx("gather"), rows, key=bad)
    assert left_behind(tmp_path) == ["bad.key", "model.onnx", "rows.npz"]


def test_a_tampered_golden_answer_is_found_by_the_host(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys)
    path = tmp_path / "bundle/golden.arrow"
    path.write_bytes(path.read_bytes().replace(b"as-made", b"as_made"))
    with pytest.raises(BundleRefused, match=r"golden\.arrow: SHA-256"):
        verify_bundle(tmp_path / "bundle", keys.trusted)


@pytest.mark.parametrize(
    ("found", "asked", "tolerance"),
    [
        (0.0, None, 64 * 2**-23 * 10),
        (0.01, None, 0.04),
        (0.01, 0.5, 0.5),
    ],
    ids=["the floor", "four times what was measured", "what was asked for"],
)
def test_the_tolerance_covers_what_was_measured(found, asked, tolerance):
    measured = Movement("FP32", 10.0, {"repeatability": 0.0, "batch invariance": found})
    assert choose_tolerance(measured, asked) == pytest.approx(tolerance)
    assert find_problems("y", measured, asked) == []


def test_whole_numbers_have_no_tolerance_whatever_is_asked():
    measured = Movement("INT64", 1.0, {"batch invariance": float("inf")})
    assert choose_tolerance(measured, 5.0) == 0.0
    assert "INT64 must be equal" in find_problems("y", measured, 5.0)[0]


# the rows


def vector(datatype: str, *shape: int) -> list[InputSpec]:
    return [InputSpec("x", datatype, [-1, *shape])]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "json", "jsonl", "npz"])
def test_rows_come_in_many_files_and_mean_the_same(suffix, tmp_path):
    path = tmp_path / f"rows.{suffix}"
    wanted = [
        InputSpec("n", "FP32", [-1]),
        InputSpec("s", "BYTES", [-1]),
        InputSpec("i", "INT8", [-1]),
    ]
    table = pa.table({"n": [1.0, 2.5], "s": ["a", "ü"], "i": [-1, 5], "more": [0, 0]})
    requests = [
        {
            "inputs": [
                {"name": "n", "datatype": "FP32", "shape": [1], "data": [n]},
                {"name": "s", "datatype": "BYTES", "shape": [1], "data": [s]},
                {"name": "i", "datatype": "INT8", "shape": [1], "data": [i]},
            ]
        }
        for n, s, i in ((1.0, "a", -1), (2.5, "ü", 5))
    ]
    both = json.loads(json.dumps(requests[0]))
    for one, other in zip(both["inputs"], requests[1]["inputs"], strict=True):
        one["shape"], one["data"] = [2], one["data"] + other["data"]
    writers = {
        "parquet": lambda: pq.write_table(table, path),
        "csv": lambda: pyarrow.csv.write_csv(table, path),
        "arrow": lambda: write_arrow(path, table),
        "json": lambda: path.write_text(json.dumps(both)),
        "jsonl": lambda: path.write_text("\n".join(map(json.dumps, requests))),
        "npz": lambda: np.savez(path, **{n: table[n].to_numpy().astype(k) for n, k in DTYPES}),
    }
    writers[suffix]()
    given = read_rows(path, wanted, batchable=True)
    assert given.inputs["n"].tolist() == [1.0, 2.5]
    assert given.inputs["n"].dtype == np.float32
    assert given.inputs["s"].tolist() == ["a", "ü"]
    assert (given.inputs["i"].tolist(), given.inputs["i"].dtype) == ([-1, 5], np.int8)
    assert given.labels.tolist() == [None, None]


DTYPES = (("n", np.float64), ("s", str), ("i", np.int64))


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def test_lists_in_columns_are_tensors_and_may_be_flat(tmp_path):
    nested = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    table = pa.table({"x": nested, "y": [[1.0, 2.0, 3.0, 4.0]] * 2, "l": [1, 0]})
    pq.write_table(table, tmp_path / "rows.parquet")
    wanted = [InputSpec(name, "FP32", [-1, 2, 2]) for name in ("x", "y")]
    given = read_rows(tmp_path / "rows.parquet", wanted, batchable=True, labels="l")
    assert given.inputs["x"].tolist() == nested
    assert given.inputs["y"].shape == (2, 2, 2)
    assert given.labels.tolist() == [1, 0]


def test_rows_of_several_lengths_stay_apart(tmp_path):
    path = write_rows(tmp_path, "tokens")
    given = read_rows(path, [InputSpec("ids", "INT64", [-1, -1])], batchable=True)
    assert [len(row) for row in given.inputs["ids"]] == [3, 4, 7, 3, 12, 1]
    assert token_request(3)["inputs"][0]["data"] == given.inputs["ids"][0].tolist()


def test_bf16_is_taken_as_bits_or_rounded_from_numbers(tmp_path):
    for x in (np.array([[0x3F80], [0xC020]], np.uint16), np.array([[1.0], [-2.5]])):
        given = read_rows(save_rows(tmp_path, x=x), vector("BF16", 1), batchable=True)
        assert given.inputs["x"].tolist() == [[0x3F80], [0xC020]]


@pytest.mark.parametrize("datatype", V2_DATATYPES)
def test_every_datatype_comes_out_of_an_npz_to_the_bit(datatype, tmp_path):
    x = random_tensor(np.random.default_rng(1), datatype, (5, 3))
    given = read_rows(save_rows(tmp_path, x=x), vector(datatype, 3), batchable=True)
    assert given.inputs["x"].tolist() == x.tolist()


@pytest.mark.parametrize(
    ("x", "datatype", "said"),
    [
        (np.float64([[1.5]]), "INT64", "must be whole numbers, got float64"),
        (np.int64([[300]]), "INT8", "does not fit INT8"),
        (np.int64([[-1]]), "UINT64", "does not fit UINT64"),
        (np.float64([[1e39]]), "FP32", "not finite, or too large"),
        (np.float64([[1e39]]), "BF16", "not finite, or too large"),
        (np.float64([[np.nan]]), "FP64", "not finite"),
        (np.int64([[1]]), "BOOL", "must be true or false"),
        (np.bool_([[True]]), "INT32", "must be whole numbers"),
        (np.int64([[1]]), "BYTES", "must be text"),
        (np.array([["1"]]), "FP32", "must be numbers"),
        (np.float32([[1, 2]]), "FP32", re.escape("shape [1] (-1: any), got [2]")),
        (np.float32([[[1]]]), "FP32", re.escape("got [1, 1]")),
        (np.empty((0, 1), np.float32), "FP32", "has no rows"),
        (np.array([[None]], object), "FP32", "never unpickled"),
    ],
)
def test_values_that_would_be_changed_are_refused(x, datatype, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        read_rows(save_rows(tmp_path, x=x), vector(datatype, 1), batchable=True)


def test_every_problem_of_the_rows_is_told_at_once(tmp_path):
    rows = save_rows(tmp_path, delta=np.zeros(3), b=np.zeros(2), c=np.array(["x", "y"]))
    wanted = [InputSpec(name, "FP32", [-1]) for name in ("delt", "b", "c", "zz")]
    with pytest.raises(ConfigError) as refused:
        read_rows(rows, wanted, batchable=True, labels="nope")
    told = str(refused.value)
    assert len(refused.value.problems) == 4
    for part in ("did you mean 'delta'", "must be numbers", "input 'zz'", "label 'nope'"):
        assert part in told


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.txt", b"", "unknown kind of file"),
        ("rows.npz", b"junk", "rows.npz"),
        ("rows.parquet", b"junk", "rows.parquet"),
        ("rows.json", b"{", "line 1 is no inference request"),
        ("rows.jsonl", b'{"inputs": [{"name": "x", "shape": [2], "data": [1]}]}', "line 1"),
        ("rows.jsonl", b'{"inputs": []}\n{"outputs": []}', "line 2"),
        ("rows.csv", b"x\n1\n\xff\n", "rows.csv|must be"),
        ("missing.npz", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_rows(tmp_path / name, vector("FP32"), batchable=True)


def test_rows_for_a_fixed_first_dimension_need_not_spell_out_the_one(tmp_path):
    wanted = [InputSpec("x", "FP32", [1, 4])]
    for x in (golden_arrays("fixed")["x"], golden_arrays("fixed")["x"][:, None]):
        given = read_rows(save_rows(tmp_path, x=x), wanted, batchable=False)
        assert given.inputs["x"].shape == (12, 1, 4)


def test_a_value_is_no_sequence_of_one(tmp_path):
    rows = save_rows(tmp_path, x=np.zeros(3))
    with pytest.raises(ConfigError, match=re.escape("the shape [-1] (-1: any), got []")):
        read_rows(rows, [InputSpec("x", "FP32", [-1, -1])], batchable=True)


def test_inputs_of_different_numbers_of_rows_are_refused(tmp_path):
    rows = save_rows(tmp_path, a=np.zeros(3), b=np.zeros(2))
    with pytest.raises(ConfigError, match="different numbers of rows"):
        read_rows(rows, [InputSpec(n, "FP32", [-1]) for n in "ab"], batchable=True)


# what the bundle's own files say of each other


def reforge(folder: Path, keys: Keys, **changes: object) -> None:
    """Change the contract and sign the bundle anew, as a builder with a defect would."""
    contract = json.loads((folder / "contract.json").read_bytes())
    contract["inputs"][0].update(changes)
    (folder / "contract.json").write_bytes(canonical_json(contract))
    proof = json.loads((folder / "proof.json").read_bytes())
    proof["version"] = payload_version(folder)
    (folder / "proof.json").write_bytes(canonical_json(proof))
    write_manifest(folder, contract["model"])
    (folder / "bundle.sig").unlink()
    sign_bundle(folder, keys.builder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datatype": "FP64"}, "its datatypes are not the contract's"),
        ({"shape": [1, 64]}, "its rows are whole requests where the contract has rows"),
    ],
)
def test_a_golden_set_of_other_tensors_than_the_contracts_is_refused(changes, said, keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys)
    reforge(tmp_path / "bundle", keys)
    verify_bundle(tmp_path / "bundle", keys.trusted)
    reforge(tmp_path / "bundle", keys, **changes)
    with pytest.raises(BundleRefused, match=said):
        verify_bundle(tmp_path / "bundle", keys.trusted)


class Watching:
    """A session that notes how many rows each run has."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sizes: list[int] = []
        self.providers, self.inputs, self.outputs = (
            session.providers,
            session.inputs,
            session.outputs,
        )

    def run(self, inputs):
        self.sizes.append(len(next(iter(inputs.values()))))
        return self.session.run(inputs)


def test_a_host_re_runs_no_larger_batch_than_a_request_could_be(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "mlp", keys=keys, max_rows=5)
    verified = verify_bundle(tmp_path / "bundle", keys.trusted)
    watching = Watching(open_session(verified.model, CPU, 1))
    check_here(verified, watching)
    assert watching.sizes == [5, 5, 2]


def make_lonely() -> bytes:
    """A model that fails when it is given more than one row: it looks up the row count less 1."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
        helper.make_node("Sub", ["rows", "one"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["found"]),
        helper.make_node("Add", ["x", "found"], ["y"]),
    ]
    tensor = ("FP32", ["rows", 4])
    constants = {"one": np.array([1], np.int64), "table": np.float32([2])}
    return to_bytes(nodes, {"x": tensor}, {"y": tensor}, constants)


def test_a_model_that_fails_on_two_rows_is_refused_with_its_own_words(keys, tmp_path):
    rows = save_rows(tmp_path, x=np.zeros((3, 4), np.float32))
    with pytest.raises(BundleRefused, match=r"give --one-row(.|\n)*a batch of 2 rows: .*Gather"):
        wrap(tmp_path, keys, make_lonely(), rows)
    assert wrap(tmp_path, keys, make_lonely(), rows, one_row=True).contract.max_rows == 1


def test_a_fixed_output_makes_every_row_of_the_file_a_whole_request(keys, tmp_path):
    nodes = [helper.make_node("ReduceSum", ["x", "both"], ["y"], keepdims=0)]
    both = {"both": np.array([0, 1], np.int64)}
    model = to_bytes(nodes, {"x": ("FP32", ["n", 4])}, {"y": ("FP32", [])}, both)
    for x, shape in ((np.ones((3, 4)), (3, 1, 4)), (np.ones((3, 5, 4)), (3, 5, 4))):
        rows = save_rows(tmp_path, x=x)
        wrapped = wrap(tmp_path, keys, model, rows, out=tmp_path / f"out{x.ndim}")
        assert (wrapped.contract.batchable, wrapped.golden.inputs["x"].shape) == (False, shape)
        verified = verify_bundle(wrapped.folder, keys.trusted)
        assert check_here(verified, open_session(verified.model, CPU, 1)).passed
    rows = save_rows(tmp_path, x=np.ones((3, 5)))
    with pytest.raises(ConfigError, match="each row of the file is a whole request"):
        wrap(tmp_path, keys, model, rows)


def test_the_card_spells_out_a_request_that_the_host_takes(keys, tmp_path):
    make_tensor_bundle(tmp_path / "bundle", "gather", keys=keys)
    card = (tmp_path / "bundle/card.md").read_text()
    assert "-H 'Content-Type: application/json'" in card
    body = json.loads(re.search(r"-d '(.*)'", card)[1])
    assert body["inputs"] == [{"name": "index", "datatype": "INT64", "shape": [1], "data": [0]}]
