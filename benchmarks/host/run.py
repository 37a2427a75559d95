"""The commands: what is started, in which order, and where the records go."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.host import bare, calibrate, closed, gpu, loris, openload, overload, rivals, wrk
from benchmarks.host.machine import CORES, niceness
from benchmarks.host.models import make_models
from benchmarks.host.ours import CPU, OURS, our_host
from benchmarks.host.records import Record, keep, read
from benchmarks.host.servers import Broken, Running, Server

OVERLOADED = {"cnn": ("binary", "json"), "encoder": ("json",)}
"""What is sent in the open loop; mlp has no batch time to speak of."""
LONGER = {"encoder": 2}
"""Runs under wrk are so much longer: 64 answers take half a second and more."""
BESIEGED = ("cnn", "binary")
"""The model with the steadiest p99: two cores shared with the attacker leave mlp's to chance."""


@dataclass
class Plan:
    """One call of the bench."""

    folder: Path
    out: Path
    peers: str
    models: list[str]
    seconds: int
    rounds: int
    connections: list[int]
    open_s: float
    patience_s: float
    port: int
    candidates: list[str]
    host_options: tuple[str, ...]
    split: int
    quick: bool
    scratch: Path

    @property
    def model_folder(self) -> Path:
        """Where the ONNX files are."""
        return self.folder / "models"

    def keep(self, record: Record) -> Record:
        """Write a record down and show that it is there."""
        record = keep(self.out, {**record, "cores": CORES})
        shown = ("server", "model", "payload", "connections", "attack", "rps", "p99_ms", "foreign")
        print(" ".join(f"{record[k]:.4g}" if isinstance(record[k], float) else str(record[k])
                       for k in shown if record.get(k) is not None), flush=True)  # fmt: skip
        return record

    def our_server(self, model: str, provider: str = CPU) -> Server:
        """Describe our host for one model, or the candidate that stands in for it."""
        for server in self.candidate_servers(model):
            if server.name == OURS:
                return server
        make_models(self.model_folder, [model])
        path = self.model_folder / f"{model}.onnx"
        return our_host(
            model, path, self.folder, self.scratch, self.port, self.split, self.host_options,
            provider,
        )  # fmt: skip

    def candidate_servers(self, model: str) -> list[Server]:
        """Read the servers that the command line adds."""
        return [candidate(text, model, self) for text in self.candidates]


def candidate(text: str, model: str, plan: Plan) -> Server:
    """Read NAME,URL,PAYLOADS[,COMMAND]."""
    values = {"model": model, "port": plan.port, "models": plan.model_folder}
    name, url, kinds, *command = text.split(",", 3)
    words = tuple(w.format(**values) for w in shlex.split(command[0])) if command else ()
    environment = {"MODEL": model, "PORT": str(plan.port), "MODELS": str(plan.model_folder)}
    return Server(name, model, url.format(**values), tuple(kinds.split("+")), words, environment)


def setup(plan: Plan) -> list[Record]:
    """Install the peers."""
    wanted = plan.peers if plan.peers != "contenders" else "all"
    for environment in sorted({rivals.RIVALS[n].environment for n in rivals.chosen(wanted)}):
        print(environment, rivals.set_up(environment, plan.folder), flush=True)
    return []


def check(plan: Plan) -> list[Record]:
    """Start every peer on every model and look at its answers; nothing is measured."""
    make_models(plan.model_folder, plan.models)
    for name in rivals.chosen(plan.peers):
        for model in plan.models:
            server = rivals.rival(name, model, plan.port, plan.folder, plan.model_folder)
            try:
                with Running(server, plan.model_folder) as running:
                    print(f"{name} {model}: right, {running.cold_s:.1f} s to start", flush=True)
            except Broken as error:
                print(f"BROKEN: {error}", flush=True)
    return []


def about(server: Server) -> Record:
    """Say what a server is, so that the tables can."""
    return {
        "what": "about", "server": server.name, "model": server.model,
        "software": server.software, "settings": server.settings,
    }  # fmt: skip


