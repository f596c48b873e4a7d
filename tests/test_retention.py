"""The retention of the evidence on a live server: what the dry run predicts is what deleting in a copy then does."""

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from conftest import database
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import analysis
from analysis import capture, history, lab, measure, query, storage

PLAN = history.Plan(days=40, restaurants=2, race_rounds=2)  # 24 days of evidence
DAYS = [1, 3, 7, 14, 23, 1000]
POLICIES = [(1, None), (7, None), (14, None), (1, 2), (3, 10), (7, 1000), (1000, None)]
FIGURES = (
    *("rows_kept", "rows_freed", "bytes_kept", "bytes_freed"),
    *("hits_lost", "explanations_lost", "purged_before_meal"),
)
NEWEST = "(select max(checked_at) from booking_confirmation_results)"
CALL = "call retention_apply(%(days)s, %(batch)s, %(as_of)s, %(archive)s, %(refusals)s)"
DELETION = f"deletion_{uuid4().hex}"
GATE = 7  # the advisory lock that a deletion waits for where a test has put a gate


@pytest.fixture(scope="module")
def house(server: str) -> Iterator[str]:
    """The DSN of a lab with the retention installed; to be copied, not changed, and not to stay connected to."""
    with database(server, "retention") as dsn:
        lab.build(dsn, PLAN)
        with psycopg.connect(dsn, autocommit=True) as conn:
            for _ in range(2):  # again, as one may
                conn.execute(query.text("postgres/retention").encode())
        yield dsn


@contextmanager
def copied(server: str, house: str) -> Iterator[str]:
    name, template = f"retention_{uuid4().hex}", str(conninfo_to_dict(house)["dbname"])
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def copy(server: str, house: str) -> Iterator[str]:
    """The DSN of a copy of the lab, to delete in."""
    with copied(server, house) as dsn:
        yield dsn


