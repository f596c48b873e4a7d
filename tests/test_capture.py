"""Source → store: every byte arrives, versions accumulate, and whatever fails leaves the store as it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from conftest import ANCHOR
from psycopg import sql
from psycopg.conninfo import make_conninfo

import analysis
from analysis import capture, case, cli, lab, query, source, stores, transport
from analysis.model import SourceError, StoreError

HOSTILE = ' O\'Hara "x"\n\ttab\r\\back \\N \\. , | é 席 😀 {} \n'
SOURCE_TABLES = {
    "checks": "booking_confirmation_results",
    "allocations": "allocations",
    "allocations_archive": "allocations_archive",
    "tables": "table_inventory",
    "restaurants": "restaurants",
}
NOT_CAPTURED = {"policy_version"}  # of restaurants: no question here needs it
WINDOWS = (
    "[2025-11-15 18:00:00.000001+00,2025-11-15 20:00+00)",
    "[2025-11-15 18:00+00,infinity)",
    "[2025-11-15 18:00+00,)",
    "[-infinity,2025-11-15 18:00+00]",
    "(,)",
    "empty",
    "[2025-11-15 18:00+00,2025-11-15 18:00+00]",
    "[0044-03-15 12:00+00 BC,12025-11-15 18:00+00)",
)


def run(dsn: str, statement: str, *values: Any) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(statement.encode(), values or None)


def pull(dsn: str, store: Path) -> dict[str, tuple[int, ...]]:
    """Capture, and return what the manifest says of each relation: rows read, new, changed, vanished."""
    manifest = capture.pull(lab.reader_dsn(dsn), store, analysis.derive)
    return {
        r["relation"]: (r["rows_read"], r["rows_new"], r["rows_changed"], r["rows_vanished"]) for r in manifest["relations"]
    }


def raw(store: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(analysis.open_store(store)) as con:
        return con.execute(statement).fetchall()


def printed(dsn: str, table: str) -> set[tuple[str | None, ...]]:
    """Return the rows of a table as PostgreSQL prints them in UTC and ISO, columns in alphabetical order."""
    with psycopg.connect(dsn) as conn:
        conn.execute("set timezone = 'UTC'; set datestyle = 'ISO, YMD'")
        columns = conn.execute(
            "select column_name from information_schema.columns where table_name = %s order by column_name", [table]
        ).fetchall()
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for (c,) in columns if c not in NOT_CAPTURED)
        return set(conn.execute(sql.SQL("select {} from {}").format(texts, sql.Identifier(table))).fetchall())


def stored(store: Path, relation: str) -> set[tuple[str | None, ...]]:
    names = {"key": "id", "window_text": "window"}
    with closing(analysis.open_store(store)) as con:
        columns = "lambda name : name not in ('capture_id', 'row_xid') and not ends_with(name, '_stored_bytes')"
        rows = con.execute(f"select columns({columns}) from raw_{relation}")
        found = [names.get(column[0], column[0]) for column in rows.description]
        return {tuple(text for _, text in sorted(zip(found, row, strict=True))) for row in rows.fetchall()}


def fill(dsn: str) -> None:
    """Write what is hard to carry: quotes, control characters, empty text, nulls, infinities, years BC, long digits."""
    jsonb = '{"digits": [1e-30, 12345678901234567890.12345678901234567890, 1.0], "text": "a\\n\\"\\\\ é", "null": null}'
    with psycopg.connect(dsn) as conn:
        conn.execute("insert into restaurants values (gen_random_uuid(), '', ''), (gen_random_uuid(), %s, %s)", [HOSTILE] * 2)
        tables = "insert into table_inventory values (gen_random_uuid(), %s, %s, 4, 1, 4, %s, false)"
        for number, section in ((HOSTILE, ""), ("", None), ("null", "\\N")):
            conn.execute(tables, [ANCHOR, number, section])
        for table, more in (("allocations", ""), ("allocations_archive", ", archived_at")):
            for window in WINDOWS:
                conn.execute(
                    f'insert into {table} (id, resource_type, resource_id, restaurant_id, "window", shadow, is_maintenance, '
                    f"created_at, updated_at{more}) values (gen_random_uuid(), 'table', gen_random_uuid(), %s, %s, false, "
                    f"true, '0044-03-15 12:00+00 BC', '2025-11-15 18:00:00.123456+05:30'{', now()' if more else ''})".encode(),
                    [ANCHOR, window],
                )
        checks = "insert into booking_confirmation_results (booking_id, confirmed, conflict_details, checked_at, snapshot_data)"
        for confirmed, conflict, at, snapshot in (
            (True, None, "2025-11-15 18:00:00.000001-03:30", None),
            (False, jsonb, "2025-11-15 18:00+00", jsonb),
            (False, "null", "2025-11-15 18:00+00", "null"),
            (True, '""', "1999-12-31 23:59:59.999999+14", "[]"),
        ):
            conn.execute(f"{checks} values (gen_random_uuid(), %s, %s, %s, %s)".encode(), [confirmed, conflict, at, snapshot])


@pytest.mark.parametrize(("bulk_rows", "chunk_bytes"), [(1, 1), (5000, 1), (5000, 300), (5000, 8_000_000)])
def test_every_text_is_what_postgresql_prints_in_utc(
    system: str, store: Path, monkeypatch: pytest.MonkeyPatch, bulk_rows: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr(transport, "_BULK_ROWS", bulk_rows)
    monkeypatch.setattr(transport, "_CHUNK_BYTES", chunk_bytes)
    fill(system)
    pull(system, store)
    for relation, table in SOURCE_TABLES.items():
        assert stored(store, relation) == printed(system, table)
    assert {text for (text,) in raw(store, "select name from raw_restaurants")} == {"", "The Anchor", HOSTILE}


@pytest.mark.parametrize("relation", SOURCE_TABLES)
def test_the_lab_arrives_whole(lab_dsn: str, lab_store: Path, relation: str) -> None:
    assert stored(lab_store, relation) == printed(lab_dsn, SOURCE_TABLES[relation]) != set()


def test_the_rule_is_the_text_of_the_catalog(system: str, store: Path) -> None:
    pull(system, store)
    [(key, definition)] = raw(store, "select key, definition from raw_rules")
    with psycopg.connect(system) as conn:
        row = conn.execute("select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [key]).fetchone()
    assert row == (definition,)


def test_the_manifest_says_who_read_what_from_where(system: str, store: Path) -> None:
    manifest = capture.pull(lab.reader_dsn(system), store, analysis.derive)
    with psycopg.connect(system) as conn:
        said = conn.execute("select current_setting('server_version'), current_database()").fetchone()
    assert said == (manifest["server_version"], manifest["database"])
    assert (manifest["capture_id"], manifest["role"]) == (1, "forensics_reader")
    assert (manifest["shape"], manifest["standby"]) == ("audit", "false")
    with psycopg.connect(system) as conn:
        said = conn.execute("select system_identifier::text, pg_current_wal_lsn() from pg_control_system()").fetchone()
        oid = conn.execute("select oid::text from pg_database where datname = current_database()").fetchone()
    assert said is not None
    assert (manifest["system_identifier"], (manifest["database_oid"],)) == (said[0], oid)
    with psycopg.connect(system) as conn:
        assert conn.execute("select %s::pg_lsn <= %s::pg_lsn", [manifest["lsn"], said[1]]).fetchone() == (True,)
    read = raw(store, "select relation, rows_read from capture_relations order by relation")
    assert set(dict(read)) == set(source.READ["audit"])
    assert {relation: rows for relation, rows in read if rows} == {"restaurants": 1, "rules": 1}


def test_the_manifest_says_what_was_read_and_how_big_it_is_there(system: str, store: Path) -> None:
    fill(system)
    pull(system, store)
    described = {
        relation: found
        for relation, *found in raw(
            store, "select relation, columns, source_columns, heap_bytes, toast_bytes, index_bytes from capture_relations"
        )
    }
    assert described["rules"] == ["key, definition, row_xid", None, None, None, None]
    assert described["restaurants"][:2] == [
        "key, name, timezone, row_xid",
        "id uuid, name text, timezone text, policy_version integer",
    ]
    with psycopg.connect(system) as conn:
        for relation, table in SOURCE_TABLES.items():
            sizes = "select pg_relation_size($1), pg_table_size($1) - pg_relation_size($1), pg_indexes_size($1)"
            assert conn.execute(sizes.replace("$1", "%(t)s::regclass").encode(), {"t": table}).fetchone() == tuple(
                described[relation][2:]
            )
            assert described[relation][4] > 0


def test_a_source_that_is_a_view_takes_up_nothing_that_is_known(system: str, store: Path) -> None:
    run(system, TRAP.format("true"))
    pull(system, store)
    sizes = "select heap_bytes, toast_bytes, index_bytes from capture_relations where relation = 'allocations_archive'"
    assert raw(store, sizes) == [(None, None, None)]


def test_a_role_that_may_not_ask_which_server_it_is_reads_all_the_same(system: str, store: Path) -> None:
    with psycopg.connect(system) as conn:
        conn.execute("revoke execute on function pg_control_system() from public")
    pull(system, store)
    assert raw(store, "select system_identifier, database_oid is not null from captures") == [(None, True)]


def test_how_long_values_are_stored_is_told_and_is_no_change(system: str, store: Path) -> None:
    insert = "insert into booking_confirmation_results (booking_id, confirmed, conflict_details, snapshot_data)"
    long = json.dumps({"text": "long " * 10_000})
    run(system, f"{insert} values (gen_random_uuid(), true, null, %s), (gen_random_uuid(), true, '[]', null)", long)
    pull(system, store)
    held = "select snapshot_stored_bytes::int, conflict_stored_bytes::int from raw_checks order by key"
    sizes = (
        "select pg_column_size(snapshot_data), pg_column_size(conflict_details) from booking_confirmation_results order by id"
    )
    with psycopg.connect(system) as conn:
        stored_as = conn.execute(sizes.encode()).fetchall()
        assert raw(store, held) == stored_as
        conn.execute("alter table booking_confirmation_results alter snapshot_data set storage external")
        conn.execute(
            "update booking_confirmation_results set snapshot_data = snapshot_data || '{}' where snapshot_data is not null"
        )
        assert conn.execute(sizes.encode()).fetchall() != stored_as
    assert pull(system, store)["checks"] == (2, 0, 0, 0)


def test_nothing_new_adds_nothing(system: str, store: Path) -> None:
    fill(system)
    first, second = pull(system, store), pull(system, store)
    for relation, (read, new, changed, vanished) in first.items():
        assert (new, changed, vanished) == (read, 0, 0)
        assert second[relation] == (read, 0, 0, 0)
        assert raw(store, f"select count(*), max(capture_id) from raw_{relation}") == [(read, 1 if read else None)]
    assert raw(store, "select count(*) from captures") == [(2,)]


def test_a_row_changes_vanishes_and_comes_back(system: str, store: Path) -> None:
    """The life of one restaurant, capture by capture: what happened to it, and what the manifest says of that."""
    insert = "insert into restaurants values (%s, %s, 'UTC')"
    other = "00000000-0000-4000-8000-000000000002"
    life: list[tuple[str, str, list[Any], tuple[int, ...]]] = [
        ("is there", insert, [other, "Old"], (2, 2, 0, 0)),
        ("stays", "select %s", [1], (2, 0, 0, 0)),
        ("changes", "update restaurants set name = %s where id = %s", ["New", other], (2, 0, 1, 0)),
        ("vanishes", "delete from restaurants where id = %s", [other], (1, 0, 0, 1)),
        ("stays away", "select %s", [1], (1, 0, 0, 0)),
        ("comes back", insert, [other, "New"], (2, 0, 1, 0)),
        ("stays again", "select %s", [1], (2, 0, 0, 0)),
        ("vanishes again", "delete from restaurants where id = %s", [other], (1, 0, 0, 1)),
    ]
    for what, statement, values, counts in life:
        run(system, statement, *values)
        assert pull(system, store)["restaurants"] == counts, what
    versions = raw(store, f"select capture_id, name from raw_restaurants where key = '{other}' order by all")
    assert versions == [(1, "Old"), (3, "New"), (6, "New")]
    assert raw(store, "select capture_id, relation, key from vanished order by all") == [
        (4, "restaurants", other),
        (8, "restaurants", other),
    ]


def test_a_vanished_check_is_still_told(system: str, store: Path) -> None:
    fill(system)
    pull(system, store)
    run(system, "delete from booking_confirmation_results where id = 2")
    assert pull(system, store)["checks"] == (3, 0, 0, 1)
    assert raw(store, "select count(*) from checks where check_id = '2'") == [(1,)]


def test_what_became_of_a_check_is_told_with_it(system: str, store: Path) -> None:
    fill(system)
    pull(system, store)
    run(system, "update booking_confirmation_results set confirmed = true, snapshot_data = '[]' where id = 2")
    pull(system, store)
    run(system, "delete from booking_confirmation_results where id = 2")
    pull(system, store)
    with closing(analysis.open_store(store)) as con:
        told = analysis.explain_check(con, 2)
        assert told.data["notes"] == [
            "the row was changed in place at the source: capture 2 read another confirmed, snapshot_data than capture 1; "
            "it was recorded as refused",
            "the row was gone from the source when capture 3 looked",
        ]
        assert analysis.explain_check(con, 1).data["notes"] == []
        page = case.write(con, "2", analysis.explain_check, analysis.derive)
    assert "the row was gone from the source when capture 3 looked" in page
    assert case.verify(page, analysis.explain_check, analysis.derive) == []


def test_a_rule_that_is_rolled_back_is_another_version(system: str, store: Path) -> None:
    pull(system, store)
    run(system, query.text("postgres/migration_rollback"))
    assert pull(system, store)["rules"] == (1, 1, 0, 1)
    assert raw(store, "select capture_id, key from raw_rules order by all") == [
        (1, "allocations_no_overlap"),
        (2, "allocations_resource_window_excl"),
    ]


def test_the_answer_key_of_the_lab_is_out_of_reach(lab_dsn: str) -> None:
    with psycopg.connect(lab.reader_dsn(lab_dsn)) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select count(*) from lab.ledger")
    for relation in (*stores.RELATIONS, "context", "sight"):
        assert "ledger" not in query.text(f"capture/{relation}")


@contextmanager
def untouched(store: Path) -> Iterator[None]:
    """Hold that a block leaves the store, or its absence, byte for byte as it was, and no other file beside it."""
    before = {path: path.read_bytes() for path in store.parent.iterdir()}
    yield
    assert {path: path.read_bytes() for path in store.parent.iterdir()} == before


def refuse(con: duckdb.DuckDBPyConnection) -> None:
    analysis.derive(con)
    raise ArithmeticError


# A row that ends the connection, or the statement, when it is its turn to be sent.
TRAP = """
alter table allocations_archive rename to archived;
create view allocations_archive as
select a.id, a.booking_id, a.resource_type, a.resource_id, a.created_at, a.updated_at, a.shadow, a.restaurant_id, a."window",
    case when {} then a.created_by end as created_by, a.is_maintenance, a.archived_at, a.xmin from archived as a;
