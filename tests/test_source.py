"""The read of PostgreSQL: what it refuses, in which words, and that it can neither change nor miss anything."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import ANCHOR
from psycopg.conninfo import make_conninfo

from analysis import lab, source
from analysis.model import SourceError

SECRET = "hunter2secret"
OTHER = "00000000-0000-4000-8000-000000000002"
RENAME = "alter table booking_confirmation_results rename"
RETYPE = "alter table booking_confirmation_results alter"


@pytest.fixture
def tenant(system: str) -> Iterator[str]:
    """Yield the DSN of a role that may select, and that row-level security filters."""
    role = "forensics_test_tenant"
    with psycopg.connect(system, autocommit=True) as conn:
        conn.execute(f"create role {role} login in role service_role".encode())
        conn.execute(f"grant select on all tables in schema public to {role}".encode())
        yield make_conninfo(system, user=role)
        conn.execute(f"drop owned by {role}; drop role {role}".encode())


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Yield the DSN of a server of its own that asks every role but its owner for a password."""
    with lab.serve() as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"create role alice login password '{SECRET}'".encode())
        [(hba,)] = conn.execute("show hba_file").fetchall()
        rules = Path(hba).read_text()
        Path(hba).write_text(f"local all alice scram-sha-256\n{rules}")
        conn.execute("select pg_reload_conf()")
        yield dsn


def read(dsn: str, statement: str = "select count(*) from booking_confirmation_results") -> None:
    with source.snapshot(dsn) as connection:
        source.shape(connection)
        connection.execute(statement.encode())


def refusal(dsn: str, statement: str = "select count(*) from booking_confirmation_results") -> str:
    """Return the one line with which a read is refused, which never shows the password, nor does its traceback."""
    with pytest.raises(SourceError) as caught:
        read(dsn, statement)
    told = str(caught.value)
    assert "\n" not in told
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    return told


@pytest.mark.parametrize(
    ("dsn", "told"),
    {
        "no DSN": ("hunter2secret", "the DSN cannot be read"),
        "unknown option": (f"host=127.0.0.1 port=1 passwort={SECRET}", "the DSN cannot be read"),
        "broken escape": ("postgresql://u:hunter2%zz@127.0.0.1:1/x", "the DSN cannot be read"),
        "a value that is no number": (f"postgresql://u@127.0.0.1:1/x?connect_timeout={SECRET}", "the DSN cannot be read"),
        "a byte that is no text": (f"postgresql://u:{SECRET}\udcff@127.0.0.1:1/x", "the DSN cannot be read"),
        "@ in the password": ("postgresql://u:x@hunter2@127.0.0.1:1/x", "written as %40"),
        "/ in the password": ("postgresql://u:x/hunter2@127.0.0.1:1/x", "written as %40 or %2F"),
        "nobody listens": (f"postgresql://u:{SECRET}@127.0.0.1:1/x", "Connection refused"),
        "no such host": (f"postgresql://u:{SECRET}@nowhere.invalid/x", "nowhere.invalid"),
        "no such socket": (f"host=/nonexistent user=u password={SECRET}", "/nonexistent"),
    }.values(),
)
def test_a_source_that_cannot_be_reached(dsn: str, told: str) -> None:
    assert told in refusal(dsn)


def test_a_wrong_password_a_missing_one_and_an_unknown_role(guarded: str) -> None:
    assert 'password authentication failed for user "alice"' in refusal(
        make_conninfo(guarded, user="alice", password="hunter22")
    )
    assert "no password supplied" in refusal(make_conninfo(guarded, user="alice"))
    assert 'role "nobody" does not exist' in refusal(make_conninfo(guarded, user="nobody", password=SECRET))
    right = refusal(make_conninfo(guarded, user="alice", password=SECRET))
    assert right == "no table booking_confirmation_results on the search path: is this the booking database?"


def test_the_reader_reads_the_documented_system(system: str) -> None:
    with source.snapshot(lab.reader_dsn(system)) as connection:
        assert source.shape(connection) == source.Shape("audit", source.READ["audit"], {}, ())
        assert connection.execute("select current_user").fetchone() == ("forensics_reader",)


