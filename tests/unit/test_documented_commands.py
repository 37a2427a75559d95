"""What the documents and `--help` tell people to type exists as they write it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from slipway.cli import cli
from tests.project import REPOSITORY

DOCUMENTS = (
    *("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/host.md", "docs/benchmarks.md"),
    "docs/prefect.md",
    "docs/backup.md",
    "docs/remote.md",
    *("deploy/README.md", "benchmarks/host/README.md"),
)


@dataclass(frozen=True)
class Written:
    """One `slipway` command as a text gives it."""

    where: str
    words: tuple[str, ...]
    whole: bool
    """A line to be typed, with all that it needs; in running text only part of one may stand."""


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that does something, with its words."""
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield path, command
        for name, inside in command.commands.items():
            yield from leaves(inside, *path, name)
    else:
        yield path, command


def lines_to_type(text: str) -> Iterator[str]:
    """Yield the indented lines, joined where one goes on in the next."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith(("  ", "\t")) and not line.lstrip().startswith(("#", "-", "|")):
            yield line.strip()


def commands_in(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each `slipway` command of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        every = list(lexer)
    except ValueError:  # an apostrophe: prose that is indented
        return
    for word in [*every, ";"]:
        if word[0] not in ";&|<>":
            words.append(word)
            continue
        if words and Path(words[0]).name == "slipway":
            yield tuple(words[1:])
        words = []


def written_in(where: str, text: str, inline: bool) -> Iterator[Written]:
    for line in lines_to_type(text):
        yield from (Written(where, words, True) for words in commands_in(line))
    if inline:
        for code in re.findall(r"`([^`\n]+)`", text):
            yield from (Written(where, words, False) for words in commands_in(code))


def all_written() -> list[Written]:
    """Collect the commands of all documents and of every `--help`."""
    found = [
        each
        for name in DOCUMENTS
        for each in written_in(name, (REPOSITORY / name).read_text("utf-8"), inline=True)
    ]
    for path, command in leaves(cli):
        found += written_in(f"slipway {' '.join(path)} --help", command.help or "", inline=True)
    return found


def problem(written: Written) -> str | None:
    """Say why a command cannot be typed as it is written; None: it can."""
    command: click.Command = cli
    words = list(written.words)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inside = command.commands.get(words.pop(0))
        if inside is None:
            return f"no command {written.words}"
        command = inside
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return "names no command" if written.whole else None
    if words == ["..."] or (not words and not written.whole):
        return None
    context = click.Context(command)
    try:
        given, left, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    told = {name for name, value in given.items() if isinstance(value, str | list | tuple)}
    missing = [p.name for p in command.params if p.required and p.name not in told]
    if left or (missing and written.whole):
        return f"too much: {left}, missing: {missing}"
    return None


@pytest.mark.parametrize("written", all_written(), ids=lambda w: f"{w.where}: {' '.join(w.words)}")
def test_a_command_that_is_written_down_can_be_typed(written: Written):
    assert problem(written) is None


def test_the_commands_of_the_documents_are_found():
    found = {(w.where, w.words[:2]) for w in all_written() if w.whole}
    assert {
        ("README.md", ("trace", "VERSION")),
        ("README.md", ("bundle", "push")),
        ("README.md", ("runs",)),
        ("slipway runs --help", ("runs", "--pipeline")),
        ("docs/host.md", ("keys", "add")),
        ("deploy/README.md", ("keys", "revoke")),
    } <= found


@pytest.mark.parametrize(
    "words",
    [
        ("trac", "V"),
        ("trace", "V", "W"),
        ("trace",),
        ("status", "--flet", "x"),
        ("fleet",),
        ("runs", "x"),
    ],
)
def test_a_command_that_cannot_be_typed_is_noticed(words: tuple[str, ...]):
    assert problem(Written("here", words, whole=True)) is not None


@pytest.mark.parametrize("name", ["docs/host.md", "docs/backup.md"])
def test_every_option_in_running_text_is_one_of_a_command(name: str):
    options = {o for _, command in leaves(cli) for p in command.params for o in p.opts}
    text = (REPOSITORY / name).read_text("utf-8")
    told = {o for code in re.findall(r"`([^`]+)`", text) for o in re.findall(r"--[a-z0-9-]+", code)}
    assert told
    assert told - options == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_verb_of_make_that_a_document_names_is_in_the_makefile(name: str):
    rules = set(
        re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    text = (REPOSITORY / name).read_text("utf-8")
    told = set(re.findall(r"(?:`|^ {4})make ([a-z]+)", text, re.MULTILINE))
    assert told - rules == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_of_a_document_leads_to_a_file(name: str):
    document = REPOSITORY / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []
