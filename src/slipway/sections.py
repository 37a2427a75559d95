"""What every config file has in common: strict YAML, frozen sections, all problems at once."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from slipway.errors import KEY_PREFIX, ConfigError

MAX_CONFIG_BYTES = 1_000_000
"""A config is written by people; a larger file is a mistake or an attack."""


UNCLEAR_NUMBER = re.compile(r"[-+]?(0o?[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+)")
"""What YAML 1.1, read here, and YAML 1.2, read by DVC, take for other numbers: 010 is 8 or 10."""


class Section(BaseModel):
    """A frozen part of a config that knows all of its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


T = TypeVar("T", bound=Section)


def parse(model: type[T], path: Path, root: Path) -> T:
    """Read one YAML file into its model; raise ConfigError with every problem."""
    where = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    try:
        return model.model_validate(read_yaml(path, where))
    except ValidationError as error:
        problems = [_without_secrets(each) for each in _explain_all(model, error.errors())]
        raise ConfigError(where, problems) from None


def read_yaml(path: Path, where: str) -> dict[str, Any]:
    """Read a YAML mapping without tags, aliases or keys given twice."""
    if not path.is_file():
        raise ConfigError(where, ["no such file"])
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(where, [f"larger than {MAX_CONFIG_BYTES:,} bytes"])
    try:
        value = yaml.load(path.read_text("utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(where, [f"not readable as YAML: {_explain_yaml(error)}"]) from None
    if not isinstance(value, dict):
        raise ConfigError(where, [f"must be a mapping, got {type(value).__name__}"])
    return value


def suggest(name: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` when a known name is near, else nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses keys given twice and aliases (which can explode)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are not used", event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            raise yaml.MarkedYAMLError(
                None, None, f'write dates in quotes, "{node.value}" (DVC needs it)', node.start_mark
            )
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if plain and UNCLEAR_NUMBER.fullmatch(node.value):
            raise yaml.MarkedYAMLError(None, None, _unclear(node.value), node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            # YAML reads a bare `on` as true; that is a word of ours (configs/notify.yaml)
            if not isinstance(key, str) and key_node.value != "on":
                raise yaml.MarkedYAMLError(None, None, _unquoted(key_node), key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _unquoted(node: Any) -> str:
    """Say what to do about a key that YAML reads as something else than text."""
    if not isinstance(node, yaml.ScalarNode):
        return "a key must be text"
    read = node.tag.rpartition(":")[2]
    return f'the key {node.value} is read as a {read}; write it in quotes, "{node.value}"'


def _unclear(value: str) -> str:
    return (
        f"{value} is one number here and another one to DVC (YAML 1.1 and 1.2 differ); write it"
        f' without the leading 0 or the colon, or in quotes, "{value}", where it is text'
    )


def _explain_all(model: type[BaseModel], errors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Turn pydantic's errors into lines, one for each thing that is wrong.

    Of a value that may have several forms pydantic tells an error per form.
    """
    found: dict[str, str] = {}
    for error in errors:
        place = _walk(model, error["loc"])
        if place.aside and any(
            other["loc"][:1] == error["loc"][:1] for other in errors if other is not error
        ):
            continue
        text = _explain(place, error)
        found.setdefault(place.where + ("" if place.forms else text), text)
    return list(found.values())


@dataclass(frozen=True)
class _Place:
    """Where something is wrong, as the file has it."""

    where: str
    sections: tuple[type[BaseModel], ...]
    """What may stand there."""
    aside: bool = False
    """Whether it is a word that may stand for a whole section: `off`."""
    forms: tuple[str, ...] = ()
    """The types that a value there may have."""


def _walk(model: type[BaseModel], loc: Sequence[str | int]) -> _Place:
    """Follow an error's place, without the names that pydantic gives the forms of a value."""
    place: list[str] = []
    sections: tuple[type[BaseModel], ...] = (model,)
    annotation: Any = None
    aside = False
    forms: tuple[str, ...] = ()
    for part in (each for each in loc if each != "[key]"):
        fields = {f.alias or n: f for each in sections for n, f in each.model_fields.items()}
        chosen = [each for each in sections if part in _names_of(each)]
        if annotation is not None and len(sections) > 1 and chosen:
            sections = tuple(chosen)
        elif str(part).startswith(("literal[", "function-")) or part in [
            s.__name__ for s in sections
        ]:
            aside = aside or str(part).startswith("literal[")
        elif part in SCALARS and isinstance(part, str) and part not in fields:
            forms = (*forms, SCALARS[part])
        else:
            place.append(str(part))
            if part in fields:
                annotation = fields[str(part)].annotation
                sections = _sections_in(annotation)
    return _Place(".".join(place) or "the file", sections, aside, forms)


SCALARS = {"bool": "a truth value", "int": "a whole number", "str": "a text"}
"""Forms of a plain value, as pydantic names them in the place of an error."""


def _names_of(section: type[BaseModel]) -> list[str]:
    """Return what a section of several is called in an error: its class, or its own word."""
    words = [
        str(word)
        for field in section.model_fields.values()
        if get_origin(field.annotation) is Literal
        for word in get_args(field.annotation)
    ]
    return [section.__name__, *words]


def _sections_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    """Return the sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(found for part in get_args(annotation) for found in _sections_in(part))


def _explain(place: _Place, error: Mapping[str, Any]) -> str:
    """Turn one pydantic error into `where: what, got x`."""
    where, kind, context = place.where, error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        name = where.rpartition(".")[2]
        known = _keys_of(place.sections)
        return f"{where}: unknown key{suggest(name, known) or f'; known: {_list(known)}'}"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = str(context["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return f"{where}.{key}: missing"
        *first, last = str(context["expected_tags"]).split(", ")
        return f"{where}.{key}: must be {', '.join(first)} or {last}, got {context['tag']!r}"
    if kind == "missing":
        return f"{where}: missing"
    got = "" if kind == "value_error" else f", got {error['input']!r}"
    if place.forms:
        return f"{where}: must be a text, a whole number or a truth value{got}"
    if kind in ("too_short", "too_long"):
        bound = (
            f"at least {context['min_length']}"
            if "min_length" in context
            else (f"at most {context['max_length']}")
        )
        return f"{where}: must have {bound} entries, got {context['actual_length']}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {re.sub('^(Input|String|List|Tuple) should', 'must', message)}{got}"


def _keys_of(sections: Sequence[type[BaseModel]]) -> list[str]:
    """List the keys that may stand in a section."""
    return sorted({f.alias or n for each in sections for n, f in each.model_fields.items()})


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _explain_yaml(error: Exception) -> str:
    """Put an error on one line; it quotes the file, cut anywhere, unless that holds a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None and KEY_PREFIX in mark.buffer:
        return f"line {mark.line + 1}; the file holds a secret, so no more of it is shown"
    return " ".join(str(error).split())


def _without_secrets(text: str) -> str:
    return re.sub(rf"{KEY_PREFIX}[\w-]*", f"{KEY_PREFIX}…", text)
