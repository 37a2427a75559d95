import asyncio
import os
import socket
import tempfile
from pathlib import Path

import pytest

from slipway.errors import SlipwayError
from slipway.host.guard.access import (
    Access,
    check_exposure,
    open_admin_socket,
    open_guard,
    open_tls,
)
from slipway.host.guard.caller import OpenGuard
from slipway.host.guard.environment import scrub
from slipway.host.guard.gate import AccessGate
from slipway.host.guard.keys import ApiKey, add_key, digest

KEYS = Path("api-keys.json")
TLS = {"tls_cert": Path("tls.crt"), "tls_key": Path("tls.key")}
TOKENS = {
    "jwks": Path("jwks.json"),
    "jwt_algorithm": "ES256",
    "jwt_audience": "slipway",
    "jwt_issuer": "https://id.example",
}
PUBLIC = (
    "0.0.0.0", "::", "10.0.0.7", "192.168.1.2", "8.8.8.8", "169.254.0.1", "fe80::1",
    "::ffff:127.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"address": "127.0.0.2"},
        {"address": "::1"},
        {"api_keys": KEYS},
        {"address": "0.0.0.0", "api_keys": KEYS, **TLS},
        {"address": "::", **TOKENS, **TLS},
        {"address": "10.0.0.7", "api_keys": KEYS, "behind_proxy": True},
        {"admin_address": "::1"},
        {"admin_socket": Path("/run/slipway/admin.sock")},
        {"admin_socket": Path("/" + "a" * 106)},
        {**TOKENS, "jwt_leeway_s": 60},
        {**TOKENS, "jwt_leeway_s": 0},
        {"admin_socket": Path("/run/slipway/admin.sock"), "admin_address": "0.0.0.0"},
    ],
)
def test_what_is_safe_may_start(given):
    assert check_exposure(Access(**given)) == []


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_asks_for_keys_and_tls(address):
    problems = check_exposure(Access(address=address))
    assert len(problems) == 2
    assert "would answer anybody; give --api-keys or --jwks" in problems[0]
    assert "plain text; give --tls-cert and --tls-key, or --behind-proxy" in problems[1]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_proxy_in_front_takes_the_place_of_tls_and_never_that_of_keys(address):
    (problem,) = check_exposure(Access(address=address, behind_proxy=True))
    assert "--api-keys" in problem
    (problem,) = check_exposure(Access(address=address, **TLS))
    assert "--api-keys" in problem
    (problem,) = check_exposure(Access(address=address, api_keys=KEYS))
    assert "--behind-proxy" in problem


