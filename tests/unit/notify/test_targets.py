from pathlib import Path

import pytest

from slipway.config import pipelines
from slipway.errors import ConfigError
from slipway.notify.targets import REASONS, load_notify, without_urls

SECRET = "https://hooks.slack.com/services/T0/B0/s3cret"


def write(root: Path, text: str) -> Path:
    path = root / "configs/notify.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return root


def refused(root: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_notify(write(root, text))
    assert "s3cret" not in str(error.value)
    return str(error.value)


def test_where_there_is_no_file_nobody_is_told(tmp_path: Path):
    assert load_notify(tmp_path) is None


def test_a_target_is_told_of_everything_unless_it_says_of_what(tmp_path: Path):
    found = load_notify(
        write(
            tmp_path,
            "format: 1\ntargets:\n"
            f"  - webhook: {{url: '{SECRET}', style: slack}}\n"
            "  - webhook: {url_env: HOOK, style: plain}\n    on: [crashed]\n",
        )
    )
    assert found is not None
    assert [target.on for target in found.targets] == [REASONS, ("crashed",)]
    assert found.desk is False
    assert "s3cret" not in repr(found)


def test_the_file_is_no_pipeline(tmp_path: Path):
    (write(tmp_path, "format: 1") / "configs/flights.yaml").touch()
    assert pipelines(tmp_path) == ["flights"]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (f"webhook: {SECRET}", "must be a valid dictionary"),
        (f"webhook: {{url: 'x{SECRET}', style: slack}}", "must begin with https://"),
        (
            "webhook: {url: 'http://hooks.example.org/s3cret', style: slack}",
            "must begin with https",
        ),
        (f"webhook: {{url: '{SECRET}', url_env: X, style: slack}}", "one of url, url_env and url_"),
        (f"webhook: {{urll: '{SECRET}', style: slack}}", "urll: unknown key; did you mean 'url'?"),
        (f"webhook: {{url: {SECRET}, style: [}}", "not readable as YAML: line 3"),
        ("on: [failed]", "needs one of mail and webhook"),
        ("webhook: {url_env: X, style: plain}\n    on: [fail]", "'crashed', 'failed', 'rejected'"),
        ("mail: {host: h, port: 25, tls: none, from: a, to: [b@c]}", "is not a mail address"),
        (
            "mail: {host: h, port: 25, tls: none, from: a@b, to: [b@c], user: u, password_env: P}",
            "would send the password in the clear",
        ),
        (
            "mail: {host: h, port: 25, tls: tls, from: a@b, to: [b@c], user: u}",
            "needs one of passw",
        ),
        ("mail: {host: h, port: 25, tls: tls, from: a@b, to: [b@c], password: s3cret}", "unknown"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_quoted(tmp_path: Path, target: str, problem: str):
    assert problem in refused(tmp_path, f"format: 1\ntargets:\n  - {target}\n")


def test_of_an_address_in_a_text_the_host_stays():
    told = without_urls(f"POST '{SECRET}' failed")
    assert told == "POST 'hooks.slack.com (its address is a secret)' failed"
