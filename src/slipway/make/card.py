"""Write the model card: what a version predicts, how well, for whom not, and how to ask it.

Only facts that the stages measured; nobody fills in a form. Names and values in them come
from data, so whatever Markdown would act on is escaped on its way in.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from slipway.bundle.contract import Contract, InputTensor, read_contract
from slipway.bundle.gate import SIGNS
from slipway.bundle.golden import Golden, read_golden, take
from slipway.bundle.request import needs_binary, write_request
from slipway.make.build import ARCHITECTURES, FAMILY_NAMES, Evidence, level_in_words, loss_in_words
from slipway.wording import FILTERS

TEMPLATES = Path(__file__).with_name("templates")

VALUES_SHOWN = 12
"""Known values listed of a category; contract.json has all."""

EXAMPLE_VALUES_MAX = 64
"""A request of more values is no example that anybody reads."""

_ACTIVE = re.compile(r"([\\`*\[\]|~])")


class Verbatim(str):
    """A text that stands in a code block, where Markdown acts on nothing."""


def card(payload: Path, evidence: Evidence) -> str:
    """Fill the card's template with the facts of a version."""
    contract = read_contract(payload / "contract.json")
    golden = read_golden(payload / "golden.arrow")
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
    return environment.get_template("card.md.j2").render(
        contract=contract,
        golden=golden,
        gates=json.loads((payload / "gates.json").read_text("utf-8")),
        proof=evidence.proof,
        lineage=evidence.lineage,
        build=evidence.build,
        known=known_values,
        call=example(golden, contract),
        answer=_first_answer(golden, contract) if evidence.build else None,
        level=level_in_words,
        lost=loss_in_words,
        names=FAMILY_NAMES,
        architectures=ARCHITECTURES,
        signs=SIGNS,
    )


def example(golden: Golden, contract: Contract) -> Verbatim | None:
    """Spell out the request for the first golden row; None if it is too long to read."""
    tensors = take(golden.inputs, slice(0, 1) if golden.batchable else 0)
    if needs_binary(contract, sum(values.size for values in tensors.values())):
        return None
    if sum(values.size for values in tensors.values()) > EXAMPLE_VALUES_MAX:
        return None
    body = write_request(tensors, contract, binary=False).data.decode()
    url = f'"$HOST/v2/models/{contract.model}/infer"'
    header = "'Content-Type: application/json'"
    return Verbatim(f"curl -s {url} \\\n  -H {header} \\\n  -d {shlex.quote(body)}")


def _first_answer(golden: Golden, contract: Contract) -> str:
    """Write what the first golden row was answered with, output by output."""
    parts = []
    for output in contract.outputs:
        value = golden.expected[output.name][0]
        numbers = np.atleast_1d(value).tolist()
        shown = ", ".join(f"{n:.6g}" if isinstance(n, float) else str(n) for n in numbers)
        parts.append(f"{output.name} {shown}")
    return "; ".join(parts)


def known_values(one: InputTensor) -> str:
    """Write what an input may hold: its range, or the first of its known values."""
    if one.range is not None:
        return f"{one.range[0]:g} to {one.range[1]:g}"
    values = one.categories or []
    more = len(values) - VALUES_SHOWN
    return ", ".join(values[:VALUES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _escape(value: Any) -> Any:
    """Escape what Markdown and HTML act on; keep a text on its line."""
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    text = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ACTIVE.sub(r"\\\1", text)
