"""A real fleet that asks for keys and speaks TLS: started, asked, released to, rotated."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows import summary
from slipway.errors import SlipwayError
from slipway.fleet.client import HttpClient
from slipway.fleet.inventory import Credentials, load_fleet
from slipway.fleet.launch import local as launch
from slipway.fleet.rollback import rollback
from slipway.host.guard.keys import ApiKey, add_key, digest, new_secret, revoke_key
from slipway.host.guard.policy import Scope
from tests.certificates import make_certificate
from tests.fleet_site import MODEL, Site, make_site
from tests.host_client import BODY, check_refusals, check_serving
from tests.support.processes import slipway
from tests.support.waiting import wait_until

GUARD = """
api_keys: guard/api-keys.json
tls: {certificate: guard/tls.crt, key: guard/tls.key}
credentials: {key_file: guard/secret, ca: guard/tls.crt}
"""

NEEDED: tuple[Scope, ...] = ("infer", "admin")


class Guarded:
    """A project with a guarded fleet, and every secret that it ever had."""

    def __init__(self, root: Path) -> None:
        self.site = make_site(root)
        self.folder = root / "guard"
        self.folder.mkdir()
        make_certificate(self.folder)
        self.secrets: list[str] = []
        self.put(self.make_key("releases"))
        config = root / "configs/fleets/local.yaml"
        config.write_text(config.read_text() + GUARD)
        self.site.fleet = load_fleet(root, "local")

    @property
    def credentials(self) -> Credentials:
        return self.site.fleet.credentials

    def client(self, name: str, secret: str) -> HttpClient:
        """Return a client that asks with another secret."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text(secret)
        return HttpClient(Credentials(key_file=path, ca=self.credentials.ca))

    def make_key(self, name: str, scopes: tuple[Scope, ...] = NEEDED) -> str:
        """Make a key as `slipway keys add` does; return its secret."""
        self.secrets.append(new_secret())
        key = ApiKey(id=name, sha256=digest(self.secrets[-1].encode()), scopes=scopes)
        add_key(self.folder / "api-keys.json", key)
        return self.secrets[-1]

    def put(self, secret: str) -> None:
        """Replace the secret that this project asks with."""
        draft = self.folder / "draft"
        draft.touch(0o600)
        draft.write_text(f"{secret}\n")
        draft.replace(self.folder / "secret")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path / "project")
    try:
        made.site.up()
        yield made
    finally:
        made.site.down()


def problems(client: HttpClient, site: Site) -> list[str | None]:
    """Return what each host says against being asked; None: nothing."""
    statuses = [client.status(host) for host in site.fleet.hosts]
    return [status.problem if status else "down" for status in statuses]


def test_a_guarded_fleet_lives_as_an_open_one_does_and_keeps_its_secrets(guarded: Guarded) -> None:
    site = guarded.site
    one, two = site.publish(), site.publish(bias=0.05)
    assert site.release(one).decision == "first release"
    assert site.release(two).decision == "promoted"
    shown = slipway(site.root, "status", "--json")
    hosts = json.loads(shown.stdout)["hosts"]
    assert [(h["ready"], h["problem"], h["models"][MODEL]["stable"]) for h in hosts] == [
        (True, None, two)
    ] * 2
    again = slipway(site.root, "fleet", "up", "local")
    assert again.stdout.count("(was running)") == 2
    back = rollback(site.controller())
    assert (back.stable, back.hosts) == (one, {"a": "serves it", "b": "serves it"})
    client = HttpClient(guarded.credentials)
    for host in site.fleet.hosts:
        assert host.url.startswith("https://")
        check_serving(client, host, MODEL, one)
        check_refusals(client, host, MODEL)
    how = summary.curl(f"{host.url}/v2/models/{MODEL}/infer", BODY, guarded.credentials)
    for shell in filter(shutil.which, ("sh", "dash", "bash") if shutil.which("curl") else ()):
        done = subprocess.run([shell, "-c", how], capture_output=True, text=True)
        assert json.loads(done.stdout)["model_version"] == one
    traced = slipway(site.root, "trace", one[:12])

    processes = [launch.read_process(site.fleet, name) for name in "ab"]
    arguments = [Path(f"/proc/{p.pid}/{what}").read_bytes() for p in processes if p
                 for what in ("cmdline", "environ")]  # fmt: skip
    assert len(arguments) == 4
    said = [shown.stdout, shown.stderr, again.stdout, again.stderr, traced.stdout, *site.said, how]
    written = [path for path in site.root.rglob("*") if path.is_file()]
    assert launch.log_file(site.fleet, "a") in written
    written.remove(guarded.folder / "secret")
    for words in (*arguments, *(s.encode() for s in said), *(f.read_bytes() for f in written)):
        assert not any(secret.encode() in words for secret in guarded.secrets)