@pytest.fixture
def conn(copy: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(copy, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="module")
def whole(house: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store captured from the lab before anything goes."""
    return captured(house, tmp_path_factory.mktemp("whole") / "evidence.duckdb")


def captured(dsn: str, store: Path) -> Path:
    capture.pull(lab.reader_dsn(dsn), store, analysis.derive)
    return store


def one(conn: psycopg.Connection, statement: str, *arguments: Any) -> Any:
    row = conn.execute(statement.encode(), arguments).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def dry_run(conn: psycopg.Connection, days: int, refusals: int | None = None, as_of: datetime | None = None) -> dict[str, Any]:
    """Return the one row, counted back from the newest check unless said otherwise."""
    asked = f"select to_jsonb(r) from retention_dry_run(%s, coalesce(%s, {NEWEST}), %s) as r"
    return dict(one(conn, asked, days, as_of, refusals))


def apply(
    conn: psycopg.Connection,
    days: int,
    refusals: int | None = None,
    batch: int = 50,
    archive: bool = False,
    as_of: datetime | None = None,
) -> int:
    """Delete, counted back from the newest check unless said otherwise; return how many rows."""
    as_of = as_of or one(conn, f"select {NEWEST}")
    arguments = {"days": days, "batch": batch, "as_of": as_of, "archive": archive, "refusals": refusals}
    row = conn.execute(CALL, arguments).fetchone()
    assert row is not None
    return int(row[0])


def rows(conn: psycopg.Connection, table: str = "booking_confirmation_results") -> dict[int, str]:
    """Return every row of the evidence, or of its archive, as text."""
    statement = "select id, (to_jsonb(t) - 'archived_at')::text from {} as t"
    return dict(conn.execute(sql.SQL(statement).format(sql.Identifier(table))).fetchall())


def archived(conn: psycopg.Connection) -> dict[int, str]:
    return rows(conn, "booking_confirmation_results_archive")


def figures(store: Path, days: int) -> dict[str, int]:
    """Return the figures of the kit that the dry run has as well."""
    with closing(analysis.open_store(store)) as con:
        figures = storage.retention(con, days)
    assert figures.keys() >= set(FIGURES)
    return {name: figures[name] for name in figures if name in {*FIGURES, "hits_forgotten", "refusals_lost"}}


def totals(store: Path) -> dict[str, int]:
    """Count in a store, with the relations of the kit, what a retention can take away."""
    with closing(analysis.open_store(store)) as con:
        found = con.execute("""
            select count(*) as rows, sum(snapshot_bytes + conflict_bytes) as bytes,
                   count(*) filter (grade <> 'none') as explanations,
                   count(*) filter (grade <> 'none' and recorded_verdict = 'refused') as refusals
            from checks inner join verdicts using (check_id)""")
        names = [column[0] for column in found.description or ()]
        return dict(zip(names, found.fetchall()[0], strict=True)) | {"hits": measure.cache(con)["hits"]}


class TestDryRun:
    @pytest.mark.parametrize("days", DAYS)
    def test_figures_are_those_of_the_kit(self, conn: psycopg.Connection, whole: Path, days: int) -> None:
        found = dry_run(conn, days)
        assert found["days"] == days
        assert found.items() >= figures(whole, days).items()
        assert min(found[name] for name in FIGURES) > 0 or days > 14

    @pytest.mark.parametrize(("days", "refusals"), POLICIES)
    def test_figures_are_those_of_playing_each_check(self, conn: psycopg.Connection, days: int, refusals: int | None) -> None:
        """Every check stays for the days of its verdict; a lookup is answered while any earlier verdict on its key stays.

        One in eight is made a deadlock here, which is no verdict.
        """
        conn.execute("""
            update booking_confirmation_results set confirmed = false, conflict_details = '{"sqlstate": "40P01"}'
            where id % 8 = 0""")
        found, now = dry_run(conn, days, refusals), one(conn, f"select {NEWEST}")
        counted: Counter[str] = Counter()
        earlier: dict[str, list[datetime]] = defaultdict(list)
        checks = conn.execute("select * from booking_confirmation_results order by checked_at, id")
        for _, booking, confirmed, conflict, checked_at, snapshot in checks:
            until = checked_at + timedelta(days=days if confirmed or refusals is None else refusals)
            request = snapshot["request"]
            known = earlier[f"{booking} {request['table_ids']} {request['window']}"]
            counted["hits_lost"] += bool(known) and max(known) < checked_at
            counted["hits_forgotten"] += bool(known) and (until < now or max(known) < now)
            meal = request["window"] and datetime.fromisoformat(request["window"].split('"')[1])
            counted["purged_before_meal"] += bool(meal) and meal > until
            counted["rows_freed"] += until < now
            counted["refusals_lost"] += until < now and not confirmed
            if not conflict or conflict["sqlstate"] != "40P01":
                known.append(until)
        assert {name: found[name] for name in counted} == counted
        assert found["rows_freed"] > 0 or days == 1000

    def test_foreign_writers_are_understood_as_the_kit_does(self, system: str, store: Path) -> None:
        """The rows of other writers, each form of snapshot with each form of request, in a database with odd settings."""
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute(query.text("postgres/retention").encode())
            plant(conn)
            captured(system, store)
            for days in (1, 3, 7):
                found = dry_run(conn, days)
                assert found.items() >= figures(store, days).items()
                assert found["explanations_lost"] < found["rows_freed"]
                assert min(found[name] for name in FIGURES) > 0

    def test_a_day_has_24_hours_whatever_the_clocks_do(self, system: str) -> None:
        """In New York the night of 2 November had an hour more."""
        as_of = datetime(2025, 11, 3, 12, tzinfo=UTC)
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute(query.text("postgres/retention").encode())
            conn.execute("set timezone = 'America/New_York'")
            for offset in (-1, 0, 1):
                check(conn, as_of - timedelta(days=2) + timedelta(microseconds=offset))
            assert dry_run(conn, 2, as_of=as_of)["rows_freed"] == apply(conn, 2, as_of=as_of) == 1
            assert one(conn, "select min(checked_at) = %s from booking_confirmation_results", as_of - timedelta(days=2))

    def test_nothing_there_is_a_row_of_zeros(self, system: str) -> None:
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute(query.text("postgres/retention").encode())
            found = dry_run(conn, 30, as_of=datetime(2025, 12, 1, tzinfo=UTC))
            assert {value for name, value in found.items() if name not in {"days", "as_of"}} == {0}
            assert apply(conn, 30, as_of=datetime(2025, 12, 1, tzinfo=UTC)) == 0

    def test_the_reader_may_ask_and_locks_nothing(self, copy: str) -> None:
        with psycopg.connect(lab.reader_dsn(copy)) as reader:
            assert dry_run(reader, 7)["rows_freed"] > 0
            held = "select distinct mode from pg_locks where pid = pg_backend_pid() and locktype in ('relation', 'tuple')"
            assert reader.execute(held).fetchall() == [("AccessShareLock",)]
            assert one(reader, "select pg_current_xact_id_if_assigned() is null")
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute("call retention_apply(7)")

    def test_a_filtered_role_is_refused(self, conn: psycopg.Connection) -> None:
        role = sql.Identifier(f"plain_{uuid4().hex}")
        with conn.transaction(force_rollback=True):
            conn.execute(sql.SQL("create role {}").format(role))
            conn.execute(sql.SQL("grant select on booking_confirmation_results to {}").format(role))
            conn.execute(sql.SQL("set local role {}").format(role))
            with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
                conn.execute("select * from retention_dry_run(7)")


class TestDeleting:
    @pytest.mark.parametrize(("days", "refusals", "archive"), [(*policy, n % 2 == 0) for n, policy in enumerate(POLICIES)])
    def test_what_was_predicted_is_what_is_measured_afterwards(
        self, conn: psycopg.Connection, copy: str, whole: Path, store: Path, days: int, refusals: int | None, archive: bool
    ) -> None:
        stored = """select sum(coalesce(pg_column_size(snapshot_data), 0) + coalesce(pg_column_size(conflict_details), 0))
                    from booking_confirmation_results"""
        predicted, all_rows, all_stored = dry_run(conn, days, refusals), rows(conn), one(conn, stored)
        assert apply(conn, days, refusals, archive=archive) == predicted["rows_freed"]
        before, after = totals(whole), totals(captured(copy, store))
        assert (after["rows"], after["bytes"]) == (predicted["rows_kept"], predicted["bytes_kept"])
        assert {name: before[name] - after[name] for name in before} == {
            "rows": predicted["rows_freed"],
            "bytes": predicted["bytes_freed"],
            "hits": predicted["hits_forgotten"],
            "explanations": predicted["explanations_lost"],
            "refusals": predicted["refusals_lost"],
        }
        assert all_stored - one(conn, stored) == predicted["stored_bytes_freed"]
        # In the table and in the archive is what was in the table, each row once and as it was.
        left, moved = rows(conn), archived(conn)
        assert len(moved) == archive * predicted["rows_freed"]
        assert not left.keys() & moved.keys()
        assert left.items() | moved.items() == (all_rows.items() if archive else left.items())
        # Nothing is left to do.
        assert dry_run(conn, days, refusals)["rows_freed"] == apply(conn, days, refusals) == 0

    def test_the_newest_stay_and_refusals_longer(self, conn: psycopg.Connection) -> None:
        newest = one(conn, f"select {NEWEST}")
        expected = {
            id_
            for id_, confirmed, checked_at in conn.execute("select id, confirmed, checked_at from booking_confirmation_results")
            if checked_at >= newest - timedelta(days=3 if confirmed else 10)
        }
        apply(conn, 3, 10)
        assert rows(conn).keys() == expected
        oldest = "select min(checked_at) filter (where confirmed) > min(checked_at) from booking_confirmation_results"
        assert one(conn, oldest)

    @pytest.mark.parametrize("batch", [1, 7, 50, 100_000])
    def test_a_batch_is_one_transaction_of_bounded_size(self, conn: psycopg.Connection, batch: int) -> None:
        notices: list[str] = []
        conn.add_notice_handler(lambda said: notices.append(said.message_primary or ""))
        gone = apply(conn, 14, batch=batch, archive=True)
        sizes = [
            size for (size,) in conn.execute("select count(*) from booking_confirmation_results_archive group by xmin::text")
        ]
        assert sum(sizes) == gone > 200
        assert max(sizes) == min(batch, gone)
        assert len(sizes) == math.ceil(gone / batch)
        assert notices == [f"{min(n * batch, gone)} rows gone" for n in range(1, gone // batch + 2)]

    def test_only_the_index_is_read_and_each_entry_once(self, system: str) -> None:
        """Neither the refusals that stay nor the entries of rows deleted before are gone through with every batch."""
        scans = """
            select t.seq_scan, i.idx_tup_read from pg_stat_user_tables as t join pg_stat_user_indexes as i using (relid)
            where i.indexrelname = 'booking_confirmation_results_checked_at_idx'"""
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute(query.text("postgres/retention").encode())
            conn.execute("""
                insert into booking_confirmation_results (booking_id, confirmed, checked_at, snapshot_data)
                select gen_random_uuid(), n % 10 > 0, '2025-12-01Z'::timestamptz - n * interval '1 minute', '{}'
                from generate_series(1, 50000) as n""")
            conn.execute("vacuum analyze booking_confirmation_results")
            conn.execute("select pg_stat_force_next_flush()")
            before = one(conn, scans)
            old = 50000 - 30 * 1440
            # Enough batches for the plan that is made once and kept.
            assert apply(conn, 30, 40, batch=100, as_of=datetime(2025, 12, 1, tzinfo=UTC)) == old - old // 10
            conn.execute("select pg_stat_force_next_flush()")
            after = one(conn, scans)
            assert after[0] == before[0]
            assert old <= after[1] - before[1] < 1.5 * old


class TestWhoMay:
    def test_the_archive_is_guarded_as_its_source(self, conn: psycopg.Connection) -> None:
        guards = """
            select c.relrowsecurity, c.relforcerowsecurity, p.polname, p.polpermissive, p.polcmd, p.polroles::regrole[]::text,
                   replace(pg_get_expr(p.polqual, c.oid), c.relname, 'it'),
                   replace(pg_get_expr(p.polwithcheck, c.oid), c.relname, 'it')
            from pg_class as c join pg_policy as p on p.polrelid = c.oid where c.oid = %s::regclass"""
        source, archive = (
            conn.execute(guards, [name]).fetchall()
            for name in ("booking_confirmation_results", "booking_confirmation_results_archive")
        )
        assert source == archive
        assert len(archive) == 1
        granted = """
            select grantee::regrole::text, privilege_type from pg_class, aclexplode(relacl)
            where relname = 'booking_confirmation_results_archive' and grantee <> relowner"""
        assert conn.execute(granted).fetchall() == [("forensics_reader", "SELECT")]

    def test_a_filtered_role_does_not_delete_half(self, conn: psycopg.Connection) -> None:
        before = rows(conn)
        conn.execute("""
            grant select, update, delete on booking_confirmation_results to service_role;
            grant execute on procedure retention_apply to service_role;
            select set_config('app.restaurant_id', (select min(id::text) from restaurants), false);
            set role service_role""")
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
            apply(conn, 7, as_of=datetime(2025, 12, 1, tzinfo=UTC))
        conn.execute("reset role")
        assert rows(conn) == before

    def test_the_archive_has_the_columns_of_its_source(self, conn: psycopg.Connection) -> None:
        columns = "select attname, atttypid::regtype::text from pg_attribute where attrelid = %s::regclass and attnum > 0"
        source, archive = (
            conn.execute(columns + " order by attnum", [name]).fetchall()
            for name in ("booking_confirmation_results", "booking_confirmation_results_archive")
        )
        assert archive == [*source, ("archived_at", "timestamp with time zone")]

    def test_a_column_that_the_archive_lacks_stops_it(self, conn: psycopg.Connection) -> None:
        conn.execute("alter table booking_confirmation_results add column note text default 'new'")
        before = rows(conn)
        with pytest.raises(errors.SyntaxError, match="more expressions than target columns"):
            apply(conn, 7, archive=True)
        assert rows(conn) == before

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ("0", "from 1 to 100000, not 0"),
            ("-30", "from 1 to 100000, not -30"),
            ("null", "from 1 to 100000, not null"),
            ("100001", "from 1 to 100000, not 100001"),
            ("30, p_refusals_days => 29", "from 30 to 100000, not 29"),
            ("30, 0", "one row or more, not 0"),
            ("30, -1", "one row or more, not -1"),
            ("30, null", "one row or more, not null"),
            ("30, p_as_of => now() + interval '1 minute'", "now or an earlier instant"),
            ("30, p_as_of => 'infinity'", "now or an earlier instant"),
            ("30, p_as_of => null", "now or an earlier instant, not null"),
        ],
    )
    def test_what_is_no_policy_is_refused(self, conn: psycopg.Connection, arguments: str, said: str) -> None:
        before = rows(conn)
        with pytest.raises(errors.InvalidParameterValue, match=said):
            conn.execute(f"call retention_apply({arguments})".encode())
        if "p_as_of" not in arguments and "row" not in said:
            with pytest.raises(errors.InvalidParameterValue, match=said):
                conn.execute(f"select * from retention_dry_run({arguments})".encode())
        assert rows(conn) == before

    def test_a_transaction_block_is_refused(self, conn: psycopg.Connection) -> None:
        before = rows(conn)
        with pytest.raises(errors.InvalidTransactionTermination), conn.transaction():
            conn.execute("call retention_apply(1)")
        assert rows(conn) == before


class TestBesideOthers:
    """The lab is a restaurant that goes on working."""

    def test_a_writer_is_not_held_up_by_a_batch(self, conn: psycopg.Connection, copy: str) -> None:
        """The deletion stands still in the middle of a batch until the writer is done: were it in the way, he would fail."""
        predicted = dry_run(conn, 7)["rows_freed"]
        with standing_still(conn, copy, archive=True) as (deletion, let_go), psycopg.connect(copy, autocommit=True) as writer:
            writer.execute("set lock_timeout = '1s'")
            written = [confirm(writer, visit) for visit in visits(conn, 5)]
            assert not deletion.done()
            let_go()
            assert deletion.result() == predicted == len(archived(conn))
        assert set(written) <= rows(conn).keys()

    def test_no_row_of_a_writer_is_lost(self, conn: psycopg.Connection, copy: str) -> None:
        """One in two of the writer's checks is dated before the horizon, as if its transaction had been long."""
        horizon = one(conn, f"select {NEWEST}") - timedelta(days=7)
        before, plans, calls = rows(conn), visits(conn, 120), 0
        late = [horizon - timedelta(minutes=n) if n % 2 else None for n in range(len(plans))]

        def write() -> list[int]:
            with psycopg.connect(copy, autocommit=True) as writer:
                writer.execute("set lock_timeout = '10s'")
                return [confirm(writer, visit, at) for visit, at in zip(plans, late, strict=True)]

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done() or calls == 0:
                apply(conn, 7, batch=5, archive=True, as_of=horizon + timedelta(days=7))
                calls += 1
            written = writing.result()
        apply(conn, 7, batch=5, archive=True, as_of=horizon + timedelta(days=7))
        left, moved = rows(conn), archived(conn)
        assert len(set(written)) == len(plans)
        assert {id_ for id_, at in zip(written, late, strict=True) if at} == set(written) & moved.keys()
        assert {id_ for id_, at in zip(written, late, strict=True) if not at} == set(written) & left.keys()
        assert before.items() <= left.items() | moved.items()
        assert left.keys() | moved.keys() == before.keys() | set(written)
        assert not left.keys() & moved.keys()

    def test_two_at_once_share_the_work(self, conn: psycopg.Connection, copy: str) -> None:
        """The second passes the rows that the first has in hand, and takes all others."""
        predicted, before = dry_run(conn, 7)["rows_freed"], rows(conn)
        with standing_still(conn, copy, archive=True) as (first, let_go):
            second = apply(conn, 7, batch=10, archive=True)
            in_hand = dry_run(conn, 7)["rows_freed"]
            assert 0 < in_hand <= 10
            assert not first.done()
            let_go()
            assert first.result() + second == predicted
            assert first.result() >= in_hand
        assert dry_run(conn, 7)["rows_freed"] == 0
        assert rows(conn).items() | archived(conn).items() == before.items()

    def test_two_at_once_as_fast_as_they_can(self, conn: psycopg.Connection, copy: str) -> None:
        predicted, before = dry_run(conn, 7)["rows_freed"], rows(conn)
        with psycopg.connect(copy, autocommit=True) as other, ThreadPoolExecutor(2) as pool:
            gone = list(pool.map(lambda session: apply(session, 7, batch=3, archive=True), (conn, other)))
        assert sum(gone) == predicted
        assert rows(conn).items() | archived(conn).items() == before.items()
        assert len(archived(conn)) == predicted

    def test_killed_midway_it_keeps_whole_batches_and_may_be_called_again(self, conn: psycopg.Connection, copy: str) -> None:
        predicted, before = dry_run(conn, 7)["rows_freed"], rows(conn)
        with standing_still(conn, copy, archive=True) as (deletion, _):
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", [DELETION])
            with pytest.raises(psycopg.OperationalError):
                deletion.result()
        done = len(archived(conn))
        assert 0 < done < predicted
        assert done % 10 == 0
        assert rows(conn).items() | archived(conn).items() == before.items()
        assert apply(conn, 7, archive=True) == predicted - done
        assert rows(conn).items() | archived(conn).items() == before.items()
        assert len(archived(conn)) == predicted

    def test_it_does_not_queue_behind_who_alters_the_table(self, conn: psycopg.Connection, copy: str) -> None:
        with psycopg.connect(copy) as other:
            other.execute("lock table booking_confirmation_results in access exclusive mode")
            conn.execute("set statement_timeout = '60s'")
            with pytest.raises(errors.LockNotAvailable):
                apply(conn, 7, as_of=datetime(2025, 12, 1, tzinfo=UTC))
        assert apply(conn, 7, as_of=datetime(2025, 12, 1, tzinfo=UTC)) > 0
        assert one(conn, "show lock_timeout") == "0"


@contextmanager
def standing_still(conn: psycopg.Connection, dsn: str, archive: bool) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Delete past 7 days in batches of 10, in another session that stands still in the midst of a batch until let go."""
    [(halfway,)] = conn.execute(
        "select id from booking_confirmation_results order by checked_at offset %s limit 1",
        [dry_run(conn, 7)["rows_freed"] // 2],
    )
    conn.execute("select pg_advisory_lock(%s)", [GATE])
    conn.execute(
        f"""
        create or replace function stand_still() returns trigger language plpgsql as $$
        begin
          while not pg_try_advisory_xact_lock_shared({GATE}) loop perform pg_sleep(0.01); end loop;
          return old;
        end $$;
        create or replace trigger gate before delete on booking_confirmation_results
          for each row when (old.id = {halfway}) execute function stand_still()""".encode()
    )

    def let_go() -> None:
        conn.execute("select pg_advisory_unlock_all()")

    def delete() -> int:
        with psycopg.connect(dsn, autocommit=True, application_name=DELETION) as session:
            return apply(session, 7, batch=10, archive=archive)

    stands = f"select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = '{DELETION}'"
    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(delete)
        try:
            while not one(conn, stands):
                assert not deletion.done(), deletion.result()
            yield deletion, let_go
        finally:
            let_go()
    conn.execute("drop trigger gate on booking_confirmation_results")


def visits(conn: psycopg.Connection, number: int) -> list[history.Visit]:
    """Return visits to one table, each on a day of its own on which nobody else comes."""
    restaurant, table = one(conn, "select restaurant_id, id from table_inventory order by restaurant_id, table_number limit 1")
    place = history.Restaurant(restaurant, ZoneInfo("UTC"), [table])
    days = (datetime(2031, 5, 1, tzinfo=UTC) + timedelta(days=n) for n in range(number))
    return [history.Visit(uuid4(), restaurant, 2, place.window(day, time(18), 90), uuid4(), [table]) for day in days]


def confirm(conn: psycopg.Connection, visit: history.Visit, at: datetime | None = None) -> int:
    """Take a hold and confirm it, now or at an instant of the lab's clock; return the check."""
    with conn.transaction():
        conn.execute("select set_config('lab.now', %s, true)", [at.isoformat() if at else ""])
        visit.place(conn, uuid4)
        answer = one(conn, "select confirm_hold_assignment_tx(%s, %s)", visit.hold, visit.booking)
    assert answer["confirmed"]
    return int(answer["check_id"])


def check(conn: psycopg.Connection, at: datetime, booking: UUID | None = None, confirmed: bool = True, *told: Any) -> None:
    """Write a row of evidence past the functions; ``told``: the conflict and the snapshot, as JSON text."""
    conflict, snapshot = told or (None, None)
    conn.execute(
        "insert into booking_confirmation_results (booking_id, confirmed, conflict_details, checked_at, snapshot_data) "
        "values (%s, %s, %s, %s, %s)",
        [booking or uuid4(), confirmed, conflict, at, snapshot],
    )


# Six ways to write one window, then others; the last line cannot be read.
WINDOWS: list[Any] = [
    '["2025-11-20 18:00:00+00","2025-11-20 20:00:00+00")',
    '["2025-11-20 23:30:00+05:30","2025-11-21 01:30:00+05:30")',
    "[2025-11-20T18:00:00Z,2025-11-20 20:00:00.000+0000)",
    {"start": "2025-11-20T18:00:00.000Z", "end": "2025-11-20T20:00:00.000Z"},
    {"startAt": "2025-11-20T18:00Z", "endAt": "2025-11-20T20:00Z", "zone": "UTC"},
    {"window_start": "2025-11-20T18:00Z", "window_end": "2025-11-20T12:00-08"},
    *(
        '["2025-11-20 18:00:00+00","2025-11-20 20:00:00+00"]',
        '["2025-12-24 18:00:00+00",)',
        '["2025-12-24 18:00:00+00",infinity)',
    ),
    *({"start": "2025-12-24T18:00:00Z", "end": None}, '[,"2025-11-20 20:00:00+00")', "(,)", "[infinity,)", "empty", None),
    *('["2025-11-20 18:00:00+00","2025-11-20 18:00:00+00")', '["2025-11-20 18:00:00+00","2025-11-20 18:00:00+00"]'),
]
UNREADABLE: list[Any] = [
    *("soon", "[tomorrow,)", "[2025-11-20 18:00:00,2025-11-20 20:00:00)", '["2025-02-30 18:00:00+00",)', '["",)', 18, True),
    *('["2025-11-20 20:00:00+00","2025-11-20 18:00:00+00")', ["2025-11-20T18:00:00Z", "2025-11-20T20:00:00Z"]),
    {"start": "2025-11-20T18:00:00Z", "end": ""},
    {"start": "2025-11-20T18:00:00Z", "end": "2025-11-20T20:00:00Z", "bounds": "[]"},
    {"start": "2025-11-20T18:00:00Z", "end": None, "startAt": "2025-11-20T19:00:00Z", "endAt": None},
    {"from": "2025-11-20T18:00:00Z", "to": "2025-11-20T20:00:00Z"},
]
TABLES: list[Any] = [["T1", "T2"], ["T2", "T1"], ["T1"], [], None, "T1", ["T1", None], [None, "T1"], [7]]
SNAPSHOTS = [None, "null", "[]", '["allocations"]', '"allocations"', "7", "{}", '{"allocations": {}}', '{"allocations": null}']
CONFLICTS = [None, "null", '{"sqlstate": "23P01", "message": "Überschneidung 🍽"}', '{"sqlstate": "40P01"}']


def plant(conn: psycopg.Connection) -> None:
    """Write checks of few bookings at few instants, so that keys repeat; each unreadable window has a booking of its own."""
    rng = random.Random(5)  # repeatable
    bookings = [uuid4() for _ in range(3)]
    start = datetime(2025, 11, 14, tzinfo=UTC)

    def ask(booking: UUID, window: Any, tables: Any) -> None:
        request: dict[str, Any] = {"window": window, "table_ids": tables}
        if isinstance(window, dict) and rng.random() < 0.5:
            request = {"table_ids": tables} | window
        snapshot = {"request": request, "allocations": rng.choice([[], [{"id": "A"}], {}])}
        at = start + timedelta(hours=6 * rng.randrange(48), microseconds=rng.randrange(2))
        check(conn, at, booking, rng.random() < 0.5, rng.choice(CONFLICTS), json.dumps(snapshot))

    for window in (*WINDOWS, *WINDOWS, *WINDOWS[:6]):
        for tables in TABLES:
            ask(rng.choice(bookings), window, tables)
    for window in UNREADABLE:
        booking = uuid4()
        for _ in range(3):
            ask(booking, window, ["T1"])
    for snapshot in SNAPSHOTS:
        for day in (0, 3, 11):
            check(conn, start + timedelta(days=day), bookings[0], True, rng.choice(CONFLICTS), snapshot)
