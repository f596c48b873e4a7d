"""PostgreSQL into DuckDB: every value of every type as the server prints it, in one snapshot, however it is read."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from conftest import ANCHOR
from test_capture import HOSTILE
from test_custody import NEW

from analysis import lab, source, stores, transport
from analysis.model import SourceError

EDGES = {
    "timestamptz": [
        "infinity",
        "-infinity",
        "4713-01-01 00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "2025-11-15 18:00:00.000001+05:30",
    ],
    "date": ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"],
    "interval": ["-178000000 years", "1 mon -1 day 00:00:00.000001", "0"],
    "numeric": ["NaN", "Infinity", "-Infinity", "1e-1000", "12345678901234567890.12345678901234567890", "1.0", "1.00", "-0"],
    "float8": ["NaN", "Infinity", "-0", "1e-320", "0.1", "1.7976931348623157e308"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "jsonb": [
        '{"n": [1e-30, 12345678901234567890.12345678901234567890, 1.0, 1.00], "t": "a\\n\\"\\\\ é"}',
        "null",
        '""',
        "[]",
        '"\\u00e9"',
    ],
    "tstzrange": [
        *("empty", "(,)", "[-infinity,infinity]", "[2025-11-15 18:00+00,infinity)", "[2025-11-15 18:00+00,)"),
        *("[2025-11-15 18:00+00,2025-11-15 18:00+00]", "(0044-03-15 12:00+00 BC,12025-11-15 18:00+00)"),
    ],
    "int4range": ["empty", "(,)", "[1,1]", "(1,5]"],
    "numrange": ["[NaN,NaN]", "(1.0,1.00]", "(,-Infinity]"],
    "tstzmultirange": ["{}", "{[2025-11-15 18:00+00,2025-11-15 19:00+00),(infinity,)}"],
    "text": ["", " ", HOSTILE, "\\N", "\\.", '"', '""', ",", "\r", "\n", "NULL", "null", "x" * 1_000_000],
    "text[]": ["{}", '{"",NULL,"a,b","\\"",x}', "{{1,2},{3,4}}"],
    "bytea": ["\\x", "\\x00ff0a"],
    "uuid": [ANCHOR],
    "boolean": ["t", "f"],
}
PATHS = {"over two connections": 1, "as CSV over one": 1_000_000}


def read(dsn: str, relation: str = "restaurants") -> list[tuple[str | None, ...]]:
    """Read a relation whole, and return its rows by key."""
    with source.snapshot(dsn) as connection, closing(transport.Reader(connection, dsn)) as reader, duckdb.connect() as con:
        names = reader.columns(relation)
        con.execute(f"create table stage ({', '.join(f'{name} varchar' for name in names)})")
        reader.read(con, "stage", relation, reader.versions(relation)[0])
        return con.execute("select * exclude (row_xid) from stage order by key").fetchall()


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Read over two connections, or as CSV over one, and hold that it was so."""
    monkeypatch.setattr(transport, "_BULK_ROWS", PATHS[request.param])
    used = set()

    def noted(name: str, was: Callable[..., Any]) -> Callable[..., Any]:
        def read(*arguments: Any) -> Any:
            used.add(name)
            return was(*arguments)

        return read

    for name in ("_halves", "_csv"):
        monkeypatch.setattr(transport, name, noted(name, getattr(transport, name)))
    yield request.param
    assert used == {"_halves" if request.param == "over two connections" else "_csv"}


