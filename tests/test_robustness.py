"""Captures in bad company: a disk that fills up, a server that goes away in bulk, impatient settings, writers at work."""

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pytest
from test_capture import SOURCE_TABLES, TRAP, WINDOWS, fill, raw, run
from test_custody import NEW, differences, verify

import analysis
from analysis import capture, custody, lab, manifest, source, stores, transport
from analysis.model import LockedError, SourceError, StoreError

MANY = """
insert into restaurants
select gen_random_uuid(), md5(n::text) || repeat(md5(n::text), 10), 'UTC' from generate_series(1, 20000) as n"""


@pytest.mark.parametrize("existing", [False, True], ids=["new store", "existing store"])
def test_a_disk_that_is_full(system: str, store: Path, existing: bool) -> None:
    fill(system)
    if existing:
        capture.pull(lab.reader_dsn(system), store, analysis.derive)
    run(system, MANY)
    limit = (store.stat().st_size if existing else 0) + 1_000_000
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "capture", lab.reader_dsn(system), "--store", store],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"forensics: {store} could not be written, and is as it was: ")
    assert done.stderr.count("\n") == 1
    if existing:
        assert raw(store, "select count(*), (select count(*) from raw_restaurants) from captures") == [(1, 3)]
        assert verify(store) == set()
    else:
        assert not store.exists()
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert differences(store, system) == []
    assert verify(store) == set()


def test_what_needs_more_memory_is_read_again_with_all_there_is(
    system: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    run(system, MANY)
    monkeypatch.setattr(capture, "_MEMORY", "2MB")
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert raw(store, "select count(*), (select count(*) from raw_restaurants) from captures") == [(2, 20001)]
    assert differences(store, system) == []
    assert verify(store) == set()


def test_memory_that_does_not_do(system: str, store: Path) -> None:
    def greedy(_: duckdb.DuckDBPyConnection) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block")

    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    run(system, NEW, "new")
    with pytest.raises(StoreError, match=f"^this machine has too little memory for this capture; {store} is as it was$"):
        capture.pull(lab.reader_dsn(system), store, greedy)
    assert raw(store, "select count(*), (select count(*) from raw_restaurants) from captures") == [(1, 1)]
    assert verify(store) == set()


def test_a_store_is_written_in_small_row_groups_and_spills_beside_itself(system: str, store: Path) -> None:
    run(system, MANY)
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    groups = raw(store, "select count(distinct row_group_id) from pragma_storage_info('raw_restaurants')")
    assert groups == [(2,)]
    with stores.open_to_write(store) as con:
        assert con.execute("select current_setting('temp_directory')").fetchall() == [(f"{store}.tmp",)]


def test_blocks_that_come_in_pieces_are_hashed_as_whole_ones(system: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(system, MANY)
    with monkeypatch.context() as pieces:
        pieces.setattr(manifest, "_ROWS", 2048)
        capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert raw(store, "select count(*) from capture_blocks where relation = 'restaurants'") == [(21,)]
    assert verify(store) == set()


def test_tables_of_somebody_else_in_the_file_are_not_what_was_read(system: str, store: Path) -> None:
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    with duckdb.connect(str(store)) as con:
        con.execute("create table chunk as from raw_restaurants; create table found as from capture_blocks")
    run(system, NEW, "new")
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert raw(store, "select count(*) from raw_restaurants") == [(2,)]
    assert verify(store) == set()
    assert differences(store, system) == []


def test_a_disk_that_has_no_room_for_a_store(system: str, store: Path) -> None:
    command = [sys.executable, "-m", "analysis", "capture", lab.reader_dsn(system), "--store", str(store)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert (done.returncode, done.stderr.count("\n"), store.exists()) == (2, 1, False)
    assert done.stderr.startswith(f"forensics: cannot open the store {store}: IO Error: Could not write file")


def test_a_server_that_goes_away_while_two_connections_read(system: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    fill(system)
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    run(system, TRAP.format("pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(SourceError, match="the source failed while it was read: "):
        capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert raw(store, "select count(*) from captures") == [(1,)]
    assert verify(store) == set()


def test_a_statement_timeout_of_the_role_does_not_end_a_capture(system: str, store: Path) -> None:
    fill(system)
    run(system, TRAP.format("pg_sleep(0.05) is not null"))
    run(system, "alter role forensics_reader set statement_timeout = '200ms'")
    try:
        relations = capture.pull(lab.reader_dsn(system), store, analysis.derive)["relations"]
    finally:
        run(system, "alter role forensics_reader reset statement_timeout")
    assert {row["relation"]: row["rows_read"] for row in relations}["allocations_archive"] == len(WINDOWS)


def test_no_writer_waits_for_a_capture(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    fill(system)
    dsn = lab.reader_dsn(system)
    with (
        source.snapshot(dsn) as connection,
        closing(transport.Reader(connection, dsn)) as reader,
        closing(duckdb.connect()) as con,
    ):
        source.described(connection)
        for relation in source.shape(connection).relations:
            con.execute(f"create table {relation} ({', '.join(f'{name} varchar' for name in reader.columns(relation))})")
            reader.read(con, relation, relation, reader.versions(relation)[0])
        locks = """
            select distinct mode from pg_locks inner join pg_stat_activity using (pid)
            where application_name = 'forensics capture' and locktype = 'relation'"""
        with psycopg.connect(system) as writer:
            assert writer.execute(locks.encode()).fetchall() == [("AccessShareLock",)]
            writer.execute("set lock_timeout = '100ms'")
            writer.execute(NEW.encode(), ["meanwhile"])
            for table in SOURCE_TABLES.values():
                writer.execute(f"select from {table} for update".encode())
            writer.execute("update restaurants set name = name")
            writer.execute("update booking_confirmation_results set confirmed = not confirmed")
            writer.execute("delete from allocations")
            writer.rollback()


def test_a_store_is_nobodys_while_this_process_writes_to_it(system: str, store: Path) -> None:
    """Nobody opens the file: a handle that DuckDB refuses would drop the writer's lock when it is closed."""
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    other = f"import duckdb; duckdb.connect({str(store)!r}, read_only=True)"
    with stores.open_to_write(store):
        for opened in (analysis.open_store, stores.connect, stores.connect_raw):
            with pytest.raises(LockedError, match="is open in this process, which writes to it: wait for it to end"):
                opened(store)
        with pytest.raises(LockedError, match="is open in this process, which writes to it"):
            capture.pull(lab.reader_dsn(system), store, analysis.derive)
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "Could not set lock" in done.stderr
    with (
        closing(analysis.open_store(store)),
        pytest.raises(LockedError, match="is open for reading in this process: close it, and try again"),
    ):
        capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert verify(store) == set()


def test_two_captures_into_one_new_file_leave_the_first_alone(system: str, tmp_path: Path) -> None:
    store = tmp_path / "it's new.duckdb"

    def second(con: duckdb.DuckDBPyConnection) -> None:
        with pytest.raises(LockedError):
            capture.pull(lab.reader_dsn(system), store, analysis.derive)
        limit = con.execute("select current_setting('memory_limit')").fetchall()[0][0]
        assert limit != capture._MEMORY, "what is derived has the machine's memory"
        analysis.derive(con)

    capture.pull(lab.reader_dsn(system), store, second)
    assert verify(store) == set()
    assert custody.derived(store, analysis.derive) == []
