"""What a capture after the first reads: all that was written since, whoever wrote it and whenever it was committed."""

from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from conftest import ANCHOR
from test_capture import TRAP, fill, raw, run
from test_custody import NEW, differences, verify

import analysis
from analysis import capture, cli, custody, lab, stores
from analysis.model import SourceError

RENAME = "update restaurants set name = %s where id = %s"


def pull(dsn: str, store: Path) -> dict[str, dict[str, Any]]:
    """Capture, hold that nothing is missing then, and return the manifest by relation."""
    relations = capture.pull(lab.reader_dsn(dsn), store, analysis.derive)["relations"]
    assert differences(store, dsn) == []
    assert verify(store) == set()
    assert custody.derived(store, analysis.derive) == []
    return {row["relation"]: row for row in relations}


def sent(dsn: str, store: Path) -> dict[str, int]:
    """Capture, and return how many rows each relation sent whole, where any did; rules always do."""
    return {name: row["rows_sent"] for name, row in pull(dsn, store).items() if row["rows_sent"] and name != "rules"}


@pytest.fixture
def captured(system: str, store: Path) -> str:
    """Return the DSN of a source that was captured once, with many rows that nobody writes again."""
    fill(system)
    run(system, "insert into restaurants select gen_random_uuid(), 'R' || n, 'UTC' from generate_series(1, 50) as n")
    pull(system, store)
    return system


def test_nothing_new_is_proved_without_reading_it(captured: str, store: Path) -> None:
    assert sent(captured, store) == {}
    with psycopg.connect(captured, autocommit=True) as conn:
        conn.execute("vacuum (full, freeze, analyze)")
    assert sent(captured, store) == {}
    assert raw(store, "select count(*) from captures") == [(3,)]


def test_rows_of_one_key_are_no_new_versions(system: str, store: Path) -> None:
    run(system, "insert into restaurants select gen_random_uuid(), 'R' || n, 'UTC' from generate_series(1, 9) as n")
    run(system, "alter table restaurants rename to r")
    run(
        system,
        "create view restaurants as select xmin, id, name, timezone from r "
        "union all select xmin, id, name || '!', timezone from r where name in ('R1', 'R2')",
    )
    run(system, "grant select on restaurants to forensics_reader")
    for n in range(3):
        rows = capture.pull(lab.reader_dsn(system), store, analysis.derive)["relations"]
        [found] = [row for row in rows if row["relation"] == "restaurants"]
        assert [found[f"rows_{what}"] for what in ("read", "new", "changed", "vanished")] == [12, 0 if n else 12, 0, 0]


def test_rows_without_a_key_are_refused(captured: str, store: Path) -> None:
    run(captured, "alter table restaurants rename to r")
    but_one = "case when row_number() over () > 1 then id end as id"
    run(captured, f"create view restaurants as select xmin, {but_one}, name, timezone from r")
    run(captured, "grant select on restaurants to forensics_reader")
    with pytest.raises(SourceError, match="restaurants: 1 of 53 rows have no id; nothing was stored"):
        capture.pull(lab.reader_dsn(captured), store, analysis.derive)
    assert verify(store) == set()


def test_ids_of_what_is_not_read_any_more_stay_as_they_are(captured: str, store: Path) -> None:
    run(captured, "drop table allocations_archive")
    capture.pull(lab.reader_dsn(captured), store, analysis.derive)
    assert verify(store) == set()
    with duckdb.connect(str(store), read_only=True) as con:
        assert con.execute("select distinct typeof(key) from raw_allocations_archive").fetchall() == [("UUID",)]


def test_ids_that_are_of_another_type_now_are_the_same_ids(captured: str, store: Path) -> None:
    """What was a uuid becomes a text, with ids that no uuid can be; and a table that held texts gets uuids again."""
    kinds = "select distinct typeof(key) from raw_allocations"
    with duckdb.connect(str(store), read_only=True) as con:
        assert con.execute(kinds).fetchall() == [("UUID",)]
    run(captured, "alter table allocations alter id type text")
    run(captured, "update allocations set id = 'the first' where id = (select min(id) from allocations)")
    found = pull(captured, store)["allocations"]
    assert [found[name] for name in ("rows_new", "rows_changed", "rows_vanished")] == [1, 0, 1]
    with duckdb.connect(str(store), read_only=True) as con:
        assert con.execute(kinds).fetchall() == [("VARCHAR",)]
    run(captured, "delete from allocations where id = 'the first'")
    run(captured, "alter table allocations alter id type uuid using id::uuid")
    found = pull(captured, store)["allocations"]
    assert [found[name] for name in ("rows_new", "rows_changed", "rows_vanished")] == [0, 0, 1]


