"""The unit and the container file, judged by the tools that will read them."""

import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pace import limit

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy/systemd"
CONTAINER = ROOT / "deploy/container"
UNIT = "slipway-host.service"
WORKER = "slipway-worker.service"
EXPOSURE_MAX = 13
"""Tenths: the bar is 1.3 of 10."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
every_shape = pytest.mark.parametrize(
    "drop_ins", [(), ("gpu",), ("credentials",), ("gpu", "credentials")], ids="+".join
)


def lay_out(folder: Path, drop_ins: tuple[str, ...]) -> Path:
    """Put the unit and its drop-ins where they would be, with a program that is there."""
    (folder / f"{UNIT}.d").mkdir()
    for file in (UNIT, *(f"{UNIT}.d/{name}.conf" for name in drop_ins)):
        text = (SYSTEMD / Path(file).name).read_text()
        (folder / file).write_text(text.replace("/opt/slipway/bin/python", sys.executable))
    return folder / UNIT


def analyze(*args: object) -> subprocess.CompletedProcess[str]:
    # Without the manager's own units there is nothing else that it could complain about.
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=limit(60),
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )


def settings(name: str) -> dict[str, list[str]]:
    """Return what a unit file sets, lists joined over their lines."""
    found: dict[str, list[str]] = {}
    text = (SYSTEMD / name).read_text().replace("\\\n", "")
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).extend(value.split())
    return found


@pytest.mark.parametrize("root", ["", "/", "missing", "up/.."])
def test_the_trial_deletes_nothing_without_a_root_of_its_own(tmp_path: Path, root: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("realpath", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "rm").write_text('#!/bin/sh\necho "rm $*"\n')  # all else is not found: it ends there
    (tools / "rm").chmod(0o755)
    (tmp_path / "up").symlink_to("/usr")
    done = subprocess.run(
        [shutil.which("bash") or "bash", str(ROOT / "deploy/try.sh"), root, "b", "t", "m", "r"],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "rm " not in done.stdout


@needs_systemd
@every_shape
def test_systemd_understands_every_line_of_the_unit(tmp_path, drop_ins):
    done = analyze("verify", lay_out(tmp_path, drop_ins))
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@every_shape
def test_the_unit_exposes_little(tmp_path, drop_ins):
    unit = lay_out(tmp_path, drop_ins)
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)
    assert done.returncode == 0, done.stdout
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) <= EXPOSURE_MAX / 10


@needs_systemd
def test_the_check_sees_what_a_drop_in_opens(tmp_path):
    unit = lay_out(tmp_path, ())
    (tmp_path / f"{UNIT}.d/open.conf").write_text("[Service]\nNoNewPrivileges=no\nUser=root\n")
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)
    assert done.returncode != 0


@needs_systemd
def test_systemd_understands_every_line_of_the_workers_unit(tmp_path: Path) -> None:
    text = (SYSTEMD / WORKER).read_text()
    program = "/srv/ml/.venv/bin/slipway"
    assert program in text
    here = text.replace(program, str(Path(sys.executable).with_name("slipway")))
    (tmp_path / WORKER).write_text(here)
    done = analyze("verify", tmp_path / WORKER)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_worker_stands_back_behind_hosts_and_leaves_those_it_started_alone() -> None:
    found = settings(WORKER)
    for weight in ("CPUWeight", "IOWeight"):
        assert int(found[weight][0]) < 100, "what a unit has where nothing is said"
        assert weight not in settings(UNIT)
    assert found["KillMode"] == ["process"]
    assert found["OOMPolicy"] == ["continue"]
    assert "RestrictNamespaces" not in found, "stages have PID namespaces"


def test_what_changes_libraries_behind_the_options_back_is_scrubbed():
    unset = set(settings(UNIT)["UnsetEnvironment"])
    assert {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GLIBC_TUNABLES", "OPENSSL_CONF"} <= unset
    assert {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"} <= unset
    assert any(name.startswith("ORT_") for name in unset)
    assert settings(UNIT)["ExecStart"][1:4] == ["-I", "-m", "slipway.host"]
    assert "PassEnvironment" not in settings(UNIT)


def test_the_manager_waits_longer_than_accepted_requests_may_take():
    found = settings(UNIT)
    assert found["TimeoutStopSec"] == ["45s"]  # the host gives them 30 s
    assert (found["Type"], found["WatchdogSec"], found["Restart"]) == (
        ["notify"],
        ["15s"],
        ["always"],
    )
    assert found["ExecReload"] == ["/bin/kill", "-HUP", "$MAINPID"]


def host_help() -> str:
    return subprocess.run(
        [sys.executable, "-I", "-m", "slipway.host", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_host_knows_every_option_that_the_files_give_it():
    told = host_help()
    if "--api-keys" not in told:
        pytest.skip("this host takes no --api-keys yet")
    texts = [
        *((SYSTEMD / name).read_text() for name in (UNIT, "credentials.conf", "host.env")),
        (CONTAINER / "Containerfile").read_text().partition("ENTRYPOINT")[2],
    ]
    given = {option for text in texts for option in re.findall(r"(?<=[\s\"=])--[a-z-]+", text)}
    assert given >= {"--state", "--admin-socket", "--name", "--api-keys", "--tls-key"}
    assert given == {option for option in given if re.search(rf"{option}\b", told)}


def test_the_options_example_is_one_line_without_a_secret():
    lines = [
        line for line in (SYSTEMD / "host.env").read_text().splitlines() if not line.startswith("#")
    ]
    assert len(lines) == 1
    name, _, value = lines[0].partition("=")
    assert name == "SLIPWAY_OPTIONS"
    assert "slw_" not in value
    assert shlex.split(value) == value.split()


def run_clean(code: str, home: Path) -> str:
    """Run code as a service manager would: nothing in the environment but a home."""
    return subprocess.run(
        [sys.executable, "-I", "-c", code],
        env={"HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit(60),
        check=True,
    ).stdout


@pytest.mark.parametrize(
    "module", ["slipway.host.process.server", "slipway.host.engine.probe_child"]
)
def test_onnx_runtime_reports_to_nobody(tmp_path, module):
    run_clean(
        "import os; from slipway.host.guard.environment import scrub; scrub(os.environ);"
        f"import {module}, onnxruntime",
        tmp_path,
    )
    # It keeps an identifier and what it has yet to send in the user's cache.
    assert list(tmp_path.rglob("*")) == []


def test_a_stop_while_a_model_is_being_opened_ends_the_process_and_not_the_interpreter(tmp_path):
    said = run_clean(
        f"""
