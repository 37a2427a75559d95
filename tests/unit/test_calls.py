"""House rules that no linter knows, read from the source."""

import ast
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

MOST = 4
"""More positional arguments than these are read by counting commas."""

OF_OTHERS = {"prctl", "pack", "make_graph", "Progress", "partial", "_gauge", "_counter", "add_row"}
"""C functions, libraries whose arguments have no names, and what passes arguments on."""


def sources() -> list[Path]:
    return [p for root in ("src", "tasks", "flows") for p in (REPOSITORY / root).rglob("*.py")]


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)


def takes_any_number(name: str) -> bool:
    """Tell a function of this project that takes a list of words, as a command line is."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == name and node.args.vararg is not None
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )


def test_no_call_has_more_than_four_positional_arguments() -> None:
    long = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {called(node)}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and len(node.args) > MOST
        and called(node) not in OF_OTHERS
        and not takes_any_number(called(node))
    ]
    assert long == []


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("word", ["papers", "wish", "told"])
def test_private_words_are_no_names(word: str) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if word
        in (getattr(node, "id", None), getattr(node, "arg", None), getattr(node, "name", None))
    ]
    assert found == []