def test_only_what_was_written_is_sent(captured: str, store: Path) -> None:
    run(captured, NEW, "new")
    run(captured, RENAME, "changed", ANCHOR)
    run(captured, "delete from booking_confirmation_results where id = 2")
    found = pull(captured, store)
    counts = ("rows_read", "rows_sent", "rows_new", "rows_changed", "rows_vanished")
    assert [found["restaurants"][name] for name in counts] == [54, 2, 1, 1, 0]
    assert [found["checks"][name] for name in counts] == [3, 0, 0, 0, 1]
    assert raw(store, "select relation, key from vanished") == [("checks", "2")]
    assert sent(captured, store) == {}


def test_a_row_that_is_written_again_as_it_was_is_no_new_version_and_not_sent_again(captured: str, store: Path) -> None:
    run(captured, "update restaurants set name = name where id = %s", ANCHOR)
    found = pull(captured, store)["restaurants"]
    assert (found["rows_sent"], found["rows_changed"]) == (1, 0)
    assert raw(store, "select capture_id, relation, key from rewritten") == [(2, "restaurants", ANCHOR)]
    assert sent(captured, store) == {}
    run(captured, RENAME, "changed", ANCHOR)
    assert sent(captured, store) == {"restaurants": 1}
    assert sent(captured, store) == {}


def test_a_row_that_comes_back_is_read_again(captured: str, store: Path) -> None:
    run(captured, "create table kept as select * from restaurants where name = 'R7'")
    run(captured, "delete from restaurants where name = 'R7'")
    assert pull(captured, store)["restaurants"]["rows_vanished"] == 1
    assert sent(captured, store) == {}
    run(captured, "insert into restaurants select * from kept")
    assert sent(captured, store) == {"restaurants": 1}
    assert sent(captured, store) == {}


def test_rows_swapped_one_for_one_are_noticed(captured: str, store: Path) -> None:
    """As many rows as before, and all that are new older than the last capture by their own account."""
    with psycopg.connect(captured) as conn:
        conn.execute("delete from booking_confirmation_results where id = 1")
        conn.execute(
            "insert into booking_confirmation_results (id, booking_id, confirmed, checked_at) overriding system value "
            "values (0, gen_random_uuid(), true, '2000-01-01')"
        )
    found = pull(captured, store)["checks"]
    assert (found["rows_read"], found["rows_new"], found["rows_vanished"]) == (4, 1, 1)


