"""Write the model card: what a version predicts, how well, for whom not, and how to ask it.

Only facts that the stages measured; nobody fills in a form. Names and values in them come
from data, so whatever Markdown would act on is escaped on its way in.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from flows.facts import Facts
from flows.panels import splits
from flows.wording import FILTERS, number, share
from slipway.bundle.contract import Contract, InputTensor, read_contract
from slipway.bundle.gate import SIGNS
from slipway.bundle.golden import read_golden
from slipway.fleet.questions import make_questions
from slipway.problem import Measure

TEMPLATES = Path(__file__).with_name("templates")

VALUES_SHOWN = 12
"""Known values listed of a category; contract.json has all."""

DRIFT_MIN = 0.01
"""A base rate that moves by less than this is not worth a warning."""

_ACTIVE = re.compile(r"([\\`*\[\]|~])")


class Verbatim(str):
    """A text that stands in a code block, where Markdown acts on nothing."""


def card(payload: Path, proof: Mapping[str, Any], lineage: Mapping[str, Any], facts: Facts) -> str:
    """Fill the card's template with the facts of a version."""
    contract = read_contract(payload / "contract.json")
    gates = json.loads((payload / "gates.json").read_text("utf-8"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        finalize=_escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.ChainableUndefined,
        autoescape=False,  # noqa: S701  Markdown: _escape does what autoescape does for HTML
    )
    environment.filters.update(FILTERS)
    call, answer = example(payload, contract)
    return environment.get_template("card.md.j2").render(
        contract=contract,
        gates=gates,
        proof=proof,
        lineage=lineage,
        facts=facts,
        problem=facts.problem,
        signs=SIGNS,
        splits=splits(facts),
        limits=limits(facts),
        known=known_values,
        judged=_judged(facts),
        call=call,
        answer=answer,
    )


def example(payload: Path, contract: Contract) -> tuple[Verbatim, float]:
    """Spell out the request for the first golden row, with the answer that was proven."""
    golden = read_golden(payload / "golden.arrow")
    body = make_questions(golden, contract, requests=1, rows_per_request=1).bodies[0].data.decode()
    url = f'"$HOST/v2/models/{contract.model}/infer"'
    header = "'Content-Type: application/json'"
    call = f"curl -s {url} \\\n  -H {header} \\\n  -d {shlex.quote(body)}"
    return Verbatim(call), float(golden.expected[contract.outputs[0].name][0])


def limits(facts: Facts) -> list[str]:
    """Say where the numbers do not carry, from the numbers."""
    found = []
    days_of = {part.name: part.days for part in splits(facts) if part.days}
    if {"train", "test"} <= days_of.keys():
        found.append(
            f"Learned from {days_of['train']}, judged on {days_of['test']}: at other times it"
            " may do otherwise."
        )
    rates = facts.features.get("base_rate") or {}
    learned, judged = number(rates.get("train")), number(rates.get("test"))
    if learned is not None and judged is not None and abs(learned - judged) >= DRIFT_MIN:
        found.append(
            f"The share of positives moves: {share(learned)} in training, {share(judged)} in"
            " the test days. Where it moves again, the probabilities will be off."
        )
    small = [
        f"{column} {value}"
        for column, values in (facts.metrics.get("slices") or {}).items()
        for value, measured in values.items()
        if not is_telling(measured, facts)
    ]
    if small:
        found.append(
            f"Too few test rows ({facts.slice_rows_min} wanted, of both classes) to say anything"
            f" about: {', '.join(small)}."
        )
    found.append("A value that training did not see is answered as unknown, not refused.")
    return found


def known_values(one: InputTensor) -> str:
    """Write what an input may hold: its range, or the first of its known values."""
    if one.range is not None:
        return f"{one.range[0]:g} to {one.range[1]:g}"
    values = one.categories or []
    more = len(values) - VALUES_SHOWN
    return ", ".join(values[:VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _judged(facts: Facts) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """Keep the slices large enough to mean something, best first."""
    found = {}
    for column, values in (facts.metrics.get("slices") or {}).items():
        large = [
            (value, measured) for value, measured in values.items() if is_telling(measured, facts)
        ]
        if large:
            found[column] = sorted(large, key=_by(facts.problem.primary))
    return found


def is_telling(measured: Mapping[str, Any], facts: Facts) -> bool:
    """Tell whether a slice is large enough, and of both classes, to mean something."""
    known = number(measured.get(facts.problem.primary.key)) is not None
    return known and (number(measured.get("rows")) or 0) >= facts.slice_rows_min


def _by(primary: Measure) -> Callable[[tuple[str, Mapping[str, Any]]], float]:
    """Order slices, best first."""
    return lambda pair: primary.loss(pair[1][primary.key], 0.0)


def _escape(value: Any) -> Any:
    """Escape what Markdown and HTML act on; keep a text on its line."""
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    text = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ACTIVE.sub(r"\\\1", text)
