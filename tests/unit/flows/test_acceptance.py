"""New data is seen before it is used; what is refused changes nothing."""

import json
import os
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows import acceptance
from slipway.config import AcceptConfig, Config, load_config
from slipway.errors import GateError, NotAccepted, SlipwayError
from tasks.reading.places import identity
from tests.project import write_config, write_rows

AUTO, ASK = AcceptConfig(policy="auto"), AcceptConfig(policy="ask")
LIMITS = {
    "rows_shrink_max": 0.1,
    "rows_grow_max": 1.2,
    "null_share_change_max": 0.02,
    "range_widen_max": 2.0,
    "new_columns": True,
}
WITHIN = AcceptConfig.model_validate({"policy": "within limits", "limits": LIMITS})
LOCK, PROFILE = "data/flights/sources.lock", "data/flights/accepted.json"


class Site:
    """A project with one table, and what is said while it is brought up to date."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()
        write_rows(root / "rows.csv", 500)
        write_config(root)
        self.config: Config = load_config(root, "flights")

    def run(self, accept: AcceptConfig = AUTO) -> list[str]:
        config = self.config.model_copy(update={"accept": accept})
        self.said = []
        acceptance.bring_up_to_date(self.root, "flights", config, self.said.append)
        return self.said

    def pinned(self) -> tuple[bytes, bytes]:
        return (self.root / LOCK).read_bytes(), (self.root / PROFILE).read_bytes()

    def more_rows(self, rows: int) -> None:
        write_rows(self.root / "rows.csv", rows)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("policy", [AUTO, WITHIN, ASK])
def test_the_first_data_is_accepted_and_profiled(site: Site, policy: AcceptConfig):
    assert site.run(policy) == [f"the sources changed: {LOCK} is updated"]
    things = json.loads((site.root / PROFILE).read_text())["sources"]["things"]
    assert (things["rows"], things["columns"]["id"]["high"]) == (500, 499)


def test_nothing_is_read_where_nothing_changed(site: Site):
    site.run()
    rows = site.root / "rows.csv"
    rows.write_bytes(b"!" * rows.stat().st_size)  # whoever reads it would see that
    [memory] = (site.root / acceptance.INCOMING).rglob("probes/*.json")
    probes = json.loads(memory.read_text())
    probes["things"]["probe"][""] = identity(rows)  # as if it were the file that was probed
    memory.write_text(json.dumps(probes))
    assert site.run(ASK) == []


def test_a_file_rewritten_with_its_time_set_back_is_seen(site: Site):
    site.run()
    rows = site.root / "rows.csv"
    stamp = rows.stat()
    rows.write_bytes(rows.read_bytes().replace(b"alpha", b"gamma", 1))
    os.utime(rows, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(NotAccepted):
        site.run(ASK)


def test_auto_takes_a_change_and_shows_it(site: Site):
    site.run()
    site.more_rows(400)
    said = site.run()
    assert said[0].startswith("things: bytes ")
    assert said[0].endswith("rows 500 -> 400 (-20.0 %)")
    assert said[-1] == f"the sources changed: {LOCK} is updated"
    assert site.run(ASK) == []


def test_a_change_within_limits_is_taken(site: Site):
    site.run()
    site.more_rows(550)
    assert site.run(WITHIN)[-1] == f"the sources changed: {LOCK} is updated"


@pytest.mark.parametrize("policy", [WITHIN, ASK])
def test_a_refused_change_changes_nothing_and_says_what_to_do(site: Site, policy: AcceptConfig):
    site.run()
    before = site.pinned()
    site.more_rows(100)
    for _ in range(2):
        with pytest.raises(GateError) as caught:
            site.run(policy)
        assert site.pinned() == before
        assert "rows 500 -> 100 (-80.0 %)" in str(caught.value)
        assert str(caught.value).endswith("slipway accept flights")
    if policy is WITHIN:
        assert "things: rows 500 -> 100, 80.0 % fewer; at most 10.0 %" in str(caught.value)


def test_a_source_that_goes_back_to_what_was_accepted_needs_nobody(site: Site):
    site.run()
    kept = (site.root / "rows.csv").read_bytes()
    site.more_rows(100)
    with pytest.raises(GateError):
        site.run(ASK)
    (site.root / "rows.csv").write_bytes(kept)
    assert site.run(ASK) == []


def test_accepting_makes_the_next_run_go_on(site: Site):
    site.run()
    site.more_rows(100)
    incoming = acceptance.look(site.root, "flights", site.config.ingest.sources)
    assert incoming is not None
    acceptance.accept(site.root, "flights", incoming)
    assert site.run(ASK) == []


def test_what_is_accepted_is_what_was_shown_not_what_came_since(site: Site):
    site.run()
    site.more_rows(100)
    shown = acceptance.look(site.root, "flights", site.config.ingest.sources)
    assert shown is not None
    site.more_rows(90)
    acceptance.accept(site.root, "flights", shown)
    with pytest.raises(GateError, match="rows 100 -> 90"):
        site.run(ASK)


def test_a_crash_between_profile_and_pin_is_made_good(site: Site):
    site.run()
    old = (site.root / LOCK).read_bytes()
    site.more_rows(400)
    site.run()
    (site.root / LOCK).write_bytes(old)
    assert site.run(ASK) == [f"the sources changed: {LOCK} is updated"]
    assert (site.root / LOCK).read_bytes() != old


def test_a_pin_that_somebody_wrote_by_hand_is_no_acceptance(site: Site):
    site.run()
    site.more_rows(100)
    acceptance.look(site.root, "flights", site.config.ingest.sources)
    shutil.copy(site.root / acceptance.INCOMING / LOCK, site.root / LOCK)
    with pytest.raises(GateError, match="rows 500 -> 100"):
        site.run(ASK)


def test_a_project_of_before_that_has_a_pin_and_no_profile_gets_one(site: Site):
    site.run()
    (site.root / PROFILE).unlink()
    assert site.run(ASK) == []
    assert (site.root / PROFILE).is_file()
    site.more_rows(100)
    (site.root / PROFILE).unlink()
    with pytest.raises(GateError, match="no profile of the accepted data"):
        site.run(WITHIN)


def test_what_cannot_be_read_stops_where_somebody_looks_and_auto_leaves_it_to_ingest(site: Site):
    site.run()
    (site.root / "rows.csv").write_text("id,moment\n1,2024-01-01T00:00:00\n")
    before = site.pinned()
    with pytest.raises(GateError, match="cannot be read as the config says"):
        site.run(WITHIN)
    assert site.pinned() == before
    assert any(line.startswith("no profile of it: ") for line in site.run())
    assert site.run() == []


def test_columns_that_the_config_reads_anew_are_profiled_and_ask_nobody(site: Site):
    site.run()
    source = site.config.ingest.sources["things"]
    fewer = source.model_copy(
        update={"columns": {k: v for k, v in source.columns.items() if k != "weight"}}
    )
    ingest = site.config.ingest.model_copy(update={"sources": {"things": fewer}})
    site.config = site.config.model_copy(update={"ingest": ingest})
    assert site.run(ASK) == []
    things = json.loads((site.root / PROFILE).read_text())["sources"]["things"]
    assert (things["unread"], "weight" in things["columns"]) == ({"weight": ""}, False)


def test_a_source_that_is_gone_stops_with_its_name_and_nothing_changes(site: Site):
    site.run()
    before = site.pinned()
    (site.root / "rows.csv").unlink()
    with pytest.raises(SlipwayError, match="things"):
        site.run()
    assert site.pinned() == before


def test_damage_to_what_only_saves_time_is_nothing(site: Site):
    site.run()
    (site.root / acceptance.INCOMING / PROFILE).write_text("{")
    site.more_rows(490)
    assert "rows 500 -> 490" in site.run()[0]


def test_limits_are_wanted_where_the_policy_names_them():
    with pytest.raises(ValidationError, match="needs limits"):
        AcceptConfig(policy="within limits")


def test_left_out_the_policy_is_auto(site: Site):
    assert site.config.accept == AUTO
