"""How one host is started."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway.errors import ConfigError
from slipway.host.follow.memory import MODEL
from slipway.host.guard.access import SOCKET_PATH_BYTES, Access, check_exposure
from slipway.host.request.body_memory import BODY_MEMORY_BYTES
from slipway.host.wire.http.exchange import Limits

PORT_MAX = 65_535
MIB = 1024 * 1024


@dataclass(frozen=True)
class Work:
    """How models are run."""

    cores: int | None = None
    """Threads that run models; None: the cores that this process may use."""
    max_rows: int | None = None
    """The largest batch; None: measured for each version when it is opened."""
    max_delay_us: int = 0
    """How long a batch may wait to be filled; 0: never while a thread is idle."""
    queue: int | None = None
    """Requests of one version that may wait, more are refused at once; None: half a second's."""
    p95_ms: float | None = None
    """Tune batch size and delay to this; None: they stay as they are."""
    cache_mib: int = 0
    """Memory for answers to what is asked again; 0: none."""
    memory_mib: int | None = None
    """Memory for all loaded versions together; None: four fifths of the machine's."""
    body_memory_mib: int = BODY_MEMORY_BYTES // MIB
    """Memory for the bodies of all requests, HTTP and gRPC, until they are answered."""
    instances: int = 1
    """Runs of one version at once on a GPU."""
    cuda_graphs: bool = True
    """Whether to use CUDA graphs where a model allows it."""
    spin_us: int = 200
    """Longest pause between two requests of a tiny model that is spent awake; 0: none."""


@dataclass(frozen=True)
class Records:
    """What is written down about requests."""

    access_log: str | None = None
    """File of one JSON line per request, or `-` for stdout."""
    audit_log: Path | None = None
    """File of starts, stops and admin calls; None: `audit.jsonl` in the state folder."""
    capture: Path | None = None
    """Folder for a sample of requests and answers as Parquet."""
    capture_ratio: float = 0.01
    """Share of the requests that are captured."""
    redact: tuple[str, ...] = ()
    """Inputs and outputs whose values are never captured."""
    traces: str | None = None
    """OTLP/HTTP endpoint for OpenTelemetry traces."""
    trace_ratio: float = 0.0
    """Share of the requests without `traceparent` that are traced."""


@dataclass(frozen=True)
class Part:
    """One of several processes that are one host."""

    number: int
    """From 0."""
    count: int
    """How many there are."""
    supervisor: int
    """The process that started it, and with which it ends."""
    late: bool = False
    """Others answer already: it joins them when its models are loaded."""


@dataclass(frozen=True)
class HostOptions:
    """One host, as the command line names it."""

    name: str
    """Unique in the fleet."""
    port: int
    """Where it answers requests."""
    admin_port: int
    """Where it answers questions about itself, unless it is a socket; loopback."""
    trusted_keys: Path
    """Folder with `builder/*.pub` and `release/*.pub`."""
    state: Path
    """Folder of its own: cache and memory."""
    fleet: str = ""
    """Whose channels it follows."""
    store: str = ""
    """A folder, or a URL as `slipway.store` says."""
    bundles: tuple[Path, ...] = ()
    """Serve exactly these folders, and follow nobody."""
    splits: tuple[tuple[str, int], ...] = ()
    """Model and percent: the share of callers that its second bundle answers."""
    grpc_port: int | None = None
    """Where it answers gRPC; None: nowhere."""
    poll_s: float = 1.0
    """Seconds between two looks at the store."""
    access: Access = field(default_factory=Access)
    """Who can reach it, and whom it lets in."""
    work: Work = field(default_factory=Work)
    records: Records = field(default_factory=Records)
    limits: Limits = field(default_factory=Limits)
    """What one connection may take."""
    processes: int = 1
    """How many share the ports and the work."""
    part: Part | None = None
    """Which of them this is; None: the only one, or the one that starts them."""


def admin_socket(state: Path, process: int | None) -> Path:
    """Return where one of the host's processes answers the others; None: the supervisor."""
    return state / ("all" if process is None else str(process)) / "admin.sock"


