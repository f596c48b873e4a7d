"""The chain of custody: the store against its own manifest, and against the source."""

from typing import Any

import duckdb
import polars as pl
import psycopg

from analysis import capture, query
from analysis.model import StoreError

Finding = dict[str, Any]


def verify(con: duckdb.DuckDBPyConnection) -> list[Finding]:
    """Recompute every hash of the manifest; list what was changed, is missing or was added, by table, capture and block.

    A finding has ``table``, ``capture_id``, ``block``, ``rows`` expected and ``found``, and the ``problem`` in words. What no
    store can tell by itself is that its newest captures were taken away whole, with their manifests: the chain's last
    hash, as ``forensics capture`` printed it, tells that. Raises StoreError for evidence that has no manifest.
    """
    held = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
    if "capture_blocks" not in held:
        raise StoreError("this store has no hashes to verify: it was not written by forensics capture")
    findings = [finding for relation in capture.RELATIONS for finding in _blocks(con, relation)]
    chained_to = None
    for capture_id, chain_hash in con.execute("select capture_id, chain_hash from captures order by capture_id").fetchall():
        if capture.chain(con, capture_id, chained_to) != chain_hash:
            findings.append(_finding("captures", capture_id, None, problem="the manifest is not the one that was chained"))
        chained_to = chain_hash
    return findings


def _blocks(con: duckdb.DuckDBPyConnection, relation: str) -> list[Finding]:
    raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
    con.execute(f"create or replace temporary view version_rows as from {raw}")
    con.execute(
        "create or replace temporary table block_ranges as from capture_blocks where relation = $relation",
        {"relation": relation},
    )
    con.execute(f"create or replace temporary table found_blocks as {query.text('store/block_hashes')}")
    return [
        _finding(raw, row["capture_id"], row["block_no"], row["rows"], row["rows_found"], row["problem"])
        for row in query.rows(con, "store/block_findings")
    ]


def compare(con: duckdb.DuckDBPyConnection, connection: psycopg.Connection) -> list[Finding]:
    """Compare the newest versions that the store holds with the rows of a source, hashed there; list each difference.

    A ``problem`` is new, late (its writer was in flight at the last capture, and committed after it), changed or vanished;
    ``key`` names the row.
    """
    [(in_flight,)] = con.execute("select in_flight from captures order by capture_id desc limit 1").fetchall()
    findings = []
    for relation in capture.RELATIONS:
        raw = f"raw_{relation}"
        con.execute(f"create or replace temporary view held_versions as from {raw}")
        con.execute(f"create or replace temporary table held as {query.text('store/held')}", {"relation": relation})
        columns = con.table("held").columns
        hashed = " || ".join(f"coalesce(octet_length({name}) || ':' || {name}, '-')" for name in columns)
        there = connection.execute(
            f"select key, encode(sha256(convert_to({hashed}, 'UTF8')), 'hex'), row_xid "
            f"from (\n{query.text(f'capture/{relation}')}) as source".encode()
        ).fetchall()
        schema = {"key": pl.String, "content_hash": pl.String, "row_xid": pl.String}
        con.register("there", pl.DataFrame(there, schema=schema, orient="row"))
        differences = query.rows(con, "store/differences", in_flight=in_flight)
        findings += [_finding(raw, None, None, problem=row["problem"]) | {"key": row["key"]} for row in differences]
        con.unregister("there")
    return findings


def _finding(
    table: str, capture_id: int | None, block: int | None, rows: int | None = None, found: int | None = None, problem: str = ""
) -> Finding:
    return {"table": table, "capture_id": capture_id, "block": block, "rows": rows, "found": found, "problem": problem}