@pytest.mark.parametrize("address", [*PUBLIC, "localhost", "", "*"])
def test_the_admin_listener_is_never_public_whatever_guards_it(address):
    (problem,) = check_exposure(Access(admin_address=address, api_keys=KEYS, **TLS))
    assert problem.startswith("--admin-address: must be a loopback address")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": "localhost"}, "--address: must be an IP address, got 'localhost'"),
        ({"tls_cert": Path("a")}, "--tls-cert and --tls-key: give both or none"),
        ({"tls_key": Path("a")}, "--tls-cert and --tls-key: give both or none"),
        ({**TLS, "behind_proxy": True}, "--behind-proxy: says that there is no TLS here"),
        ({**TOKENS, "jwt_audience": None}, "--jwt-audience: is needed with --jwks"),
        ({**TOKENS, "jwt_issuer": ""}, "--jwt-issuer: is needed with --jwks"),
        ({**TOKENS, "jwt_algorithm": None}, "--jwt-algorithm: is needed with --jwks"),
        ({**TOKENS, "jwt_algorithm": "HS256"}, "must be one of ES256, EdDSA, RS256, got 'HS256'"),
        ({**TOKENS, "jwt_algorithm": "none"}, "must be one of ES256, EdDSA, RS256, got 'none'"),
        ({**TOKENS, "jwt_leeway_s": 61}, "--jwt-leeway-s: must be from 0 to 60, got 61"),
        ({**TOKENS, "jwt_leeway_s": -1}, "--jwt-leeway-s: must be from 0 to 60, got -1"),
        ({**TOKENS, "jwt_leeway_s": float("nan")}, "--jwt-leeway-s: must be from 0 to 60, got nan"),
        ({"jwt_issuer": "x"}, "--jwt-issuer: needs --jwks"),
        ({"admin_socket": Path("/" + "a" * 107)}, "--admin-socket: at most 107 bytes, got 108"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(given, said):
    (problem,) = check_exposure(Access(**given))
    assert said in problem


def test_a_host_without_keys_is_open_and_one_with_a_file_of_keys_is_not(tmp_path):
    assert isinstance(open_guard(Access()), OpenGuard)
    assert open_tls(Access()) is None
    path = tmp_path / "api-keys.json"
    with pytest.raises(SlipwayError, match="No such file"):
        open_guard(Access(api_keys=path))
    add_key(path, ApiKey(id="a", sha256=digest(b"x"), scopes=("infer",)))
    assert isinstance(open_guard(Access(api_keys=path)), AccessGate)


@pytest.mark.parametrize("given", [TOKENS, {**TOKENS, "api_keys": KEYS}, {"api_keys": KEYS}])
def test_a_host_that_is_given_any_file_of_keys_is_never_open(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SlipwayError, match="No such file"):
        open_guard(Access(**given))


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as path:  # short, as the kernel wants it; mode 0700
        yield Path(path)


def test_the_admin_socket_answers_its_own_user_and_has_mode_0600(folder):
    async def ask() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(2))
            writer.close()

        server = await asyncio.start_unix_server(answer, sock=open_admin_socket(folder / "a.sock"))
        async with server:
            reader, writer = await asyncio.open_unix_connection(folder / "a.sock")
            writer.write(b"hi")
            answered = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answered

    assert asyncio.run(ask()) == b"hi"


def test_the_admin_socket_is_for_its_user_alone(folder):
    with open_admin_socket(folder / "a.sock"):
        assert (folder / "a.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o711, 0o770, 0o1777])
def test_an_admin_socket_in_a_folder_that_others_enter_is_refused(folder, mode):
    folder.chmod(mode)
    with pytest.raises(SlipwayError, match=f"its mode is {mode:04o}; chmod 0700"):
        open_admin_socket(folder / "a.sock")
    folder.chmod(0o700)


def test_the_socket_of_a_killed_host_is_replaced_and_a_file_is_not(folder):
    open_admin_socket(folder / "a.sock").close()
    open_admin_socket(folder / "a.sock").close()
    (folder / "b").write_text("precious")
    with pytest.raises(SlipwayError, match="Address already in use"):
        open_admin_socket(folder / "b")
    assert (folder / "b").read_text() == "precious"
    with pytest.raises(SlipwayError, match="No such file"):
        open_admin_socket(folder / "none/a.sock")


def test_variables_that_change_libraries_are_taken_out_of_the_environment():
    environ = {
        "LD_PRELOAD": "/tmp/x.so",
        "PYTHONPATH": "/tmp",
        "ORT_TENSORRT_ENGINE_CACHE_PATH": "/tmp",
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "NOTIFY_SOCKET": "/run/systemd/notify",
    }
    assert scrub(environ) == ["LD_PRELOAD", "ORT_TENSORRT_ENGINE_CACHE_PATH", "PYTHONPATH"]
    assert sorted(environ) == ["CUDA_VISIBLE_DEVICES", "NOTIFY_SOCKET", "PATH"]


def test_scrubbing_reaches_what_c_libraries_read():
    os.environ["ORT_SCRUBBED"] = "1"
    pid = os.fork()
    if pid == 0:
        scrub(os.environ)
        seen = os.popen("echo -n $ORT_SCRUBBED").read()
        os._exit(0 if seen == "" else 1)
    del os.environ["ORT_SCRUBBED"]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_socket_says_who_it_is_bound_for(folder):
    with open_admin_socket(folder / "a.sock") as listener:
        assert listener.family == socket.AF_UNIX
        assert not listener.getblocking()
