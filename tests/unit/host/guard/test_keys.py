import hashlib
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from slipway.cli.keys import SCOPES
from slipway.cli.keys import keys as command
from slipway.errors import SlipwayError
from slipway.host.guard.caller import Caller
from slipway.host.guard.gate import AccessGate, Sources
from slipway.host.guard.keys import ApiKey, add_key, digest, new_secret, read_keys, revoke_key
from slipway.host.guard.policy import Scope
from slipway.host.guard.rate import RateLimits, Used
from slipway.host.guard.used import read_used, write_used
from slipway.host.request.refusal import RequestRefused

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class Wall:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def make_key(name: str, secret: str, **given) -> ApiKey:
    return ApiKey(**{"id": name, "sha256": digest(secret.encode()), "scopes": ("infer",), **given})


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def refusal(gate: AccessGate, header: bytes | None) -> str:
    with pytest.raises(RequestRefused) as refused:
        gate.identify(header)
    assert refused.value.code == "unauthenticated"
    return refused.value.message


def run(*args: object) -> "click.testing.Result":
    return CliRunner().invoke(command, [str(arg) for arg in args])


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "api-keys.json"


def test_a_key_that_was_added_lets_its_holder_in(path):
    secret = new_secret()
    expires = datetime.fromtimestamp(NOON, UTC) + timedelta(days=1)
    add_key(path, make_key("shop", secret, models=("flights",), expires=expires))
    caller = AccessGate(Sources(api_keys=path), Wall()).identify(bearer(secret))
    assert caller == Caller("shop", frozenset({"infer"}), frozenset({"flights"}), NOON + 86400)


def test_a_secret_is_256_random_bits_and_the_file_does_not_hold_it(path):
    secret = new_secret()
    add_key(path, make_key("shop", secret))
    assert len(secret) == len("slw_") + 43
    assert secret not in path.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in path.read_text()


@pytest.mark.parametrize(
    "header",
    [
        None, b"", b"Bearer", b"Bearer ", b"Bearer  x", b"Basic eDp5", b"bearer\tx", b"x",
        b"Bearer slw_wrong", b"Bearer " + b"a" * 8193, b"Bearer a b", b"Bearer \xff", b"Bearer a,b",
    ],
)  # fmt: skip
def test_whoever_has_no_known_secret_is_nobody(path, header):
    add_key(path, make_key("shop", new_secret()))
    refusal(AccessGate(Sources(api_keys=path)), header)


@pytest.mark.parametrize("rest", [b" ", b" x", b",x", b"\n", b"\0", b"=x", b"\xff"])
def test_a_known_secret_with_anything_behind_it_is_no_secret(path, rest):
    add_key(path, make_key("shop", "slw_x"))
    said = refusal(AccessGate(Sources(api_keys=path)), b"Bearer slw_x" + rest)
    assert said == "the Authorization header is no Bearer token"


def test_no_secret_at_all_is_nobodys_even_if_the_file_knows_it(path):
    add_key(path, make_key("shop", ""))
    said = refusal(AccessGate(Sources(api_keys=path)), b"Bearer ")
    assert said == "the Authorization header is no Bearer token"


def test_the_scheme_may_be_written_in_any_case(path):
    add_key(path, make_key("shop", "slw_x"))
    assert AccessGate(Sources(api_keys=path)).identify(b"bEARER slw_x").id == "shop"


def test_what_the_file_holds_is_no_secret_itself(path):
    secret = new_secret()
    add_key(path, make_key("shop", secret))
    refusal(AccessGate(Sources(api_keys=path)), bearer(digest(secret.encode())))


def test_a_key_ends_at_its_time(path):
    wall = Wall()
    add_key(path, make_key("shop", "slw_x", expires=datetime.fromtimestamp(NOON + 1, UTC)))
    gate = AccessGate(Sources(api_keys=path), wall)
    gate.identify(b"Bearer slw_x")
    wall.now += 1
    assert refusal(gate, b"Bearer slw_x") == "the key or token has expired"


