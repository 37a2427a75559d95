"""Commands about models that were made elsewhere: bundle onnx, and push, which has its own room."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli.project import find_root, json_option, say, show_json
from slipway.cli.push import push
from slipway.errors import ConfigError
from slipway.provider import CPU

if TYPE_CHECKING:
    from slipway.bundle.contract import Padding
    from slipway.make.wrap.wrap import Wrapped
    from slipway.problem import Target

PAD = re.compile(r"(?P<input>.+):(?P<axis>[0-9]+)=(?P<value>[^=]+)")
LOCAL = Path(".slipway")
"""Where keys are made outside of a project, too."""


@click.group(commands=[push])
def bundle() -> None:
    """Make a bundle of a model that was made elsewhere, and bring it to a fleet.

    \b
      slipway bundle onnx mlp.onnx --golden rows.npz --name mlp --out bundles/mlp
      slipway bundle push bundles/mlp --fleet local
      slipway release mlp --version 3f9a0c12d4e5 --fleet local
    """


@bundle.command()
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option(
    "--golden",
    "rows",
    required=True,
    metavar="ROWS",
    type=click.Path(path_type=Path),
    help="Rows to record answers for: .npz, .parquet, .arrow, .csv, .json or .jsonl.",
)
@click.option("--name", required=True, help="The model's name in URLs.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The bundle's folder; it must not exist yet.",
)
@click.option(
    "--key",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="The builder's private key; made in .slipway/keys if left out.",
)
@click.option("--labels", metavar="COLUMN", help="The column of ROWS that holds what came true.")
@click.option(
    "--problem",
    type=click.Choice(["binary", "multiclass", "regression"]),
    help="What the labels pose; canaries judge the model by its measures then.",
)
@click.option(
    "--classes",
    metavar="A,B,...",
    help="The labels' values in the order of the probabilities, of two the positive one last.",
)
@click.option(
    "--judged", metavar="OUTPUT", help="The output that answers it, if there are several."
)
@click.option(
    "--provider",
    default=CPU,
    show_default=True,
    help="The ONNX Runtime provider that hosts must run it on.",
)
@click.option(
    "--max-rows", default=256, show_default=True, help="The most rows that a request may carry."
)
@click.option("--one-row", is_flag=True, help="One row per request, and never batch rows.")
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="[OUTPUT=]NUMBER",
    help="How far a host's answers may lie from the recorded ones; measured if left out.",
)
@click.option(
    "--pad",
    "pads",
    multiple=True,
    metavar="INPUT:AXIS=VALUE",
    help="Let hosts pad this dimension of an input to one of the buckets.",
)
@click.option("--buckets", metavar="N,N,...", help="The lengths that are padded to.")
@json_option
def onnx(
    model: Path,
    rows: Path,
    name: str,
    out: Path,
    key: Path | None,
    labels: str | None,
    problem: str | None,
    classes: str | None,
    judged: str | None,
    provider: str,
    max_rows: int,
    one_row: bool,
    tolerances: tuple[str, ...],
    pads: tuple[str, ...],
    buckets: str | None,
    as_json: bool,
) -> None:
    """Wrap an ONNX file: contract from the graph, answers recorded, measured, signed.

    ROWS names the inputs: arrays whose first axis counts rows (.npz), columns of values or
    lists (.parquet, .arrow, .csv), or inference requests (.json, one a line in .jsonl). Every
    row is run alone and its answers are recorded; then again, and in batches of several sizes,
    to see how far answers move. A host that loads the bundle must answer the same. How good
    the answers are, nobody measures here, and the bundle says so.

    The tolerance of an output is, if not given, four times what was measured, at least 64
    rounding steps (8 of FP16 and BF16) of its largest answer. Text, whole numbers and truth
    values must be equal.

    \b
      slipway bundle onnx mlp.onnx --golden rows.npz --name mlp --out bundles/mlp
      slipway bundle onnx bert.onnx --golden requests.jsonl --name bert --out bundles/bert \\
        --pad input_ids:1=0 --pad attention_mask:1=0 --buckets 32,64,128
    """
    from slipway.make.wrap.request import WrapRequest
    from slipway.make.wrap.wrap import wrap_onnx

    problems: list[str] = []
    paddings = _paddings(pads, buckets, problems)
    tolerance = _tolerance(tolerances, problems)
    target = _target(problem, labels, classes, problems)
    if problems:
        raise ConfigError("the command line", problems)
    trusted = None
    if key is None:
        key, trusted = _local_key()
    wrapped = wrap_onnx(
        WrapRequest(
            model=model,
            rows=rows,
            name=name,
            out=out,
            key=key,
            provider=provider,
            max_rows=max_rows,
            labels=labels,
            target=target,
            judged=judged,
            tolerance=tolerance,
            paddings=paddings,
            one_row=one_row,
        ),
        say,
    )
    _tell(wrapped, trusted, as_json)


def _paddings(
    pads: tuple[str, ...], buckets: str | None, problems: list[str]
) -> "dict[str, Padding]":
    """Read --pad and --buckets, which need each other."""
    from pydantic import ValidationError

    from slipway.bundle.contract import Padding

    if bool(pads) != bool(buckets):
        problems.append("--pad and --buckets: give both or neither")
        return {}
    found = {}
    for pad in pads:
        parts = PAD.fullmatch(pad)
        try:
            if parts is None:
                raise ValueError(pad)
            found[parts["input"]] = Padding(
                axis=int(parts["axis"]),
                value=float(parts["value"]),
                buckets=[int(length) for length in (buckets or "").split(",")],
            )
        except ValidationError as error:
            problems += [f"--pad {pad}: {each['msg']}" for each in error.errors()]
        except ValueError:
            problems.append(
                f"--pad {pad} --buckets {buckets}: expected such as input_ids:1=0 and 32,64"
            )
    return found


def _target(
    problem: str | None, labels: str | None, classes: str | None, problems: list[str]
) -> "Target | None":
    """Read what the labels stand for; classes that are whole numbers are taken as such."""
    from slipway.problem import Target

    if problem is None:
        problems += ["--classes: needs --problem"] if classes else []
        return None
    values = [text.strip() for text in (classes or "").split(",") if text.strip()]
    if problem == "regression":
        problems += ["--classes: a regression has none"] if values else []
        return Target(labels or "", problem)
    values = values or (["0", "1"] if problem == "binary" else [])
    enough = len(values) == 2 if problem == "binary" else len(values) > 2
    if not enough or len(set(values)) != len(values):
        wanted = "two different values" if problem == "binary" else "three different ones or more"
        problems.append(f"--classes: {problem} has {wanted}, got {classes!r}")
    whole = all(re.fullmatch("-?[0-9]+", text) for text in values)
    return Target(labels or "", problem, tuple(int(v) if whole else v for v in values))


def _tolerance(given: tuple[str, ...], problems: list[str]) -> dict[str, float]:
    """Read numbers, each after its output's name or for all."""
    found = {}
    for text in given:
        output, _, number = text.rpartition("=")
        try:
            found[output] = float(number)
        except ValueError:
            problems.append(f"--tolerance: expected a number or OUTPUT=NUMBER, got {text!r}")
    return found


