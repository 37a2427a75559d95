"""A bar chart of requests per second, as SVG written by hand: no library for one picture."""

import math
from html import escape

from benchmarks.host.ours import OURS
from benchmarks.host.records import Record, disturbance, middle
from benchmarks.host.standings import MODELS, Runs, by_server

WIDTH, LABELS, BAR, GAP, HEAD = 860, 190, 16, 4, 34
FLOOR = 10.0
"""Left end of the scale, requests per second; it is logarithmic, or peers would not be seen."""
COLOURS = {True: "#0b7285", False: "#adb5bd"}


def draw(records: list[Record], connections: int = 64) -> str:
    """Draw a panel per model, fastest server first."""
    parts, top = [], 0
    panels = {model: rates(records, model, connections) for model in MODELS}
    largest = max((rate for panel in panels.values() for _, rate in panel), default=0.0)
    for model, panel in panels.items():
        if panel:
            title = f"{model}: requests/s at {connections} connections (logarithmic)"
            parts.append(text(4, top + 22, title, 15))
            top += HEAD
        for name, rate in panel:
            parts.append(bar(name, rate, top, largest))
            top += BAR + GAP
    size = f'viewBox="0 0 {WIDTH} {top + GAP}" width="{WIDTH}"'
    style = 'font-family="sans-serif" fill="#212529"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{"".join(parts)}</svg>\n'


def rates(records: list[Record], model: str, connections: int) -> list[tuple[str, float]]:
    """List servers with their medians, fastest first."""
    groups = by_server(records, model, connections).items()
    found = [(label(key, runs), middle(runs, "rps")) for key, runs in groups]
    return sorted(found, key=lambda pair: -pair[1])


def label(key: tuple[str, str], runs: Runs) -> str:
    """Name a bar; one that was measured on a busy machine says so."""
    why = disturbance(runs)
    return " ".join(key) + (f" ({why})" if why else "")


def bar(name: str, rate: float, top: int, largest: float) -> str:
    """Draw one server."""
    room = WIDTH - LABELS - 80
    length = room * math.log(max(rate, FLOOR) / FLOOR) / math.log(max(largest, 10 * FLOOR) / FLOOR)
    colour = COLOURS[name.startswith(f"{OURS} ")]
    shape = f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>\n'
    number = text(LABELS + length + 6, top + 13, f"{rate:,.0f}")
    return text(4, top + 13, name) + shape + number


def text(x: float, y: float, words: str, size: int = 12) -> str:
    """Write words."""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}">{escape(words)}</text>\n'