def about_load(model: str, seconds: int) -> Record:
    """Say what the load comes from."""
    return {
        "what": "about", "server": "wrk", "model": model, "software": wrk.version(),
        "settings": f"threads: 1, seconds a run: {seconds}, niceness: {niceness()}",
    }  # fmt: skip


def compare(plan: Plan) -> list[Record]:
    """Measure every server under wrk."""
    names = rivals.chosen(plan.peers)
    if lacking := rivals.missing(names, plan.folder):
        sys.exit(f"not installed: {', '.join(lacking)}; run `python -m benchmarks.host setup`")
    make_models(plan.model_folder, plan.models)
    found: list[Record] = []
    for turn in range(plan.rounds):
        for model in plan.models:
            limit = bare.measure(plan.model_folder, model)
            ours = plan.our_server(model)
            others = [s for s in plan.candidate_servers(model) if s.name != OURS]
            place = (plan.port, plan.folder, plan.model_folder)
            servers = [ours, *others, *(rivals.rival(name, model, *place) for name in names)]
            seconds = plan.seconds * LONGER.get(model, 1)
            if turn == 0:
                told = [*map(about, servers), about_load(model, seconds)]
                found += [plan.keep(record) for record in told]
            found += [
                plan.keep(record)
                for record in closed.compare(
                    servers, limit, plan.connections, seconds, plan.patience_s,
                    plan.model_folder, plan.scratch,
                )
            ]  # fmt: skip
    return found


def open_loop(plan: Plan) -> list[Record]:
    """Put our host under loads that do not wait for it."""
    program, found = openload.build(plan.folder), []
    for model in [m for m in plan.models if m in OVERLOADED]:
        with Running(plan.our_server(model), plan.model_folder) as running:
            limit = bare.measure(plan.model_folder, model)
            payloads = OVERLOADED[model][: 1 if plan.quick else None]
            for payload in plan.rounds * payloads:
                record = overload.withstand(
                    running, payload, limit, plan.open_s, program, plan.scratch
                )
                found.append(plan.keep(record))
    return found


def besiege(plan: Plan) -> list[Record]:
    """Hold slow connections beside an honest load."""
    model, payload = BESIEGED
    found = []
    with Running(plan.our_server(model), plan.model_folder) as running:
        for attack in plan.rounds * list(loris.ATTACKS)[: 1 if plan.quick else None]:
            record = loris.besiege(running, payload, attack, plan.seconds, plan.scratch)
            found.append(plan.keep(record))
    return found


def on_gpu(plan: Plan) -> list[Record]:
    """Measure on a GPU, or say why not."""
    make_models(plan.model_folder, [gpu.MODEL])
    path = plan.model_folder / f"{gpu.MODEL}.onnx"
    if reason := gpu.why_not(path):
        print(f"GPU part skipped: {reason}", flush=True)
        return []
    rates = gpu.bare_rates(path, 1.0)
    with Running(plan.our_server(gpu.MODEL, gpu.CUDA), plan.model_folder) as running:
        return [plan.keep(gpu.compare(running, rates, plan.seconds, plan.scratch))]


def everything(plan: Plan) -> list[Record]:
    """Run all parts; one that breaks does not take the others with it."""
    plan.out.unlink(missing_ok=True)
    found = []
    for part in (compare, open_loop, besiege, on_gpu):
        try:
            found += part(plan)
        except (Broken, RuntimeError) as error:
            print(f"LEFT OUT: {part.__name__}: {error}", file=sys.stderr)
    return found


def check_generator(plan: Plan) -> list[Record]:
    """Show the generator's figures beside those that theory wants."""
    for load in (0.5, 0.8):
        result = calibrate.calibrate(openload.build(plan.folder), load, seconds=plan.open_s)
        for name, value in asdict(result).items():
            print(f"{name:16} {value:.4g}")
        print()
    return []


def show(plan: Plan) -> list[Record]:
    """Read the records again."""
    return read(plan.out)


COMMANDS: dict[str, Callable[[Plan], list[Record]]] = {
    "setup": setup,
    "check": check,
    "compare": compare,
    "open": open_loop,
    "loris": besiege,
    "gpu": on_gpu,
    "all": everything,
    "calibrate": check_generator,
    "report": show,
}
