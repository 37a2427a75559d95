"""Who is told of what: `configs/notify.yaml`.

No secret stands in it, unless somebody writes a webhook's address there; no message quotes that.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from slipway.errors import ConfigError
from slipway.sections import Section, parse

FILE = Path("configs/notify.yaml")

Reason = Literal["crashed", "failed", "rejected", "waiting"]
REASONS: tuple[Reason, ...] = ("crashed", "failed", "rejected", "waiting")

LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))

NO_YAML = "not readable as YAML"

_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_URL = re.compile(r"https?:/+[^\s/'\",][^\s'\",]*", re.IGNORECASE)


def without_urls(text: str) -> str:
    """Keep the secret inside a webhook's address out of a message; its host may stand there."""

    def host(found: re.Match[str]) -> str:
        try:
            return f"{urlsplit(found[0]).hostname or '?'} (its address is a secret)"
        except ValueError:
            return "(an address that is a secret)"

    return _URL.sub(host, text)


def check_webhook(value: Any) -> str:
    """Refuse an address that would be sent in the clear; no message quotes it."""
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except (ValueError, AttributeError, TypeError):
        host = None
    if not isinstance(value, str) or not host:
        raise ValueError("is not a URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise ValueError("must begin with https:// (a webhook's address is a secret)")
    return value


def _check_mail(value: Any) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ValueError("is not a mail address")
    return value


Address = Annotated[str, BeforeValidator(_check_mail)]


class MailTarget(Section):
    """A mailbox, by way of an SMTP server."""

    host: str
    """The SMTP server."""
    port: Annotated[int, Field(ge=1, le=65535)]
    """Mostly 587 (starttls), 465 (tls) or 25 (none)."""
    tls: Literal["starttls", "tls", "none"]
    """How the connection is kept from others; `none` sends no password but to this machine."""
    from_: Address = Field(alias="from")
    """The sender."""
    to: Annotated[list[Address], Field(min_length=1)]
    """The receivers."""
    user: str | None = None
    """Whom the server knows; left out, nobody logs in."""
    password_env: str | None = None
    """The environment variable that holds the password."""
    password_file: Path | None = None
    """The file that holds it, which others may not read; relative to the project."""

    @model_validator(mode="after")
    def _has_its_password(self) -> Self:
        given = [v for v in (self.password_env, self.password_file) if v is not None]
        if self.user is None and given:
            raise ValueError("a password without a user")
        if self.user is not None and len(given) != 1:
            raise ValueError("user needs one of password_env and password_file")
        if self.user is not None and self.tls == "none" and self.host not in LOOPBACK:
            raise ValueError("tls 'none' would send the password in the clear")
        return self


class WebhookTarget(Section):
    """An address that takes a POST: a chat's incoming webhook, or a program of one's own."""

    url: Annotated[str, BeforeValidator(check_webhook)] | None = Field(default=None, repr=False)
    """The address; whoever has it can post there, so rather use one of the other two."""
    url_env: str | None = None
    """The environment variable that holds it."""
    url_file: Path | None = None
    """The file that holds it, which others may not read; relative to the project."""
    style: Literal["slack", "teams", "plain"]
    """The form of the body: Slack's (and Mattermost's), Teams' (an adaptive card), or all facts as
    JSON."""

    @model_validator(mode="after")
    def _has_one_address(self) -> Self:
        given = [v for v in (self.url, self.url_env, self.url_file) if v is not None]
        if len(given) != 1:
            raise ValueError("needs one of url, url_env and url_file")
        return self


class NoticeTarget(Section):
    """One receiver, and what it is told of."""

    mail: MailTarget | None = None
    """Send a mail."""
    webhook: WebhookTarget | None = None
    """Post to a webhook."""
    on: tuple[Reason, ...] = REASONS
    """Of which ends it is told; of all if left out. `crashed`: its process or machine is gone;
    `failed`; `rejected`: the version was not released; `waiting`: for a person to accept data."""

    @model_validator(mode="before")
    @classmethod
    def _yaml_reads_on_as_true(cls, value: Any) -> Any:
        if isinstance(value, dict) and True in value:
            return {("on" if key is True else key): part for key, part in value.items()}
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.mail is None) == (self.webhook is None):
            raise ValueError("needs one of mail and webhook")
        return self


class Notify(Section):
    """Everything that `configs/notify.yaml` says."""

    format: Literal[1]
    """The form of this file."""
    desk: bool = False
    """Whether runs that somebody started at a terminal are told of as well."""
    targets: Annotated[list[NoticeTarget], Field(min_length=1)]
    """Who is told."""


def load_notify(root: Path) -> Notify | None:
    """Read `configs/notify.yaml`; None where there is none. No problem quotes an address."""
    path = root / FILE
    if not path.is_file():
        return None
    try:
        return parse(Notify, path, root)
    except ConfigError as error:
        raise ConfigError(error.where, [_discreet(p) for p in error.problems]) from None


def _discreet(problem: str) -> str:
    """Quote nothing of the file where it is no YAML: an address may be cut anywhere."""
    if problem.startswith(NO_YAML):
        line = re.search(r"line \d+", problem)
        return f"{NO_YAML}: {line[0] if line else 'somewhere'}; it may hold a secret, so no more"
    return without_urls(problem)
