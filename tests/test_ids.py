"""Ids of every type, end to end: bigint, uuid and text, in both shapes, from the server to the rival's name."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from conftest import database

import analysis
from analysis import capture, case, query, reconstruct

# Restaurant, table, another table, booking, rival booking, allocation, rival allocation.
IDS = {
    "bigint": ("bigint", ["1", "2", "3", "4", "5", "6", "9223372036854775807"]),
    "integer": ("integer", ["1", "2", "3", "4", "5", "6", "-7"]),
    "uuid": ("uuid", [f"0000000{n}-ABCD-4000-8000-00000000000f" for n in range(1, 8)]),
    "text": ("text", ["the-anchor", "T7", "T8", "b1", "b2", "a1", "a2"]),
    # What one would take for a spelling of the same uuid are two texts.
    "text like uuids": (
        "text",
        [
            *("00000001-ABCD-4000-8000-00000000000F", "0000000a0000400080000000000000ff"),
            *("0000000A-0000-4000-8000-0000000000FF", "0000000a-0000-4000-8000-0000000000ff"),
            *("{0000000b-0000-4000-8000-0000000000ff}", "0000000C000040008000000000000000", "c"),
        ],
    ),
    "numbers as text": ("text", ["007", "7", "07", "1e3", "1000", "0", "-0"]),
    "markup": ("text", ["<script>alert(1)</script>", "<b>", "&amp;", "</pre>", '"><img src=x>', "<!--", "]]>"]),
    "statements": (
        "text",
        ["'; drop table checks; --", "$check_id", "%(x)s", "a/b%2F", "x' or '1'='1", "\\'; select 1", "{x}"],
    ),
    "other alphabets": ("text", ["席", "é", "e\u0301", " ", "😀", "\u202eabc", "a b"]),
}
SYSTEM = """
create extension if not exists btree_gist;
create table restaurants (id {0} primary key, name text, timezone text);
create table table_inventory (id {0} primary key, restaurant_id {0}, table_number text, capacity int, min_party_size int,
    max_party_size int, section text, active boolean);
create table allocations (id {0} primary key, booking_id {0}, resource_type text, resource_id {0}, created_at timestamptz,
    updated_at timestamptz, shadow boolean, restaurant_id {0}, "window" tstzrange, created_by {0}, is_maintenance boolean,
    constraint allocations_no_overlap exclude using gist (restaurant_id with =, resource_type with =, resource_id with =,
    "window" with &&) where (not shadow) deferrable)