grant select on allocations_archive to forensics_reader"""
TRAPS = {
    "the connection dies": ("pg_terminate_backend(pg_backend_pid())", "terminating connection due to administrator command"),
    "a row cannot be sent": ("1 / (octet_length(a.resource_type) - 5) > 0", "division by zero"),
}


@pytest.mark.parametrize("existing", [False, True], ids=["new store", "existing store"])
@pytest.mark.parametrize("trap", TRAPS)
def test_a_source_that_fails_while_it_is_read(
    system: str, store: Path, trap: str, existing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if existing:
        pull(system, store)
    fill(system)
    condition, told = TRAPS[trap]
    run(system, TRAP.format(condition))
    with untouched(store), pytest.raises(SourceError, match=told):
        pull(system, store)
    assert not caplog.records
    run(system, "drop view allocations_archive; alter table archived rename to allocations_archive")
    assert pull(system, store)["allocations_archive"] == (len(WINDOWS), len(WINDOWS), 0, 0)


@pytest.mark.parametrize("existing", [False, True], ids=["new store", "existing store"])
def test_what_cannot_be_derived_is_not_kept(system: str, store: Path, existing: bool) -> None:
    if existing:
        pull(system, store)
    fill(system)
    with untouched(store), pytest.raises(ArithmeticError):
        capture.pull(lab.reader_dsn(system), store, refuse)
    assert pull(system, store)["checks"] == (4, 4, 0, 0)


@pytest.mark.parametrize("existing", [False, True], ids=["new store", "existing store"])
def test_a_capture_that_is_killed_lands_not_at_all(system: str, store: Path, existing: bool) -> None:
    if existing:
        pull(system, store)
    fill(system)
    run(system, TRAP.format("pg_sleep(60) is null"))
    process = subprocess.Popen([sys.executable, "-m", "analysis", "capture", lab.reader_dsn(system), "--store", store])
    with psycopg.connect(system, autocommit=True) as conn:
        asleep = "select from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'forensics capture'"
        until = time.monotonic() + 30
        while not conn.execute(asleep.encode()).fetchall():
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    if existing:
        assert raw(store, "select count(*), (select count(*) from raw_checks) from captures") == [(1, 0)]
    else:
        with pytest.raises(StoreError, match=r"no store at|holds no capture"):
            analysis.open_store(store)
    run(system, "drop view allocations_archive; alter table archived rename to allocations_archive")
    assert pull(system, store)["checks"] == (4, 4, 0, 0)


@contextmanager
def held(store: Path, opener: str) -> Iterator[int]:
    """Hold a store open in another process meanwhile, and yield that one's number."""
    hold = f"{opener}; print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.communicate(b"\n")