def test_the_command_and_the_gate_mean_the_same_moment_by_a_keys_end():
    end = datetime.fromtimestamp(NOON, UTC)
    key = make_key("shop", "slw_x", expires=end)
    moments = [end + timedelta(microseconds=offset) for offset in (-1, 0, 1)]
    assert [key.expired(moment) for moment in moments] == [False, True, True]
    assert not make_key("shop", "slw_x").expired(end)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, None),
        ({"rate_per_s": 0.5}, RateLimits(0.5, 1, None)),
        ({"rate_per_s": 2.5}, RateLimits(2.5, 2, None)),
        ({"rate_per_s": 2.5, "burst": 9}, RateLimits(2.5, 9, None)),
        ({"quota_rows_per_day": 7}, RateLimits(None, 1, 7)),
    ],
)
def test_without_a_burst_a_key_has_that_of_one_second_and_at_least_a_row(given, limits):
    assert make_key("shop", "slw_x", **given).limits == limits


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o650, 0o700])
def test_a_file_that_others_could_read_is_refused_with_what_to_do(path, mode):
    add_key(path, make_key("shop", "slw_x"))
    path.chmod(mode)
    with pytest.raises(SlipwayError) as refused:
        AccessGate(Sources(api_keys=path))
    assert f"its mode is {mode:04o}, at most 0640" in str(refused.value)
    assert f"chmod 0640 {path}" in str(refused.value)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_file_for_the_host_alone_is_read(path, mode):
    add_key(path, make_key("shop", "slw_x"))
    path.chmod(mode)
    assert AccessGate(Sources(api_keys=path)).generation == 1


