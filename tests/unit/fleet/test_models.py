import pytest

from slipway.config import load_config
from slipway.errors import ConfigError
from slipway.fleet.models import MADE_ELSEWHERE, check_released, find_release_config
from slipway.store.objects import Store
from tests.fleet_site import make_project

LIMITS = """
percent: 50
lease_s: 5
requests: 60
rows_per_request: 1
wait_s: 20
limits:
  error_share_rise_max: 0.0
  quality: {auc: 0.0, log_loss: 0.0}
  p99_ratio_max: 2.0
  p99_slack_ms: 1.0
"""


@pytest.fixture
def root(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def store(root) -> Store:
    store = Store(str(root / "store"))
    store.create(f"bundles/mlp/{'a' * 64}/manifest.json", b"{}")
    store.create("channels/local/gone/000000000001.json", b"{}")
    return store


def test_a_pipeline_is_released_as_its_config_says(root, store):
    assert find_release_config(root, "flights", store) == load_config(root, "flights").release


def test_a_model_that_was_pushed_is_released_by_the_usual_limits(root, store):
    assert find_release_config(root, "mlp", store) == MADE_ELSEWHERE


def test_a_file_may_say_otherwise(root, store):
    (root / "mlp.yaml").write_text(LIMITS)
    found = find_release_config(root, "mlp", store, root / "mlp.yaml")
    assert (found.percent, found.requests, found.limits.p99_ratio_max) == (50, 60, 2.0)
    (root / "mlp.yaml").write_text(LIMITS.replace("percent: 50", "percent: 500\nspeed: 1"))
    with pytest.raises(ConfigError, match=r"mlp\.yaml has 2 problems"):
        find_release_config(root, "mlp", store, root / "mlp.yaml")


def test_a_pipeline_has_its_limits_where_it_is_configured(root, store):
    with pytest.raises(ConfigError, match=r"configs/flights\.yaml, section release"):
        find_release_config(root, "flights", store, root / "mlp.yaml")


@pytest.mark.parametrize(("name", "near"), [("fligts", "flights"), ("mpl", "mlp")])
def test_a_name_that_nobody_knows_is_told_with_the_nearest(root, store, name, near):
    with pytest.raises(ConfigError, match=f"unknown pipeline '{name}'; did you mean '{near}'"):
        find_release_config(root, name, store)


def test_what_was_released_can_be_taken_back_whatever_became_of_its_bundles(root, store):
    check_released(root, "gone", store, "local")
    (root / "configs/flights.yaml").write_text("broken")
    check_released(root, "flights", store, "local")
    with pytest.raises(ConfigError, match="unknown pipeline 'mlp'"):
        check_released(root, "mlp", store, "local")
