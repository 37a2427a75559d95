"""Releases of models that were made elsewhere, on hosts that are fakes."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import helper

from slipway.errors import SlipwayError
from slipway.fleet.controller import Controller
from slipway.fleet.models import MADE_ELSEWHERE
from slipway.fleet.release import release
from slipway.fleet.watch import Clock
from slipway.make.wrap.request import WrapRequest
from slipway.make.wrap.wrap import wrap_onnx
from slipway.store.bundles import upload_bundle
from tests.fleet_fakes import FakeHosts, FakeTime
from tests.fleet_site import CONFIG, Site, make_site
from tests.tensors import make_tensor_bundle, to_bytes

CONFIG = CONFIG.model_copy(update={"lease_s": 600.0})


@dataclass
class Fleet:
    """A site whose hosts are fakes."""

    site: Site
    hosts: FakeHosts
    time: FakeTime = field(default_factory=FakeTime)
    said: list[str] = field(default_factory=list)

    def push(self, kind: str, name: str = "m", **request) -> str:
        folder = self.site.root / f"bundle-{len(list(self.site.root.glob('bundle-*')))}"
        wrapped = make_tensor_bundle(folder, kind, name=name, keys=self.site.keys, **request)
        upload_bundle(self.site.store, folder, name)
        return wrapped.version

    def release(self, version: str, name: str = "m"):
        clock = Clock(self.time.monotonic, self.time.sleep, self.time.time_ns)
        site = self.site
        controller = Controller(
            site.fleet, name, site.store, site.keys.release, self.hosts, clock, self.said.append
        )
        return release(controller, version, CONFIG)


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    site = make_site(tmp_path / "project")
    return Fleet(site, FakeHosts(site.fleet, site.store, site.controller().trusted))


def lines(done) -> dict[str, dict]:
    return {line["measure"]: line for line in done.numbers["lines"]}


@pytest.mark.parametrize("kind", ["types", "bf16", "mlp", "gather", "fixed", "tokens"])
def test_any_model_is_released_and_replaced_by_way_of_a_canary(fleet, kind):
    one, two = fleet.push(kind), fleet.push(kind, seed=5)
    first = fleet.release(one)
    assert first.decision == "first release", first.reason
    assert list(lines(first)) == ["error share", "answers as proven"]
    done = fleet.release(two)
    assert (done.decision, done.previous) == ("promoted", one), done.reason
    measures = ["error share", "answers as proven", "p99 ms", "largest difference"]
    assert list(lines(done)) == measures
    assert lines(done)["answers as proven"]["candidate"] <= 1e-5
    assert any("no labels tell" in said for said in fleet.said)


@pytest.mark.parametrize(
    ("trouble", "value", "said"),
    [
        ("skewed", 0.01, "answers as proven is 0.01, limit"),
        ("broken", "HTTP 500: the model failed", "error share is 1, limit 0 (stable 0)"),
        ("slow_ms", 2000.0, "p99 ms is 2000"),
        ("refuses", "golden.arrow: answers differently here", "answers differently here"),
    ],
)
def test_a_candidate_is_rejected_by_what_can_be_known_without_labels(fleet, trouble, value, said):
    one, two = fleet.push("mlp"), fleet.push("mlp", seed=5)
    fleet.release(one)
    getattr(fleet.hosts, trouble)[two] = value
    done = fleet.release(two)
    assert (done.decision, done.ok) == ("rejected", False)
    assert said in done.reason
    assert fleet.release(one).decision == "already serves"
    assert fleet.release(two).decision == "refused"


def test_a_first_release_is_held_to_every_output(fleet):
    one = fleet.push("tokens")
    fleet.hosts.skewed[one] = 0.01
    done = fleet.release(one)
    assert done.decision == "rejected"
    assert "the furthest of 2 outputs" in done.reason


def test_a_model_of_a_pipeline_makes_no_way_for_one_that_labels_cannot_judge(fleet):
    one, two = fleet.site.publish(), fleet.push("mlp", name="flights")
    fleet.release(one, "flights")
    with pytest.raises(SlipwayError, match=f"v{two[:12]} of flights cannot be judged by labels"):
        fleet.release(two, "flights")
    assert fleet.release(one, "flights").decision == "already serves"


def test_a_model_of_a_pipeline_may_replace_one_from_elsewhere(fleet):
    one, two = fleet.push("mlp", name="flights"), fleet.site.publish()
    fleet.release(one, "flights")
    done = fleet.release(two, "flights")
    assert done.decision == "promoted", done.reason
    assert "AUC" not in lines(done)
    assert lines(done)["largest difference"]["candidate"] is None
    assert any("takes other inputs than stable" in said for said in fleet.said)


def wrap_classifier(fleet: Fleet, sign: float, scale: float = 1.0, rows: int = 200) -> str:
    """Wrap a classifier with the labels of its rows; with another sign it is always wrong."""
    folder = fleet.site.root / f"classifier{sign}-{scale}"
    folder.mkdir()
    nodes = [
        helper.make_node("Mul", ["x", "sign"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
        helper.make_node("Mul", ["p", "scale"], ["y"]),
    ]
    constants = {"sign": np.float32([sign]), "scale": np.float32([scale])}
    tensors = {"x": ("FP32", ["rows"])}, {"y": ("FP32", ["rows"])}
    (folder / "model.onnx").write_bytes(to_bytes(nodes, *tensors, constants))
    x = np.linspace(-3, 3, rows, dtype=np.float32)
    np.savez(folder / "rows.npz", x=x, late=(x > 0).astype(np.int8))
    request = WrapRequest(
        model=folder / "model.onnx",
        rows=folder / "rows.npz",
        name="late",
        out=folder / "out",
        key=fleet.site.keys.builder,
        labels="late",
    )
    version = wrap_onnx(request).version
    upload_bundle(fleet.site.store, request.out, "late")
    return version


def test_a_classifier_that_was_wrapped_with_labels_is_judged_by_them(fleet):
    good, sharper, wrong = (wrap_classifier(fleet, sign) for sign in (1.0, 1.1, -1.0))
    assert fleet.release(good, "late").decision == "first release"
    done = fleet.release(sharper, "late")
    assert (done.decision, lines(done)["AUC"]["candidate"]) == ("promoted", 1.0)
    done = fleet.release(wrong, "late")
    assert done.decision == "rejected"
    assert "AUC is 0, limit 0.95 (stable 1)" in done.reason


def test_a_classifier_that_answers_above_1_is_judged_by_labels_all_the_same(fleet):
    good, wrong = wrap_classifier(fleet, 1.0), wrap_classifier(fleet, -1.0, scale=1.2)
    fleet.release(good, "late")
    done = fleet.release(wrong, "late")
    assert done.decision == "rejected"
    assert "AUC is 0" in done.reason


def test_a_handful_of_labels_rejects_nothing(fleet):
    good, wrong = (wrap_classifier(fleet, sign, rows=40) for sign in (1.0, -1.0))
    fleet.release(good, "late")
    done = fleet.release(wrong, "late")
    assert (done.decision, "AUC" in lines(done)) == ("promoted", False)


def test_the_largest_difference_is_that_of_the_two_versions(fleet):
    one, two = fleet.push("mlp"), fleet.push("mlp", seed=5)
    fleet.release(one)
    told = lines(fleet.release(two))["largest difference"]
    assert told["candidate"] > 0.1
    assert told["detail"].startswith("y: up to ")
    assert told["verdict"] == "reported"


def test_a_model_without_a_pipeline_waits_longer_for_its_hosts():
    assert MADE_ELSEWHERE.wait_s == 300.0
