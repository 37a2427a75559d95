import errno
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import summary
from slipway.errors import SlipwayError
from slipway.fleet import client, credentials
from slipway.fleet.client import HostAnswer, HttpClient
from slipway.fleet.credentials import CallerKeyFile, check, trust
from slipway.fleet.inventory import Credentials, Host
from tests.certificates import make_certificate

SECRET, OTHER = "slw_first", "slw_second"
V = "c" * 64
STATUS = {"name": "a", "fleet": "local", "ready": True, "models": {"flights": {"stable": V}}}
OUTPUT = {"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.5]}
SERVED = {"model_version": V, "outputs": [OUTPUT]}


@dataclass
class Stand:
    """A host's two listeners, which answer by the key that they are shown."""

    host: Host
    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    """Path: status and body for whoever shows `SECRET`; 200 where nothing is said."""
    known: set[str] = field(default_factory=lambda: {SECRET})
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Authorization header of each request."""

    def answer(self, path: str, authorization: str | None) -> tuple[int, object]:
        self.seen.append((path, authorization))
        if path == "/v2/health/live":
            return 200, {"live": True}
        if authorization not in {f"Bearer {secret}" for secret in self.known}:
            said = "the key is not known here" if authorization else "send Authorization: Bearer"
            return 401, {"error": said}
        return self.answers.get(path, (200, STATUS if path == "/status" else SERVED))


@contextmanager
def stand(
    chain: Path | None = None,
    key: Path | None = None,
    address: str = "127.0.0.1",
    kept: bool = False,
) -> Iterator[Stand]:
    """Listen as a host does: TLS for callers if there is a certificate, plain for /status.

    `kept`: connections stay open after an answer.
    """
    stands: list[Stand] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if kept else "HTTP/1.0"

        def do_GET(self) -> None:
            status, body = stands[0].answer(self.path, self.headers["Authorization"])
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    servers = [ThreadingHTTPServer((at, 0), Handler) for at in (address, "127.0.0.1")]
    data, admin = servers
    data.handle_error = lambda request, address: None  # handshakes that fail are what is tested
    if chain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        data.socket = context.wrap_socket(data.socket, server_side=True)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    ports = {"port": data.server_address[1], "admin_port": admin.server_address[1]}
    stands.append(Stand(Host(name="a", address=address, tls=True, **ports)))
    try:
        yield stands[0]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let no busy machine make a host look down."""
    monkeypatch.setattr(client, "STATUS_TIMEOUT_S", 30.0)


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


@pytest.fixture
def key_file(tmp_path) -> Path:
    return write(tmp_path / "secret", SECRET)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Replace a file whole, as those who rotate secrets do."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)
    return path


def ask(caller: HttpClient, host: Host) -> HostAnswer:
    return caller.infer(host, "flights", b"{}", key="k", version=None)


def test_the_key_is_shown_to_both_listeners_and_answers_are_read(pair, key_file):
    with stand(*pair) as at:
        caller = HttpClient(Credentials(key_file=key_file, ca=pair[0]))
        status = caller.status(at.host)
        assert (status.ready, status.problem, status.models["flights"].stable) == (True, None, V)
        assert ask(caller, at.host).version == V
        assert caller.status(at.host) == status
    assert at.seen == [
        ("/status", f"Bearer {SECRET}"),
        ("/v2/health/live", None),  # once, to see that callers would believe it
        ("/v2/models/flights/infer", f"Bearer {SECRET}"),
        ("/status", f"Bearer {SECRET}"),
    ]


def test_a_replaced_key_is_taken_up_by_the_next_request(pair, key_file):
    with stand(*pair) as at:
        caller = HttpClient(Credentials(key_file=key_file, ca=pair[0]))
        assert ask(caller, at.host).error is None
        at.known = {OTHER}
        assert ask(caller, at.host).ours
        write(key_file, OTHER)
        assert ask(caller, at.host).error is None
        assert caller.status(at.host).problem is None


def test_a_host_that_asks_for_a_key_is_not_called_down_and_says_what_is_missing(pair):
    with stand(*pair) as at:
        caller = HttpClient(Credentials(ca=pair[0]))
        status, answer = caller.status(at.host), ask(caller, at.host)
    assert not status.ready
    for told in (status.problem, answer.error):
        assert told.startswith("asks for a key (HTTP 401: send Authorization: Bearer)")
        assert "credentials.key_file" in told
        assert "slipway keys add" in told
    assert answer.ours
    assert answer.version is None


@pytest.mark.parametrize(
    ("refused", "wanted"),
    [
        ((401, {"error": "the key has expired"}), "does not know the key in {file} (HTTP 401: the"),
        ((403, {"error": "no"}), "refuses the key in {file} (HTTP 403: no): it lacks the scope"),
        ((403, "no JSON of ours"), "it lacks the scope"),
        ((429, {"error": "used up"}), "meters the key in {file} (HTTP 429: used up): take one"),
    ],
)
def test_a_refusal_is_about_who_asks_and_names_the_file_but_never_the_secret(
    pair, key_file, refused, wanted
):
    with stand(*pair) as at:
        at.answers = {"/status": refused, "/v2/models/flights/infer": refused}
        caller = HttpClient(Credentials(key_file=key_file, ca=pair[0]))
        status, answer = caller.status(at.host), ask(caller, at.host)
    assert answer.ours
    for told, scope in ((status.problem, "admin"), (answer.error, "infer or the model flights")):
        assert wanted.format(file=key_file) in told
        assert "scope" not in wanted or f"it lacks the scope {scope};" in told
        assert SECRET not in told


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_any_other_error_is_the_models_or_the_hosts(pair, key_file, status):
    with stand(*pair) as at:
        at.answers = {"/v2/models/flights/infer": (status, {"error": "x"})}
        answer = ask(HttpClient(Credentials(key_file=key_file, ca=pair[0])), at.host)
    assert (answer.error, answer.ours) == (f"HTTP {status}: x", False)


def test_a_host_that_nobody_vouches_for_learns_no_key_from_its_callers(pair, key_file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with stand(*pair) as at:
        caller = HttpClient(Credentials(key_file=key_file, ca=make_certificate(other)[0]))
        status, answer = caller.status(at.host), ask(caller, at.host)
    assert [path for path, _ in at.seen] == ["/status"]
    assert not status.ready
    for told in (status.problem, answer.error):
        assert f"shows a certificate that {other}/tls.crt does not vouch for" in told
        assert "credentials.ca must hold the authority" in told
    assert answer.ours


def test_a_certificate_for_another_address_is_not_believed(pair):
    with stand(*pair, address="127.0.0.2") as at:
        answer = ask(HttpClient(Credentials(ca=pair[0])), at.host)
    assert answer.ours
    assert "not valid for '127.0.0.2'" in answer.error


def test_a_host_that_speaks_no_tls_is_told_apart_from_one_that_is_down(pair):
    with stand() as at:
        caller = HttpClient(Credentials(ca=pair[0]))
        answer = ask(caller, at.host)
    assert answer.ours
    assert answer.error.startswith("does not speak TLS as configs/fleets/ has it")
    assert ask(caller, at.host).error.startswith("ConnectError")
    assert not ask(caller, at.host).ours
    assert caller.status(at.host) is None


def test_a_host_that_ends_in_the_handshake_went_down_and_that_is_not_our_fault(pair):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        host = Host(name="a", port=server.getsockname()[1], admin_port=1, tls=True)
        answer = ask(HttpClient(Credentials(ca=pair[0])), host)
        thread.join()
    assert answer.error is not None
    assert not answer.ours


def test_without_an_authority_no_host_is_believed(pair):
    with stand(*pair) as at:
        assert ask(HttpClient(), at.host).ours
    assert at.seen == []


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "with space", "sl\x00w", "naïve", "="])
def test_a_file_that_holds_no_secret_is_refused_without_being_shown(tmp_path, text):
    with pytest.raises(SlipwayError, match="must hold one secret and nothing else") as refused:
        CallerKeyFile(write(tmp_path / "secret", text))
    assert text.strip() in ("", "=") or text not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
