"""What each capture writes about itself: the manifest, the hashes of the rows it added, the chain from one to the next.

What an old capture hashed is read from what it recorded, never from today's lists: a later version of the kit may read more
relations and columns, and add columns to the manifest, without breaking a chain. Nulls are hashed as absent, so that a column
that an older store lacks, and reads as null, changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import duckdb
import polars as pl

from analysis import query

_ROWS = 100_000  # that are hashed at a time

TABLES: dict[str, dict[str, str]] = {
    "captures": {
        "capture_id": "integer",
        "captured_at": "timestamptz",
        "role": "varchar",
        "server_version": "varchar",
        "database": "varchar",
        "snapshot": "varchar",
        "in_flight": "varchar",
        "standby": "boolean",
        "shape": "varchar",
        "tenant": "varchar",
        "chain_hash": "varchar",
        "system_identifier": "varchar",
        "database_oid": "varchar",
        "lsn": "varchar",
        "timeline": "varchar",
        "started_at": "varchar",
    },
    "capture_relations": {
        "capture_id": "integer",
        "relation": "varchar",
        "rows_read": "bigint",
        "rows_new": "bigint",
        "rows_changed": "bigint",
        "rows_vanished": "bigint",
        "rows_rescued": "bigint",
        "columns": "varchar",
        "source_columns": "varchar",
        "heap_bytes": "bigint",
        "toast_bytes": "bigint",
        "index_bytes": "bigint",
        "rows_sent": "bigint",
        "rows_hash": "varchar",
        "definition_hash": "varchar",
    },
    "capture_blocks": {
        "capture_id": "integer",
        "relation": "varchar",
        "block_no": "bigint",
        "first_key": "varchar",
        "last_key": "varchar",
        "rows": "bigint",
        "content_hash": "varchar",
    },
    "vanished": {"capture_id": "integer", "relation": "varchar", "key": "varchar"},
    "rewritten": {"capture_id": "integer", "relation": "varchar", "key": "varchar", "row_xid": "varchar"},
    "capture_writers": {"capture_id": "integer", "row_xid": "varchar", "begun_at": "timestamptz"},
}
"""The relations of the manifest, each with its columns. New columns go to the end; an older store reads them as null."""

FIRST_FORM = {
    "raw_checks": 7,
    "raw_allocations": 12,
    "raw_allocations_archive": 13,
    "raw_tables": 9,
    "raw_restaurants": 4,
    "raw_rules": 3,
    "captures": 11,
    "capture_relations": 7,
    "capture_blocks": 7,
    "vanished": 3,
}
"""The first form of the manifest recorded no columns. Its chain covers names, types and values of the first so many columns
of these tables; what came later stands behind them."""

LATER = {table: dict(list(columns.items())[FIRST_FORM.get(table, 0) :]) for table, columns in TABLES.items()}
LATER |= {table: {"row_xid": "varchar"} for table in FIRST_FORM if table.startswith("raw_")}
LATER["raw_checks"] |= {"snapshot_stored_bytes": "varchar", "conflict_stored_bytes": "varchar"}
"""What the first stores had not: columns that are null where an older version wrote them."""


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make the relations of the manifest in a store, or add to them what an older version of the kit did not write."""
    for table, columns in TABLES.items():
        extend(con, table, columns)


