"""Models made elsewhere, from the command line to a fleet of real hosts and back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.commands import release as command
from flows.promotion import bring
from slipway.bundle.format import canonical_json
from slipway.bundle.golden import read_golden, write_golden
from slipway.bundle.manifest import payload_version, write_manifest
from slipway.bundle.signing import sign_bundle
from slipway.store.bundles import upload_bundle
from tests.fleet_site import Callers, Site, running_site
from tests.pinned_host import BODY
from tests.support.processes import slipway
from tests.tensors import make_tensor_bundle

LIMITS = """
percent: 30
lease_s: 30
requests: 50
rows_per_request: 16
wait_s: 90
limits:
  error_share_rise_max: 0.0
  quality: {auc: 0.05, log_loss: 0.2}
  p99_ratio_max: 100.0
  p99_slack_ms: 60000.0
"""
"""Few requests, and blind to latency: tests share two cores."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site") / "project") as running:
        (running.root / "limits.yaml").write_text(LIMITS)
        yield running


def wrap(site: Site, kind: str, name: str, seed: int = 0) -> Path:
    folder = site.root / f"{name}-{seed}"
    make_tensor_bundle(folder, kind, name=name, keys=site.keys, seed=seed)
    return folder


def expect_other_answers(site: Site, folder: Path) -> None:
    """Record other answers than the model gives, and sign that: a builder with a defect."""
    golden = read_golden(folder / "golden.arrow")
    moved = {name: values + 1 for name, values in golden.expected.items()}
    write_golden(folder / "golden.arrow", replace(golden, expected=moved))
    proof = json.loads((folder / "proof.json").read_bytes())
    proof["version"] = payload_version(folder)
    (folder / "proof.json").write_bytes(canonical_json(proof))
    name = json.loads((folder / "contract.json").read_bytes())["model"]
    write_manifest(folder, name)
    (folder / "bundle.sig").unlink()
    sign_bundle(folder, site.keys.builder)


def push(site: Site, folder: Path) -> str:
    told = slipway(site.root, "bundle", "push", folder.name, "--fleet", "local", "--json")
    return json.loads(told.stdout)["version"]


def publish(site: Site, kind: str, name: str, seed: int = 0) -> str:
    """Push without the command line, which takes a second to start."""
    folder = wrap(site, kind, name, seed)
    upload_bundle(site.store, folder, name)
    return payload_version(folder)


def release(site: Site, name: str, version: str):
    """Release as the flow does, without Prefect's record of it."""
    limits = site.root / "limits.yaml"
    return bring(site.root, name, "local", version[:12], limits=limits)


def lines(done) -> dict[str, dict]:
    return {line["measure"]: line for line in done.numbers["lines"]}


def test_a_model_from_elsewhere_lives_on_a_fleet_as_one_of_the_pipeline_does(site):
    one, two = (push(site, wrap(site, "mlp", "mlp", seed)) for seed in (1, 2))
    first = release(site, "mlp", one)
    assert (first.decision, first.version) == ("first release", one), first.reason

    broken = wrap(site, "mlp", "mlp", 3)
    expect_other_answers(site, broken)
    three = push(site, broken)
    with Callers(site, "mlp", BODY) as callers:
        promoted = release(site, "mlp", two)
        assert (promoted.decision, promoted.previous) == ("promoted", one), promoted.reason
        rejected = release(site, "mlp", three)
    assert callers.errors == []
    assert {one, two} == callers.versions

    assert rejected.decision == "rejected"
    assert "answers its 12 golden rows differently on this machine" in rejected.reason
    assert lines(promoted)["answers as proven"]["verdict"] == "pass"
    assert lines(promoted)["largest difference"]["candidate"] > 0.1

    told = json.loads(slipway(site.root, "status", "--json").stdout)
    assert [host["models"]["mlp"]["stable"] for host in told["hosts"]] == [two, two]
    traced = slipway(site.root, "trace", two[:12]).stdout
    assert "made elsewhere" in traced
    assert "promoted" in traced
    slipway(site.root, "rollback", "mlp", "--fleet", "local", "--why", "too hot")
    told = json.loads(slipway(site.root, "status", "--json").stdout)
    assert [host["models"]["mlp"]["stable"] for host in told["hosts"]] == [one, one]
    assert release(site, "mlp", two).decision == "refused"


@pytest.mark.parametrize("kind", ["types", "bf16", "fixed", "tokens", "gather"])
def test_models_of_any_datatype_and_shape_are_asked_in_a_form_that_hosts_take(site, kind):
    versions = [publish(site, kind, kind, seed) for seed in (1, 2)]
    first, second = (release(site, kind, version) for version in versions)
    assert (first.decision, second.decision) == ("first release", "promoted"), second.reason
    for done in (first, second):
        told = lines(done)["answers as proven"]
        assert (told["verdict"], lines(done)["error share"]["candidate"]) == ("pass", 0.0)
    assert first.numbers["candidate"]["rows"] >= 100


def test_a_dry_run_of_a_model_from_elsewhere_tells_the_steps(site, monkeypatch, capsys):
    version = publish(site, "mlp", "other")
    monkeypatch.chdir(site.root)
    asked = ["other", "--fleet", "local", "--version", version[:12], "--dry-run"]
    assert command.main(asked) == 0
    assert "first release on local" in capsys.readouterr().out
    assert command.main(["other", "--fleet", "local", "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert f"say which version of other to release; pushed were: {version[:12]}" in told
