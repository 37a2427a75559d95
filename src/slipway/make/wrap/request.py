"""What is asked to be wrapped, and whether it can be asked for at all."""

import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slipway.bundle.contract import Padding
from slipway.errors import ConfigError
from slipway.problem import Target
from slipway.provider import CPU

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Names that may become paths and parts of URLs."""


@dataclass(frozen=True)
class WrapRequest:
    """What to wrap, and how."""

    model: Path
    rows: Path
    name: str
    out: Path
    key: Path
    """The builder's private key."""
    provider: str = CPU
    max_rows: int = 256
    labels: str | None = None
    """The column that holds what came true."""
    target: Target | None = None
    """What that stands for, where its maker names the problem."""
    judged: str | None = None
    """The output that answers it; None: the only one."""
    tolerance: Mapping[str, float] = field(default_factory=dict)
    """By output; "" for all others that are floating-point."""
    paddings: Mapping[str, Padding] = field(default_factory=dict)
    """By input."""
    one_row: bool = False
    """Take one row per request and batch none."""

    def asked(self, output: str) -> float | None:
        """Return the tolerance that was asked for."""
        return self.tolerance.get(output, self.tolerance.get(""))


def check_request(request: WrapRequest) -> None:
    """Raise ConfigError with everything that is wrong before the model is looked at."""
    problems = []
    if not NAME.fullmatch(request.name):
        problems.append(f"--name: must be letters, digits, '.', '_' and '-', got {request.name!r}")
    if request.out.exists():
        problems.append(f"--out: {request.out} exists; remove it or name another folder")
    for option, path in (
        ("the model", request.model),
        ("--golden", request.rows),
        ("--key", request.key),
    ):
        if not path.is_file():
            problems.append(f"{option}: {path} is no file")
    if request.max_rows < 1:
        problems.append(f"--max-rows: must be at least 1, got {request.max_rows}")
    if any(not 0 <= limit < math.inf for limit in request.tolerance.values()):
        problems.append("--tolerance: must be a number from 0 up")
    if request.target is not None and request.labels is None:
        problems.append("--problem: needs --labels, the column of what came true")
    if request.judged is not None and request.target is None:
        problems.append("--judged: needs --problem")
    if importlib.util.find_spec("model_signing") is None:
        problems.append("signing needs one more package: pip install 'slipway-ml[sign]'")
    if problems:
        raise ConfigError("the command line", problems)
