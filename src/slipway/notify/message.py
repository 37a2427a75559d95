"""What a message says, and the form that each kind of receiver wants it in. Pure."""

from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Any, Literal

from slipway.notify.targets import MailTarget, Reason

SUBJECT_CHARS = 150
DETAIL_CHARS = 2000
"""Of an error that quotes a log; chats refuse long messages."""

Kind = Reason | Literal["test"]


@dataclass(frozen=True)
class Notification:
    """One thing that happened to one run, and what to do about it."""

    reason: Kind
    pipeline: str
    run: str
    what: str
    """What happened, in the words of the run."""
    next_step: str
    version: str | None = None
    link: str | None = None
    """The run on the Prefect server's pages, else the path of its report."""

    @property
    def subject(self) -> str:
        """Name the pipeline, what became of it, and the first line of why."""
        first = self.what.strip().partition("\n")[0]
        return " ".join(f"slipway: {self.pipeline} {self.reason}: {first}".split())[:SUBJECT_CHARS]

    @property
    def text(self) -> str:
        """Say all of it in lines."""
        lines = [self.what.strip()[:DETAIL_CHARS], "", f"run      {self.run}"]
        lines += [f"version  {self.version}"] if self.version else []
        lines += [f"see      {self.link}"] if self.link else []
        return "\n".join([*lines, f"next     {self.next_step}"])


TEST = Notification(
    reason="test",
    pipeline="any pipeline",
    run="none",
    what="this is how you will be told of runs that crashed, failed, were rejected or wait for you",
    next_step="nothing: `slipway notify test` sent this",
)


def mail(message: Notification, target: MailTarget) -> EmailMessage:
    """Write the message as a mail."""
    written = EmailMessage()
    written["Subject"] = message.subject
    written["From"] = target.from_
    written["To"] = ", ".join(target.to)
    written.set_content(f"{message.text}\n")
    return written


def body(message: Notification, style: str) -> dict[str, Any]:
    """Write the message as JSON in a receiver's style."""
    if style == "slack":
        return {"text": _escape(f"*{message.subject}*\n{message.text}")}
    if style == "teams":
        blocks = [
            {"type": "TextBlock", "text": message.subject, "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": message.text.replace("\n", "\n\n"), "wrap": True},
        ]
        card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
        kind = "application/vnd.microsoft.card.adaptive"
        return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}
    return asdict(message) | {"subject": message.subject}


def _escape(text: str) -> str:
    """Escape what Slack takes for markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