class TestLate:
    """Transactions that were open at a capture and commit after it."""

    def test_a_late_commit_is_rescued_whatever_its_ids_and_times(self, captured: str, store: Path) -> None:
        with psycopg.connect(captured) as slow:
            slow.execute(NEW.encode(), ["late"])
            slow.execute(RENAME.encode(), ["late too", ANCHOR])
            run(captured, NEW, "quick")
            assert sent(captured, store) == {"restaurants": 1}
            assert sent(captured, store) == {}
            slow.commit()
        found = pull(captured, store)["restaurants"]
        assert [found[f"rows_{what}"] for what in ("sent", "new", "changed", "rescued")] == [2, 1, 1, 2]

    def test_a_part_of_a_transaction_that_begins_after_the_capture(self, captured: str, store: Path) -> None:
        with psycopg.connect(captured) as slow:
            slow.execute(NEW.encode(), ["before"])
            assert sent(captured, store) == {}
            with slow.transaction():
                slow.execute(NEW.encode(), ["in a part of its own"])
            with slow.transaction(force_rollback=True):
                slow.execute(NEW.encode(), ["undone"])
            slow.execute(NEW.encode(), ["after"])
            slow.commit()
        assert sent(captured, store) == {"restaurants": 3}
        assert sent(captured, store) == {}

    def test_a_transaction_that_wrote_nothing_yet_at_the_capture(self, captured: str, store: Path) -> None:
        with psycopg.connect(captured) as slow:
            slow.execute(b"select from restaurants")
            assert sent(captured, store) == {}
            slow.execute(NEW.encode(), ["late"])
            slow.commit()
        assert sent(captured, store) == {"restaurants": 1}

    def test_a_transaction_that_stays_open_stops_nothing_and_is_named(
        self, captured: str, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with psycopg.connect(captured) as slow:
            [(begun_at,)] = slow.execute(b"select to_char(now() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')").fetchall()
            slow.execute(NEW.encode(), ["late"])
            [(xid,)] = slow.execute(b"select pg_current_xact_id()::xid::text").fetchall()
            pull(captured, store)
            run(captured, NEW, "quick")
            for dsn, since in (
                (captured, f"open since {begun_at}Z"),
                (lab.reader_dsn(captured), "open since before capture 2"),
            ):
                with pytest.raises(SystemExit):
                    cli.main(["capture", dsn, "--store", str(store)])
                assert f"transaction {xid} has written and not committed, {since}" in capsys.readouterr().out
            told = raw(store, f"select capture_id, begun_at is null from capture_writers where row_xid = '{xid}' order by all")
            assert told == [(2, True), (3, False), (4, True)]
            slow.rollback()
        with pytest.raises(SystemExit):
            cli.main(["capture", lab.reader_dsn(captured), "--store", str(store)])
        assert "not committed" not in capsys.readouterr().out
        assert "late" not in {name for (name,) in raw(store, "select name from raw_restaurants")}


WHOLE = {
    "a column more": "alter table restaurants add column seats int default 4",
    "a column less": "alter table restaurants drop column policy_version",
    "another column of the same name": (
        "alter table restaurants drop column timezone; alter table restaurants add column timezone text default 'Europe/Rome'"
    ),
    "another table of the same name": (
        "create table other (like restaurants including all); insert into other select * from restaurants; "
        "alter table restaurants rename to former; alter table other rename to restaurants; "
        "grant select on restaurants to forensics_reader"
    ),
    "a view": (
        "alter table restaurants rename to former; create view restaurants as select f.xmin, f.* from former as f; "
        "grant select on restaurants to forensics_reader"
    ),
}


@pytest.mark.parametrize("change", WHOLE)
def test_a_table_that_is_not_what_it_was_is_read_whole(captured: str, store: Path, change: str) -> None:
    run(captured, WHOLE[change])
    assert sent(captured, store)["restaurants"] == 53


def test_a_view_is_read_whole_each_time(captured: str, store: Path) -> None:
    run(captured, TRAP.format("true"))
    for _ in range(2):
        assert sent(captured, store) == {"allocations_archive": 8}


def test_rows_that_say_something_else_though_nobody_wrote_them(captured: str, store: Path) -> None:
    run(captured, "create type kind as enum ('table', 'hold')")
    run(
        captured,
        "alter table table_inventory add column kind kind; alter table table_inventory alter section type kind using 'table'",
    )
    pull(captured, store)
    assert sent(captured, store) == {}
    run(captured, "alter type kind rename value 'table' to 'place'")
    assert pull(captured, store)["tables"]["rows_changed"] == 3


def test_the_same_rows_on_another_server_are_read_whole_and_are_no_new_versions(captured: str, store: Path) -> None:
    for name in ("timeline", "started_at", "system_identifier", "database_oid"):
        with stores.open_to_write(store) as con:
            con.execute(f"update captures set {name} = 'another' where capture_id = (select max(capture_id) from captures)")
        manifest = capture.pull(lab.reader_dsn(captured), store, analysis.derive)
        relations = manifest["relations"]
        assert manifest["moved"] == (name in ("system_identifier", "database_oid"))
        found = {row["relation"]: row for row in relations}
        assert found["restaurants"]["rows_sent"] == 53
        assert sum(row[f"rows_{what}"] for row in relations for what in ("new", "changed", "vanished")) == 0


def test_many_rows_written_are_read_whole(captured: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_FEW", 3)
    run(captured, "update restaurants set name = name || '!' where name in ('R1', 'R2', 'R3', 'R4')")
    assert sent(captured, store) == {"restaurants": 4}
    run(captured, "update restaurants set name = name || '!' where name like 'R4%%'")
    assert sent(captured, store) == {"restaurants": 53}
    assert sent(captured, store) == {}