@pytest.mark.parametrize(
    ("change", "told"),
    {
        "gone": ("drop table booking_confirmation_results", "no table booking_confirmation_results on the search path"),
        "another column": (
            f"{RENAME} confirmed to ok",
            "is not of the audit shape, the nearer of the two: confirmed: expected boolean, found nothing; "
            "ok: expected nothing, found boolean",
        ),
        "one column of the other shape": (
            "drop table booking_confirmation_results; create table booking_confirmation_results (booking_id uuid, "
            "hold_id uuid, restaurant_id int, idempotency_key text, table_ids uuid, assignment_window tstzrange, actor_id int, "
            "metadata jsonb)",
            "is not of the idempotency shape, the nearer of the two: table_ids: expected a list, found uuid; "
            "created_at: expected timestamp with time zone, found nothing",
        ),
        "in another schema": (
            "create schema elsewhere; alter table booking_confirmation_results set schema elsewhere",
            'no table booking_confirmation_results on the search path ("$user", public); there is one in schema elsewhere: '
            "add ?options=-csearch_path%3Delsewhere to the DSN",
        ),
        "other allocations": (
            "alter table allocations alter updated_at drop default, alter updated_at type date, drop created_by",
            "allocations has other columns than documented: updated_at: expected timestamp with time zone, found date; "
            "created_by: expected any type, found nothing",
        ),
        "a column differs": (f"{RETYPE} snapshot_data type text", "snapshot_data: expected jsonb, found text"),
        "two at once": (
            f"{RENAME} confirmed to ok; {RETYPE} conflict_details type json",
            "confirmed: expected boolean, found nothing; conflict_details: expected jsonb, found json; ok: expected nothing",
        ),
    }.values(),
)
def test_an_evidence_table_of_another_shape(system: str, change: str, told: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute(change.encode())
    assert told in refusal(system)


@pytest.mark.parametrize("type_", ["bigint", "text"])
def test_a_booking_id_of_any_type_is_the_audit_shape(system: str, type_: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute('drop policy "Tenant service role" on booking_confirmation_results')
        conn.execute(f"{RETYPE} booking_id type {type_} using null".encode())
    read(system)


def test_a_table_that_is_missing_is_named(system: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute("drop table allocations cascade")
    assert refusal(system) == "no table allocations on the search path: is this the booking database?"


@pytest.mark.parametrize(
    ("setting", "outcome"),
    [
        ("", "which raises 42501: app.restaurant_id is not set"),
        (f"-c app.restaurant_id={OTHER}", "which hides rows and says nothing"),
    ],
)
def test_a_role_that_would_see_a_part_is_refused_not_served(system: str, tenant: str, setting: str, outcome: str) -> None:
    one_check_each(system)
    assert refusal(make_conninfo(tenant, options=setting)) == (
        "role forensics_test_tenant would not see every row: row-level security filters booking_confirmation_results "
        f'(policy "Tenant service role"), {outcome}. '
        "Use forensics_reader (sql/postgres/reader.sql), or capture one tenant with --tenant ID"
    )


def test_a_role_that_no_policy_admits_is_told_so(system: str, tenant: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute('drop policy "Tenant service role" on booking_confirmation_results')
    assert "filters booking_confirmation_results (no policy admits anybody), which hides rows and says nothing" in refusal(
        tenant
    )


def test_any_table_that_is_filtered_counts(system: str, tenant: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute("alter table booking_confirmation_results disable row level security")
        conn.execute("alter table allocations enable row level security")
    assert "row-level security filters allocations (no policy admits anybody), which hides rows and says nothing" in refusal(
        tenant
    )


def one_check_each(system: str) -> None:
    """Write a booking with a check for each of two restaurants, whose id is also the booking's."""
    with psycopg.connect(system) as conn:
        conn.execute("insert into restaurants values (%s, 'Other', 'UTC')", [OTHER])
        for restaurant in (ANCHOR, OTHER):
            booking = "insert into bookings (id, restaurant_id, party_size, \"window\") values (%s, %s, 2, '[,]')"
            conn.execute(booking.encode(), [restaurant, restaurant])
            check = "insert into booking_confirmation_results (booking_id, confirmed) values (%s, true)"
            conn.execute(check.encode(), [restaurant])


def test_one_tenant_is_read_where_it_is_asked_for(system: str, tenant: str) -> None:
    one_check_each(system)
    ask = b"select booking_id::text from booking_confirmation_results"
    for restaurant in (ANCHOR, OTHER):
        with source.snapshot(tenant, restaurant) as connection:
            assert connection.execute(ask).fetchall() == [(restaurant,)]
    sees_all = pytest.raises(SourceError, match="role forensics_reader sees every tenant: capture without --tenant")
    with sees_all, source.snapshot(lab.reader_dsn(system), ANCHOR):
        pass


def test_an_empty_result_is_explained(system: str, tenant: str) -> None:
    with source.snapshot(system) as connection:
        assert source.why_empty(connection, None) == (
            "the table public.booking_confirmation_results is empty, nothing is hidden from this role"
        )
    one_check_each(system)
    with psycopg.connect(system, autocommit=True) as conn:
        conn.execute("analyze booking_confirmation_results")
    third = "00000000-0000-4000-8000-000000000003"
    with source.snapshot(tenant, third) as connection:
        assert connection.execute("select count(*) from booking_confirmation_results").fetchone() == (0,)
        assert source.why_empty(connection, third) == (f"row-level security shows none to tenant {third}, of about 2 rows")
    with psycopg.connect(system) as conn:
        conn.execute("create schema first; create table first.booking_confirmation_results (like booking_confirmation_results)")
    with source.snapshot(make_conninfo(system, options="-c search_path=first,public")) as connection:
        assert source.why_empty(connection, None) == (
            "it is first.booking_confirmation_results, the first on the search path; another is in schema public"
        )


def test_a_role_that_may_not_select_is_told_which_may(system: str) -> None:
    told = refusal(lab.reader_dsn(system), "select * from pg_authid")
    assert told.startswith("role forensics_reader may not read the source: permission denied for table pg_authid")
    assert "Use forensics_reader" in told


@pytest.mark.parametrize(
    "statement",
    [
        "insert into restaurants values (gen_random_uuid(), 'x', 'UTC')",
        "delete from allocations",
        "create table x ()",
        "select nextval('booking_confirmation_results_id_seq')",
        "select * from restaurants for update",
    ],
)
def test_no_write_gets_through_even_for_the_owner(system: str, statement: str) -> None:
    assert "in a read-only transaction" in refusal(system, statement)


def test_a_transaction_cannot_be_made_writable_again(system: str) -> None:
    assert "must be set before any query" in refusal(system, "set transaction read write")


def test_every_read_sees_the_same_instant(system: str) -> None:
    count = b"select count(*), current_setting('transaction_isolation') from restaurants"
    with source.snapshot(lab.reader_dsn(system)) as connection:
        before = connection.execute(count).fetchone()
        with psycopg.connect(system) as other:
            other.execute("insert into restaurants values (gen_random_uuid(), 'x', 'UTC')")
        assert connection.execute(count).fetchone() == before == (1, "repeatable read")
    with source.snapshot(lab.reader_dsn(system)) as connection:
        assert connection.execute(count).fetchone() == (2, "repeatable read")


def test_text_is_in_utc_and_iso_whatever_the_session_came_with(system: str) -> None:
    dsn = make_conninfo(system, options="-c timezone=Asia/Kolkata -c datestyle=German")
    with source.snapshot(dsn) as connection:
        row = connection.execute("select '2025-11-15 18:00:00.000001+05:30'::timestamptz::text").fetchone()
    assert row == ("2025-11-15 12:30:00.000001+00",)


def test_the_settings_end_with_the_transaction(system: str) -> None:
    """A transaction pooler hands the connection on to others."""
    with source.snapshot(system) as connection:
        connection.rollback()
        connection.isolation_level = connection.read_only = None
        assert connection.execute("show row_security").fetchone() == ("on",)