def test_a_store_that_another_process_writes_to_is_left_alone(system: str, store: Path) -> None:
    pull(system, store)
    before = store.read_bytes()
    with held(store, "import duckdb, sys; held = duckdb.connect(sys.argv[1])") as pid:
        for ask in (lambda: analysis.open_store(store), lambda: pull(system, store)):
            with pytest.raises(StoreError) as caught:
                ask()
            told = f"{store} is open in process {pid}, which writes to it: wait for it to end, and try again"
            assert str(caught.value) == told
        assert store.read_bytes() == before
    assert pull(system, store)["restaurants"] == (1, 0, 0, 0)


def test_a_store_that_another_process_reads_is_read_but_not_written(
    system: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pull(system, store)
    fill(system)
    opener = "import sys, pathlib, analysis; held = analysis.open_store(pathlib.Path(sys.argv[1]))"
    with held(store, opener) as pid:
        with untouched(store), pytest.raises(SystemExit) as caught:
            cli.main(["capture", lab.reader_dsn(system), "--store", str(store)])
        told = (
            f"forensics: {store} is open for reading in process {pid}: "
            "close it there (a notebook: shut its kernel down), and try again\n"
        )
        assert (caught.value.code, capsys.readouterr().err) == (2, told)
        assert raw(store, "select count(*) from captures") == [(1,)]
    assert pull(system, store)["checks"] == (4, 4, 0, 0)


@pytest.mark.parametrize("existing", [False, True], ids=["new store", "existing store"])
def test_a_second_capture_at_the_same_time(system: str, store: Path, existing: bool) -> None:
    """The first is stopped while it writes; the second neither writes nor removes what it does, though it found no store."""
    if existing:
        pull(system, store)
    fill(system)
    told = []

    def derive(con: duckdb.DuckDBPyConnection) -> None:
        command = [sys.executable, "-c", SECOND, lab.reader_dsn(system), str(store)]
        told.append(subprocess.run(command, capture_output=True, text=True))
        analysis.derive(con)

    capture.pull(lab.reader_dsn(system), store, derive)
    [second] = told
    error = f"forensics: {store} is open in process {os.getpid()}, which writes to it: wait for it to end, and try again\n"
    assert (second.returncode, second.stderr) == (2, error)
    assert raw(store, "select count(*), (select count(*) from raw_checks) from captures") == [(1 + existing, 4)]
    assert pull(system, store)["checks"] == (4, 0, 0, 0)


# As if the first had made the file right after the second had looked for it.
SECOND = """
import pathlib, sys
from analysis import cli
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path: path.suffix != '.duckdb' and exists(path)
cli.main(['capture', sys.argv[1], '--store', sys.argv[2]])"""


def test_a_store_of_one_tenant_says_so_and_takes_no_other(
    system: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(system)
    with psycopg.connect(system, autocommit=True) as conn:
        conn.execute("alter table booking_confirmation_results force row level security")
        conn.execute("insert into bookings select booking_id, %s, 2, '[,]' from booking_confirmation_results limit 1", [ANCHOR])
        conn.execute("create role forensics_one_tenant login in role service_role")
        conn.execute("grant select on all tables in schema public to forensics_one_tenant")
    dsn = make_conninfo(system, user="forensics_one_tenant")
    try:
        with pytest.raises(SystemExit):
            cli.main(["capture", dsn, "--store", str(store), "--tenant", ANCHOR])
        assert f"one snapshot, only what tenant {ANCHOR} may see" in capsys.readouterr().out
        [(check_id,)] = raw(store, "select check_id from checks")
        with closing(analysis.open_store(store)) as con:
            told = analysis.explain_check(con, check_id)
        assert told.data["basis"]["tenant"] == ANCHOR
        assert f"Cannot be seen: any other restaurant: the capture was made as tenant {ANCHOR}" in str(told)
        with pytest.raises(SystemExit):
            cli.main(["replay", "--store", str(store)])
        assert f"Captured as tenant {ANCHOR}: what other restaurants hold is out of sight" in capsys.readouterr().out
        with pytest.raises(StoreError, match=f"holds captures of tenant {ANCHOR}: rows out of sight would be taken"):
            pull(system, store)
        pull(system, tmp_path / "whole.duckdb")
        with pytest.raises(StoreError, match="holds captures of every tenant"):
            capture.pull(dsn, tmp_path / "whole.duckdb", analysis.derive, ANCHOR)
        assert raw(store, "select count(*) from captures") == [(1,)]
    finally:
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute("drop owned by forensics_one_tenant; drop role forensics_one_tenant")


def test_what_another_version_derived_is_derived_anew_without_touching_the_store(system: str, store: Path) -> None:
    fill(system)
    pull(system, store)
    with closing(analysis.open_store(store)) as con:
        before = con.execute("select check_id, replayed_verdict, cause, grade from verdicts").fetchall()
    with duckdb.connect(str(store)) as con:
        con.execute("update derivation set digest = 'of another version'; drop table verdicts; drop table checks").fetchall()
    with untouched(store), closing(analysis.open_store(store)) as con:
        assert con.execute("select check_id, replayed_verdict, cause, grade from verdicts").fetchall() == before
        assert analysis.verify(con) == []
    assert pull(system, store)["checks"] == (4, 0, 0, 0)


def test_readers_share_a_store_and_cannot_write(lab_store: Path) -> None:
    with closing(analysis.open_store(lab_store)) as one, closing(analysis.open_store(lab_store)) as two:
        assert one.table("captures").pl().equals(two.table("captures").pl())
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            one.execute("delete from captures")


@pytest.mark.parametrize("name", ["evidence.duckdb", "clock.duckdb"])
def test_a_file_that_is_no_store_is_neither_read_nor_written(system: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("dear diary\n" * 1000)
    told = rf"{name} is not a DuckDB file: give the store that forensics capture wrote"
    with untouched(path):
        for ask in (lambda: analysis.open_store(path), lambda: pull(system, path)):
            with pytest.raises(StoreError, match=told):
                ask()


def test_a_folder_is_no_place_for_a_capture(system: str, tmp_path: Path) -> None:
    with untouched(tmp_path / "x"), pytest.raises(StoreError, match="is a folder"):
        pull(system, tmp_path)


def test_a_duckdb_file_of_something_else_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with closing(duckdb.connect(str(path))) as con:
        con.execute("create table captures (x int)")
    with pytest.raises(StoreError, match=r"lacks capture_relations, raw_allocations, .*, which its captures wrote"):
        analysis.open_store(path)


def test_evidence_as_parquet_tells_the_same(evidence: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    stores.export(evidence, tmp_path / "a" / "folder")
    with closing(analysis.open_store(tmp_path / "a" / "folder")) as con:
        # What no capture looked for has no file, and is empty all the same.
        unread = [f"raw_{relation}" for relation in stores.RELATIONS if relation not in source.READ["audit"]]
        assert all(con.table(name).fetchall() == [] for name in unread)
        tables = f"select table_name from duckdb_tables() where table_name not in {tuple(unread)} order by table_name"
        assert con.execute(tables).fetchall() == evidence.execute(tables).fetchall()
        for (name,) in con.execute(tables).fetchall():
            assert con.table(name).order("all").pl().equals(evidence.table(name).order("all").pl()), name


def test_parquet_that_is_incomplete_or_broken_is_no_store(evidence: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    stores.export(evidence, tmp_path / "whole")
    lacking = shutil.copytree(tmp_path / "whole", tmp_path / "lacking")
    (lacking / "raw_rules.parquet").unlink()
    broken = shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    (broken / "raw_rules.parquet").write_text("x")
    for folder, told in ((lacking, "lacks raw_rules, "), (broken, r"raw_rules\.parquet cannot be read as Parquet")):
        with pytest.raises(StoreError, match=told):
            analysis.open_store(folder)
