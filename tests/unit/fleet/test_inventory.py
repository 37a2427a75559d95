from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.fleet.inventory import Credentials, Tls, load_fleet

PROJECT = Path(__file__).parents[3]

FLEET = """
store: {store}
trusted_keys: keys
state: state
launch: local
hosts:
  - {{name: a, address: 127.0.0.1, port: 18081, admin_port: 18091}}
  - {{name: {name}, address: {address}, port: {port}, admin_port: 18092}}
"""


def write(root, store=".slipway/store", name="b", address="127.0.0.1", port=18082, text=None):
    folder = root / "configs/fleets"
    folder.mkdir(parents=True, exist_ok=True)
    default = FLEET.format(store=store, name=name, address=address, port=port)
    (folder / "local.yaml").write_text(text or default)
    return root


def test_the_local_fleet_of_this_project_has_two_hosts_inside_the_checkout():
    fleet = load_fleet(PROJECT, "local")
    assert [(h.name, h.url, h.grpc, h.admin_url) for h in fleet.hosts] == [
        ("a", "http://127.0.0.1:18081", "127.0.0.1:18071", "http://127.0.0.1:18091"),
        ("b", "http://127.0.0.1:18082", "127.0.0.1:18072", "http://127.0.0.1:18092"),
    ]
    assert fleet.store == str(PROJECT / ".slipway/store")
    assert fleet.state == PROJECT / ".slipway/fleets/local/hosts"


def test_a_host_speaks_grpc_where_the_inventory_gives_a_port(tmp_path):
    text = FLEET.format(store="s", name="b", address='"::1"', port="18082, grpc_port: 18072")
    fleet = load_fleet(write(tmp_path, text=text), "local")
    assert [host.grpc for host in fleet.hosts] == [None, "[::1]:18072"]
    assert [host.listeners for host in fleet.hosts] == [
        (("127.0.0.1", 18081), ("127.0.0.1", 18091)),
        (("::1", 18082), ("::1", 18072), ("127.0.0.1", 18092)),
    ]


def test_a_store_elsewhere_stays_a_url(tmp_path):
    assert load_fleet(write(tmp_path, store="s3://bucket/x"), "local").store == "s3://bucket/x"


def test_an_absolute_path_stays_where_it_is(tmp_path):
    assert load_fleet(write(tmp_path, store="/srv/store"), "local").store == "/srv/store"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"port": 18081}, "port 18081 of 127.0.0.1 is given twice"),
        ({"port": 18091}, "port 18091 of 127.0.0.1 is given twice"),
        ({"port": 18092}, "port 18092 of 127.0.0.1 is given twice"),
        ({"port": "18082, grpc_port: 18081"}, "port 18081 of 127.0.0.1 is given twice"),
        ({"port": "18082, grpc_port: 0"}, "hosts.1.grpc_port"),
        ({"name": "a"}, "two hosts are named 'a'"),
        ({"name": "../b"}, "hosts.1.name: not a name"),
        ({"address": "0.0.0.0"}, "a local host listens on a loopback address only: b (0.0.0.0)"),
        ({"address": "10.1.2.3"}, "loopback address only: b (10.1.2.3)"),
        ({"address": "localhost"}, "hosts.1.address: not an IP address: 'localhost'"),
        ({"port": 0}, "hosts.1.port"),
        ({"port": 65536}, "hosts.1.port"),
        ({"text": "hosts: []"}, "store: missing"),
        ({"text": "stor: x"}, "stor: unknown key; did you mean 'store'?"),
    ],
)
def test_a_wrong_inventory_is_refused_before_anything_starts(tmp_path, change, said):
    with pytest.raises(ConfigError, match=r"configs/fleets/local\.yaml has") as caught:
        load_fleet(write(tmp_path, **change), "local")
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_fleet(write(tmp_path, name="a", port=18081), "local")
    assert "two hosts are named 'a'" in str(caught.value)
    assert "port 18081" in str(caught.value)


GUARDED = """
api_keys: api-keys.json
tls: {certificate: tls.crt, key: /etc/tls.key}
credentials: {key_file: secret, ca: ca.crt}
"""


