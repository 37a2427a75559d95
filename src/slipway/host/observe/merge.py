"""Add up what several processes counted: metrics in Prometheus' text format, and back.

Reads only what `prometheus_client` writes: no timestamps, one line per sample. A line costs a
microsecond, the library's own parser twenty.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

SUMMED: Final = frozenset(
    {
        *("slipway_requests_in_flight", "slipway_connections"),
        *("slipway_body_bytes", "slipway_cache_bytes"),
    }
)
"""Gauges of which each process has a part."""

SMALLEST: Final = frozenset({"slipway_store_reachable", "slipway_tls_days_left"})
"""Gauges that are as bad as the worst process says."""

CREATED: Final = "_created"
"""When counting began: the first process tells."""

SHARED: Final = "slipway_gpu_"
"""What each process reads from the same device, counters too."""


@dataclass
class MetricFamily:
    """One metric with all its samples."""

    kind: str
    text: str
    samples: dict[str, float] = field(default_factory=dict)
    """By the sample's name and labels, as they are written."""

    @property
    def counts(self) -> bool:
        """Whether it only grows."""
        return self.kind in ("counter", "histogram")


Families = dict[str, MetricFamily]


def parse(text: bytes) -> Families:
    """Read metrics; raise ValueError for what is none."""
    families: Families = {}
    texts: dict[str, str] = {}
    samples: dict[str, float] = {}
    for line in text.decode().splitlines():
        if line.startswith("# HELP "):
            _, _, name, *rest = line.split(" ", 3)
            texts[name] = rest[0] if rest else ""
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            samples = families.setdefault(name, MetricFamily(kind, texts.get(name, ""))).samples
        elif line:
            series, _, value = line.rpartition(" ")
            samples[series] = float(value)
    return families


def merge(many: Iterable[Families]) -> Families:
    """Make one of many; the order is that of the first."""
    merged: Families = {}
    for families in many:
        for name, family in families.items():
            into = merged.setdefault(name, MetricFamily(family.kind, family.text))
            fold = _fold(name, family)
            for series, value in family.samples.items():
                there = into.samples.get(series)
                into.samples[series] = value if there is None else fold(there, value)
    return merged


def render(families: Families) -> bytes:
    """Write metrics as they were read."""
    lines = []
    for name, family in families.items():
        lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}"]
        lines += [f"{series} {float(x)!r}" for series, x in family.samples.items()]
    return ("\n".join(lines) + "\n").encode()


def past(families: Families) -> Families:
    """Return what stays true of a process that has ended: all that only grows."""
    return {
        name: family
        for name, family in families.items()
        if (family.counts and not name.startswith(SHARED)) or name.endswith(CREATED)
    }


def _fold(name: str, family: MetricFamily) -> Callable[[float, float], float]:
    if name.startswith(SHARED):
        return max
    if family.counts or name in SUMMED:
        return operator.add
    if name in SMALLEST or name.endswith(CREATED):
        return min
    return max
