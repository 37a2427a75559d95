import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from slipway.cli import cli, main
from slipway.cli.doctor import TINY_MODEL, examine
from slipway.cli.project import find_root, run_flow
from slipway.errors import ConfigError
from slipway.fleet.inventory import load_fleet
from slipway.fleet.keys import ensure_local_keys
from slipway.fleet.rollback import Rollback
from tests.fleet_site import make_project

FLOW = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.getcwd(), os.getpgid(0) == int(os.environ["GROUP"])]))
sys.exit(int(os.environ.get("CODE", "0")))
"""


def slipway(monkeypatch, *args) -> int:
    """Run the command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["slipway", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose flows only tell how they were called."""
    root = make_project(tmp_path)
    (root / "configs/fleets/local.yaml").write_text(
        "store: store\ntrusted_keys: keys\nstate: state\nlaunch: local\n"
        "hosts: [{name: a, port: 1, admin_port: 2}]\n"
    )
    (root / "flows/commands").mkdir(parents=True)
    for flow in ("accept", "deliver", "explain", "release", "report", "verify", "worker"):
        (root / f"flows/commands/{flow}.py").write_text(FLOW)
    monkeypatch.chdir(root)
    monkeypatch.setenv("GROUP", str(os.getpgid(0)))
    return root


def every_command():
    found = []
    for name, command in cli.commands.items():
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.commands]
    return found


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(command, monkeypatch, capsys):
    assert slipway(monkeypatch, *command, "--help") == 0
    told = capsys.readouterr().out
    assert command == ["fleet"] or f"  slipway {' '.join(command)}" in told


def test_trace_promises_versions_only(monkeypatch, capsys):
    assert slipway(monkeypatch, "trace", "--help") == 0
    assert "trace [OPTIONS] VERSION\n" in capsys.readouterr().out


def test_the_commands_are_those_of_the_design():
    assert set(cli.commands) == {
        *("run", "build", "explain", "accept", "worker", "release", "rollback", "status"),
        *("fleet", "host", "verify", "trace", "runs", "diff", "doctor", "bundle", "keys"),
        *("deployments", "merge", "backup", "restore", "prune", "notify"),
    }


def test_help_needs_nothing_but_click_and_pydantic():
    code = (
        "import sys, slipway.cli;"
        "print(sorted({'httpx', 'onnxruntime', 'prefect', 'torch', 'numpy', 'pyarrow', 'rich',"
        " 'slipway.fleet', 'slipway.host.process.server', 'slipway.runs', 'slipway.store',"
        " 'uvloop'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "module_args"),
    [
        (["run", "flights"], ["flights", "--fleet", "local"]),
        (["run", "flights", "--fleet", "local"], ["flights", "--fleet", "local"]),
        (["build", "flights"], ["flights", "--build-only"]),
        (["explain"], ["--pipeline", "flights"]),
        (["explain", "train", "--json"], ["train", "--pipeline", "flights", "--json"]),
        (["explain", "--pipeline", "flights"], ["--pipeline", "flights"]),
        (["release", "flights", "--fleet", "local"], ["flights", "--fleet", "local"]),
        (
            ["release", "flights", "--fleet", "local", "--version", "abc", "--dry-run", "--json"],
            ["flights", "--fleet", "local", "--version", "abc", "--dry-run", "--json"],
        ),
    ],
)
def test_flows_run_as_a_child_in_the_projects_folder_and_in_this_process_group(
    project, monkeypatch, capfd, args, module_args
):
    (project / "deep/inside").mkdir(parents=True)
    monkeypatch.chdir(project / "deep/inside")
    assert slipway(monkeypatch, *args) == 0
    assert json.loads(capfd.readouterr().out) == [module_args, str(project), True]


@pytest.mark.parametrize(
    "options", [["--heal"], [".", "--all"], [".", "--heal"], [".", "--remote"], []]
)
def test_verify_takes_a_bundle_or_all_and_heals_only_with_all(
    project, monkeypatch, capsys, options
):
    assert slipway(monkeypatch, "verify", *options) == 2
    assert "--all" in capsys.readouterr().err


def test_verify_all_starts_its_flow(project, monkeypatch, capfd):
    assert slipway(monkeypatch, "verify", "--all", "--heal", "--remote", "--json") == 0
    args, folder, same_group = json.loads(capfd.readouterr().out)
    assert (args, folder, same_group) == (["--heal", "--remote", "--json"], str(project), True)


@pytest.mark.parametrize("options", [[], ["--yes"], ["--dry-run", "--json"]])
def test_accept_starts_its_flow_with_what_was_asked_for(project, monkeypatch, capfd, options):
    assert slipway(monkeypatch, "accept", "flights", *options) == 0
    args, folder, same_group = json.loads(capfd.readouterr().out)
    assert (args, folder, same_group) == (["flights", *options], str(project), True)


def test_accept_refuses_a_pipeline_that_is_none(project, monkeypatch, capsys):
    assert slipway(monkeypatch, "accept", "flihgts") == 2
    assert "did you mean 'flights'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "module_args"), [([], []), (["--pool", "gpu"], ["--pool", "gpu"])]
)
def test_the_command_worker_becomes_the_worker_itself(project, args, module_args):
    (project / "flows/commands/worker.py").write_text("import os; print(os.getpid())" + FLOW)
    (project / "deep/inside").mkdir(parents=True)
    command = [sys.executable, "-m", "slipway.cli", "worker", *args]
    with subprocess.Popen(command, cwd=project / "deep/inside", stdout=subprocess.PIPE) as started:
        pid, told = started.communicate()[0].splitlines()
    assert json.loads(told) == [module_args, str(project), True]
    assert int(pid) == started.pid


@pytest.mark.parametrize(
    ("args", "module_args"),
    [
        (["--fix"], ["--reconcile-only"]),
        (["--fix", "--dry-run"], ["--reconcile-only", "--dry-run"]),
    ],
)
def test_doctor_fixes_before_it_looks(project, monkeypatch, capfd, args, module_args):
    assert slipway(monkeypatch, "doctor", *args) == 0
    flow, facts = capfd.readouterr().out.split("\n", 1)
    assert json.loads(flow) == [module_args, str(project), True]
    assert facts.startswith("python\n")


def test_doctor_says_with_its_exit_code_that_it_could_not_fix(project, monkeypatch):
    monkeypatch.setenv("CODE", "1")
    assert slipway(monkeypatch, "doctor", "--fix") == 1
    assert slipway(monkeypatch, "doctor", "--dry-run") == 2


def test_of_several_pipelines_the_one_to_explain_has_to_be_said(project, monkeypatch, capfd):
    shutil.copy(project / "configs/flights.yaml", project / "configs/other.yaml")
    assert slipway(monkeypatch, "explain", "train") == 2
    assert "say which pipeline; there is: flights, other" in capfd.readouterr().err
    assert slipway(monkeypatch, "explain", "train", "--pipeline", "other") == 0


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_of_the_flow_is_that_of_the_command(project, monkeypatch, code):
    monkeypatch.setenv("CODE", str(code))
    assert slipway(monkeypatch, "run", "flights") == code


def test_a_flow_that_a_signal_ended_gives_128_and_the_signal(project):
    (project / "flows/killed.py").write_text("import os, signal; os.kill(os.getpid(), 9)")
    assert run_flow(project, "flows.killed") == 137


def test_sigterm_to_the_command_is_passed_on_to_the_flow(project):
    (project / "flows/waits.py").write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    assert run_flow(project, "flows.waits") == 7


def test_ctrl_c_is_left_to_the_flow_which_ends_in_its_own_time(project):
    (project / "flows/interrupts.py").write_text(
        "import os, signal, sys, time\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(0.3)\n"
        "sys.exit(130)\n"
    )
    assert run_flow(project, "flows.interrupts") == 130


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "fligts"], "unknown pipeline 'fligts'; did you mean 'flights'?"),
        (["build", "../x"], "unknown pipeline '../x'"),
        (["run", "flights", "--fleet", "locl"], "unknown fleet 'locl'; did you mean 'local'?"),
        (["release", "flights", "--fleet", "x"], "unknown fleet 'x'"),
        (["rollback", "nothing", "--fleet", "local"], "unknown pipeline 'nothing'"),
        (["status", "--fleet", "x"], "unknown fleet 'x'"),
        (["fleet", "up", "x"], "unknown fleet 'x'"),
        (["release", "flights"], "Missing option '--fleet'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["trace", "latest"], "'latest' is no version: give at least its first 12 hex digits"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2_and_starts_nothing(
    project, monkeypatch, capfd, args, said
):
    assert slipway(monkeypatch, *args) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert out == ""


def test_a_typo_in_the_config_is_told_before_any_flow_starts(project, monkeypatch, capfd):
    config = project / "configs/flights.yaml"
    config.write_text(config.read_text().replace("opset:", "opst:"))
    assert slipway(monkeypatch, "run", "flights") == 2
    out, err = capfd.readouterr()
    assert "export.opst: unknown key; did you mean 'opset'?" in err
    assert out == ""


def test_outside_of_a_project_every_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert slipway(monkeypatch, "status") == 2
    assert "is not inside a Slipway project" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        find_root()


def test_a_rollback_without_keys_says_where_they_come_from(project, monkeypatch, capsys):
    assert slipway(monkeypatch, "rollback", "flights", "--fleet", "local") == 1
    assert "holds no builder and no release key" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_rollback_that_a_host_did_not_follow_ends_with_1(project, monkeypatch, capsys, as_json):
    done = Rollback(
        model="flights",
        fleet="local",
        rejected="b" * 64,
        stable="a" * 64,
        reason="taken back",
        serial=4,
        hosts={"a": "model.onnx: cannot be read"},
        ok=False,
    )
    monkeypatch.setattr("slipway.fleet.rollback.rollback", lambda *_, **__: done)
    ensure_local_keys(project, load_fleet(project, "local"))
    assert slipway(monkeypatch, "rollback", "flights", "--fleet", "local", *as_json) == 1
    assert "model.onnx: cannot be read" in capsys.readouterr().out


def test_ctrl_c_ends_a_command_with_130(project, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("slipway.cli.serve.find_root", interrupt)
    assert slipway(monkeypatch, "status") == 130
    assert "slipway: interrupted" in capsys.readouterr().err


def test_a_host_needs_its_places_named(monkeypatch, capsys):
    assert slipway(monkeypatch, "host", "--name", "a") == 2
    assert "Missing option" in capsys.readouterr().err


def test_the_doctor_runs_a_model_on_each_provider_rather_than_believe_a_list(project):
    found = examine()
    assert found["providers"]["CPUExecutionProvider"] == "runs"
    others = [v for name, v in found["providers"].items() if name != "CPUExecutionProvider"]
    assert all(value == "runs" or "does not run" in value for value in others)
    assert found["ports"] == {"1": "free", "2": "free"} or "in use" in str(found["ports"])
    assert set(found) == {
        *("python", "packages", "cpu", "memory", "disk", "gpus", "gpu slots", "processes"),
        *("providers", "ports"),
    }


def test_the_doctors_model_is_the_one_it_says_it_is():
    import onnx

    (node,) = onnx.load_from_string(TINY_MODEL).graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Add", ["x", "x"], ["y"])