def test_strangers_are_refused_and_told_what_is_missing(guarded: Guarded, tmp_path: Path) -> None:
    site, ca = guarded.site, guarded.credentials.ca
    one = site.publish()
    site.release(one)
    host = site.fleet.hosts[0]

    nobody = HttpClient(Credentials(ca=ca))
    answer = nobody.infer(host, MODEL, BODY, key="k", version=None)
    assert (answer.version, answer.ours) == (None, True)
    assert "asks for a key (HTTP 401" in str(answer.error)
    assert all("credentials.key_file" in told for told in problems(nobody, site))

    other = tmp_path / "other"
    other.mkdir()
    elsewhere = make_certificate(other)[0]
    distrust = HttpClient(guarded.credentials.model_copy(update={"ca": elsewhere}))
    answer = distrust.infer(host, MODEL, BODY, key="k", version=None)
    assert answer.ours
    assert "does not vouch for" in str(answer.error)
    with pytest.raises(SlipwayError, match=r"host [ab]: shows a certificate that"):
        site.launcher.up(site.fleet, distrust, site.said.append)

    plain = host.url.replace("https", "http")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{plain}/v2/health/live", trust_env=False)
    assert all(launch.read_process(site.fleet, name) for name in "ab")


def test_a_key_without_a_scope_is_told_which_one(guarded: Guarded) -> None:
    site = guarded.site
    site.release(site.publish())
    host, client = site.fleet.hosts[0], HttpClient(guarded.credentials)

    guarded.put(guarded.make_key("asks-only", ("infer",)))
    wait_until(
        lambda: all("it lacks the scope admin" in str(p) for p in problems(client, site)),
        lambda: f"a scope is missed: {problems(client, site)}",
    )
    assert client.infer(host, MODEL, BODY, key="k", version=None).error is None
    told = slipway(site.root, "status")
    assert "a, b: refuses the key in" in told.stdout

    guarded.put(guarded.make_key("looks-only", ("admin",)))
    wait_until(lambda: problems(client, site) == [None, None], "the key is known")
    answer = client.infer(host, MODEL, BODY, key="k", version=None)
    assert "it lacks the scope infer or the model flights" in str(answer.error)
    two = site.publish(bias=0.05)
    with pytest.raises(SlipwayError, match="it lacks the scope infer"):
        site.release(two)
    channel = site.controller().channel()
    assert channel is not None
    assert (channel.candidate, channel.rejected) == (None, [])  # not the version's fault


def test_a_key_is_rotated_without_a_request_lost_or_a_host_restarted(guarded: Guarded) -> None:
    site = guarded.site
    one = site.publish()
    site.release(one)
    client = HttpClient(guarded.credentials)
    before = [launch.read_process(site.fleet, name) for name in "ab"]

    second = guarded.make_key("second")
    knows_it = guarded.client("other", second)
    wait_until(lambda: problems(knows_it, site) == [None, None], "the second key is known")
    for host in site.fleet.hosts:
        check_serving(client, host, MODEL, one)
    guarded.put(second)
    revoke_key(guarded.folder / "api-keys.json", "releases")
    for host in site.fleet.hosts:
        check_serving(client, host, MODEL, one)

    old = guarded.client("old", guarded.secrets[0])
    for host in site.fleet.hosts:
        wait_until(
            lambda host=host: old.infer(host, MODEL, BODY, key="k", version=None).ours,
            "the old key is forgotten",
        )
        check_serving(client, host, MODEL, one)
    assert [launch.read_process(site.fleet, name) for name in "ab"] == before
    assert None not in before


def test_settings_of_the_guard_that_changed_want_the_hosts_started_anew(guarded: Guarded) -> None:
    config = guarded.site.root / "configs/fleets/local.yaml"
    config.write_text(config.read_text().replace(GUARD, ""))
    done = slipway(guarded.site.root, "fleet", "up", "local", code=1)
    assert "with other settings than configs/fleets/local.yaml gives" in done.stderr


def test_a_fleet_that_lacks_a_file_says_so_before_any_host_starts(tmp_path: Path) -> None:
    made = Guarded(tmp_path / "project")
    os.chmod(made.folder / "secret", 0o644)
    done = slipway(made.site.root, "fleet", "up", "local", code=1)
    assert "others could read it: its mode is 0644" in done.stderr
    (made.folder / "secret").unlink()
    done = slipway(made.site.root, "fleet", "up", "local", code=1)
    assert "secret: No such file or directory" in done.stderr
    assert not list(made.site.fleet.state.glob("*.pid"))
