"""TLS over real sockets, on the event loop that hosts use, with certificates made here."""

import asyncio
import datetime
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509

from slipway.errors import SlipwayError
from slipway.host.guard.tls import DAY_S, TlsContext, load_pair
from tests.certificates import make_certificate

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


class Wall:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def make_pair(folder: Path, name: str, days: float = 90, **more: Any) -> None:
    """Write tls.crt and tls.key for a certificate that signs itself, from long before that day."""
    begins, ends = NOW - datetime.timedelta(days=400), NOW + datetime.timedelta(days=days)
    make_certificate(folder, name, begins=begins, ends=ends, **more)


@pytest.fixture
def folder(tmp_path) -> Path:
    make_pair(tmp_path, "first")
    return tmp_path


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def tls(folder, wall) -> TlsContext:
    return TlsContext(folder / "tls.crt", folder / "tls.key", wall)


def client_context(**given) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in given.items():
        setattr(context, name, value)
    return context


class Client:
    """One connection to a server that answers each line with the same line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def tls(self) -> ssl.SSLObject:
        return self.writer.get_extra_info("ssl_object")

    @property
    def seen(self) -> str:
        """The name in the certificate that the server presented."""
        der = self.tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der).subject.rfc4514_string().removeprefix("CN=")

    async def echo(self, line: bytes) -> bytes:
        self.writer.write(line + b"\n")
        return (await self.reader.readline()).rstrip()


class Server:
    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []

    async def connect(self, context: ssl.SSLContext | None = None, name: str | None = "localhost"):
        context = context or client_context()
        client = Client(
            *await asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context, server_hostname=name or ""
            )
        )
        self.clients.append(client)
        return client


@asynccontextmanager
async def serving(tls: TlsContext) -> AsyncIterator[Server]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.context)
    server = Server(listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        for client in server.clients:
            client.writer.close()
        for client in server.clients:
            await client.writer.wait_closed()
        listener.close()
        await listener.wait_closed()


@pytest.fixture(params=[uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def run(request):
    return request.param


@pytest.mark.parametrize("name", ["localhost", None, "another.example"])
def test_a_new_pair_is_served_to_new_clients_and_no_old_one_is_dropped(run, folder, tls, name):
    async def rotate() -> list[str]:
        async with serving(tls) as server:
            old = await server.connect(name=name)
            seen = [old.seen]
            make_pair(folder, "second")
            tls.poll()
            new = await server.connect(name=name)
            seen += [new.seen, old.seen]
            assert await old.echo(b"still here") == b"still here"
            assert await new.echo(b"here too") == b"here too"
            return seen

    assert run(rotate()) == ["first", "second", "first"]


def test_a_change_of_key_type_leaves_no_old_certificate_behind(run, folder, tls):
    """TLS 1.2 with RSA ciphers alone would still find the RSA certificate of before."""
    for_rsa = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    for_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")

    async def rotate() -> list[str]:
        async with serving(tls) as server:
            make_pair(folder, "rsa", kind="rsa")
            tls.poll()
            seen = [(await server.connect()).seen, (await server.connect(for_rsa)).seen]
            make_pair(folder, "ec", kind="ec")
            tls.poll()
            seen.append((await server.connect()).seen)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await server.connect(for_rsa)
            return seen

    assert run(rotate()) == ["rsa", "rsa", "ec"]


def test_tls_begins_at_1_2_without_compression_and_speaks_http_1_1(run, tls):
    async def look() -> None:
        async with serving(tls) as server:
            offering = client_context()
            offering.set_alpn_protocols(["h2", "http/1.1"])
            client = await server.connect(offering)
            assert client.tls.version() == "TLSv1.3"
            assert client.tls.compression() is None
            assert client.tls.selected_alpn_protocol() == "http/1.1"
            older = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
            client = await server.connect(older)
            assert client.tls.version() == "TLSv1.2"
            assert "ECDHE" in client.tls.cipher()[0]
            for ciphers in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"):
                older.set_ciphers(ciphers)
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await server.connect(older)

    run(look())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_refused(run, tls):
    old = client_context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    async def look() -> None:
        async with serving(tls) as server:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await server.connect(old)

    run(look())


def break_key(folder: Path) -> None:
    make_pair(folder / "other", "other")
    (folder / "other/tls.key").replace(folder / "tls.key")


BROKEN = {
    "a key of another certificate": break_key,
    "half a certificate": lambda f: (f / "tls.crt").write_bytes((f / "tls.crt").read_bytes()[:200]),
    "no certificate": lambda f: (f / "tls.crt").unlink(),
    "no key": lambda f: (f / "tls.key").unlink(),
    "an empty key": lambda f: (f / "tls.key").write_bytes(b""),
    "a key that others could read": lambda f: (f / "tls.key").chmod(0o644),
    "a certificate that others could change": lambda f: (f / "tls.crt").chmod(0o666),
    "a key with a password": lambda f: make_pair(f, "second", password=b"secret"),
    "a pair that has expired": lambda f: make_pair(f, "second", days=-1),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_pair_that_cannot_be_used_keeps_the_old_one_and_is_an_alarm(folder, tls, caplog, how):
    (folder / "other").mkdir()
    BROKEN[how](folder)
    tls.poll()
    tls.poll()

    async def look() -> str:
        async with serving(tls) as server:
            return (await server.connect()).seen

    assert uvloop.run(look()) == "first"
    assert tls.generation == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("how", [how for how in BROKEN if how != "a pair that has expired"])
def test_a_host_does_not_start_with_a_pair_that_cannot_be_used(folder, how):
    (folder / "other").mkdir()
    BROKEN[how](folder)
    with pytest.raises(SlipwayError) as refused:
        load_pair(folder / "tls.crt", folder / "tls.key", "http/1.1")
    assert str(folder / "tls.") in str(refused.value)


def test_a_key_that_others_could_read_is_refused_with_what_to_do(folder):
    (folder / "tls.key").chmod(0o644)
    with pytest.raises(SlipwayError) as refused:
        TlsContext(folder / "tls.crt", folder / "tls.key")
    assert str(refused.value) == (
        f"{folder}/tls.key: others could read it: its mode is 0644, at most 0640 is accepted;"
        f" chmod 0640 {folder}/tls.key"
    )


def test_an_end_that_is_near_is_warned_of_once_a_day_from_14_days_before(tls, wall, caplog):
    assert tls.days_left == pytest.approx(90)
    for _ in range(3):
        tls.poll()
    assert caplog.records == []
    wall.now += 76.5 * DAY_S
    for _ in range(3):
        tls.poll()
    wall.now += DAY_S
    tls.poll()
    assert [record.days for record in caplog.records] == [13.5, 12.5]
    wall.now += 13 * DAY_S
    assert tls.days_left == pytest.approx(-0.5)


def test_the_chain_ends_with_whichever_of_it_ends_first(folder):
    leaf = (folder / "tls.crt").read_bytes()
    key = (folder / "tls.key").read_bytes()
    make_pair(folder, "issuer", days=5)
    (folder / "tls.crt").write_bytes(leaf + (folder / "tls.crt").read_bytes())
    (folder / "tls.key").write_bytes(key)
    pair = load_pair(folder / "tls.crt", folder / "tls.key", "http/1.1")
    assert pair.expires == (NOW + datetime.timedelta(days=5)).timestamp()


def test_rotating_leaves_no_descriptor_open(folder, tls):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        make_pair(folder, str(number))
        tls.reload()
    assert tls.generation == 21
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_listener_of_another_protocol_speaks_it_before_and_after_a_rotation(run, folder, wall):
    tls = TlsContext(folder / "tls.crt", folder / "tls.key", wall, protocol="h2")
    offering = client_context()
    offering.set_alpn_protocols(["http/1.1", "h2"])

    async def rotate() -> list[tuple[str, str | None]]:
        async with serving(tls) as server:
            clients = [await server.connect(offering)]
            make_pair(folder, "second")
            tls.poll()
            clients.append(await server.connect(offering))
            return [(client.seen, client.tls.selected_alpn_protocol()) for client in clients]

    assert run(rotate()) == [("first", "h2"), ("second", "h2")]
