import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import untold
from slipway.errors import ConfigError
from tests.support.ports import free_port


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(untold, "PAUSE_S", 0.0)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        yield


@pytest.mark.usefixtures("gone")
def test_where_the_server_is_gone_the_process_ends_with_the_runs_own_code_and_words(capsys):
    codes: list[int] = []
    untold.tell({"run": "1"}, codes.append)
    assert capsys.readouterr().err.endswith("it could not be told how this run ended\n")
    untold.tell(ConfigError("here", ["x: missing"]), codes.append)
    assert capsys.readouterr().err.startswith("slipway: here has 1 problem:\n  x: missing\n")
    assert codes == [0, 2]


def test_where_the_server_is_there_it_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(untold, "server_gone", lambda: None)
    codes: list[int] = []
    assert untold.tell({"run": "1"}, codes.append) == {"run": "1"}
    state = untold.tell(ConfigError("here", ["x: missing"]), codes.append)
    assert (state.type.value, codes) == ("FAILED", [])
    assert state.message.startswith("here has 1 problem")
