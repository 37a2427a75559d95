"""`slipway bundle onnx`, and `slipway verify` of what it makes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from slipway.cli import main
from tests.fleet_site import make_project
from tests.tensors import golden_arrays, make_onnx, write_rows


def slipway(monkeypatch, *args) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["slipway", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder outside of any project, with a model and its rows."""
    for kind in ("mlp", "tokens"):
        (tmp_path / f"{kind}.onnx").write_bytes(make_onnx(kind))
    write_rows(tmp_path, "tokens")
    write_rows(tmp_path, "mlp")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MLP = ("bundle", "onnx", "mlp.onnx", "--golden", "rows.npz", "--name", "mlp", "--out", "made/mlp")
TOKENS = ("bundle", "onnx", "tokens.onnx", "--golden", "rows.jsonl", "--name", "t", "--out", "t")


def test_a_model_is_wrapped_with_keys_that_are_made_on_the_way(here, monkeypatch, capsys):
    assert slipway(monkeypatch, *MLP) == 0
    told = capsys.readouterr().out
    version = json.loads((here / "made/mlp/manifest.json").read_text())["version"]
    assert f"v{version[:12]} of mlp lies in made/mlp, signed" in told
    assert "reproducibility only" in told
    assert "slipway host --name a --bundle made/mlp --trusted-keys .slipway/trusted_keys" in told
    assert (
        slipway(monkeypatch, "verify", "made/mlp", "--trusted-keys", ".slipway/trusted_keys") == 0
    )
    assert "proves     reproducibility only" in capsys.readouterr().out


def test_the_result_is_json_where_a_program_asks(here, monkeypatch, capsys):
    assert slipway(monkeypatch, *MLP, "--json", "--max-rows", "16") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == "mlp"
    assert len(result["version"]) == 64
    assert result["golden_rows"] == 12
    assert (result["batchable"], result["batch_invariance_max"]) == (True, 0.0)
    assert {gate["verdict"] for gate in result["gates"]} == {"pass"}
    assert json.loads((here / "made/mlp/contract.json").read_text())["max_rows"] == 16


def test_the_same_command_gives_the_same_version_whatever_key_signs(here, monkeypatch, capsys):
    versions = []
    for _ in range(2):
        assert slipway(monkeypatch, *MLP, "--json") == 0
        versions.append(json.loads(capsys.readouterr().out)["version"])
        (here / "made/mlp").rename(here / f"kept{len(versions)}")
        (here / ".slipway/keys").rename(here / f"keys{len(versions)}")
    assert versions[0] == versions[1]


def test_in_a_project_the_local_fleet_trusts_the_bundle(here, monkeypatch, capsys):
    root = make_project(here / "project")
    (root / "configs/fleets/local.yaml").write_text(
        "store: store\ntrusted_keys: keys\nstate: state\nlaunch: local\n"
        "hosts: [{name: a, port: 1, admin_port: 2}]\n"
    )
    monkeypatch.chdir(root)
    given = ("bundle", "onnx", here / "mlp.onnx", "--golden", here / "rows.npz", "--name", "mlp")
    assert slipway(monkeypatch, *given, "--out", "mlp") == 0
    assert slipway(monkeypatch, "verify", "mlp") == 0


def test_padding_is_proven_and_written_down(here, monkeypatch, capsys):
    pads = ("--pad", "ids:1=0", "--pad", "mask:1=0", "--buckets", "4,8,16")
    assert slipway(monkeypatch, *TOKENS, *pads) == 0
    inputs = json.loads((here / "t/contract.json").read_text())["inputs"]
    assert [each["padding"] for each in inputs] == [
        {"axis": 1, "buckets": [4, 8, 16], "value": 0.0}
    ] * 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--pad", "ids:1=0"), "--pad and --buckets: give both or neither"),
        (("--buckets", "4"), "--pad and --buckets: give both or neither"),
        (("--pad", "ids=0", "--buckets", "4"), "expected such as input_ids:1=0"),
        (("--pad", "ids:1=0", "--buckets", "8,x"), "expected such as input_ids:1=0"),
        (("--pad", "ids:1=0", "--buckets", "8,4"), "buckets must ascend"),
        (("--pad", "ids:0=0", "--buckets", "8"), "greater than or equal to 1"),
        (("--tolerance", "much"), "expected a number or OUTPUT=NUMBER"),
        (("--tolerance", "nothing=1"), "there is no output 'nothing'"),
        (("--name", "a/b"), "--name: must be letters"),
        (("--key", "nowhere.key"), "--key: nowhere.key is no file"),
        (("--golden", "mlp.onnx"), "unknown kind of file"),
        (("--golden", "rows.npz"), "input 'ids': is not in the file"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_written(more, said, here, monkeypatch, capsys):
    before = {path.name for path in here.iterdir()} | {".slipway"}
    assert slipway(monkeypatch, *TOKENS, *more) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in here.iterdir()} <= before