def extend(con: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> None:
    """Make a table where there is none, and give it the columns that it lacks, at its end."""
    con.execute(f"create table if not exists {table} ({', '.join(f'{name} {type_}' for name, type_ in columns.items())})")
    held = con.table(table).columns
    for name, type_ in columns.items():
        if name not in held:
            con.execute(f"alter table {table} add column {name} {type_}")


def last(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return the row of ``captures`` of the last capture; empty before the first."""
    rows = con.sql("from captures order by capture_id desc limit 1").pl().to_dicts()
    return rows[0] if rows else {}


def last_relation(con: duckdb.DuckDBPyConnection, relation: str, capture: dict[str, Any]) -> dict[str, Any]:
    """Return what a capture says of a relation; empty where it says nothing."""
    found = con.sql(
        "from capture_relations where capture_id = $capture_id and relation = $relation",
        params={"capture_id": capture.get("capture_id"), "relation": relation},
    )
    rows = found.pl().to_dicts()
    return rows[0] if rows else {}


def write(con: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    """Add a row to a table of the manifest, which has a column for each of its values."""
    values = ", ".join(f"${name}" for name in row)
    con.execute(f"insert into {table} ({', '.join(row)}) values ({values})", row)


def seal(con: duckdb.DuckDBPyConnection, relation: str, capture_id: int, columns: list[str]) -> None:
    """Write the hash of every block of rows that a capture added to a raw table, over these of its columns."""
    show_versions(con, relation, f"= {capture_id:d}", columns)
    ranges = query.text("store/block_ranges")
    con.execute(f"create or replace temporary table block_ranges as {ranges}", {"capture_id": capture_id})
    _hash_blocks(con, row_by_row=True)
    con.execute(
        "insert into capture_blocks by name select *, $relation as relation "
        "from block_ranges inner join found_blocks using (capture_id, block_no) order by block_no",
        {"relation": relation},
    )


def block_findings(con: duckdb.DuckDBPyConnection, relation: str) -> list[dict[str, Any]]:
    """Hash the blocks of a raw table again, each over the columns that its capture recorded; list what is not as it was.

    Rows are those of ``store/block_findings``. Values in columns that a capture did not record are told too.
    """
    raw = quoted(f"raw_{relation}")
    held = con.table(raw).columns
    recorded = con.execute(
        "select columns, list(capture_id order by capture_id) from capture_relations "
        "where relation = $relation and capture_id is not null group by columns order by columns",
        {"relation": relation},
    ).fetchall()
    groups = [
        (_recorded_columns(text, relation, held), f"in ({', '.join(map(str, ids))})", text is not None)
        for text, ids in recorded
    ]
    known = [str(capture_id) for _, ids in recorded for capture_id in ids]
    # Rows of a capture that recorded nothing of this relation: all their columns count.
    groups.append((held[1:], f"not in ({', '.join(known)}) or capture_id is null" if known else "is null or true", True))
    findings = []
    for columns, captures, row_by_row in groups:
        show_versions(con, relation, captures, [name for name in columns if name in held])
        con.execute(
            "create or replace temporary table block_ranges as "
            f"from capture_blocks where relation = $relation and (capture_id {captures})",
            {"relation": relation},
        )
        _hash_blocks(con, row_by_row=row_by_row)
        findings += query.rows(con, "store/block_findings")
        beyond = " or ".join(f"{quoted(name)} is not null" for name in held[1:] if name not in columns)
        if beyond:
            findings += (
                con.sql(f"""
                select capture_id, null::bigint as block_no, 0 as rows, count(*) as rows_found,
                    'values in columns that this capture did not read' as problem
                from {raw} where (capture_id {captures}) and ({beyond}) group by capture_id order by capture_id""")
                .pl()
                .to_dicts()
            )
    return findings


def chain(con: duckdb.DuckDBPyConnection, capture_id: int, chained_to: str | None) -> str:
    """Hash all that one capture wrote about itself, hashes of its rows included, onto the hash of the capture before it."""
    digest = sha256((chained_to or "").encode())
    [(first_form,)] = con.execute(
        "select count(*) > 0 and count(columns) = 0 from capture_relations where capture_id = $capture_id",
        {"capture_id": capture_id},
    ).fetchall()
    for told in _first_form(con, capture_id) if first_form else _by_name(con, capture_id):
        digest.update(told.encode())
    return digest.hexdigest()


def show_versions(con: duckdb.DuckDBPyConnection, relation: str, captures: str, columns: list[str]) -> None:
    """Show the rows of a raw relation that these captures added, each with its key and as a text, in ``version_rows``."""
    con.execute(
        "create or replace temporary view version_rows as "
        f"select capture_id, key, {told(columns)} as row_text from {quoted(f'raw_{relation}')} where capture_id {captures}"
    )


def told(columns: list[str]) -> str:
    """Return the expression that makes a text of a row: each value with its length in bytes, so that no two rows read alike."""
    values = (f"if({name} is null, '-', strlen({name}) || ':'), {name}" for name in map(quoted, columns))
    return f"concat({', '.join(values)})"


def said(columns: Iterable[str]) -> list[str]:
    """Return the columns that say something: which transaction wrote a row, and how the server keeps it, may change alone."""
    return [name for name in columns if name not in ("capture_id", "row_xid") and not name.endswith("_stored_bytes")]


def quoted(name: str) -> str:
    """Write a name as an identifier of SQL, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def _by_name(con: duckdb.DuckDBPyConnection, capture_id: int) -> Iterator[str]:
    """Tell the rows of every table of the manifest, each value with the name of its column and both with their lengths."""
    for table in TABLES:
        names = [name for name in con.table(table).columns if name != "chain_hash"]
        values = {f"$name_{i}": f"{quoted(name)}::varchar" for i, name in enumerate(names)}
        row_text = " || ".join(f"coalesce({name} || strlen({value}) || ':' || {value}, '')" for name, value in values.items())
        [(rows, content_hash)] = con.execute(
            f"select count(*), sha256(string_agg(row_text, ';' order by row_text)) "
            f"from (select {row_text} as row_text from {table} where capture_id = $capture_id)",
            {"capture_id": capture_id} | {f"name_{i}": f"{len(name)}:{name} " for i, name in enumerate(names)},
        ).fetchall()
        if rows:
            yield repr((table, rows, content_hash))


def _first_form(con: duckdb.DuckDBPyConnection, capture_id: int) -> Iterator[str]:
    """Tell names, types and values by their places, as the first form of the manifest did."""
    for table, first in FIRST_FORM.items():
        shown = con.table(table)
        yield repr((table, shown.columns[:first], [str(type_) for type_ in shown.types[:first]]))
    for table in TABLES:
        names = [name for name in con.table(table).columns if name != "chain_hash"]
        first = FIRST_FORM.get(table, 0) - (table == "captures")
        columns = ", ".join(f"{quoted(name)}::varchar" for name in names)
        statement = f"select {columns} from {table} where capture_id = $capture_id order by all"
        for row in con.execute(statement, {"capture_id": capture_id}).fetchall():
            yield repr((table, *row[:first], *(value for value in row[first:] if value is not None)))


def _recorded_columns(text: str | None, relation: str, held: list[str]) -> list[str]:
    return held[1 : FIRST_FORM.get(f"raw_{relation}")] if text is None else text.split(", ")


def _hash_blocks(con: duckdb.DuckDBPyConnection, *, row_by_row: bool) -> None:
    """Hash the rows of ``version_rows`` by the blocks of ``block_ranges``, into the temporary table ``found_blocks``.

    The rows come sorted, and are let go: no aggregate of DuckDB's would do without room for them all.
    """
    digests: dict[tuple[int | None, int | None], Any] = defaultdict(sha256)
    counts: dict[tuple[int | None, int | None], int] = defaultdict(int)
    hashed = con.sql(query.text("store/block_hashes"), params={"row_by_row": row_by_row})
    for batch in hashed.to_arrow_reader(_ROWS):
        blocks = pl.DataFrame(batch).group_by("capture_id", "block_no", maintain_order=True)
        for capture_id, block_no, told, rows in blocks.agg(pl.col("row_hash").str.join(), pl.len()).rows():
            digests[capture_id, block_no].update(told.encode())
            counts[capture_id, block_no] += rows
    blocks_just_hashed = pl.DataFrame(  # noqa: F841 - the statement below reads it
        [(*block, counts[block], digest.hexdigest()) for block, digest in digests.items()],
        schema={"capture_id": pl.Int32, "block_no": pl.Int64, "rows": pl.Int64, "content_hash": pl.String},
        orient="row",
    )
    con.execute("create or replace temporary table found_blocks as from blocks_just_hashed")