import atexit, threading, time
from pathlib import Path
from slipway.host.process import server

class Opening:
    def __init__(self, options): pass
    async def run(self):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        return True

atexit.register(print, "the interpreter was taken down under the thread")
server._Host = Opening
server.serve(server.HostOptions(
    name="a", state=Path({str(tmp_path)!r}), port=18081, admin_port=18082,
    bundles=(Path("b"),), trusted_keys=Path("k"),
))
""",
        tmp_path,
    )
    assert said == ""


# --- the container


def instructions() -> list[tuple[str, str]]:
    text = (CONTAINER / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (x.partition(" ") for x in text.splitlines())]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def test_every_file_that_the_image_copies_is_there_and_let_through():
    allowed = (CONTAINER / "Containerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
        if not source.startswith("--")
    ]
    assert {"src", "requirements.lock", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed


def test_the_image_runs_as_a_number_that_is_not_root_and_in_isolated_mode():
    stage = dict(last_stage())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
    assert '"-I", "-m", "slipway.host"' in stage["ENTRYPOINT"]
    assert "ENV" not in stage
    order = [word for word, _ in last_stage()]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert "RUN" not in order[order.index("USER") :]


class Health(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/v2/health/live" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check_health(url: str) -> int:
    environ = {**os.environ, "SLIPWAY_HEALTH_URL": url, "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-I", str(CONTAINER / "healthcheck.py")]
    return subprocess.run(command, env=environ, timeout=limit(30)).returncode


def test_the_health_check_tells_a_live_host_from_one_that_is_not(server, monkeypatch):
    url = f"http://127.0.0.1:{server.server_port}/v2/health/live"
    assert check_health(url) == 0
    monkeypatch.setattr(Health, "status", 503)
    assert check_health(url) == 1
    assert check_health("http://127.0.0.1:9/v2/health/live") == 1
    assert check_health("nonsense") == 1
