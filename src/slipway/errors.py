"""Every error that Slipway raises on purpose.

    SlipwayError          a run failed; the message says what, where and what to do next   (exit 1)
    ├── ConfigError       wrong usage or configuration, found before anything ran          (exit 2)
    ├── GateError         a gate measured something outside its limit                      (exit 1)
    ├── BundleRefused     a bundle that no host may load                                   (exit 1)
    ├── ChannelRefused    a channel file or lease that no host may apply                   (exit 1)
    └── AlreadyExists     the store holds this object; the loser of a race re-reads        (exit 1)

A class exists only because some caller treats it differently. They are caught at the
edges only: the command line, a stage's runner, the host's reconcile loop.
"""

from collections.abc import Sequence

KEY_PREFIX = "slw_"
"""How the secret of an API key begins, so that people and scanners see what a leaked string is,
and no message quotes one."""


class SlipwayError(Exception):
    """A run failed for a reason that its message explains."""

    exit_code = 1


class ConfigError(SlipwayError):
    """Refuse a configuration, with every problem found in it."""

    exit_code = 2

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.where = where
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n  ".join([f"{where} has {count}:", *self.problems]))


class GateError(SlipwayError):
    """Stop the line: a gate measured something outside its limit."""


class BundleRefused(SlipwayError):
    """Refuse a bundle; whatever serves now goes on serving."""


class ChannelRefused(SlipwayError):
    """Refuse a channel file or a lease; the state applied last stays."""


class AlreadyExists(SlipwayError):
    """Report that an object created once and for all is there already."""
