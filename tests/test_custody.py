"""Custody: every changed, missing or added byte of evidence is named, and every difference from the source has its kind."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import psycopg
import pytest
from conftest import ANCHOR
from test_capture import fill, run

import analysis
from analysis import capture, cli, custody, lab, query, source, stores
from analysis.model import StoreError

KILLS = int(os.environ.get("FORENSICS_KILLS", "10"))
FIRST_FORM = Path(__file__).parent / "first_form"
NEW = "insert into restaurants values (gen_random_uuid(), %s, 'UTC')"


@pytest.fixture
def captured(system: str, store: Path) -> str:
    """Return the DSN of a source that was captured twice, with a change in between."""
    fill(system)
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    run(system, "update restaurants set name = 'The Anchor, renamed' where id = %s", ANCHOR)
    run(system, "delete from table_inventory where section is null")
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    return system


def spoil(store: Path, damage: str) -> None:
    with duckdb.connect(str(store)) as con:
        con.execute("set TimeZone = 'UTC'").fetchall()
        con.execute(damage).fetchall()


def verify(store: Path) -> set[tuple[str, int | None, int | None, str]]:
    with closing(stores.connect(store)) as con:
        return {(f["table"], f["capture_id"], f["block"], f["problem"]) for f in custody.verify(con)}


def differences(store: Path, dsn: str) -> list[tuple[str, str]]:
    with closing(stores.connect(store)) as con, source.snapshot(lab.reader_dsn(dsn)) as connection:
        return sorted((f["table"], f["problem"]) for f in custody.compare(con, connection))


def test_a_store_as_it_was_written(captured: str, store: Path) -> None:
    assert verify(store) == set()
    assert differences(store, captured) == []


def test_the_wrong_source_is_called_so(captured: str, store: Path, lab_dsn: str) -> None:
    other = ("captures", "read another server or database than this one")
    assert other in differences(store, lab_dsn)
    run(captured, "update restaurants set name = 'The Bell' where id = %s", ANCHOR)
    assert differences(store, captured) == [("raw_restaurants", "changed")]


def test_the_lab_and_the_sample(lab_store: Path, lab_dsn: str) -> None:
    for evidence in (lab_store, Path(__file__).parent.parent / "data" / "sample"):
        assert verify(evidence) == set()
    assert differences(lab_store, lab_dsn) == []


ODD = "rows of no capture"
CHAINED = "the manifest is not the one that was chained"
BROKEN: set[tuple[str, int | None, int | None, str]] = {("captures", n, None, CHAINED) for n in (1, 2)}
DAMAGE: dict[str, tuple[str, set[tuple[str, int | None, int | None, str]]]] = {
    "a value": ("update raw_checks set confirmed = 'true'", {("raw_checks", 1, 0, "content was changed")}),
    "one byte": (
        "update raw_allocations set created_at = replace(created_at, '44', '45')",
        {("raw_allocations", 1, 0, "content was changed")},
    ),
    "nothing for empty": (
        "update raw_tables set section = null where section = ''",
        {("raw_tables", 1, 0, "content was changed")},
    ),
    "a later version": (
        "update raw_restaurants set name = 'Anchor' where capture_id = 2",
        {("raw_restaurants", 2, 0, "content was changed")},
    ),
    "a version moved to another capture": (
        "update raw_restaurants set capture_id = 1 where capture_id = 2",
        {("raw_restaurants", 2, 0, "block is missing"), ("raw_restaurants", 1, 0, "rows were added")},
    ),
    "a row away": (
        "delete from raw_allocations_archive where key = (select max(key) from raw_allocations_archive)",
        {("raw_allocations_archive", 1, 0, "rows are missing")},
    ),
    "all rows away": ("delete from raw_rules", {("raw_rules", 1, 0, "block is missing")}),
    "a row twice": (
        "insert into raw_rules from raw_rules",
        {("raw_rules", 1, 0, "rows were added")},
    ),
    "a row before the first": (
        "insert into raw_checks (capture_id, key) values (1, '!')",
        {("raw_checks", 1, None, "rows that no capture read")},
    ),
    "a row after the last": (
        "insert into raw_checks (capture_id, key) values (1, 'zzz')",
        {("raw_checks", 1, None, "rows that no capture read")},
    ),
    "a row of no capture": (
        "insert into raw_checks (capture_id, key) values (7, '1')",
        {("raw_checks", 7, None, "rows that no capture read")},
    ),
    "who read": ("update captures set role = 'nobody' where capture_id = 1", {("captures", 1, None, CHAINED)}),
    "how many": ("update capture_relations set rows_read = 7 where capture_id = 2", {("captures", 2, None, CHAINED)}),
    "what vanished": ("delete from vanished", {("captures", 2, None, CHAINED)}),
    "a hash": (
        "update capture_blocks set content_hash = '' where relation = 'rules'",
        {("raw_rules", 1, 0, "content was changed"), ("captures", 1, None, CHAINED)},
    ),
    "columns that change their names": (
        "alter table raw_allocations rename created_at to x; alter table raw_allocations rename updated_at to created_at; "
        "alter table raw_allocations rename x to updated_at",
        {("raw_allocations", 1, 0, "content was changed")},
    ),
    "columns of the manifest that change their names": (
        "alter table capture_relations rename rows_new to x; alter table capture_relations rename rows_changed to rows_new; "
        "alter table capture_relations rename x to rows_changed",
        BROKEN,
    ),
    "a function of its own": (
        "create macro sha256(value) as system.main.sha256(value)",
        {("sha256", None, None, "a statement that no capture writes")},
    ),
    "a manifest of no capture": (
        "insert into vanished values (999, 'rules', 'allocations_no_overlap')",
        {("vanished", 999, None, "rows of no capture")},
    ),
    "the chain": ("update captures set chain_hash = 'x' where capture_id = 1", BROKEN),
    "a capture": (
        "delete from captures where capture_id = 1; delete from capture_relations where capture_id = 1",
        {("captures", 2, None, CHAINED), ("captures", 2, None, ODD)}
        | {("capture_relations", 2, None, ODD), ("capture_blocks", 2, None, ODD), ("vanished", 2, None, ODD)},
    ),
    "all captures": (
        "delete from captures",
        {(table, n, None, ODD) for table in ("capture_relations", "capture_blocks") for n in (1, 2)}
        | {("vanished", 2, None, ODD)},
    ),
}


LATER = "alter table captures add column later varchar; alter table raw_rules add column later varchar"
DAMAGE |= {
    "nothing in columns of a later version": (LATER, set()),
    "something in a column of a later version": (
        f"{LATER}; update raw_rules set later = ''",
        {("raw_rules", 1, None, "values in columns that this capture did not read")},
    ),
    "something in a later column of the manifest": (
        f"{LATER}; update captures set later = '' where capture_id = 2",
        {("captures", 2, None, CHAINED)},
    ),
    "a column away": (
        "alter table raw_restaurants drop column timezone",
        {("raw_restaurants", n, 0, "content was changed") for n in (1, 2)},
    ),
    "a relation that is not there": (
        "insert into capture_relations (capture_id, relation) values (2, 'ghosts')",
        {("raw_ghosts", None, None, "the table is missing"), ("captures", 2, None, CHAINED)},
    ),
    "what was read": (
        "update capture_relations set columns = 'key' where relation = 'rules'",
        {("captures", n, None, CHAINED) for n in (1, 2)}
        | {("raw_rules", 1, 0, "content was changed")}
        | {("raw_rules", 1, None, "values in columns that this capture did not read")},
    ),
}


STATEMENT = "a statement that no capture writes"
DAMAGE |= {
    "functions that answer for DuckDB's own": (
        "create macro duckdb_functions() as table (select * from system.main.duckdb_functions() where internal); "
        "create macro duckdb_views() as table (select * from system.main.duckdb_views() where internal); "
        "update raw_restaurants set name = 'X'; create macro sha256(t) as system.main.sha256(replace(t, '1:X', ''))",
        {(name, None, None, STATEMENT) for name in ("duckdb_functions", "duckdb_views", "sha256")},
    ),
    "a column that answers the hash otherwise": (
        "create table kept as from raw_rules; drop table raw_rules; create table raw_rules (capture_id integer, key varchar, "
        "definition varchar generated always as (case when current_query() like '%row_by_row%' then '' else 'X' end), "
        "row_xid varchar)",
        {("raw_rules.definition", None, None, STATEMENT)},
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_by_table_capture_and_block(damage: str, captured: str, store: Path) -> None:
    statement, findings = DAMAGE[damage]
    spoil(store, statement)
    assert verify(store) == findings


class TestFirstForm:
    """A store that an early version wrote, whose manifest recorded no columns: three captures, of a source long gone."""

    @pytest.fixture
    def first(self, store: Path) -> Path:
        with duckdb.connect(str(store)) as con:
            for file in FIRST_FORM.glob("*.parquet"):
                con.read_parquet(str(file)).create(file.stem)
        return store

    def test_it_verifies(self, first: Path) -> None:
        assert verify(FIRST_FORM) == verify(first) == set()
        with closing(analysis.open_store(first)) as con:
            read = "select count(*), count(snapshot_stored_bytes) from raw_checks"
            assert con.execute(read).fetchall() == [(4, 0)]
            assert con.execute("select count(*), count(lsn) from captures").fetchall() == [(3, 0)]
            assert analysis.verify(con) == []

    DAMAGE: ClassVar[dict[str, set[tuple[str, int | None, int | None, str]]]] = {
        "update raw_tables set section = null where section = ''": {("raw_tables", 1, 0, "content was changed")},
        "update captures set role = 'nobody' where capture_id = 3": {("captures", 3, None, CHAINED)},
        "alter table raw_rules rename definition to x": {
            *(("captures", n, None, CHAINED) for n in (1, 2, 3)),
        },
        "update capture_relations set rows_read = 1 where capture_id = 3": {("captures", 3, None, CHAINED)},
        "insert into vanished values (2, 'rules', 'x')": {("captures", 2, None, CHAINED)},
        "alter table captures add column lsn varchar; update captures set lsn = '0/0' where capture_id = 2": {
            ("captures", 2, None, CHAINED)
        },
        "alter table raw_checks add column snapshot_stored_bytes varchar; update raw_checks set snapshot_stored_bytes = '1'": {
            ("raw_checks", 1, None, "values in columns that this capture did not read")
        },
    }

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_its_damage_is_named(self, first: Path, damage: str) -> None:
        spoil(first, damage)
        assert verify(first) == self.DAMAGE[damage]

    def test_it_is_extended(self, first: Path, system: str) -> None:
        hashes = "select chain_hash from captures where capture_id <= 3 order by capture_id"
        with closing(stores.connect(first)) as con:
            before = con.execute(hashes).fetchall()
        fill(system)
        capture.pull(lab.reader_dsn(system), first, analysis.derive)
        assert verify(first) == set()
        assert differences(first, system) == []
        with closing(stores.connect(first)) as con:
            assert con.execute(hashes).fetchall() == before
            [(last, columns)] = con.execute(
                "select capture_id, columns from capture_relations where relation = 'rules' and columns is not null"
            ).fetchall()
        assert (last, columns) == (4, "key, definition, row_xid")
        spoil(first, "update raw_allocations set created_at = '' where capture_id = 4")
        assert ("raw_allocations", 4, 0, "content was changed") in verify(first)


OTHERWISE = "is not what the evidence leads to"
DERIVED = {
    "a view of less": (
        "create or replace view snapshot_allocations as select s.check_id from snapshots as s limit 0",
        {("snapshot_allocations", OTHERWISE)},
    ),
    "columns that change their names": (
        "alter table checks rename check_id to x; alter table checks rename booking_id to check_id; "
        "alter table checks rename x to booking_id",
        {("checks", OTHERWISE)},
    ),
    "evidence that nothing can be derived from": ("alter table raw_tables drop column capacity", None),
}


@pytest.mark.parametrize("damage", DERIVED)
def test_what_was_derived_is_compared_with_its_names(damage: str, captured: str, store: Path) -> None:
    statement, findings = DERIVED[damage]
    assert custody.derived(store, analysis.derive) == []
    spoil(store, statement)
    found = {(f["table"], f["problem"]) for f in custody.derived(store, analysis.derive) or []}
    if findings is None:
        [(table, problem)] = found
        assert (table, problem[:24]) == ("derivation", "cannot be derived again:")
    else:
        assert found == findings


def test_a_table_that_no_hash_can_read_is_named(captured: str, store: Path) -> None:
    spoil(store, "alter table raw_restaurants drop column key")
    found = verify(store)
    assert {problem.partition(":")[0] for table, _, _, problem in found if table == "raw_restaurants"} == {"cannot be hashed"}


@pytest.mark.parametrize("column", ["raw_rules.definition", "capture_relations.columns", "capture_blocks.block_no"])
def test_a_column_of_another_type_is_named(captured: str, store: Path, column: str) -> None:
    table, _, name = column.partition(".")
    spoil(store, f"alter table {table} alter {name} type blob using encode({name}::varchar)")
    was = "bigint" if name == "block_no" else "varchar"
    assert verify(store) == {(column, None, None, f"has the type BLOB, and was {was}")}


@pytest.mark.parametrize("column", ["captures.chain_hash", "captures.tenant", "capture_blocks.relation", "vanished.capture_id"])
def test_a_manifest_that_lacks_a_column_is_a_finding(
    captured: str, store: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, _, name = column.partition(".")
    spoil(store, f"alter table {table} drop column {name}")
    with pytest.raises(SystemExit) as done:
        cli.main(["verify", "--store", str(store), "--json"])
    assert done.value.code == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert finding["table"] == store.name
    assert finding["problem"].startswith("cannot be read: Binder Error: ")


def test_a_block_among_many(system: str, store: Path) -> None:
    run(system, "insert into restaurants select gen_random_uuid(), 'R' || n, 'UTC' from generate_series(1, 2500) as n")
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert verify(store) == set()
    spoil(store, "update raw_restaurants set name = name || '.' where name = 'R1234'")
    [(table, capture_id, block, problem)] = verify(store)
    assert (table, capture_id, problem) == ("raw_restaurants", 1, "content was changed")
    with closing(stores.connect(store)) as con:
        [(first, last)] = con.execute(
            "select first_key, last_key from capture_blocks where relation = 'restaurants' and block_no = $1", [block]
        ).fetchall()
        [(key,)] = con.execute("select key from raw_restaurants where name = 'R1234.'").fetchall()
    assert first <= key <= last


def test_evidence_without_a_manifest() -> None:
    with pytest.raises(StoreError, match="no hashes to verify"):
        custody.verify(duckdb.connect())


class TestSource:
    """What the store holds against what the source holds, hashed there."""

    def test_each_difference_has_its_kind(self, captured: str, store: Path) -> None:
        run(captured, NEW, "new")
        run(captured, "update restaurants set timezone = 'Europe/Paris' where id = %s", ANCHOR)
        run(captured, "delete from booking_confirmation_results where snapshot_data is null")
        assert differences(store, captured) == [
            ("raw_checks", "vanished"),
            ("raw_restaurants", "changed"),
            ("raw_restaurants", "new"),
        ]

    def test_what_had_begun_before_a_capture_is_found_late_and_rescued_by_the_next(self, captured: str, store: Path) -> None:
        with psycopg.connect(captured) as slow, psycopg.connect(captured) as undone:
            slow.execute(NEW.encode(), ["late"])
            slow.execute(b"update restaurants set timezone = 'UTC' where id = %s", [ANCHOR])
            undone.execute(NEW.encode(), ["never"])
            during = self.rescued(captured, store)
            slow.commit()
            undone.rollback()
        run(captured, NEW, "new")
        assert during == {}
        assert differences(store, captured) == [
            ("raw_restaurants", "changed"),
            ("raw_restaurants", "late"),
            ("raw_restaurants", "new"),
        ]
        assert self.rescued(captured, store) == {"restaurants": 2}
        assert differences(store, captured) == []
        assert self.rescued(captured, store) == {}
        assert verify(store) == set()

    def rescued(self, dsn: str, store: Path) -> dict[str, int]:
        relations = capture.pull(lab.reader_dsn(dsn), store, analysis.derive)["relations"]
        return {row["relation"]: row["rows_rescued"] for row in relations if row["rows_rescued"]}


class TestCommand:
    def answer(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["verify", *map(str, arguments)])
        return ended.value.code, capsys.readouterr().out

    def test_nothing_found(self, captured: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, told = self.answer(capsys, "--store", store, "--dsn", lab.reader_dsn(captured))
        assert status == 0
        assert "2 captures, 7 blocks, chained to " in told
        assert told.endswith("every derived relation what follows from it, and the source holds the same.\n")
        status, told = self.answer(capsys, "--store", store, "--json")
        assert (status, json.loads(told)["ok"], json.loads(told)["findings"]) == (0, True, [])

    def test_a_derived_relation_that_does_not_follow(
        self, captured: str, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(store, "update verdicts set cause = 'rival_not_in_evidence'; drop table lookups")
        status, told = self.answer(capsys, "--store", store)
        assert status == 1
        assert "2 findings: 1 lookups: is not what the evidence leads to · 1 verdicts: is not what" in told

    def test_what_another_version_derived_is_not_called_right(
        self, captured: str, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(store, "update verdicts set cause = 'agreed'; update derivation set digest = 'other'")
        status, told = self.answer(capsys, "--store", store)
        assert status == 0
        assert told.endswith("what another version of the kit derived from it was not compared.\n")

    @pytest.mark.parametrize("table", ["raw_checks", "raw_rules", "vanished", "capture_relations"])
    def test_a_table_that_is_gone(self, captured: str, store: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
        spoil(store, f"drop table {table}")
        status, told = self.answer(capsys, "--store", store)
        assert (status, told) == (1, f"{table}: the table is missing\n")
        status, told = self.answer(capsys, "--store", store, "--json")
        [finding] = json.loads(told)["findings"]
        assert (status, finding["table"], finding["problem"]) == (1, table, "the table is missing")

    def test_something_found(self, captured: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        spoil(store, "update raw_rules set definition = 'none'")
        run(captured, NEW, "new")
        status, told = self.answer(capsys, "--store", store, "--dsn", lab.reader_dsn(captured))
        assert status == 1
        assert "1 raw_rules: content was changed · " in told
        assert "1 raw_restaurants: new" in told
        status, told = self.answer(capsys, "--store", store, "--json")
        finding, *derived = json.loads(told)["findings"]
        assert (status, json.loads(told)["ok"]) == (1, False)
        assert finding == {
            "table": "raw_rules",
            "capture_id": 1,
            "block": 0,
            "rows": 1,
            "found": 1,
            "problem": "content was changed",
        }
        # What was derived from it before does not follow from it now.
        assert {(other["table"], other["problem"]) for other in derived} >= {("rules", "is not what the evidence leads to")}

    def test_a_capture_prints_the_chain_that_verify_ends_in(
        self, system: str, store: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            cli.main(["capture", lab.reader_dsn(system), "--store", str(store)])
        told = capsys.readouterr().out
        _, verified = self.answer(capsys, "--store", store, "--json")
        head = json.loads(verified)["chain_hash"]
        assert f"Chain none → {head[:6]}…{head[-6:]}" in told


def write_on(dsn: str, stop: threading.Event) -> None:
    """Insert, change and delete rows, some of them in transactions that commit late or never, until told to stop."""
    rng = random.Random(dsn)
    checks = (
        "insert into booking_confirmation_results (booking_id, confirmed, snapshot_data) values (gen_random_uuid(), true, %s)"
    )
    with psycopg.connect(dsn) as quick, psycopg.connect(dsn) as slow:
        while not stop.wait(0.002):
            for conn in (quick, slow):
                conn.execute(NEW.encode(), ["written"])
                conn.execute(checks.encode(), [json.dumps({"allocations": [], "text": "x" * rng.randrange(2000)})])
            quick.execute(b"update restaurants set name = 'changed' where id = %s", [ANCHOR])
            quick.execute(b"delete from booking_confirmation_results where id % 100 = 0")
            quick.commit()
            if rng.random() < 0.05:
                (slow.rollback if rng.random() < 0.3 else slow.commit)()


def test_captures_killed_at_any_instant_lose_nothing_and_double_nothing(system: str, store: Path) -> None:
    """A writer works on while captures are killed; make soak kills more of them."""
    fill(system)
    rng, stop = random.Random(KILLS), threading.Event()
    writer = threading.Thread(target=write_on, args=(system, stop))
    writer.start()
    command = [sys.executable, "-m", "analysis", "capture", lab.reader_dsn(system), "--store", str(store)]
    landed = killed = 0
    try:
        # One that is left alone says how long a capture takes.
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        takes, landed = time.monotonic() - started, 1
        while killed < KILLS:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    # It may have ended before: then it landed, and another is killed in its place.
                    process.wait(rng.uniform(0.3, 1.1) * takes)
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
            with closing(stores.connect(store)) as con:
                [(held,)] = con.execute("select count(*) from captures").fetchall()
                # A kill may also come after the commit and before the process's end.
                assert landed + (process.returncode == 0) <= held <= landed + 1
                landed = held
                assert custody.verify(con) == []
    finally:
        stop.set()
        writer.join()
    capture.pull(lab.reader_dsn(system), store, analysis.derive)
    assert verify(store) == set()
    assert differences(store, system) == []
    with closing(analysis.open_store(store)) as con:
        for relation in stores.RELATIONS:
            versions = f"select count(*), count(distinct (capture_id, key)) from raw_{relation}"
            [(rows, distinct)] = con.execute(versions).fetchall()
            assert rows == distinct
        assert query.rows(con, "assert/rows_accounted_for") == []


def test_a_store_of_an_earlier_version_is_refused_and_left_alone(captured: str, store: Path) -> None:
    spoil(store, "alter table captures drop column chain_hash")
    with pytest.raises(StoreError, match="made by a version that chained no captures: capture into a new file"):
        capture.pull(lab.reader_dsn(captured), store, analysis.derive)
    with closing(stores.connect(store)) as con:
        assert con.execute("select count(*) from captures").fetchall() == [(2,)]
