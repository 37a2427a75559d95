"""What every config file has in common: strict YAML, frozen sections, all problems at once."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

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
        problems = [_without_secrets(_explain(model, e)) for e in error.errors()]
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
            if not isinstance(key, str):
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


def _explain(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Turn one pydantic error into `where: what, got x`."""
    loc = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(loc) or "the file"
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        return f"{where}: unknown key{suggest(loc[-1], known) or f'; known: {_list(known)}'}"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    got = "" if error["type"] == "value_error" else f", got {error['input']!r}"
    return f"{where}: {message}{got}"


def _keys_at(model: type[BaseModel], loc: list[str]) -> list[str]:
    """List the keys that the section at `loc` knows."""
    for part in loc:
        fields = {f.alias or name: f for name, f in model.model_fields.items()}
        if part not in fields:
            continue  # a key of a mapping, such as a source's name
        candidates = [fields[part].annotation, *getattr(fields[part].annotation, "__args__", ())]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return sorted(f.alias or name for name, f in model.model_fields.items())


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
