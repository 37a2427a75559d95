import sys

import pytest

from flows.backup.encryption import encrypt, run_filter, split
from slipway.errors import ConfigError, SlipwayError

SECRET = b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n"
NEGATE = "sys.stdout.buffer.write(bytes(255 - b for b in sys.stdin.buffer.read()))"
REVERSE = f"{sys.executable} -c 'import sys; {NEGATE}'"


def python(code: str) -> str:
    return f'{sys.executable} -c "import base64, sys; {code}"'


def test_what_a_command_makes_of_secrets_is_taken(tmp_path):
    sealed = encrypt(REVERSE, SECRET, tmp_path)
    assert run_filter(REVERSE, sealed, tmp_path) == SECRET


@pytest.mark.parametrize(
    "command",
    [
        "cat",
        python("sys.stdout.buffer.write(b'sealed:' + sys.stdin.buffer.read() + b'.')"),
        python("sys.stdout.buffer.write(base64.b64encode(sys.stdin.buffer.read()))"),
        python("sys.stdout.buffer.write(base64.encodebytes(sys.stdin.buffer.read()))"),
        python("sys.stdout.buffer.write(base64.b64encode(b'x' + sys.stdin.buffer.read()))"),
        "true",
    ],
)
def test_a_command_that_does_not_encrypt_is_refused(tmp_path, command):
    with pytest.raises(SlipwayError, match="does not encrypt"):
        encrypt(command, SECRET, tmp_path)


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path):
    command = python("sys.exit('no such recipient')")
    with pytest.raises(SlipwayError, match="failed with exit code 1: no such recipient"):
        encrypt(command, SECRET, tmp_path)


def test_a_command_that_is_not_installed_is_told(tmp_path):
    with pytest.raises(SlipwayError, match="`no-such-program -r x` cannot be started: No such"):
        encrypt("no-such-program -r x", SECRET, tmp_path)


def test_no_shell_reads_a_command(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert split("age -d -i ~/id.txt; rm -rf $HOME") == [
        *("age", "-d", "-i", "/home/me/id.txt;", "rm", "-rf", "$HOME")
    ]


@pytest.mark.parametrize("command", ["", "age 'x"])
def test_a_command_that_cannot_be_cut_into_words_is_wrong_usage(command):
    with pytest.raises(ConfigError):
        split(command)
