"""A small real project for the tests of the flows: real DVC, real Prefect, stages of a line.

    ingest - train -+- evaluate
                    +- export - prove - payload

What a stage does is said in `knobs.json`, which no stage depends on; what makes it stale is
`inputs/<stage>.txt`. The payload is a real bundle's, so it can be published and served.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tasks.names import suite_of
from tests.support.pace import limit

REPOSITORY = Path(__file__).parents[1]
PIPELINE = "tiny"

STAGES: dict[str, tuple[list[str], list[str]]] = {
    "ingest": (["data/NAME/sources.lock"], ["data/NAME/raw"]),
    "train": (["data/NAME/raw"], ["models/NAME/weights"]),
    "evaluate": (["models/NAME/weights"], ["models/NAME/evaluation"]),
    "export": (["models/NAME/weights"], ["models/NAME/fp32"]),
    "prove": (["models/NAME/fp32"], ["models/NAME/gates"]),
    "payload": (["models/NAME/fp32", "models/NAME/gates"], ["models/NAME/payload"]),
}
"""Name: what it reads, what it writes; NAME is the pipeline's."""

STAGE = """
import json, os, pathlib, shutil, subprocess, sys, time
sys.path.insert(0, {repository!r})
from tasks import sums

name = sys.argv[1]
knob = json.loads(pathlib.Path("knobs.json").read_text()).get(name, {{}})
outs = [pathlib.Path(path) for path in sys.argv[2:]]
pipeline = outs[0].parent.name
text = pathlib.Path("inputs", name + ".txt").read_text()
for out in outs:
    out.mkdir(parents=True)
    out.joinpath("text.txt").write_text(knob.get("writes", text))
print("this is", name, flush=True)
for line in knob.get("says", []):
    print(line, file=sys.stderr, flush=True)
for done in range(knob.get("steps", 0)):
    event = {{"label": name, "done": done + 1, "total": knob["steps"], "loss": 0.5}}
    print(json.dumps({{"progress": event}}), file=sys.stderr, flush=True)
if "ranks" in knob:
    # as torchrun does: in sessions of their own, deaf to SIGTERM
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(3000)"
    )
    own = {{"start_new_session": True, "stdout": subprocess.PIPE}}
    ranks = [
        subprocess.Popen([sys.executable, "-c", deaf], **own) for _ in range(knob["ranks"])
    ]
    assert all(rank.stdout.readline() for rank in ranks)
    pathlib.Path("new.json").write_text(json.dumps([os.getpid(), *(r.pid for r in ranks)]))
    os.replace("new.json", "ranks.json")
time.sleep(knob.get("sleep", 0))
if "meets" in knob:
    pathlib.Path(name + ".here").touch()
    while not pathlib.Path(knob["meets"] + ".here").exists():
        time.sleep(0.02)
if name == "export":
    from tests.bundles import make_model
    outs[0].joinpath("model.onnx").write_bytes(make_model(len(text) / 10000))
if name == "prove":
    from tests.bundles import make_payload
    bias = len(pathlib.Path("inputs/export.txt").read_text()) / 10000
    make_payload(pathlib.Path("scratch", pipeline), pipeline, bias)
    for file in ("gates.json", "golden.arrow"):
        shutil.copy(pathlib.Path("scratch", pipeline, file), outs[0] / file)
if name == "payload":
    shutil.copytree(pathlib.Path("scratch", pipeline), outs[0], dirs_exist_ok=True)
    outs[0].joinpath("text.txt").unlink()
if "away" in knob and not pathlib.Path(name + ".asked").exists():
    pathlib.Path(name + ".asked").touch()
    print("slipway:", knob["away"], file=sys.stderr, flush=True)
    sys.exit(75)
if "fails" in knob:
    print("slipway:", knob["fails"], file=sys.stderr, flush=True)
    sys.exit(1)
for out in outs:
    sums.write(out)
"""