def guarded(root, text=GUARDED):
    return write(root, text=FLEET.format(store="s", name="b", address='"::1"', port=18082) + text)


def test_a_guarded_fleet_is_reached_over_tls_with_files_under_the_projects_root(tmp_path):
    fleet = load_fleet(guarded(tmp_path), "local")
    assert [(h.url, h.admin_url) for h in fleet.hosts] == [
        ("https://127.0.0.1:18081", "http://127.0.0.1:18091"),
        ("https://[::1]:18082", "http://127.0.0.1:18092"),
    ]
    assert fleet.api_keys == tmp_path / "api-keys.json"
    assert fleet.tls == Tls(certificate=tmp_path / "tls.crt", key=Path("/etc/tls.key"))
    assert fleet.credentials == Credentials(key_file=tmp_path / "secret", ca=tmp_path / "ca.crt")


def test_keys_alone_are_asked_for_over_plain_http(tmp_path):
    text = "api_keys: api-keys.json\ncredentials: {key_file: secret}\n"
    fleet = load_fleet(guarded(tmp_path, text), "local")
    assert (fleet.hosts[0].url, fleet.tls) == ("http://127.0.0.1:18081", None)
    assert fleet.credentials == Credentials(key_file=tmp_path / "secret")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("api_keys: k.json\n", ["api_keys: the hosts ask this project for a key, too"]),
        ("tls: {certificate: c, key: k}\n", ["tls: name the file of the authority"]),
        (
            "api_keys: k.json\ntls: {certificate: c, key: k}\n",
            ["credentials.key_file", "credentials.ca"],
        ),
        ("tls: {certificate: c}\n", ["tls.key: missing"]),
        ("tls: {cert: c, key: k}\n", ["tls.cert: unknown key; known: certificate, key"]),
        ("credentials: {keyfile: k}\n", ["unknown key; did you mean 'key_file'?"]),
    ],
)
def test_a_guard_that_this_project_could_not_pass_is_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load_fleet(guarded(tmp_path, text), "local")
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("credentials: {key_file: slw_abc-123}", "credentials.key_file: is a secret, not the name"),
        ("credentials: {key_file: Bearer slw_abc-123}", "key_file: is a secret"),
        ("credentials: {ca: slw_abc-123}", "credentials.ca: is a secret"),
        ("api_keys: slw_abc-123", "api_keys: is a secret"),
        ("tls: {certificate: c, key: slw_abc-123}", "tls.key: is a secret"),
        ("tls: {certificate: slw_abc-123, key: k}", "tls.certificate: is a secret"),
        ("credentials: slw_abc-123", "credentials: must be a valid dictionary"),
        ("credentials: {key_file: [slw_abc-123]}", "credentials.key_file: Input is not a valid"),
        ("credentials: {slw_abc-123: key_file}", "credentials.slw_…: unknown key"),
        (
            f"credentials: {{ca: {'c' * 40}, key_file: slw_{'x' * 20}abc-123, api: ]",
            "YAML: line 9; the file holds a secret",
        ),
        ("slw_abc-123: 1\nslw_abc-123: 2", "YAML: line 10; the file holds a secret"),
    ],
)
def test_a_secret_in_the_wrong_place_is_never_shown(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load_fleet(guarded(tmp_path, text), "local")
    assert said in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "123" not in str(caught.value)


def test_nobody_writes_into_the_inventory_what_follows_from_it(tmp_path):
    text = write(tmp_path).joinpath("configs/fleets/local.yaml").read_text()
    with pytest.raises(ConfigError, match=r"hosts\.0\.tls: unknown key"):
        load_fleet(write(tmp_path, text=text.replace("{name: a,", "{name: a, tls: true,")), "local")


@pytest.mark.parametrize("name", ["locl", "../fleets/local", ""])
def test_an_unknown_fleet_is_named_beside_those_that_exist(tmp_path, name):
    with pytest.raises(ConfigError, match="unknown fleet") as caught:
        load_fleet(write(tmp_path), name)
    assert "there is: local" in str(caught.value)
    assert ("did you mean 'local'?" in str(caught.value)) == (name == "locl")