def take_share(options: HostOptions, cores: int) -> HostOptions:
    """Return what one process may take of what the host may.

    The queue is not divided: connections are not spread evenly, and a full one refuses.
    """
    if options.part is None:
        return options
    work, count = options.work, options.part.count

    def share(whole: int) -> int:
        return max(1, whole // count)

    return replace(
        options,
        work=replace(
            work,
            cores=share(work.cores or cores),
            cache_mib=share(work.cache_mib) if work.cache_mib else 0,
            memory_mib=share(work.memory_mib) if work.memory_mib else None,
            body_memory_mib=max(share(work.body_memory_mib), _largest_body_mib(options)),
        ),
    )


def check_options(options: HostOptions) -> None:
    """Raise ConfigError with every problem, before anything is opened."""
    problems = [*_check_source(options), *check_exposure(options.access), *_check_ports(options)]
    named = [("--name", options.name)]
    named += [("--fleet", options.fleet)] if options.fleet else []
    for option, name in named:
        if not MODEL.fullmatch(name):
            problems.append(f"{option}: must be letters, digits, '.', '_' and '-', got {name!r}")
    problems += [*_check_numbers(options), *_check_processes(options)]
    if problems:
        raise ConfigError("the command line", problems)


def _check_source(options: HostOptions) -> list[str]:
    problems = []
    if options.bundles and (options.store or options.fleet):
        problems.append("--bundle: serves folders instead of a store; drop --store and --fleet")
    if not options.bundles and not (options.store and options.fleet):
        problems.append("--store and --fleet: say what to follow, or --bundle what to serve")
    if not options.bundles and options.splits:
        problems.append("--split: is for --bundle; a fleet's channel says its own share")
    return problems


def _check_ports(options: HostOptions) -> list[str]:
    ports = {"--port": options.port, "--grpc-port": options.grpc_port}
    if options.access.admin_socket is None:
        ports["--admin-port"] = options.admin_port
    listening = {option: port for option, port in ports.items() if port is not None}
    problems = [
        f"{option}: must be from 1 to {PORT_MAX}, got {port}"
        for option, port in listening.items()
        if not 0 < port <= PORT_MAX
    ]
    if len(set(listening.values())) != len(listening):
        problems.append(f"{', '.join(listening)}: must differ, got {sorted(listening.values())}")
    return problems


def _check_processes(options: HostOptions) -> list[str]:
    if options.processes < 1:
        return [f"--processes: must be at least 1, got {options.processes}"]
    length = len(bytes(admin_socket(options.state, options.processes)))
    if options.processes > 1 and length > SOCKET_PATH_BYTES:
        return [
            f"--state: with --processes it holds sockets, so its path may have at most"
            f" {SOCKET_PATH_BYTES - length + len(bytes(options.state))} bytes,"
            f" got {len(bytes(options.state))}"
        ]
    return []


def _largest_body_mib(options: HostOptions) -> int:
    return -(-options.limits.body_bytes // MIB)


def _check_numbers(options: HostOptions) -> list[str]:
    work, records = options.work, options.records
    positive = {
        "--poll-s": options.poll_s,
        "--threads": work.cores,
        "--max-rows": work.max_rows,
        "--queue": work.queue,
        "--p95-ms": work.p95_ms,
        "--memory-mib": work.memory_mib,
        "--instances": work.instances,
    }
    wrong = [
        (value is not None and not value > 0, f"{option}: must be greater than 0", value)
        for option, value in positive.items()
    ]
    least = _largest_body_mib(options)
    wrong += [
        (
            work.body_memory_mib < least,
            f"--body-memory-mib: must be at least {least}, which one request may have",
            work.body_memory_mib,
        ),
        (work.max_delay_us < 0, "--max-delay-us: must be 0 or more", work.max_delay_us),
        (work.spin_us < 0, "--spin-us: must be 0 or more", work.spin_us),
        (work.cache_mib < 0, "--cache-mib: must be 0 or more", work.cache_mib),
        (not 0 <= records.capture_ratio <= 1, "--capture-ratio: 0 to 1", records.capture_ratio),
        (not 0 <= records.trace_ratio <= 1, "--trace-ratio: 0 to 1", records.trace_ratio),
    ]
    problems = [f"{text}, got {got}" for is_wrong, text, got in wrong if is_wrong]
    problems += [
        f"--split: a percentage is from 0 to 100, got {model}={percent}"
        for model, percent in options.splits
        if not 0 <= percent <= 100
    ]
    return problems
