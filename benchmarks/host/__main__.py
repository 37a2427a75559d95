"""Measure our inference host and its peers on the same models in the same run.

  python -m benchmarks.host setup            install the peers (once, 3.5 GB, minutes)
  python -m benchmarks.host check --peers all    start each peer, look at its answers
  python -m benchmarks.host all              everything below, then the report: some 20 minutes
  python -m benchmarks.host all --quick      the same, shorter and rougher: some 5 minutes
  python -m benchmarks.host compare          ours and the peers under wrk
  python -m benchmarks.host open             ours in an open loop: 80 %, 5 x overload, recovery
  python -m benchmarks.host loris            ours beside 2,000 slow connections
  python -m benchmarks.host gpu              ours on a GPU beside bare ONNX Runtime
  python -m benchmarks.host calibrate        the open-loop generator against queueing theory
  python -m benchmarks.host report           the tables again, from --out

Needs wrk, slowhttptest and cc. README.md says how to read the tables.
"""

import argparse
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.host import chart, report
from benchmarks.host.peers.specs import SPECS
from benchmarks.host.run import COMMANDS, Plan

QUICK = {"peers": "quick", "seconds": 1, "rounds": 1, "connections": "1,64", "open_s": 3.0}


def main() -> None:
    """Read the command line and run one command."""
    options = read_options()
    with TemporaryDirectory() as scratch:
        plan = Plan(
            folder=options.folder.resolve(), out=options.out or options.folder / "results.jsonl",
            peers=options.peers, models=options.models.split(","), seconds=options.seconds,
            rounds=options.rounds, connections=[int(c) for c in options.connections.split(",")],
            open_s=options.open_s, patience_s=options.patience, port=options.port,
            candidates=options.candidate, host_options=tuple(shlex.split(options.host_options)),
            split=options.split, quick=options.quick, scratch=Path(scratch),
        )  # fmt: skip
        plan.folder.mkdir(parents=True, exist_ok=True)
        records = COMMANDS[options.command](plan)
    if records:
        text = report.write(records)
        plan.out.with_suffix(".md").write_text(text)
        plan.out.with_suffix(".svg").write_text(chart.draw(records))
        print(text)


def read_options() -> argparse.Namespace:
    """Read the command line; --quick fills in what was not said."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    add("--peers", default="contenders", help="contenders (default), quick, all, none or a list")
    add("--models", default="mlp,cnn,encoder", help=f"of {', '.join(SPECS)}")
    add("--seconds", type=int, default=2, help="length of one run of wrk")
    add("--rounds", type=int, default=2, help="how often everything is measured")
    add("--connections", default="1,16,64", help="connections of wrk")
    add("--open-s", type=float, default=5.0, help="length of each open-loop phase")
    add("--patience", type=float, default=1.0, help="seconds to wait for a quiet machine")
    add("--quick", action="store_true", help="shorter, one round, fewer of everything")
    folder = Path(".slipway/bench")
    add("--folder", type=Path, default=folder, help="environments, models, results")
    add("--out", type=Path, help="records; FOLDER/results.jsonl, started anew by `all`")
    add("--port", type=int, default=19400, help="first of four ports")
    add("--split", type=int, default=10, help="percent for our second version; 0: no second")
    add("--host-options", default="", help="further options of `slipway host`")
    add(
        "--candidate", action="append", default=[], metavar="NAME,URL,PAYLOADS[,COMMAND]",
        help="a further server: URL and COMMAND may hold {model}, {port} and {models};"
        " PAYLOADS joined by +; without COMMAND it runs already; NAME slipway replaces ours",
    )  # fmt: skip
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