class Project:
    """A project in a folder of its own."""

    def __init__(self, root: Path, pipeline: str = PIPELINE, *others: str) -> None:
        """Write the project's files and make it a git and DVC repository."""
        pipelines = [pipeline, *others]
        self.root = root
        self.api: str | None = None
        """The Prefect server that `deliver` uses; without it, each run starts an API of its own."""
        for folder in (
            "inputs",
            "configs/expectations",
            "configs/fleets",
            *(f"data/{each}" for each in pipelines),
            "models",
        ):
            (root / folder).mkdir(parents=True)
        (root / "stage.py").write_text(STAGE.format(repository=str(REPOSITORY)))
        for name in STAGES:
            self.touch(name, name)
        self.knobs({})
        (root / "table.csv").write_text("a,b\n1,2\n")
        (root / "dvc.yaml").write_text(yaml.safe_dump(_dag(pipelines), sort_keys=False))
        for each in pipelines:
            (root / f"configs/{each}.yaml").write_text(_config(root))
            shutil.copy(REPOSITORY / "configs/expectations/flights.json", root / suite_of(each))
        shutil.copy(REPOSITORY / ".dvcignore", root)
        shutil.copy(REPOSITORY / "requirements.lock", root)
        (root / ".gitignore").write_text(".slipway\nmodels/\ndata/*/raw\n")
        for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
            subprocess.run(command, cwd=root, check=True, env=self.environment())

    def take_code(self) -> None:
        """Have what a worker needs of a checkout: flows, tasks, deployments and their pools."""
        for folder in ("flows", "tasks", "configs/pools"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / folder, self.root / folder, ignore=ignored)
        shutil.copy(REPOSITORY / "prefect.yaml", self.root)

    def touch(self, stage: str, text: str) -> None:
        """Make a stage stale by what it reads."""
        (self.root / "inputs" / f"{stage}.txt").write_text(text)

    def knobs(self, knobs: dict[str, Any]) -> None:
        """Say what stages do.

        They know `sleep`, `meets`, `says`, `steps`, `ranks`, `fails`, `away` and `writes`. With
        `away`, one ends once as if something did not answer.

        With `meets`, a stage does not end before another one, which meets it, has begun.

        With `ranks`, the process ids are in ranks.json once they run and are deaf to SIGTERM.
        """
        for path in (self.root / "ranks.json", *self.root.glob("*.here")):
            path.unlink(missing_ok=True)
        (self.root / "knobs.json").write_text(json.dumps(knobs))

    def fleet(self, ports: list[int]) -> None:
        """Give the project a local fleet of two hosts on these four ports."""
        fleet = {
            "store": ".slipway/store",
            "trusted_keys": ".slipway/fleets/local/trusted_keys",
            "state": ".slipway/fleets/local/hosts",
            "launch": "local",
            "hosts": [
                {"name": "a", "port": ports[0], "admin_port": ports[1]},
                {"name": "b", "port": ports[2], "admin_port": ports[3]},
            ],
        }
        (self.root / "configs/fleets/local.yaml").write_text(yaml.safe_dump(fleet))

    def environment(self, **more: str) -> dict[str, str]:
        """Return what a shell in this project would have, with the library importable.

        So are flows and tasks of the repository, where the project has none of its own: a user
        has no other than those of the checkout, and what does without them would not be noticed.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "SLIPWAY"))}
        ours = {
            "PYTHONPATH": os.pathsep.join(map(str, self._importable())),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }
        return kept | ours | more

    def _importable(self) -> list[Path]:
        own = (self.root / "flows").is_dir()
        return [REPOSITORY / "src"] if own else [REPOSITORY / "src", REPOSITORY]

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start the deliver command."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.commands.deliver", PIPELINE, *arguments],
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deliver(self, *arguments: str, **environment: str) -> "Ended":
        """Run the deliver command to its end."""
        process = self.start(*arguments, **self.server(), **environment)
        out, err = process.communicate(timeout=limit(180))
        return Ended(process.returncode, out, err)

    def server(self) -> dict[str, str]:
        """Return how a run is told of the Prefect server."""
        return {"PREFECT_API_URL": self.api} if self.api else {}

    def dvc(self, *arguments: str) -> "Ended":
        """Run a DVC command."""
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def run_json(self) -> dict[str, Any]:
        """Return the latest run's record."""
        found: dict[str, Any] = json.loads(
            (self.root / ".slipway/runs/latest/run.json").read_text()
        )
        return found


class Ended:
    """How a command ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        """Keep all three."""
        self.code, self.out, self.err = code, out, err


def _dag(pipelines: list[str]) -> dict[str, Any]:
    def of(paths: list[str]) -> list[str]:
        return [path.replace("NAME", "${item}") for path in paths]

    stages = {
        name: {
            "foreach": "${pipelines}",
            "do": {
                "cmd": f"python stage.py {name} {' '.join(of(outs))}",
                "deps": [f"inputs/{name}.txt", *of(deps)],
                "outs": of(outs),
            },
        }
        for name, (deps, outs) in STAGES.items()
    }
    return {"vars": [{"pipelines": pipelines}], "stages": stages}


def _config(root: Path) -> str:
    """Take the flights' config, with a small file of this machine as every source."""
    config = yaml.safe_load((REPOSITORY / "configs/flights.yaml").read_text())
    for source in config["ingest"]["sources"].values():
        source["url"] = f"file://{root}/table.csv"
    config["release"]["lease_s"] = limit(1.0)
    config["release"]["limits"]["p99_slack_ms"] = 60_000.0  # tests share two cores
    config["prove"] |= {"latency_rounds": 3, "latency_calls": 20}
    return yaml.safe_dump(config, sort_keys=False)
