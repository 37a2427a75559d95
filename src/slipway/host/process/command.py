"""The command line of one host, for `slipway host` and `python -m slipway.host` alike."""

from pathlib import Path
from typing import Any

import click

PORT = click.IntRange(1, 65535)
FILE = click.Path(path_type=Path)


SECTIONS = (
    ("address", "admin_socket", "api_keys", "jwks", "jwt_algorithm", "jwt_issuer", "jwt_audience",
     "tls_cert", "tls_key", "behind_proxy"),
    ("cores", "max_rows", "max_delay_us", "queue", "p95_ms", "cache_mib", "memory_mib",
     "body_memory_mib", "instances", "cuda_graphs", "spin_us"),
    ("access_log", "audit_log", "capture", "capture_ratio", "redact", "traces", "trace_ratio"),
)  # fmt: skip
"""The options that say who can reach a host, how models are run, and what is written down."""


def _split(value: str) -> tuple[str, int]:
    model, _, percent = value.partition("=")
    if not model or not percent.isdigit():
        raise click.BadParameter(f"{value!r}: write MODEL=PERCENT, e.g. flights=10")
    return model, int(percent)


WORDS = "slipway.words"
"""Where the context keeps the command line as it was given, for the processes of a host."""


class _Command(click.Command):
    """Remembers the words it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words, then read them."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)


@click.command(cls=_Command)
@click.option("--name", required=True, help="This host's name in its fleet.")
@click.option("--port", required=True, type=PORT, help="Port for HTTP requests.")
@click.option("--grpc-port", type=PORT, help="Port for gRPC requests.  [default: no gRPC]")
@click.option("--admin-port", type=PORT, help="Port for /status, on loopback.")
@click.option("--admin-socket", type=FILE, metavar="PATH", help="Unix socket instead of a port.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--fleet", default="", help="The fleet whose channels it follows.")
@click.option("--store", default="", metavar="URL", help="Where bundles and channels are.")
@click.option("--bundle", "bundles", multiple=True, type=FILE, metavar="DIR",
              help="Serve this bundle and follow nobody; may be given again.")  # fmt: skip
@click.option("--split", "splits", multiple=True, metavar="MODEL=PERCENT",
              help="With two bundles of a model: the second answers so many callers.")  # fmt: skip
@click.option("--trusted-keys", required=True, metavar="DIR", type=FILE,
              help="Public keys: builder/*.pub and release/*.pub.")  # fmt: skip
@click.option("--state", required=True, metavar="DIR", type=FILE,
              help="Folder of this host's own: cache, memory of channels, audit log.")  # fmt: skip
@click.option("--poll-s", default=1.0, show_default=True, help="Seconds between looks at channels.")
@click.option("--processes", default=1, show_default=True,
              help="Processes that share its ports; see below.")  # fmt: skip
@click.option("--part", type=(int, int, int), hidden=True)
@click.option("--late", is_flag=True, hidden=True)
@click.option("--threads", "cores", type=int,
              help="Threads that run models.  [default: the cores it may use]")  # fmt: skip
@click.option("--max-rows", type=int, help="Largest batch.  [default: measured per version]")
@click.option("--max-delay-us", default=0, show_default=True,
              help="How long a batch may wait for more rows.")  # fmt: skip
@click.option("--queue", type=int,
              help="Requests per version that may wait.  [default: half a second's]")  # fmt: skip
@click.option("--p95-ms", type=float, help="Tune batches to this 95th percentile.  [default: off]")
@click.option("--cache-mib", default=0, show_default=True, help="Memory for repeated answers.")
@click.option("--memory-mib", type=int, help="For all versions.  [default: 4/5 of the machine's]")
@click.option("--body-memory-mib", default=512, show_default=True,
              help="For bodies of requests until they are answered; when full, 503.")  # fmt: skip
@click.option("--instances", default=1, show_default=True, help="Runs at once per version (GPU).")
@click.option("--cuda-graphs/--no-cuda-graphs", default=True, show_default=True,
              help="Replay recorded GPU work where a model allows it.")  # fmt: skip
@click.option("--spin-us", default=200, show_default=True,
              help="Pause between lone requests that is spent awake.")  # fmt: skip
@click.option("--api-keys", type=FILE, metavar="FILE", help="Who may ask; see `slipway keys`.")
@click.option("--jwks", type=FILE, metavar="FILE", help="Public keys of a token issuer.")
@click.option("--jwt-algorithm", help="The one algorithm its tokens are signed with, e.g. ES256.")
@click.option("--jwt-issuer", help="What its tokens say as `iss`.")
@click.option("--jwt-audience", help="What its tokens say as `aud`.")
@click.option("--tls-cert", type=FILE, metavar="FILE", help="Certificate chain; may be replaced.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="Its key, mode 0640 at most.")
@click.option("--behind-proxy", is_flag=True, help="Something in front of this host speaks TLS.")
@click.option("--access-log", metavar="FILE", help="One JSON line per request; - for stdout.")
@click.option("--audit-log", type=FILE, metavar="FILE", help="[default: STATE/audit.jsonl]")
@click.option("--capture", type=FILE, metavar="DIR", help="Keep a sample of requests as Parquet.")
@click.option("--capture-ratio", default=0.01, show_default=True, help="Share that is kept.")
@click.option("--redact", multiple=True, metavar="TENSOR", help="Never keep these values.")
@click.option("--traces", metavar="URL", help="OTLP/HTTP endpoint for OpenTelemetry traces.")
@click.option("--trace-ratio", default=0.0, show_default=True,
              help="Share traced of requests that bring no traceparent.")  # fmt: skip
def host(
    admin_port: int | None,
    splits: tuple[str, ...],
    part: tuple[int, int, int] | None,
    late: bool,
    **values: Any,
) -> None:
    """Run one inference host in the foreground.

    It follows the channels of a fleet, or serves the bundles it is given. Either way it
    loads a bundle only if a trusted builder signed it and its golden set runs here as it
    was proven. Others than this machine are answered only with --api-keys or --jwks.

    \b
    A host of a fleet:
      slipway host --name a --fleet local --port 18081 --admin-port 18091 \\
        --store .slipway/store --trusted-keys .slipway/fleets/local/trusted_keys \\
        --state .slipway/fleets/local/hosts/a
    A model that was made elsewhere (see `slipway bundle onnx --help`):
      slipway host --name a --bundle mlp-bundle --trusted-keys keys/trusted_keys \\
        --port 18081 --grpc-port 18082 --admin-port 18091 --state a

    SIGTERM stops it in good order, SIGHUP reads keys, certificates and bundles again.

    --processes N is for models so small that the program around them keeps a core busy. N
    processes answer on the same ports, and look like one host: the kernel gives each new
    connection to one of them (so have several per client), /metrics adds them up, /status
    and reload speak for all, and one that ends is started again. They divide --threads,
    --memory-mib, --body-memory-mib, --cache-mib and each key's rate, burst and quota; --queue and
    /v2/models/NAME/stats are of one process. Each keeps bundles, memory and an audit log
    in STATE/0, STATE/1 and so on, and captures in DIR/0, DIR/1.
    """
    from slipway.host.guard.access import Access
    from slipway.host.process.options import HostOptions, Part, Records, Work

    if admin_port is None and values["admin_socket"] is None:
        raise click.UsageError("give --admin-port or --admin-socket")
    access, work, records = ({name: values.pop(name) for name in names} for names in SECTIONS)
    options = HostOptions(
        admin_port=admin_port or 0,
        splits=tuple(_split(value) for value in splits),
        access=Access(**access),
        work=Work(**work),
        records=Records(**records),
        part=Part(*part, late=late) if part else None,
        **values,
    )
    if options.processes == 1:
        from slipway.host.process.server import serve

        serve(options)
    else:
        from slipway.host.process.many.supervisor import supervise

        supervise(options, click.get_current_context().meta[WORDS])