def test_a_named_pipe_in_the_files_place_does_not_hold_the_host_up(path):
    os.mkfifo(path, 0o600)
    with pytest.raises(SlipwayError, match="must be a regular file"):
        read_keys(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "api-keys.json"),
        ('{"keys": [], "keys": []}', "'keys' is given twice"),
        ('{"keyz": []}', "keyz"),
        ('{"keys": [{"id": "a"}]}', "sha256"),
        ('{"keys": [{"id": "a/b", "sha256": "%s", "scopes": ["infer"]}]}' % ("0" * 64), "id"),
        ('{"keys": [{"id": "a", "sha256": "x", "scopes": ["infer"]}]}', "sha256"),
        ('{"keys": [{"id": "a", "sha256": "%s", "scopes": []}]}' % ("0" * 64), "scopes"),
        ('{"keys": [{"id": "a", "sha256": "%s", "scopes": ["root"]}]}' % ("0" * 64), "scopes"),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_refused(path, text, said):
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(SlipwayError) as refused:
        read_keys(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("field", ["id", "sha256"])
def test_two_keys_share_neither_name_nor_secret(path, field):
    first = {"id": "a", "sha256": "0" * 64, "scopes": ["infer"]}
    second = {"id": "b", "sha256": "1" * 64, "scopes": ["infer"], field: first[field]}
    path.touch(0o600)
    path.write_text(json.dumps({"keys": [first, second]}))
    with pytest.raises(SlipwayError, match=f"{field} .* is given to two keys"):
        read_keys(path)


def test_a_revoked_key_lets_nobody_in_after_the_next_look(path):
    for name in ("shop", "desk"):
        add_key(path, make_key(name, f"slw_{name}"))
    gate = AccessGate(Sources(api_keys=path))
    before = gate.generation
    gate.poll()
    assert gate.generation == before
    revoke_key(path, "shop")
    gate.poll()
    refusal(gate, b"Bearer slw_shop")
    assert gate.identify(b"Bearer slw_desk").id == "desk"
    assert gate.generation == before + 1


def test_a_broken_file_keeps_the_old_keys_and_is_an_alarm(path, caplog):
    add_key(path, make_key("shop", "slw_x"))
    gate = AccessGate(Sources(api_keys=path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    gate.poll()
    gate.poll()
    assert gate.identify(b"Bearer slw_x").id == "shop"
    assert gate.generation == 1
    assert gate.problem
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    path.write_bytes(whole)
    gate.poll()
    assert gate.problem is None
    assert gate.generation == 2


def test_a_file_that_becomes_readable_to_others_or_is_gone_is_an_alarm_too(path):
    add_key(path, make_key("shop", "slw_x"))
    gate = AccessGate(Sources(api_keys=path))
    path.chmod(0o644)
    gate.poll()
    assert "mode is 0644" in (gate.problem or "")
    path.unlink()
    gate.poll()
    assert "No such file" in (gate.problem or "")
    assert gate.identify(b"Bearer slw_x").id == "shop"


def test_a_reload_gives_nobody_a_fresh_quota_but_a_new_limit(path):
    add_key(path, make_key("shop", "slw_x", quota_rows_per_day=10))
    gate = AccessGate(Sources(api_keys=path), Wall())
    gate.identify(b"Bearer slw_x").charge(10)
    add_key(path, make_key("desk", "slw_y"))
    gate.poll()
    with pytest.raises(RequestRefused, match="allowance") as refused:
        gate.identify(b"Bearer slw_x").charge(1)
    assert (refused.value.code, refused.value.retry_after_s) == ("rate_limited", 43201)
    text = path.read_text().replace('"quota_rows_per_day": 10', '"quota_rows_per_day": 12')
    path.write_text(text)
    gate.poll()
    gate.identify(b"Bearer slw_x").charge(2)
    assert gate.used()["shop"].rows == 12


def test_each_of_several_processes_gives_a_key_its_part(path):
    add_key(path, make_key("shop", "slw_x", quota_rows_per_day=10))
    gate = AccessGate(Sources(api_keys=path), Wall(), parts=2)
    gate.identify(b"Bearer slw_x").charge(5)
    with pytest.raises(RequestRefused, match="allowance"):
        gate.identify(b"Bearer slw_x").charge(1)


def test_quotas_go_on_after_a_restart(path, tmp_path):
    add_key(path, make_key("shop", "slw_x", quota_rows_per_day=10))
    gate = AccessGate(Sources(api_keys=path), Wall())
    gate.identify(b"Bearer slw_x").charge(9)
    write_used(tmp_path / "used.json", gate.used())
    gate = AccessGate(Sources(api_keys=path), Wall())
    gate.restore(read_used(tmp_path / "used.json"))
    with pytest.raises(RequestRefused):
        gate.identify(b"Bearer slw_x").charge(2)


def test_lost_or_broken_counts_begin_anew(tmp_path, caplog):
    used = tmp_path / "used.json"
    assert read_used(used) == {}
    for text in ("", "[]", '{"a": 1}', '{"a": {"day": 1}}'):
        used.write_text(text)
        assert read_used(used) == {}
    assert len(caplog.records) == 4
    write_used(used, {"shop": Used(20_000, 7)})
    assert read_used(used) == {"shop": Used(20_000, 7)}


def test_keys_added_at_the_same_time_are_all_there(path):
    def add(number: int) -> None:
        add_key(path, make_key(f"k{number}", f"slw_{number}"))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.id for key in read_keys(path)) == [f"k{number}" for number in range(8)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_mode_that_a_file_has_is_kept(path):
    add_key(path, make_key("a", "slw_a"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    add_key(path, make_key("b", "slw_b"))
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_that_a_file_has_is_kept(path):
    add_key(path, make_key("a", "slw_a"))
    os.chown(path, 1234, 4321)
    add_key(path, make_key("b", "slw_b"))
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


# --- the commands


def test_the_command_prints_a_secret_once_and_it_opens_the_gate(path):
    done = run("add", "--file", path, "--name", "shop", "--scope", "metrics", "--expires", "90d")
    assert done.exit_code == 0
    assert "shown this once" in done.stderr
    (secret,) = done.stdout.split()
    caller = AccessGate(Sources(api_keys=path)).identify(bearer(secret))
    assert caller.scopes == {"metrics"}
    listed = run("list", "--file", path)
    assert secret not in listed.output
    assert digest(secret.encode()) not in listed.output
    assert listed.stdout.startswith("shop  scopes=metrics  models=-")


def test_every_limit_of_the_command_is_in_the_file(path):
    run(
        *("add", "--file", path, "--name", "shop", "--model", "a", "--model", "b", "--rate", "2.5"),
        *("--burst", 7, "--quota", 1000, "--expires", "2027-06-30"),
    )
    (key,) = json.loads(run("list", "--file", path, "--json").stdout)
    assert key == {
        "id": "shop",
        "scopes": ["infer", "metadata"],
        "models": ["a", "b"],
        "rate_per_s": 2.5,
        "burst": 7,
        "quota_rows_per_day": 1000,
        "expires": "2027-06-30T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--name", "shop"], "is there already"),
        (["--name", "a/b"], "id: "),
        (["--name", "x", "--burst", "3"], "burst needs rate_per_s"),
        (["--name", "x", "--rate", "nan"], "rate_per_s: "),
        (["--name", "x", "--rate", "0"], "--rate"),
        (["--name", "x", "--scope", "root"], "--scope"),
        (["--name", "x", "--expires", "soon"], "expected days such as 90d"),
    ],
)
def test_a_key_that_cannot_be_is_refused(path, args, said):
    run("add", "--file", path, "--name", "shop")
    done = run("add", "--file", path, *args)
    assert done.exit_code != 0
    assert said in f"{done.output} {done.exception}"
    assert [key.id for key in read_keys(path)] == ["shop"]


def test_a_key_that_is_not_there_cannot_be_revoked(path):
    run("add", "--file", path, "--name", "shop")
    done = run("revoke", "--file", path, "--name", "shopp")
    assert "did you mean 'shop'?" in str(done.exception)
    assert run("revoke", "--file", path, "--name", "shop").exit_code == 0
    assert read_keys(path) == ()


def test_the_commands_know_every_scope():
    assert get_args(Scope) == SCOPES


def test_help_does_not_import_the_host():
    code = (
        "import sys, slipway.cli.keys;"
        "print(sorted({'slipway.host.guard', 'jwt', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
