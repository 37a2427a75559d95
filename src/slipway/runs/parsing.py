"""Read records out of JSON that may be of another version, cut short or odd.

What does not fit a record counts as not written: the page of a run that failed is made of
whatever there is, and needs no special case for it.
"""

from collections.abc import Set
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
Place = tuple[int | str, ...]


def parse(kind: type[T], value: Any) -> T:
    """Return the record that JSON holds; every part of `kind` has a default."""
    try:
        reader: TypeAdapter[T] = _adapter(cast(Any, kind))
        return reader.validate_python(value)
    except ValidationError as error:
        odd = {_place(value, each["loc"]) for each in error.errors(include_url=False)}
    return parse(kind, {} if () in odd else _without(value, odd))


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Build what reads a kind once: it takes longer than reading a hundred records."""
    return TypeAdapter(kind)


def _place(value: Any, path: Place) -> Place:
    """Follow a path of pydantic's as far as the value has it: it goes on into types and gaps."""
    for depth, part in enumerate(path):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return path[:depth]
    return path


def _without(value: Any, odd: Set[Place], at: Place = ()) -> Any:
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if (*at, key) not in odd}
        return {key: _without(part, odd, (*at, key)) for key, part in kept.items()}
    if isinstance(value, list):
        kept = {i: part for i, part in enumerate(value) if (*at, i) not in odd}
        return [_without(part, odd, (*at, i)) for i, part in kept.items()]
    return value
