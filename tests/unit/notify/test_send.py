from pathlib import Path
from typing import Any

import pytest

from slipway.notify.message import TEST
from slipway.notify.send import Post
from slipway.notify.targets import NoticeTarget
from tests.receivers import mail_server, webhook
from tests.support.ports import free_port


def post(root: Path, **environ: str) -> Post:
    return Post(root, environ, (0, 0), lambda _: None)


def hook(**more: Any) -> NoticeTarget:
    return NoticeTarget.model_validate({"webhook": {"style": "plain", **more}})


def mail(port: int, **more: Any) -> NoticeTarget:
    address = {"host": "127.0.0.1", "port": port, "tls": "none", "from": "a@b.org"}
    return NoticeTarget.model_validate({"mail": {**address, "to": ["c@d.org"], **more}})


def test_a_webhook_is_posted_to_and_named_by_its_host(tmp_path: Path):
    with webhook() as received:
        sent = post(tmp_path).send(TEST, hook(url=received.url))
    assert (sent.ok, sent.tries, sent.target) == (True, 1, "plain webhook at 127.0.0.1")
    assert [body["reason"] for body in received.bodies] == ["test"]


def test_a_server_in_trouble_is_tried_again(tmp_path: Path):
    with webhook() as received:
        received.statuses += [503, 429]
        sent = post(tmp_path).send(TEST, hook(url=received.url))
    assert (sent.ok, sent.tries, len(received.bodies)) == (True, 3, 3)


@pytest.mark.parametrize("status", [404, 302])
def test_a_refusal_and_a_redirect_are_final(tmp_path: Path, status: int):
    with webhook() as received:
        received.statuses += [status]
        sent = post(tmp_path).send(TEST, hook(url=received.url))
    assert (sent.ok, sent.tries, len(received.bodies)) == (False, 1, 1)
    assert sent.problem is not None
    assert str(status) in sent.problem


def test_what_does_not_answer_is_given_up_without_its_address(tmp_path: Path):
    sent = post(tmp_path).send(TEST, hook(url=f"http://127.0.0.1:{free_port()}/s3cret"))
    assert (sent.ok, sent.tries) == (False, 3)
    assert "s3cret" not in repr(sent)
    assert "refused" in str(sent.problem)


def test_an_address_comes_from_the_environment_or_a_file_that_others_cannot_read(tmp_path: Path):
    file = tmp_path / "hook"
    with webhook() as received:
        file.write_text(f"{received.url}\n")
        assert post(tmp_path, HOOK=received.url).send(TEST, hook(url_env="HOOK")).ok
        file.chmod(0o644)
        open_to_all = post(tmp_path).send(TEST, hook(url_file="hook"))
        file.chmod(0o600)
        assert post(tmp_path).send(TEST, hook(url_file="hook")).ok
    assert "others could read it" in str(open_to_all.problem)
    unset = post(tmp_path).send(TEST, hook(url_env="HOOK"))
    assert (unset.tries, unset.problem) == (1, "the environment variable HOOK is not set")


def test_an_address_from_the_environment_is_held_to_the_same_rule(tmp_path: Path):
    sent = post(tmp_path, HOOK="http://hooks.example.org/s3cret").send(TEST, hook(url_env="HOOK"))
    assert (sent.ok, sent.tries) == (False, 1)
    assert "must begin with https" in str(sent.problem)
    assert "s3cret" not in repr(sent)


def test_a_mail_arrives_with_its_login(tmp_path: Path):
    with mail_server() as server:
        target = mail(server.port, user="u", password_env="PASSWORD")
        sent = post(tmp_path, PASSWORD="s3cret").send(TEST, target)
    assert sent.ok, sent
    assert sent.target == "mail to c@d.org"
    assert "Subject: slipway: any pipeline test" in server.mails[0]
    assert any(command.startswith("AUTH PLAIN") for command in server.commands)


def test_a_login_that_is_refused_is_not_tried_again(tmp_path: Path):
    with mail_server() as server:
        server.refuses_login = True
        target = mail(server.port, user="u", password_env="PASSWORD")
        sent = post(tmp_path, PASSWORD="s3cret").send(TEST, target)
    assert (sent.ok, sent.tries) == (False, 1)
    assert "does not know u" in str(sent.problem)
    assert "s3cret" not in repr(sent)