def test_every_value_of_every_type_arrives_as_the_server_prints_it(system: str, path: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute("drop table restaurants cascade")
        columns = ", ".join(f'"{type_}" {type_}' for type_ in EDGES)
        conn.execute(f"create table edges (id bigint generated always as identity, {columns})".encode())
        for type_, values in EDGES.items():
            for value in values:
                conn.execute(f'insert into edges ("{type_}") values (%s::{type_})'.encode(), [value])
        texts = ", ".join(f'"{type_}"::text' for type_ in EDGES)
        even = f"case when id % 2 = 0 then coalesce({texts}) end"
        view = f"select xmin, id, coalesce({texts}) as name, {even} as timezone from edges"
        conn.execute("set timezone = 'UTC'; set datestyle = 'ISO, YMD'")
        expected = conn.execute(f"select id::text, name, timezone from ({view}) as v order by id::text".encode()).fetchall()
        conn.execute(f"create view restaurants as {view}".encode())
        conn.execute("grant select on restaurants to forensics_reader; grant select on edges to forensics_reader")
    found = read(lab.reader_dsn(system))
    assert found == expected
    assert len(found) == sum(map(len, EDGES.values()))
    assert {name for _, name, _ in found} >= {"", HOSTILE, "infinity", "NaN", "empty"}


IDS = {
    "uuid": ("uuid", "uuid", [ANCHOR.upper(), "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    "domain of uuid": ("table_id", "uuid", [ANCHOR]),
    "bigint": ("bigint", "varchar", ["-9223372036854775808", "7"]),
    "numeric": ("numeric", "varchar", ["1.0", "NaN"]),
    "text": ("text", "varchar", [ANCHOR.upper(), "", "null", "\\x00"]),
    "char": ("char(3)", "varchar", ["a", "abc"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_arrive_as_the_server_prints_them_and_lie_as_they_are(system: str, store: Path, path: str, kind: str) -> None:
    type_, kept, ids = IDS[kind]
    with psycopg.connect(system) as conn:
        conn.execute("create domain table_id as uuid check (value <> gen_random_uuid()); drop table allocations cascade")
        columns = f'booking_id {type_}, restaurant_id {type_}, resource_type text, resource_id {type_}, "window" tstzrange'
        rest = "shadow boolean, is_maintenance boolean, created_at timestamptz, updated_at timestamptz, created_by uuid"
        conn.execute(f"create table allocations (id {type_}, {columns}, {rest})".encode())
        for each in ids:
            conn.execute("insert into allocations (id, resource_id, restaurant_id) values (%s, %s, %s)", [each, each, each])
        conn.execute("grant select on allocations to forensics_reader")
        expected = conn.execute("select id::text, booking_id::text, resource_id::text from allocations").fetchall()
    dsn = lab.reader_dsn(system)
    with (
        source.snapshot(dsn) as connection,
        closing(transport.Reader(connection, dsn)) as reader,
        stores.open_to_write(store) as con,
    ):
        stores.lay_out(con, {"allocations": reader.columns("allocations")})
        reader.read(con, stores.table("allocations"), "allocations", len(ids), 1)
        assert dict(con.execute("select distinct typeof(key), typeof(created_by) from raw_allocations").fetchall()) == {
            kept.upper(): "UUID"
        }
        stores.show_texts(con)
        found = con.execute("select key, booking_id, resource_id from raw_allocations").fetchall()
    assert sorted(found) == sorted(expected)
    assert len(found) == len(ids)


def test_all_is_of_one_snapshot(system: str, path: str) -> None:
    dsn = lab.reader_dsn(system)
    with source.snapshot(dsn) as connection, closing(transport.Reader(connection, dsn)) as reader, duckdb.connect() as con:
        total, _ = reader.versions("restaurants")
        with psycopg.connect(system) as other:
            other.execute(NEW.encode(), ["later"])
        con.execute("create table stage (key varchar, name varchar, timezone varchar, row_xid varchar)")
        reader.read(con, "stage", "restaurants", total)
        assert con.execute("select count(*) from stage").fetchall() == [(total,)] == [(1,)]


def test_what_two_connections_read_is_guarded_as_the_first_is(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither may a row be hidden from them, nor may they write."""
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    dsn = lab.reader_dsn(system)
    with source.snapshot(dsn) as connection, closing(transport.Reader(connection, dsn)) as reader:
        for lender in reader._borrowed():
            with lender.cursor() as cursor:
                cursor.execute("select current_setting('row_security'), current_setting('transaction_read_only')")
                assert cursor.fetchall() == [("off", "on")]


def test_a_server_that_lends_no_second_connection_is_read_over_the_one(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_BULK_ROWS", 1)
    with psycopg.connect(system, autocommit=True) as conn:
        conn.execute("alter role forensics_reader connection limit 1")
    try:
        assert len(read(lab.reader_dsn(system))) == 1
    finally:
        with psycopg.connect(system, autocommit=True) as conn:
            conn.execute("alter role forensics_reader connection limit -1")


def test_a_row_that_cannot_be_sent_ends_the_read(system: str, path: str) -> None:
    with psycopg.connect(system) as conn:
        conn.execute("insert into restaurants select gen_random_uuid(), n::text, 'UTC' from generate_series(1, 3000) as n")
        conn.execute(
            "alter table restaurants rename to r; create view restaurants as select r.xmin, id, name, "
            "case when name = '2999' then (1 / (length(name) - 4))::text else timezone end as timezone from r; "
            "grant select on restaurants to forensics_reader"
        )
    with pytest.raises(SourceError, match=r"division by zero$"):
        read(lab.reader_dsn(system))