"""
EVIDENCE = {
    "audit": """create table booking_confirmation_results (id {0} primary key, booking_id {0}, confirmed boolean,
        conflict_details jsonb, checked_at timestamptz, snapshot_data jsonb)""",
    "idempotency": """create table booking_confirmation_results (booking_id {0}, hold_id {0}, restaurant_id {0},
        idempotency_key text, table_ids {0}[], assignment_window tstzrange, created_at timestamptz, actor_id {0},
        metadata jsonb, primary key (booking_id, idempotency_key))""",
}
MEAL = "[2025-12-20 18:00+00,2025-12-20 20:00+00)"
AT = "2025-12-19 12:00:00+00"


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    """Yield the DSN of an empty database."""
    with database(server, "forensics_ids") as dsn:
        yield dsn


def fill(dsn: str, shape: str, type_: str, ids: list[str]) -> None:
    """Write one restaurant, two tables, a rival that holds one of them, and a check of the other booking for it."""
    restaurant, table, other, booking, rival, own, held = ids
    with psycopg.connect(dsn) as conn:
        conn.execute(f"{SYSTEM};{EVIDENCE[shape]}".format(type_).encode())
        conn.execute("insert into restaurants values (%s, 'Anchor', 'UTC')", [restaurant])
        for number, each in enumerate((table, other)):
            conn.execute("insert into table_inventory values (%s, %s, %s, 4, 1, 4)", [each, restaurant, f"T{number}"])
        allocation = "insert into allocations values (%s, %s, 'table', %s, %s, %s, false, %s, %s, null, false)"
        conn.execute(allocation, [held, rival, table, AT, AT, restaurant, MEAL])
        if shape == "audit":
            conn.execute(
                f"""
                insert into booking_confirmation_results
                select %s, %s, false, '{{"sqlstate": "23P01"}}', %s, jsonb_build_object(
                    'request', jsonb_build_object('restaurant_id', restaurant_id, 'table_ids', array[resource_id],
                        'window', "window", 'hold_id', %s::{type_}),
                    'scope', jsonb_build_object('restaurant_id', restaurant_id, 'window', '(,)'),
                    'allocations', (select jsonb_agg(to_jsonb(a)) from allocations as a),
                    'capacities', (select jsonb_agg(to_jsonb(t) || jsonb_build_object('table_id', t.id))
                        from table_inventory as t))
                from allocations""".encode(),
                [own, booking, AT, own],
            )
        else:
            conn.execute(allocation, [own, booking, other, AT, AT, restaurant, MEAL])
            conn.execute(
                f"insert into booking_confirmation_results values (%s, %s, %s, 'k/1', array[%s]::{type_}[], %s, %s)".encode(),
                [booking, own, restaurant, other, MEAL, AT],
            )


@pytest.mark.parametrize("kind", IDS)
def test_a_refusal_names_its_rival(empty: str, store: Path, kind: str) -> None:
    type_, ids = IDS[kind]
    fill(empty, "audit", type_, ids)
    told_ids = [each.lower() for each in ids] if type_ == "uuid" else ids
    restaurant, table, other, booking, rival, own, held = told_ids
    capture.pull(empty, store, analysis.derive)
    with closing(analysis.open_store(store)) as con:
        told = analysis.explain_check(con, own)
        [row] = told.data["rivals"]
        assert (told.data["replayed_verdict"], told.data["grade"], told.data["cause"]) == ("conflict", "complete", "agreed")
        assert [told.data[key] for key in ("check_id", "booking_id", "restaurant_id")] == [own, booking, restaurant]
        assert [row[key] for key in ("allocation_id", "booking_id", "restaurant_id", "resource_id")] == [
            held, rival, restaurant, table,
        ]  # fmt: skip
        assert {each["resource_id"] for each in told.data["alternatives"]} == {table, other}
        assert "table T0" in str(told)
        assert "<script>alert" not in told._repr_html_()
        [state] = reconstruct.state(con, restaurant, told.check.checked_at)["allocations"]
        assert (state["allocation_id"], state["presence"], state["source"]) == (held, "certain", "allocations, snapshot")
        assert analysis.checks(con, booking)["check_id"].to_list() == [own]
        for name in ("one_verdict", "rivals_in_evidence", "rows_accounted_for", "verdicts_follow_rivals", "firm_overlaps"):
            assert query.rows(con, f"assert/{name}") == []
        if kind in ("bigint", "markup", "statements"):
            page = case.write(con, own, analysis.explain_check, analysis.derive)
            assert case.verify(page, analysis.explain_check, analysis.derive) == []


@pytest.mark.parametrize("kind", IDS)
def test_a_success_has_its_request(empty: str, store: Path, kind: str) -> None:
    type_, ids = IDS[kind]
    fill(empty, "idempotency", type_, ids)
    told_ids = [each.lower() for each in ids] if type_ == "uuid" else ids
    restaurant, _, other, booking, _, own, _ = told_ids
    capture.pull(empty, store, analysis.derive)
    with closing(analysis.open_store(store)) as con:
        [check_id] = analysis.checks(con, booking)["check_id"]
        told = analysis.explain_check(con, check_id)
        said = ("booking_id", "restaurant_id", "replayed_verdict", "grade", "rivals")
        assert [told.data[key] for key in said] == [booking, restaurant, "clear", "partial", []]
        assert [each["resource_id"] for each in told.data["request"]["resources"]] == [other]
        assert told.data["request"]["hold_id"] == own
        assert told.check.skew_s == 0
        for name in ("one_verdict", "rivals_in_evidence", "rows_accounted_for", "verdicts_follow_rivals", "firm_overlaps"):
            assert query.rows(con, f"assert/{name}") == []
        if kind in ("bigint", "statements"):
            page = case.write(con, check_id, analysis.explain_check, analysis.derive)
            assert case.verify(page, analysis.explain_check, analysis.derive) == []


def test_text_ids_are_compared_as_they_are_written(empty: str, store: Path) -> None:
    type_, ids = IDS["markup"]
    fill(empty, "audit", type_, ids)
    capture.pull(empty, store, analysis.derive)
    with closing(analysis.open_store(store)) as con:
        [booking] = con.execute("select distinct booking_id from checks").fetchall()[0]
        assert booking != booking.upper()
        assert len(analysis.checks(con, booking)) > 0
        assert len(analysis.checks(con, booking.upper())) == 0
