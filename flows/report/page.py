"""Write the report of one run: a single HTML file that loads nothing and runs nothing.

    run.json, facts on disk -> sentences, panels, slices, charts -> templates/report.html.j2

No script, no font, no picture from elsewhere: a Content-Security-Policy in the page makes
sure of that, and the template escapes every value, since names and messages in it come from
data that others wrote.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from flows.report.charts import calibration_chart, loss_chart, measure_chart
from flows.report.facts import Facts, read_facts
from flows.report.panels import comparisons, gates, other_numbers, precisions, splits, timeline
from flows.report.sentences import sentences, verdict
from flows.report.slices import slice_plots
from slipway import __version__
from slipway.precision import REFERENCE
from slipway.wording import FILTERS, millis, moment, number, score, scrub, share, size, when

TEMPLATES = Path(__file__).with_name("templates")


def write_report(root: Path, run: Mapping[str, Any], path: Path) -> None:
    """Write the page of a run, whole or not at all."""
    page = render(run, read_facts(root, str(run.get("pipeline", "")), run))
    aside = path.with_name(f".{path.name}.new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def render(run: Mapping[str, Any], facts: Facts) -> str:
    """Fill the template with whatever there is."""
    page = _page(run, facts)
    return _template().render(page | {"sections": _sections(page)})


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("report.html.j2")


def _page(run: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    calibration = facts.metrics.get("calibration") or []
    tree_calibration = facts.metrics.get("calibration_tree") or []
    return {
        "run": run,
        "facts": facts,
        "git": run.get("git") or {},
        "verdict": verdict(run),
        "words": sentences(run, facts),
        "took": _took(run),
        "hosts": [_host(host) for host in run.get("hosts") or []],
        "figures": _figures(run, facts),
        "timeline": timeline(run),
        "splits": splits(facts),
        "broken": _broken(facts),
        "problem": facts.problem,
        "loss_chart": loss_chart(facts.history, facts.problem.stopping),
        "primary_chart": measure_chart(facts.history, facts.problem.primary),
        "quality": _quality(facts),
        "calibration": calibration_chart(calibration, tree_calibration),
        "slices": slice_plots(facts),
        "precisions": precisions(run, facts),
        "gates": gates(run, facts),
        "comparisons": comparisons(run.get("release") or {}),
        "other_numbers": other_numbers(run.get("release") or {}),
        "lineage": _lineage(run),
        "slipway_version": __version__,
    }


def _sections(page: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name the sections that have something to show, in the order of the line."""
    facts, quality = page["facts"], page["quality"]
    known = {
        "stages": ("What happened", page["timeline"]),
        "data": ("Data", facts.table or facts.validation or facts.features),
        "training": ("Training", page["loss_chart"] or page["primary_chart"]),
        "quality": ("Quality", quality["rows"]),
        "slices": ("Slices", page["slices"]),
        "precisions": ("Precisions", page["precisions"]),
        "gates": ("Gates", page["gates"]),
        "release": ("Release", page["run"].get("release")),
        "lineage": ("Lineage", page["lineage"] or page["git"]),
    }
    return [(id_, name) for id_, (name, there) in known.items() if there]


def _took(run: Mapping[str, Any]) -> float | None:
    begun, ended = moment(run.get("started_at")), moment(run.get("finished_at"))
    if begun is None or ended is None or (begun.tzinfo is None) != (ended.tzinfo is None):
        return None
    return (ended - begun).total_seconds()


def _host(host: Any) -> str:
    if not isinstance(host, dict):
        return scrub(host)
    return " · ".join(scrub(host[key]) for key in ("name", "url") if host.get(key))


def _figures(run: Mapping[str, Any], facts: Facts) -> list[dict[str, str]]:
    """Pick the five numbers that a reader looks for first."""
    test, tree, base = (facts.metrics.get(key) or {} for key in ("test", "tree", "base"))
    figures = []
    primary, stopping = facts.problem.primary, facts.problem.stopping
    if (mine := number(test.get(primary.key))) is not None:
        theirs = number(tree.get(primary.key))
        beside = "" if theirs is None else f"tree {score(theirs)}"
        figures.append({"name": f"Test {primary.name}", "value": score(mine), "beside": beside})
    if (loss := number(test.get(stopping.key))) is not None:
        beside = f"base rate {score(base.get(stopping.key))}" if base else ""
        figures.append({"name": f"Test {stopping.name}", "value": score(loss), "beside": beside})
    if number(test.get("ece")) is not None:
        beside = f"base rate {share(test.get('base_rate'))}"
        figures.append(
            {"name": "Calibration error", "value": share(test["ece"], 2), "beside": beside}
        )
    known = {one.name: one for one in precisions(run, facts)}
    chosen, usual = next((one for one in known.values() if one.chosen), None), known.get(REFERENCE)
    if chosen and chosen.p50_ms is not None:
        name = f"Time for {chosen.rows:,.0f} rows, p50" if chosen.rows else "Time per call, p50"
        beside = f"{REFERENCE} {millis(usual.p50_ms)}" if usual and usual is not chosen else ""
        figures.append({"name": name, "value": millis(chosen.p50_ms), "beside": beside})
    if chosen and chosen.size_bytes is not None:
        figures.append({"name": "Model", "value": size(chosen.size_bytes), "beside": chosen.name})
    return figures


def _broken(facts: Facts) -> list[Mapping[str, Any]]:
    """List the rules that rows broke, those of the whole table first."""
    rules = facts.validation.get("expectations") or []
    return sorted(
        (rule for rule in rules if not rule.get("success")),
        key=lambda rule: (rule.get("level") != "suite", -(number(rule.get("unexpected")) or 0)),
    )


PEERS = {"test": "Network", "tree": "Tree", "base": "Base rate"}


def _quality(facts: Facts) -> dict[str, Any]:
    metrics = facts.metrics
    peers = {key: name for key, name in PEERS.items() if metrics.get(key)}
    rows = []
    for measure in facts.problem.measures:
        values = [number(metrics[key].get(measure.key)) for key in peers]
        known = [value for value in values if value is not None]
        if known:
            best = measure.best(known)
            rows.append({"name": measure.title, "values": values, "best": best})
    return {"peers": list(peers.values()), "rows": rows}


def _lineage(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = run.get("git") or {}
    known = {
        "Commit": git.get("commit"),
        "Remote": scrub(git["remote"]) if git.get("remote") else None,
        "Changed since": _some([*map(str, git.get("changed") or [])], git.get("changed_count")),
        "dvc.lock": "changed since the commit" if git.get("dvc_lock_changed") else None,
        "Run": run.get("run"),
        "Finished": when(run["finished_at"]) if run.get("finished_at") else None,
    }
    return [(name, str(value)) for name, value in known.items() if value]


def _some(names: list[str], count: Any, most: int = 8) -> str:
    """List names, the first of them only where there are many."""
    more = int(number(count) or len(names)) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