def test_a_secret_that_others_could_read_or_change_is_refused(tmp_path, mode):
    with pytest.raises(SlipwayError, match="at most 0640 is accepted"):
        CallerKeyFile(write(tmp_path / "secret", SECRET, mode))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SlipwayError, match="secret: No such file"):
        CallerKeyFile(tmp_path / "secret")


@pytest.mark.parametrize("replace", [lambda p: write(p, ""), lambda p: write(p, OTHER, 0o644)])
def test_a_file_that_cannot_be_used_now_leaves_the_secret_that_was_read(key_file, replace):
    keys = CallerKeyFile(key_file)
    replace(key_file)
    assert keys.header() == {"Authorization": f"Bearer {SECRET}"}
    write(key_file, f"{OTHER}\n")
    assert keys.header() == {"Authorization": f"Bearer {OTHER}"}
    key_file.unlink()
    assert keys.header() == {"Authorization": f"Bearer {OTHER}"}


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_a_run_asks_a_guarded_host_at_its_end_and_shows_how_without_the_secret(
    pair, key_file, shell
):
    if not (shutil.which("curl") and shutil.which(shell)):
        pytest.skip(f"needs curl and {shell}")
    given = Credentials(key_file=key_file, ca=pair[0])
    with stand(*pair) as at:
        url = f"{at.host.url}/v2/models/flights/infer"
        assert json.loads(summary.answer(url, b"{}", given)) == SERVED
        with pytest.raises(SlipwayError, match="did not answer") as refused:
            summary.answer(url, b"{}", Credentials(ca=pair[0]))
        shown = summary.curl(url, b"{}", given)
        told = subprocess.run([shell, "-c", shown], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == SERVED
    assert SECRET not in shown + str(refused.value)


def test_files_that_are_needed_later_are_looked_at_before(pair, key_file, tmp_path):
    check(Credentials())
    check(Credentials(key_file=key_file, ca=pair[0]))
    for wrong in (Credentials(key_file=tmp_path / "none"), Credentials(ca=key_file)):
        with pytest.raises(SlipwayError):
            check(wrong)


def test_without_a_key_file_nothing_is_shown():
    assert CallerKeyFile(None).header() == {}


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx", "ü"])
def test_an_authority_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(SlipwayError, match="holds no certificate in PEM form"):
        trust(write(tmp_path / "ca.crt", text))


def test_an_authority_that_others_could_change_is_refused(pair):
    pair[0].chmod(0o666)
    with pytest.raises(SlipwayError, match="others could change it"):
        trust(pair[0])


@pytest.mark.parametrize(
    ("users", "told"),
    [(set(), True), ({0}, True), ({os.getuid()}, True), ({4711}, False), ({0, 4711}, False)],
)
def test_the_key_is_kept_from_another_user_who_took_a_port(key_file, monkeypatch, users, told):
    given = Credentials(key_file=key_file)
    with stand() as at:
        host = at.host.model_copy(update={"tls": False})
        caller, url = HttpClient(given), f"{host.url}/v2/models/flights/infer"
        assert caller.status(host).problem is None  # and then somebody else has its ports
        assert ask(caller, host).error is None
        at.seen.clear()
        monkeypatch.setattr(credentials, "users_behind", lambda server, client: users)
        status, answer = caller.status(host), ask(caller, host)
        if told:
            assert (status.problem, answer.error) == (None, None)
            assert json.loads(summary.answer(url, b"{}", given)) == SERVED
        else:
            held = "was not asked: port {} is held by a process of another user (4711)"
            assert (status.ready, status.problem) == (False, held.format(host.admin_port))
            assert (answer.ours, answer.error) == (True, held.format(host.port))
            with pytest.raises(SlipwayError, match=f"did not answer {url}: was not asked"):
                summary.answer(url, b"{}", given)
    assert len(at.seen) == (3 if told else 0)


def test_over_tls_a_certificate_tells_who_answers_callers(pair, key_file, monkeypatch):
    monkeypatch.setattr(credentials, "users_behind", lambda server, client: {4711})
    given = Credentials(key_file=key_file, ca=pair[0])
    with stand(*pair) as at:
        assert ask(HttpClient(given), at.host).error is None
        url = f"{at.host.url}/v2/models/flights/infer"
        assert json.loads(summary.answer(url, b"{}", given)) == SERVED


def test_a_caller_without_a_key_has_nothing_to_hide(monkeypatch):
    monkeypatch.setattr(credentials, "users_behind", lambda server, client: {4711})
    with stand() as at:
        status = HttpClient().status(at.host.model_copy(update={"tls": False}))
    assert "asks for a key" in status.problem


def test_one_look_is_enough_for_a_connection_and_none_for_one_that_is_gone(key_file, monkeypatch):
    looks = []
    monkeypatch.setattr(credentials, "users_behind", lambda *ends: looks.append(ends) or {0})

    class Gone:
        def get_extra_info(self, name: str) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    CallerKeyFile(key_file).look("connection.connect_tcp.complete", {"return_value": Gone()})
    assert looks == []
    with stand(kept=True) as at:
        host = at.host.model_copy(update={"tls": False})
        caller = HttpClient(Credentials(key_file=key_file))
        assert [ask(caller, host).error for _ in range(3)] == [None] * 3
    assert [server for server, _ in looks] == [("127.0.0.1", host.port)]
