"""Write the report of one run: a single HTML file that loads nothing and runs nothing.

    run.json, facts on disk -> sentences, panels, slices, charts -> templates/report.html.j2

No script, no font, no picture from elsewhere: a Content-Security-Policy in the page makes
sure of that, and the template escapes every value, since names and messages in it come from
data that others wrote.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from flows.report.charts import Chart, calibration_chart, loss_chart, measure_chart
from flows.report.facts import Expectation, Facts, Features, Table, Validation, read_facts
from flows.report.panels import gates, numbers_of, other_numbers, parts, precisions, timeline
from flows.report.sentences import sentences, verdict
from flows.report.slices import slice_plots
from slipway import __version__
from slipway.bundle.gate import SIGNS
from slipway.make.build import FAMILY_NAMES, level_in_words
from slipway.precision import REFERENCE
from slipway.problem.record import CalibrationBin
from slipway.runs.run import HostAddress, Run
from slipway.wording import FILTERS, millis, moment, score, scrub, share, size, when

Bins = tuple[CalibrationBin, ...]

TEMPLATES = Path(__file__).with_name("templates")


def write_report(root: Path, run: Run, path: Path) -> None:
    """Write the page of a run, whole or not at all."""
    page = render(run, read_facts(root, run.pipeline, run))
    aside = path.with_name(f".{path.name}.new")
    with aside.open("w", encoding="utf-8") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def render(run: Run, facts: Facts) -> str:
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
    environment.globals["level"] = level_in_words
    return environment.get_template("report.html.j2")


def _page(run: Run, facts: Facts) -> dict[str, Any]:
    return {
        "run": run,
        "facts": facts,
        "git": run.git,
        "verdict": verdict(run),
        "words": sentences(run, facts),
        "took": _took(run),
        "hosts": [_host(host) for host in run.hosts],
        "figures": _figures(run, facts),
        "timeline": timeline(run),
        "splits": parts(facts),
        "broken": _broken(facts),
        "problem": facts.problem,
        "loss_chart": loss_chart(facts.history, facts.problem.stopping),
        "primary_chart": _primary_chart(facts),
        "quality": _quality(facts),
        "calibration": calibration_chart(*_curves(facts), facts.problem),
        "families": facts.families_in_words,
        "slices": slice_plots(facts),
        "precisions": precisions(run, facts),
        "gates": gates(run, facts),
        "signs": SIGNS,
        "comparisons": numbers_of(run.release).lines,
        "other_numbers": other_numbers(run.release),
        "lineage": _lineage(run),
        "slipway_version": __version__,
    }


def _sections(page: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name the sections that have something to show, in the order of the line."""
    facts, quality = page["facts"], page["quality"]
    data = (facts.table, facts.validation, facts.features)
    known = {
        "stages": ("What happened", page["timeline"]),
        "data": ("Data", data != (Table(), Validation(), Features())),
        "training": ("Training", page["loss_chart"] or page["primary_chart"]),
        "quality": ("Quality", quality["rows"]),
        "slices": ("Slices", page["slices"]),
        "precisions": ("Candidates", page["precisions"]),
        "gates": ("Gates", page["gates"]),
        "release": ("Release", page["run"].release),
        "lineage": ("Lineage", page["lineage"]),
    }
    return [(id_, name) for id_, (name, there) in known.items() if there]


def _took(run: Run) -> float | None:
    begun, ended = moment(run.started_at), moment(run.finished_at)
    if begun is None or ended is None or (begun.tzinfo is None) != (ended.tzinfo is None):
        return None
    return (ended - begun).total_seconds()


def _host(host: HostAddress) -> str:
    return " · ".join(scrub(part) for part in (host.name, host.url) if part)


def _figures(run: Run, facts: Facts) -> list[dict[str, str]]:
    """Pick the five numbers that a reader looks for first."""
    test, base = facts.test, facts.metrics.base
    others = {n: m for n, m in facts.metrics.families.items() if n != facts.shipped}
    figures = []
    primary, stopping = facts.problem.primary, facts.problem.stopping
    if (mine := test[primary.key]) is not None:
        theirs = [f"{name} {score(measured[primary.key])}" for name, measured in others.items()]
        beside = ", ".join(theirs)
        figures.append({"name": f"Test {primary.name}", "value": score(mine), "beside": beside})
    if stopping is not primary and (loss := test[stopping.key]) is not None:
        beside = f"without inputs {score(base[stopping.key])}" if base.values else ""
        figures.append({"name": f"Test {stopping.name}", "value": score(loss), "beside": beside})
    if (error := test["ece"]) is not None:
        level = facts.problem.level
        beside = f"{level.name} {level_in_words(facts.problem, test[level.key])}"
        figures.append({"name": "Calibration error", "value": share(error, 2), "beside": beside})
    known = {one.name: one for one in precisions(run, facts)}
    chosen = next((one for one in known.values() if one.chosen), None)
    usual = known.get(f"{facts.shipped}-{REFERENCE}")
    if chosen and chosen.p50_ms is not None:
        name = f"Time for {chosen.rows:,.0f} rows, p50" if chosen.rows else "Time per call, p50"
        beside = f"{usual.name} {millis(usual.p50_ms)}" if usual and usual is not chosen else ""
        figures.append({"name": name, "value": millis(chosen.p50_ms), "beside": beside})
    if chosen and chosen.size_bytes is not None:
        figures.append({"name": "Model", "value": size(chosen.size_bytes), "beside": chosen.name})
    return figures


def _broken(facts: Facts) -> list[Expectation]:
    """List the rules that rows broke, those of the whole table first."""
    return sorted(
        (rule for rule in facts.validation.expectations if not rule.success),
        key=lambda rule: (rule.level != "suite", -(rule.unexpected or 0)),
    )


def _quality(facts: Facts) -> dict[str, Any]:
    metrics = facts.metrics
    order = sorted(metrics.families, key=lambda name: name != facts.shipped)
    sides = {FAMILY_NAMES.get(name, name): metrics.families[name] for name in order}
    sides["No inputs"] = metrics.base
    peers = {name: measured for name, measured in sides.items() if measured.values}
    rows = []
    for measure in facts.problem.measures:
        values = [measured[measure.key] for measured in peers.values()]
        known = [value for value in values if value is not None]
        if known:
            best = measure.best(known)
            rows.append({"name": measure.title, "values": values, "best": best})
    return {"peers": list(peers), "rows": rows}


def _primary_chart(facts: Facts) -> Chart | None:
    """Draw the primary measure over the training, unless that is what stopped it."""
    primary = facts.problem.primary
    return None if primary is facts.problem.stopping else measure_chart(facts.history, primary)


def _curves(facts: Facts) -> tuple[Bins, Bins]:
    """Return the calibration of the model that was chosen, and that of the best other."""
    curves = facts.metrics.calibration
    others = [bins for name, bins in curves.items() if name != facts.shipped]
    return curves.get(facts.shipped, ()), next(iter(others), ())


def _lineage(run: Run) -> list[tuple[str, str]]:
    git = run.git
    known = {
        "Commit": git.commit,
        "Remote": scrub(git.remote) if git.remote else None,
        "Changed since": _some(git.changed, git.changed_count),
        "dvc.lock": "changed since the commit" if git.dvc_lock_changed else None,
        "Run": run.run,
        "Finished": when(run.finished_at) if run.finished_at else None,
    }
    return [(name, value) for name, value in known.items() if value]


def _some(names: Sequence[str], count: int, most: int = 8) -> str:
    """List names, the first of them only where there are many."""
    more = (count or len(names)) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
