import re

import pytest

from slipway.errors import SlipwayError
from slipway.store import ledger
from slipway.store.ledger import append, read_ledger
from slipway.store.objects import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path / "store"))


def entry(**fields: object) -> dict:
    return {
        "at": "2026-11-20T12:00:00Z",
        "decision": "promoted",
        "version": "1" * 64,
        "previous": None,
        "serial": 3,
        "reason": "no worse than stable",
        "numbers": {"auc": {"stable": 0.7, "candidate": 0.71}},
        "run": "r1",
        **fields,
    }


def test_decisions_read_back_in_order(store):
    entries = [entry(serial=serial) for serial in range(5)]
    for each in entries:
        append(store, "local", "flights", each)
    assert read_ledger(store, "local", "flights").entries == entries


def test_there_is_nothing_before_the_first_decision(store):
    assert read_ledger(store, "local", "flights").entries == []


def test_each_model_of_each_fleet_has_its_own(store):
    append(store, "local", "flights", entry())
    assert read_ledger(store, "local", "ships").entries == []
    assert read_ledger(store, "berlin", "flights").entries == []


def test_a_clock_set_back_does_not_reorder_decisions(store):
    for serial, now_ns in enumerate((5_000, 100, 5_000)):
        append(store, "local", "flights", entry(serial=serial), now_ns=lambda t=now_ns: t)
    assert [e["serial"] for e in read_ledger(store, "local", "flights").entries] == [0, 1, 2]


def test_a_file_is_named_by_time_and_its_digest(store):
    append(store, "local", "flights", entry(), now_ns=lambda: 1_763_600_000_000_000_000)
    [name] = store.names("ledger/local/flights")
    assert re.fullmatch(r"01763600000000000000-[0-9a-f]{16}\.json", name)


@pytest.mark.parametrize("wrong", [{"decision": "hoped"}, {"more": 1}, {"serial": "3"}])
def test_an_entry_of_another_form_is_not_written(store, wrong):
    with pytest.raises(ValueError, match="validation error"):
        append(store, "local", "flights", entry(**wrong))
    assert store.names("ledger/local/flights") == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "is no ledger entry"),
        (lambda data: data[:-20], "is no ledger entry"),
        (lambda data: b"{}", "is no ledger entry"),
        (lambda data: b"[" * 100_000, "is no ledger entry"),
        (lambda data: b"\xff" + data[1:], "is no ledger entry"),
        (lambda data: bytes(len(data)), "is no ledger entry"),
        (lambda data: data.replace(b"promoted", b"rejected"), "its SHA-256 does not begin as"),
        (lambda data: b" " * 20_000_000, "larger than"),
    ],
)
def test_a_damaged_entry_is_named_and_left_out_and_the_others_are_read(store, damage, said):
    for serial in range(3):
        append(store, "local", "flights", entry(serial=serial))
    path = f"ledger/local/flights/{store.names('ledger/local/flights')[1]}"
    store.replace(path, damage(store.read(path)))
    found = read_ledger(store, "local", "flights")
    assert [e["serial"] for e in found.entries] == [0, 2]
    assert found.damaged.keys() == {path}
    assert said in found.damaged[path]


def test_what_is_no_entry_does_not_keep_the_next_decision_from_being_written(store):
    store.create("ledger/local/flights/notes.json", b"{}")
    append(store, "local", "flights", entry())
    found = read_ledger(store, "local", "flights")
    assert found.entries == [entry()]
    assert found.damaged == {"ledger/local/flights/notes.json": "has no name of an entry"}


def test_an_entry_that_is_not_as_it_was_written_shows_and_one_of_before_is_only_read(tmp_path):
    store = Store(str(tmp_path))
    entry = {"at": "2026-01-01", "decision": "promoted", "version": "a" * 64, "reason": "as good"}
    ledger.append(store, "local", "m", entry)
    ledger.append(store, "local", "m", entry)
    assert read_ledger(store, "local", "m").damaged == {}
    first, second = (f"ledger/local/m/{name}" for name in store.names("ledger/local/m"))
    store.replace(first, store.read(first).replace(b"as good", b"as gone"))
    old = "ledger/local/m/00000000000000000001-0123abcd.json"
    store.create(old, store.read(second))
    store.create("ledger/local/m/notes.json", store.read(second))
    store.replace(second, b"{")
    assert read_ledger(store, "local", "m").damaged.keys() == {
        first,
        second,
        "ledger/local/m/notes.json",
    }


def test_who_must_not_miss_a_decision_is_given_none_of_a_damaged_ledger(store):
    append(store, "local", "flights", entry())
    assert read_ledger(store, "local", "flights").whole() == [entry()]
    store.create("ledger/local/flights/notes.json", b"{}")
    with pytest.raises(SlipwayError, match=r"notes\.json: has no name of an entry"):
        read_ledger(store, "local", "flights").whole()
