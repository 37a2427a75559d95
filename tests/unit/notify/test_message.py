from dataclasses import replace

from slipway.notify.message import DETAIL_CHARS, TEST, Notification, body, mail
from slipway.notify.targets import MailTarget

FAILED = Notification(
    reason="failed",
    pipeline="flights",
    run="20261130-100000-aaaa",
    what="training diverged <&>\n  at step 40",
    next_step="slipway runs show 20261130-100000-aaaa",
    version="3f2a9c01b7de",
    link="https://prefect.example.org/runs/flow-run/1",
)
TARGET = MailTarget.model_validate(
    {"host": "h", "port": 25, "tls": "none", "from": "a@b.org", "to": ["c@d.org", "e@f.org"]}
)


def test_a_message_says_what_where_and_what_to_do_next():
    assert FAILED.subject == "slipway: flights failed: training diverged <&>"
    assert FAILED.text.splitlines() == [
        "training diverged <&>",
        "  at step 40",
        "",
        "run      20261130-100000-aaaa",
        "version  3f2a9c01b7de",
        "see      https://prefect.example.org/runs/flow-run/1",
        "next     slipway runs show 20261130-100000-aaaa",
    ]


def test_a_mail_has_one_line_of_subject_whatever_the_error_says():
    written = mail(replace(FAILED, what="a\r\nBcc: x@y.org\r\nb"), TARGET)
    assert written["Subject"] == "slipway: flights failed: a"
    assert written["To"] == "c@d.org, e@f.org"
    assert "Bcc" not in written


def test_a_chat_gets_what_it_takes_for_text_escaped():
    assert "training diverged &lt;&amp;&gt;" in body(FAILED, "slack")["text"]
    [card] = body(FAILED, "teams")["attachments"]
    assert card["content"]["body"][0]["text"] == FAILED.subject


def test_a_program_gets_every_fact():
    plain = body(FAILED, "plain")
    assert (plain["reason"], plain["version"], plain["link"]) == (
        "failed",
        FAILED.version,
        FAILED.link,
    )


def test_a_log_in_an_error_is_cut():
    assert len(replace(TEST, what="x" * 10_000).text) < DETAIL_CHARS + 200
