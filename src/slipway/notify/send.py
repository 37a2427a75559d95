"""Send messages: a few tries each, and whatever comes of it is an outcome and never an error."""

import os
import smtplib
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from slipway.errors import SlipwayError
from slipway.guarded_files import SECRET, read_guarded
from slipway.notify.message import Notification, body, mail
from slipway.notify.targets import (
    MailTarget,
    NoticeTarget,
    WebhookTarget,
    check_webhook,
    without_urls,
)

TIMEOUT_S = 10.0
PAUSES_S = (1.0, 4.0)
"""Between tries: a run that is over waits for this, in the worst case, for each target."""

BUSY = frozenset((408, 425, 429))


@dataclass(frozen=True)
class Sent:
    """What became of one message to one target."""

    target: str
    """Who was told, without anything secret: a webhook by its host alone."""
    ok: bool
    tries: int
    problem: str | None = None


class _Refused(Exception):
    """What would be refused again."""


@dataclass(frozen=True)
class Post:
    """What sending takes from outside: where files lie, the environment, the clock's pauses."""

    root: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    pauses_s: Sequence[float] = PAUSES_S
    sleep: Callable[[float], None] = time.sleep

    def send(self, message: Notification, target: NoticeTarget) -> Sent:
        """Send one message to one target; try again where that may help."""
        name, problem, tries = name_of(target), None, 0
        for pause_s in (*self.pauses_s, None):
            tries += 1
            try:
                self._once(message, target)
                return Sent(name, True, tries)
            except _Refused as refused:
                return Sent(name, False, tries, str(refused))
            except (OSError, smtplib.SMTPException, httpx.HTTPError) as error:
                problem = without_urls(f"{type(error).__name__}: {error}")
            except Exception as error:  # of what no library promises; its words may hold a secret
                return Sent(name, False, tries, type(error).__name__)
            if pause_s is not None:
                self.sleep(pause_s)
        return Sent(name, False, tries, problem)

    def _once(self, message: Notification, target: NoticeTarget) -> None:
        if target.mail is not None:
            self._mail(message, target.mail)
        elif target.webhook is not None:
            self._post(message, target.webhook)

    def _mail(self, message: Notification, target: MailTarget) -> None:
        password = self._secret(target.password_env, target.password_file) if target.user else ""
        trusted = ssl.create_default_context()
        if target.tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                target.host, target.port, timeout=TIMEOUT_S, context=trusted
            )
        else:
            server = smtplib.SMTP(target.host, target.port, timeout=TIMEOUT_S)
        with server:
            if target.tls == "starttls":
                server.starttls(context=trusted)
            try:
                if target.user is not None:
                    server.login(target.user, password)
                server.send_message(mail(message, target))
            except smtplib.SMTPAuthenticationError as error:
                raise _Refused(
                    f"the server does not know {target.user}: {error.smtp_code}"
                ) from None
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
                raise _Refused(f"the server refused an address: {type(error).__name__}") from None

    def _post(self, message: Notification, target: WebhookTarget) -> None:
        """Post once; a redirect is not followed, as it would take the message elsewhere."""
        url = target.url or self._secret(target.url_env, target.url_file)
        try:
            url = check_webhook(url)
        except ValueError as error:
            raise _Refused(f"the webhook's address {error}") from None
        answer = httpx.post(url, json=body(message, target.style), timeout=TIMEOUT_S)
        if answer.is_success:
            return
        if answer.status_code >= 500 or answer.status_code in BUSY:
            raise httpx.HTTPError(f"it answered {answer.status_code}")
        raise _Refused(f"it answered {answer.status_code} {answer.reason_phrase}".strip())

    def _secret(self, variable: str | None, file: Path | None) -> str:
        if variable is not None:
            if not (value := self.environ.get(variable)):
                raise _Refused(f"the environment variable {variable} is not set")
            return value
        assert file is not None, "the config has seen to it"
        try:
            return read_guarded(self.root / file, SECRET).decode("utf-8").strip()
        except (SlipwayError, UnicodeDecodeError) as error:
            raise _Refused(str(error)) from None


def name_of(target: NoticeTarget) -> str:
    """Name a target for people and records, without anything secret."""
    if target.mail is not None:
        return f"mail to {', '.join(target.mail.to)}"
    assert target.webhook is not None, "the config has seen to it"
    hook = target.webhook
    if hook.url is not None:
        return f"{hook.style} webhook at {urlsplit(hook.url).hostname}"
    return f"{hook.style} webhook of {hook.url_env or hook.url_file}"
