"""The chain of custody: the store against its own manifest, and against the source."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from analysis import manifest, query, stores
from analysis.model import StoreError

if TYPE_CHECKING:
    import psycopg

Finding = dict[str, Any]
_OTHERWISE = "is not what the evidence leads to"


def verify(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """Recompute every hash of the manifest; list what was changed, is missing or was added, by table, capture and block.

    A finding has ``table``, ``capture_id``, ``block``, ``rows`` expected and ``found``, and the ``problem`` in words. What no
    store can tell by itself is that its newest captures were taken away whole, with their manifests: the chain's last
    hash, as ``forensics capture`` printed it, tells that. Where the store brings statements of its own, or columns of other
    types, they alone are listed: the one may answer in the place of what would hash, the other cannot be hashed. Raises
    StoreError for evidence that has no manifest.
    """
    if unlike := _statements(con) or _retyped(con):
        return unlike
    held = {name for (name,) in con.execute("select distinct table_name from duckdb_columns()").fetchall()}
    if "capture_blocks" not in held:
        raise StoreError("this store has no hashes to verify: it was not written by forensics capture")
    recorded = con.execute("select relation from capture_relations union select relation from capture_blocks").fetchall()
    read = {f"raw_{relation}" for (relation,) in recorded} | {f"raw_{relation}" for relation in stores.RELATIONS}
    findings = []
    for raw in sorted(read & held):
        try:
            findings += [
                _finding(raw, row["capture_id"], row["block_no"], row["rows"], row["rows_found"], row["problem"])
                for row in manifest.block_findings(con, raw.removeprefix("raw_"))
            ]
        except duckdb.Error as error:
            findings.append(_finding(raw, None, None, problem=f"cannot be hashed: {first_line(error)}"))
    findings += missing(sorted(read - held))
    findings += _strangers(con)
    chained_to = None
    for capture_id, chain_hash in con.execute("select capture_id, chain_hash from captures order by capture_id").fetchall():
        if manifest.chain(con, capture_id, chained_to) != chain_hash:
            findings.append(_finding("captures", capture_id, None, problem="the manifest is not the one that was chained"))
        chained_to = chain_hash
    return findings


def missing(names: list[str]) -> list[Finding]:
    """List tables that captures wrote, and that are not there, as findings."""
    return [_finding(name, None, None, problem="the table is missing") for name in names]


def _statements(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """List the statements that a store brings: functions, views and columns that are computed when they are read.

    DuckDB looks for a function in the store first: only its full name is surely that of its own.
    """
    found = con.execute("""
        select function_name as name from system.main.duckdb_functions() where not internal
        union
        select view_name as name
        from system.main.duckdb_views()
        where not internal and not temporary and database_name <> 'memory' and view_name <> 'snapshot_allocations'
        union
        select table_name || '.' || column_name as name
        from system.main.duckdb_columns()
        where is_generated and database_name <> 'memory'
        order by name""").fetchall()
    return [_finding(name, None, None, problem="a statement that no capture writes") for (name,) in found]


def _retyped(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """List the columns of raw relations and of the manifest that have another type than captures give them."""
    texts = {f"raw_{relation}": dict.fromkeys(columns, "varchar") for relation, columns in stores.COLUMNS.items()}
    findings = []
    for table, column, found in con.execute("""
        select table_name, column_name, data_type from duckdb_columns() order by table_name, column_index""").fetchall():
        type_ = (manifest.TABLES | texts).get(table, {}).get(column, found)
        # Ids lie in a file as uuids, or as texts.
        if duckdb.sqltype(type_) != found and not (table in texts and found == "UUID"):
            findings.append(_finding(f"{table}.{column}", None, None, problem=f"has the type {found}, and was {type_}"))
    return findings


def _strangers(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """List manifest rows of no capture."""
    findings = []
    for table in stores.MANIFEST:
        odd = con.execute(f"""
            select distinct capture_id from {table}
            where capture_id is null or capture_id not between 1 and (select count(distinct capture_id) from captures)
            order by all""").fetchall()
        findings += [_finding(table, capture_id, None, problem="rows of no capture") for (capture_id,) in odd]
    return findings


def derived(store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None]) -> list[Finding] | None:
    """Derive a store file anew in memory, and list the relations that the file has otherwise.

    Null where another version of the kit derived what the file has: this one reads none of it, see
    :func:`analysis.open_store`, and has nothing to compare.
    """
    with closing(stores.connect(store)) as con:
        if not query.derived_by_this_version(con):
            return None
    with closing(stores.connect_raw(store)) as con:
        try:
            derive(con)
        except duckdb.Error as error:
            return [_finding("derivation", None, None, problem=f"cannot be derived again: {first_line(error)}")]
        views = "select sql from system.main.duckdb_views() where view_name = 'snapshot_allocations' and database_name "
        view, other = (con.execute(f"{views} {which} 'kept'").fetchall() for which in ("<>", "="))
        findings = [] if view == other else [_finding("snapshot_allocations", None, None, problem=_OTHERWISE)]
        for (name,) in con.execute(
            "select table_name from duckdb_tables() where database_name <> 'kept' order by all"
        ).fetchall():
            rows = con.execute(f"select count(*) from {name}").fetchall()[0][0]
            try:
                there, both = (
                    con.execute(f"select count(*) from ({each})").fetchall()[0][0]
                    for each in (f"from kept.{name}", f"from {name} intersect all from kept.{name}")
                )
                # Rows are compared by the places of their columns.
                columns, others = (con.execute(f"describe from {each}").fetchall() for each in (name, f"kept.{name}"))
            except duckdb.Error:
                there, both, columns, others = 0, 0, [], []
            if not rows == there == both or columns != others:
                findings.append(_finding(name, None, None, rows, there, _OTHERWISE))
        return findings


def compare(con: duckdb.DuckDBPyConnection, connection: "psycopg.Connection") -> list[Finding]:
    """Compare the newest versions that the store holds with the rows of a source, hashed there; list each difference.

    A ``problem`` is new, late (its writer was in flight at the last capture, and committed after it), changed or vanished;
    ``key`` names the row. Where rows differ and the source is not the one that was captured, that comes first. Raises
    SourceError where the source is a standby that has not replayed what the store holds.
    """
    from analysis import source  # a PostgreSQL client takes a fifth of a second that reading a store does not need

    last = manifest.last(con)
    source.refuse_behind(connection, last)
    shape = source.shape(connection)
    findings = [
        _finding(f"raw_{relation}", None, None, problem=f"cannot be compared: {why}")
        for relation, why in shape.missing.items()
        if con.execute(f"select 1 from raw_{relation} limit 1").fetchall()
    ]
    for relation in shape.relations:
        raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
        con.execute(f"create or replace temporary view all_versions as select key, capture_id, row_xid from {raw}")
        con.execute(f"create or replace temporary table standing as {query.text('store/standing')}", {"relation": relation})
        con.execute("create or replace temporary view compared as from standing")
        columns = manifest.said(con.table(raw).columns)
        manifest.show_versions(con, relation, "is not null", columns)
        con.execute(f"create or replace temporary table held as {query.text('store/held')}")
        texts = [f"{name}::text" for name in columns]
        hashed = " || ".join(f"coalesce(octet_length({text}) || ':' || {text}, '-')" for text in texts)
        there = connection.execute(
            f"select key::text, encode(sha256(convert_to({hashed}, 'UTF8')), 'hex'), row_xid "
            f"from (\n{query.text(f'capture/{relation}')}) as source".encode()
        ).fetchall()
        schema = {"key": pl.String, "content_hash": pl.String, "row_xid": pl.String}
        con.register("there", pl.DataFrame(there, schema=schema, orient="row"))
        differences = query.rows(con, "store/differences", in_flight=last["in_flight"])
        findings += [_finding(raw, None, None, problem=row["problem"]) | {"key": row["key"]} for row in differences]
        con.unregister("there")
    if findings and source.is_other(source.context(connection), last):
        other = _finding("captures", last["capture_id"], None, problem="read another server or database than this one")
        findings.insert(0, other)
    return findings


def unreadable(name: str, error: duckdb.Error) -> Finding:
    """Tell of a store that has not the relations of one, or not the bytes, as a finding."""
    return _finding(name, None, None, problem=f"cannot be read: {first_line(error)}")


def first_line(error: duckdb.Error) -> str:
    """Return what DuckDB says, without the statement that it cites."""
    return str(error).split("\n", 1)[0]


def _finding(
    table: str, capture_id: int | None, block: int | None, rows: int | None = None, found: int | None = None, problem: str = ""
) -> Finding:
    return {"table": table, "capture_id": capture_id, "block": block, "rows": rows, "found": found, "problem": problem}