def _local_key() -> tuple[Path, Path]:
    """Return the builder key of this project or folder, made now if need be, and who trusts it."""
    from slipway.bundle.signing import make_key_pair, trust
    from slipway.fleet.inventory import load_fleet
    from slipway.fleet.keys import ensure_local_keys

    try:
        root = find_root()
    except ConfigError:  # a folder of its own is as good
        trusted = LOCAL / "trusted_keys"
        make_key_pair(LOCAL / "keys", "builder")
        trust(LOCAL / "keys/builder.pub", trusted, "builder")
        return LOCAL / "keys/builder.key", trusted
    fleet = load_fleet(root, "local")
    return ensure_local_keys(root, fleet).builder, fleet.trusted_keys


def _in_project() -> bool:
    try:
        find_root()
    except ConfigError:
        return False
    return True


def _tell(wrapped: "Wrapped", trusted: Path | None, as_json: bool) -> None:
    from slipway.bundle.format import short
    from slipway.make.wrap.wrap import PROVES

    contract = wrapped.contract
    keys = trusted or "DIR"
    serve = (
        f"slipway host --name a --bundle {wrapped.folder} --trusted-keys {keys}"
        " --state .slipway/hosts/a --port 18181 --admin-port 18191"
    )
    push = f"slipway bundle push {wrapped.folder} --fleet local"
    if as_json:
        show_json(
            {
                "model": contract.model,
                "version": wrapped.version,
                "folder": str(wrapped.folder),
                "proves": PROVES,
                "golden_rows": wrapped.golden.rows,
                "batchable": contract.batchable,
                "batch_invariance_max": contract.batch_invariance_max,
                "tolerance": wrapped.golden.tolerance,
                "gates": [asdict(gate) for gate in wrapped.gates],
                "serve": serve,
                **({"push": push} if _in_project() else {}),
            }
        )
        return
    moved = contract.batch_invariance_max
    batches = f"moves an answer by up to {moved:.2g}" if moved else "changes no bit of an answer"
    if not contract.batchable:
        batches = "never happens: one whole request at a time"
    lines = [
        f"v{short(wrapped.version)} of {contract.model} lies in {wrapped.folder}, signed",
        f"proves     {PROVES}",
        f"golden     {wrapped.golden.rows} rows recorded; the same answers when run again",
        f"batching   {batches}",
        f"serve it   {serve}",
        *([f"release it {push}"] if _in_project() else []),
    ]
    if trusted is None:
        lines.append("           DIR/builder/ must hold the public key that belongs to --key")
    click.echo("\n".join(lines))