@pytest.fixture
def classifier(here, monkeypatch) -> Path:
    """The same folder, with labels beside the rows of a model that gives ten scores."""
    classes = np.array([f"c{i}" for i in range(10)])
    labels = {"kind": classes[np.arange(12) % 10], "size": np.linspace(0, 1, 12)}
    np.savez(here / "rows.npz", **golden_arrays("mlp"), **labels, digit=np.arange(12) % 10)
    return here


CLASSES = ",".join(f"c{i}" for i in range(10))


@pytest.mark.parametrize(
    ("labels", "given", "classes"),
    [
        ("kind", CLASSES, CLASSES.split(",")),
        ("kind", CLASSES.replace(",", " , "), CLASSES.split(",")),
        ("digit", "0,1,2,3,4,5,6,7,8,9", list(range(10))),
    ],
)
def test_a_problem_and_its_classes_stand_in_the_contract(
    labels, given, classes, classifier, monkeypatch, capsys
):
    posed = ("--labels", labels, "--problem", "multiclass", "--classes", given)
    assert slipway(monkeypatch, *MLP, *posed) == 0
    contract = json.loads((classifier / "made/mlp/contract.json").read_text())
    assert (contract["problem"], contract["target"]) == ("multiclass", labels)
    assert contract["classes"] == classes


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--classes", "a,b"), "--classes: needs --problem"),
        (("--problem", "ranking"), "'ranking' is not one of 'binary', 'multiclass', 'regression'"),
        (("--problem", "binary"), "--problem: needs --labels"),
        (
            ("--labels", "size", "--problem", "regression", "--classes", "a,b"),
            "--classes: a regression has none",
        ),
        (
            ("--labels", "kind", "--problem", "binary", "--classes", "a,b,c"),
            "--classes: binary has two different values, got 'a,b,c'",
        ),
        (
            ("--labels", "kind", "--problem", "binary", "--classes", "a,a"),
            "--classes: binary has two different values, got 'a,a'",
        ),
        (
            ("--labels", "kind", "--problem", "multiclass", "--classes", "a,b"),
            "--classes: multiclass has three different ones or more, got 'a,b'",
        ),
        (
            ("--labels", "kind", "--problem", "multiclass", "--classes", CLASSES[:-3]),
            "label 'kind': must be one of c0, c1, c2, c3, c4, c5, c6, c7, c8, found c9",
        ),
        (("--labels", "size", "--problem", "regression"), "regression is [-1]"),
        (("--judged", "scores"), "--judged: needs --problem"),
        *(
            pytest.param(
                ("--labels", "kind", "--problem", "multiclass", *given),
                "--classes: multiclass has three different ones or more",
            )
            for given in ((), ("--classes", "c0"))
        ),
    ],
)
def test_a_problem_that_cannot_be_is_told_and_nothing_is_written(
    more, said, classifier, monkeypatch, capsys
):
    assert slipway(monkeypatch, *MLP, *more) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (classifier / "made").exists()


def test_rows_that_no_host_would_take_fail_the_command(here, monkeypatch, capsys):
    rows = golden_arrays("mlp")
    rows["x"][3, 2] = np.nan
    np.savez(here / "rows.npz", **rows)
    assert slipway(monkeypatch, *MLP) == 2
    assert "input 'x': holds a value that is not finite" in capsys.readouterr().err
    assert not (here / "made").exists()


def test_a_missing_signer_is_told_before_anything_runs(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert slipway(monkeypatch, *MLP) == 2
    assert "pip install 'slipway-ml[sign]'" in capsys.readouterr().err
    assert not (here / "made").exists()
