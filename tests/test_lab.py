"""The documented system on a real PostgreSQL: the manual flows, every kind of refusal, who may read, the workload.

Where FORENSICS_TEST_DSN names another server, its role must be a superuser and forensics_reader must get in unasked.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from analysis import constraint, history, lab, query
from analysis.model import ForensicsError

DINNER = "[2031-05-02 18:00+00, 2031-05-02 20:00+00)"
LATE = "[2031-05-02 19:00+00, 2031-05-02 21:00+00)"
NEXT = "[2031-05-02 20:00+00, 2031-05-02 22:00+00)"


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    name = sql.Identifier(f"lab_{uuid4().hex}")
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(name))
        try:
            yield make_conninfo(server, dbname=name.as_string().strip('"'))
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if dsn := os.environ.get("FORENSICS_TEST_DSN"):
        yield dsn
    else:
        with lab.serve() as dsn:
            yield dsn


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """An empty database."""
    with fresh_database(server) as dsn:
        yield dsn


@dataclass
class House:
    """The documented system with two restaurants of two tables each (four seats), and nobody in them."""

    conn: psycopg.Connection
    dsn: str

    def __post_init__(self) -> None:
        self.restaurants = [uuid4(), uuid4()]
        self.tables = [[uuid4(), uuid4()] for _ in self.restaurants]
        for restaurant, tables in zip(self.restaurants, self.tables, strict=True):
            self.conn.execute("insert into restaurants values (%s, 'A', 'Europe/London')", [restaurant])
            for number, table in enumerate(tables):
                self.conn.execute("insert into table_inventory values (%s, %s, %s, 4, 1, 4)", [table, restaurant, str(number)])

    def hold(
        self, tables: list[UUID], window: str = DINNER, party: int = 4, valid: str = "10 min", shadow: bool = True
    ) -> tuple[UUID, UUID]:
        """Hold tables of the first restaurant for a new booking; return the hold and the booking."""
        hold, booking = uuid4(), uuid4()
        visit = {"h": hold, "b": booking, "r": self.restaurants[0], "w": window, "p": party, "v": valid, "t": tables}
        statements = [
            'insert into bookings (id, restaurant_id, party_size, "window") values (%(b)s, %(r)s, %(p)s, %(w)s)',
            """insert into table_holds (id, booking_id, restaurant_id, "window", policy_version, expires_at)
               values (%(h)s, %(b)s, %(r)s, %(w)s, 1, now() + %(v)s::interval)""",
            "insert into table_hold_members select %(h)s, unnest(%(t)s::uuid[])",
            """insert into allocations (booking_id, resource_type, resource_id, shadow, restaurant_id, "window")
               select %(b)s, 'table', unnest(%(t)s::uuid[]), true, %(r)s, %(w)s""",
        ]
        for statement in statements if shadow else statements[:-1]:
            self.conn.execute(statement, visit)
        return hold, booking

    def confirm(self, hold: UUID, booking: UUID) -> dict[str, Any]:
        return dict(self.one("select confirm_hold_assignment_tx(%s, %s)", hold, booking))

    def firm(self, table: UUID, window: str, restaurant: int = 0) -> None:
        """Insert a firm allocation past the functions."""
        self.conn.execute(
            """insert into allocations (resource_type, resource_id, restaurant_id, "window")
               values ('table', %s, %s, %s)""",
            [table, self.restaurants[restaurant], window],
        )

    def one(self, statement: str, *arguments: Any) -> Any:
        row = self.conn.execute(statement, arguments).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def recorded(self, check: int) -> tuple[bool, dict[str, Any] | None, dict[str, Any]]:
        confirmed, conflict, snapshot = self.one(
            "select confirmed, conflict_details, snapshot_data from booking_confirmation_results where id = %s", check
        )
        return confirmed, conflict, snapshot


def install(dsn: str, *names: str) -> psycopg.Connection:
    conn = psycopg.connect(dsn, autocommit=True)
    for name in names:
        with conn.transaction():
            conn.execute(query.text(f"postgres/{name}"))
    return conn


@pytest.fixture
def old(dsn: str) -> Iterator[House]:
    """Before the migration."""
    with install(dsn, "schema") as conn:
        yield House(conn, dsn)


@pytest.fixture
def house(dsn: str) -> Iterator[House]:
    """After the migration."""
    with install(dsn, "schema", "migration_up", "reader") as conn:
        yield House(conn, dsn)


class TestManualFlows:
    """The five flows that the deployment summary left to be executed by hand."""

    def test_1_single_table_assignment_with_caching(self, house: House) -> None:
        hold, booking = house.hold([house.tables[0][0]])
        answer = house.confirm(hold, booking)
        assert (answer["confirmed"], answer["conflict"]) == (True, None)
        assert house.recorded(answer["check_id"])[:2] == (True, None)
        assert house.one("select shadow, resource_id from allocations where booking_id = %s", booking) == (
            False,
            house.tables[0][0],
        )
        assert house.one("select status from bookings where id = %s", booking) == "confirmed"

    def test_2_overlap_in_one_restaurant_is_refused_by_name(self, house: House) -> None:
        table = house.tables[0][0]
        house.firm(table, LATE)
        with pytest.raises(errors.ExclusionViolation) as refusal:
            house.firm(table, DINNER)
        assert refusal.value.diag.constraint_name == "allocations_no_overlap"
        assert house.confirm(*house.hold([table]))["conflict"]["constraint"] == "allocations_no_overlap"
        house.firm(table, "[2031-05-02 16:00+00, 2031-05-02 19:00+00)")  # touching is not overlapping

    def test_3_two_restaurants_may_hold_one_resource(self, house: House) -> None:
        shared = uuid4()
        house.firm(shared, DINNER, restaurant=0)
        house.firm(shared, LATE, restaurant=1)
        assert house.one("select count(*) from allocations where resource_id = %s", shared) == 2

    def test_4_deferred_batch_may_overlap_in_between(self, house: House) -> None:
        table = house.tables[0][0]
        with house.conn.transaction():
            house.conn.execute("set constraints allocations_no_overlap deferred")
            house.firm(table, DINNER)
            house.firm(table, LATE)
            house.conn.execute('update allocations set "window" = %s where "window" = %s', [NEXT, LATE])
        assert house.one("select count(*) from allocations where resource_id = %s", table) == 2

    def test_5_confirmation_is_persisted_with_its_snapshot(self, house: House) -> None:
        tables = house.tables[0]
        house.firm(tables[1], NEXT)
        hold, booking = house.hold([tables[0]])
        house.conn.execute("set timezone = 'America/New_York'; set datestyle = 'German'")
        _, _, snapshot = house.recorded(house.confirm(hold, booking)["check_id"])
        assert snapshot.keys() == {"version", "rule", "request", "scope", "allocations", "capacities"}
        assert (snapshot["version"], snapshot["rule"]) == (12, "allocations_no_overlap")
        assert snapshot["request"] == {
            "hold_id": str(hold),
            "booking_id": str(booking),
            "restaurant_id": str(house.restaurants[0]),
            "table_ids": [str(tables[0])],
            "window": '["2031-05-02 18:00:00+00","2031-05-02 20:00:00+00")',
        }
        assert snapshot["scope"] == {  # the local day, an hour ahead of UTC in May
            "restaurant_id": str(house.restaurants[0]),
            "window": '["2031-05-01 23:00:00+00","2031-05-02 23:00:00+00")',
        }
        shadow, firm = snapshot["allocations"]
        assert (shadow["shadow"], shadow["booking_id"], firm["shadow"]) == (True, str(booking), False)
        assert firm.keys() == {
            *("id", "booking_id", "restaurant_id", "resource_type", "resource_id", "window", "shadow"),
            *("is_maintenance", "created_at", "updated_at"),
        }
        assert [c["table_id"] for c in snapshot["capacities"]] == [str(t) for t in tables]


class TestRefusals:
    @pytest.mark.parametrize("deferred", [False, True])
    def test_survives_and_leaves_the_transaction_usable(self, house: House, deferred: bool) -> None:
        table = house.tables[0][0]
        house.firm(table, LATE)
        hold, booking = house.hold([table])
        with house.conn.transaction():
            if deferred:
                house.conn.execute("set constraints allocations_no_overlap deferred")
            answer = house.confirm(hold, booking)
            house.firm(house.tables[0][1], DINNER)
        confirmed, conflict, _ = house.recorded(answer["check_id"])
        assert not confirmed
        assert conflict == answer["conflict"]
        assert conflict is not None
        assert conflict["sqlstate"] == "23P01"
        assert 'conflicts with existing key (restaurant_id, resource_type, resource_id, "window")' in conflict["detail"]
        assert conflict["attempted"] == [
            {
                "resource_type": "table",
                "resource_id": str(table),
                "window": '["2031-05-02 18:00:00+00","2031-05-02 20:00:00+00")',
            }
        ]
        assert house.one("select shadow from allocations where booking_id = %s", booking) is True
        assert house.one("select status from table_holds where id = %s", hold) == "live"
        assert house.one("select count(*) from allocations where resource_id = %s", house.tables[0][1]) == 1

    @pytest.mark.parametrize("refused", [False, True])
    def test_a_success_ends_the_callers_deferral_and_a_refusal_gives_it_back(self, house: House, refused: bool) -> None:
        first, second = house.tables[0]
        house.firm(second, DINNER)
        hold, booking = house.hold([second if refused else first])
        with house.conn.transaction(force_rollback=True):
            house.conn.execute("set constraints allocations_no_overlap deferred")
            assert house.confirm(hold, booking)["confirmed"] is not refused
            if refused:
                house.firm(second, LATE)
            else:
                with pytest.raises(errors.ExclusionViolation), house.conn.transaction():
                    house.firm(second, LATE)

    def test_a_callers_own_overlap_is_refused_here(self, house: House) -> None:
        first, second = house.tables[0]
        hold, booking = house.hold([first])
        with house.conn.transaction():
            house.conn.execute("set constraints allocations_no_overlap deferred")
            house.firm(second, DINNER)
            house.firm(second, LATE)
            answer = house.confirm(hold, booking)
            house.conn.execute("delete from allocations where resource_id = %s", [second])
        assert str(second) in answer["conflict"]["detail"]

    @pytest.mark.parametrize(
        ("kind", "sqlstate", "message"),
        [
            ("unknown", "P0001", "hold not found"),
            ("stranger", "P0001", "hold not found"),
            ("lapsed", "P0001", "hold expired"),
            ("released", "P0001", "hold expired"),
            ("cancelled", "P0001", "booking cancelled"),
            ("policy", "P0003", "policy version changed"),
            ("foreign", "23503", "table of another restaurant"),
            ("grown", "23514", "party does not fit"),
        ],
    )
    def test_each_kind_is_recorded(self, house: House, kind: str, sqlstate: str, message: str) -> None:
        table = house.tables[1 if kind == "foreign" else 0][0]
        hold, booking = house.hold([table], valid="-1 s" if kind == "lapsed" else "10 min")
        if kind == "unknown":
            hold = uuid4()
        elif kind == "stranger":
            _, booking = house.hold([house.tables[0][1]])
        elif kind == "released":
            house.conn.execute("update table_holds set status = 'released'")
        elif kind == "cancelled":
            house.conn.execute("update bookings set status = 'cancelled'")
        elif kind == "policy":
            house.conn.execute("update restaurants set policy_version = 2")
        elif kind == "grown":
            house.conn.execute("update bookings set party_size = 5")
        confirmed, conflict, snapshot = house.recorded(house.confirm(hold, booking)["check_id"])
        assert not confirmed
        assert conflict is not None
        assert (conflict["sqlstate"], conflict["message"], conflict["constraint"]) == (sqlstate, message, None)
        assert conflict["detail"]
        if kind == "unknown":
            nothing: dict[str, object] = {"restaurant_id": None, "table_ids": [], "window": None}
            assert snapshot["request"] == {"hold_id": str(hold), "booking_id": str(booking)} | nothing
            assert (snapshot["scope"], snapshot["allocations"], snapshot["capacities"]) == (None, [], [])

    def test_retry_of_a_confirmed_hold_is_idempotent_and_recorded(self, house: House) -> None:
        hold, booking = house.hold(house.tables[0], party=8)
        rows = """select json_agg(to_jsonb(a) order by resource_type, id) from allocations as a"""
        answers = [house.confirm(hold, booking)]
        after = house.one(rows)
        house.conn.execute("update table_holds set expires_at = now() - interval '1 day'")
        answers.append(house.confirm(hold, booking))
        assert [a["confirmed"] for a in answers] == [True, True]
        assert answers[0]["check_id"] < answers[1]["check_id"]
        assert house.one(rows) == after
        assert [row["resource_type"] for row in after] == ["merge_group", "table", "table"]

    def test_evidence_outlives_its_booking(self, house: House) -> None:
        hold, booking = house.hold([house.tables[0][0]])
        check = house.confirm(hold, booking)["check_id"]
        house.conn.execute("delete from bookings")
        assert house.recorded(check)[0]
        assert house.one("select count(*) from allocations") == 0


class TestBeforeTheMigration:
    def test_v11_raises(self, old: House) -> None:
        assert old.confirm(*old.hold([old.tables[0][0]])) == {"confirmed": True}
        with pytest.raises(errors.ExclusionViolation) as refusal:
            old.confirm(*old.hold([old.tables[0][0]], LATE, shadow=False))
        assert refusal.value.diag.constraint_name == "allocations_firm_window_excl"
        with pytest.raises(errors.RaiseException, match="hold not found"):
            old.confirm(uuid4(), uuid4())

    def test_strict_rule_refuses_shadows_at_commit(self, old: House) -> None:
        old.hold([old.tables[0][0]])
        with pytest.raises(errors.ExclusionViolation) as refusal, old.conn.transaction():
            old.hold([old.tables[0][0]], LATE)
        assert refusal.value.diag.constraint_name == "allocations_resource_window_excl"

    def test_archive_moves_what_ended_and_never_the_unbounded(self, old: House) -> None:
        for window in (DINNER, "[2031-05-01,)", "[2031-05-01,infinity)", NEXT):
            old.firm(uuid4(), window)
        assert old.one("select archive_allocations('2031-05-02 20:30+00')") == 1
        assert old.one('select "window" = %s from allocations_archive', DINNER)
        assert old.one("select count(*) from allocations") == 3


def definitions(house: House) -> dict[str, str]:
    rows = house.conn.execute("""
        select conname, pg_get_constraintdef(oid) from pg_constraint
        where contype = 'x' and conrelid = 'allocations'::regclass""")
    return dict(rows.fetchall())


def test_rollback_restores_the_old_rule_keeps_the_evidence_and_up_works_again(house: House) -> None:
    key = 'resource_type WITH =, resource_id WITH =, "window" WITH &&) WHERE ((NOT shadow)) DEFERRABLE'
    v12 = {"allocations_no_overlap": f"EXCLUDE USING gist (restaurant_id WITH =, {key}"}
    assert definitions(house) == v12
    check = house.confirm(*house.hold([house.tables[0][0]]))["check_id"]
    with house.conn.transaction():
        house.conn.execute(query.text("postgres/migration_rollback"))
    assert definitions(house) == {
        "allocations_resource_window_excl": f"EXCLUDE USING gist ({key} INITIALLY DEFERRED",
    }
    assert house.confirm(*house.hold([house.tables[0][1]])) == {"confirmed": True}
    assert house.one("select prosecdef, proconfig from pg_proc where proname = 'confirm_hold_assignment_tx'") == (
        False,
        ["search_path=public, pg_temp"],
    )
    assert house.recorded(check)[0]
    with house.conn.transaction():
        house.conn.execute(query.text("postgres/migration_up"))
    assert definitions(house) == v12
    assert house.confirm(*house.hold([house.tables[0][0]]))["confirmed"] is False
    assert house.recorded(check)[0]


def test_rollback_is_refused_while_two_restaurants_share(house: House) -> None:
    shared = uuid4()
    house.firm(shared, DINNER, restaurant=0)
    house.firm(shared, LATE, restaurant=1)
    with pytest.raises(errors.ExclusionViolation), house.conn.transaction():
        house.conn.execute(query.text("postgres/migration_rollback"))
    assert definitions(house).keys() == {"allocations_no_overlap"}


class TestWhoMayRead:
    COUNT = "select count(*) from booking_confirmation_results"

    def test_a_plain_role_sees_nothing(self, house: House) -> None:
        house.confirm(*house.hold([house.tables[0][0]]))
        role = sql.Identifier(f"plain_{uuid4().hex}")
        with house.conn.transaction(force_rollback=True):
            house.conn.execute(sql.SQL("create role {}").format(role))
            house.conn.execute(sql.SQL("grant select on booking_confirmation_results to {}").format(role))
            house.conn.execute(sql.SQL("set local role {}").format(role))
            assert house.one(self.COUNT) == 0
            house.conn.execute("set local row_security = off")
            with pytest.raises(errors.InsufficientPrivilege):
                house.one(self.COUNT)

    def test_service_role_sees_the_tenant_that_is_set(self, house: House) -> None:
        house.confirm(*house.hold([house.tables[0][0]]))
        with house.conn.transaction(force_rollback=True):
            house.conn.execute("set local role service_role")
            with pytest.raises(errors.InsufficientPrivilege, match=r"app\.restaurant_id"), house.conn.transaction():
                house.one(self.COUNT)
            for restaurant, seen in zip(house.restaurants, (1, 0), strict=True):
                house.one("select set_config('app.restaurant_id', %s, true)", str(restaurant))
                assert house.one(self.COUNT) == seen

    def test_service_role_confirms_without_rights_on_the_tables(self, house: House) -> None:
        hold, booking = house.hold([house.tables[0][0]])
        with house.conn.transaction():
            house.conn.execute("set local role service_role")
            assert house.confirm(hold, booking)["confirmed"]

    def test_reader_reads_five_tables_and_writes_none(self, house: House) -> None:
        house.confirm(*house.hold([house.tables[0][0]]))
        house.conn.execute(query.text("postgres/lab"))
        house.conn.execute(query.text("postgres/reader"))  # again, as one may
        with psycopg.connect(lab.reader_dsn(house.dsn), autocommit=True) as reader:
            row = reader.execute(self.COUNT).fetchone()
            assert row == (1,)
            readable = reader.execute("""
                select string_agg(relname, ' ' order by relname) from pg_class
                where relnamespace = 'public'::regnamespace and relkind = 'r' and has_table_privilege(oid, 'select')
                """).fetchone()
            assert readable == ("allocations allocations_archive booking_confirmation_results restaurants table_inventory",)
            with pytest.raises(errors.ReadOnlySqlTransaction):
                reader.execute("delete from allocations")
            reader.execute("set default_transaction_read_only = off")
            for statement in (
                "delete from allocations",
                "select * from bookings",
                "select * from lab.ledger",
                "select confirm_hold_assignment_tx(gen_random_uuid(), gen_random_uuid())",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    reader.execute(statement)


def test_reader_dsn_drops_the_password() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(lab.reader_dsn("postgresql://boss:secret@db.example:6543/house"))
    assert parts == {"user": "forensics_reader", "host": "db.example", "port": "6543", "dbname": "house"}


@pytest.mark.parametrize("bad", [{"restaurants": 1}, {"restaurants": 7}, {"days": 2}, {"race_rounds": -1}])
def test_an_impossible_plan_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ForensicsError, match="a plan has"):
        history.Plan(**bad)


def test_default_plan_spans_the_documented_dates() -> None:
    assert f"{history.Plan().start:%Y-%m-%d} {history.Plan().end:%Y-%m-%d}" == "2025-10-20 2025-12-20"


SMALL = history.Plan(days=24, restaurants=2, race_rounds=0)


def digests(conn: psycopg.Connection) -> dict[str, tuple[int, str]]:
    """Count and hash the rows of the tables that one seed must repeat."""
    result = {}
    for table in ("allocations", "allocations_archive", "booking_confirmation_results"):
        rows = conn.execute(sql.SQL("select to_jsonb(t) from {} as t order by id").format(sql.Identifier(table))).fetchall()
        result[table] = (len(rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest())
    return result


@pytest.fixture(scope="module")
def small(server: str) -> Iterator[psycopg.Connection]:
    """A short history across the migration, without races."""
    with fresh_database(server) as dsn:
        lab.build(dsn, SMALL)
        with psycopg.connect(dsn, autocommit=True) as conn:
            yield conn


class TestHistory:
    def test_one_seed_gives_the_same_rows(self, small: psycopg.Connection, dsn: str) -> None:
        said: list[str] = []
        lab.build(dsn, SMALL, said.append)
        with psycopg.connect(dsn) as again:
            assert digests(again) == digests(small)
        assert said == sorted(set(said))
        assert min(count for count, _ in digests(small).values()) > 0

    def test_virtual_time_reaches_every_instant(self, small: psycopg.Connection) -> None:
        for instants in (
            "select created_at from allocations",
            "select updated_at from allocations",
            "select archived_at from allocations_archive",
            "select created_at from bookings",
            "select created_at from table_holds",
            "select checked_at from booking_confirmation_results",
            "select at from lab.ledger",
        ):
            row = small.execute(f"select min(i), max(i), count(distinct i) from ({instants}) as t (i)").fetchone()
            assert row is not None
            earliest = constraint.MIGRATED_AT if "checked_at" in instants else SMALL.start
            assert earliest.timestamp() - 86400 < row[0].timestamp() <= row[1].timestamp() < SMALL.end.timestamp(), instants
            assert row[2] > 1
        row = small.execute("""
            select count(*), count(*) filter (where conflict_details ->> 'detail' like '%valid until 2025-11-%')
            from booking_confirmation_results where conflict_details ->> 'message' = 'hold expired'""").fetchone()
        assert row is not None
        assert row[0] == row[1] > 0

    def test_firm_rows_never_overlap(self, small: psycopg.Connection) -> None:
        rows = small.execute("""
            select a.id, b.id from allocations as a
            join allocations as b on a.id < b.id and a.restaurant_id = b.restaurant_id
              and a.resource_id = b.resource_id and a."window" && b."window"
            where not a.shadow and not b.shadow""").fetchall()
        assert rows == []

    def test_refusals_by_the_rule_have_one_firm_rival_in_their_snapshot(self, small: psycopg.Connection) -> None:
        rows = small.execute(RIVALS).fetchall()
        assert rows
        assert {rivals for *_, rivals in rows} == {1}

    def test_the_ledger_tells_the_allocations(self, small: psycopg.Connection) -> None:
        rows = small.execute("""
            with last as (
              select distinct on (coalesce(new, old) ->> 'id') new from lab.ledger
              order by coalesce(new, old) ->> 'id', entry desc
            )
            (select new from last where new is not null except all select to_jsonb(a) from allocations as a)
            union all
            (select to_jsonb(a) from allocations as a except all select new from last)""").fetchall()
        assert rows == []


# One row for each table asked for by a check that the rule refused: its firm rivals in the check's own snapshot.
RIVALS = """
select c.id, t.table_id, count(a)
from booking_confirmation_results as c
cross join jsonb_array_elements_text(c.snapshot_data #> '{request,table_ids}') as t (table_id)
left join jsonb_array_elements(c.snapshot_data -> 'allocations') as a
  on a ->> 'resource_id' = t.table_id and not (a ->> 'shadow')::boolean
  and (a ->> 'window')::tstzrange && (c.snapshot_data #>> '{request,window}')::tstzrange
where c.conflict_details ->> 'sqlstate' = '23P01' and jsonb_array_length(c.snapshot_data #> '{request,table_ids}') = 1
group by c.id, t.table_id"""


def test_races_are_refused_by_rivals_that_nobody_could_see(dsn: str) -> None:
    plan = history.Plan(days=3, restaurants=2, race_rounds=8)
    lab.build(dsn, plan)
    with psycopg.connect(dsn) as conn:
        raced = conn.execute(RIVALS + " having min(c.checked_at) >= %s", [plan.end]).fetchall()
        assert sum(rivals == 0 for *_, rivals in raced) >= 8
        row = conn.execute("select max(checked_at) - %s from booking_confirmation_results", [plan.end]).fetchone()
        assert row is not None
        assert 3600 <= row[0].total_seconds() < 3900
