"""Source → raw: one consistent pull into the store, which it changes wholly or not at all, with a manifest."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
from tqdm import tqdm

from analysis import manifest, query, source
from analysis.model import SourceError, StoreError

RELATIONS = ("checks", "allocations", "allocations_archive", "tables", "restaurants", "rules")
"""What is read, each by the statement of that name in ``sql/capture``; the store holds it as ``raw_NAME``."""

MANIFEST = tuple(manifest.TABLES)
"""What each capture writes about itself, chained from one to the next by hash."""

_CHUNK_ROWS = 20_000
_LONG_TEXTS = ("snapshot_data", "conflict_details")


def connect(store: Path, *, write: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a store: a DuckDB file read-only, or for the one writer; or a folder of Parquet files, into memory.

    Instants are shown in UTC; columns that the kit added after the store was written are null. Raises StoreError when there
    is no such store, it is no store, or a writer has it.
    """
    if not write and not store.exists():
        raise StoreError(f"no store at {store}: make one with forensics capture DSN --store {store}")
    if write and store.is_dir():
        raise StoreError(f"{store} is a folder: a capture is written to a file, like {store}/evidence.duckdb")
    if store.is_dir():
        con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        _load_folder(con, store)
    else:
        try:
            con = duckdb.connect(str(store), read_only=not write, config={"autoinstall_known_extensions": "false"})
        except duckdb.Error as error:
            raise StoreError(_why_not_open(store, error)) from None
    con.execute("set TimeZone = 'UTC'")
    held = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
    lacking = [
        name for name in ("captures", *manifest.FIRST_FORM) if name.startswith(("captures", "raw_")) and name not in held
    ]
    if not write and lacking:
        con.close()
        raise StoreError(f"{store} holds no capture: it lacks {lacking[0]}; make one with forensics capture DSN --store FILE")
    if not write:
        [(database,)] = con.execute("select current_database()").fetchall()
        for name in manifest.LATER:
            _show(con, name, "temporary view", database if name in held else None)
    return con


def connect_raw(store: Path) -> duckdb.DuckDBPyConnection:
    """Open what was captured into a store file, and nothing that was derived from it, for derivation in memory."""
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    quoted = str(store).replace("'", "''")
    con.execute(f"attach '{quoted}' as kept (read_only)")
    held = {name for (name,) in con.execute("select table_name from duckdb_tables() where database_name = 'kept'").fetchall()}
    for name in (*(f"raw_{relation}" for relation in RELATIONS), *MANIFEST):
        _show(con, name, "view", "kept" if name in held else None)
    con.execute("set TimeZone = 'UTC'")
    return con


def _show(con: duckdb.DuckDBPyConnection, name: str, kind: str, database: str | None) -> None:
    """Show a table of a store with all the columns that the kit writes now; an older version wrote fewer, or no such table."""
    columns = manifest.LATER.get(name, {})
    if database is not None:
        kept = f"{manifest.quoted(database)}.main.{name}"
        held = con.table(kept).columns
        lacking = "".join(f", null::{columns[each]} as {each}" for each in columns if each not in held)
        if lacking or kind == "view":
            con.execute(f"create {kind} {name} as select *{lacking} from {kept}")
    elif name not in manifest.FIRST_FORM:
        con.execute(
            f"create {kind} {name} as select {', '.join(f'null::{columns[each]} as {each}' for each in columns)} limit 0"
        )


def pull(
    dsn: str, store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None], tenant: str | None = None
) -> dict[str, Any]:
    """Read the source once into the store and derive its relations, in one transaction of each database.

    With a tenant only what it may see is read, and the store says so; it then takes captures of no other.

    Returns the manifest of this capture: the row of ``captures`` and under ``relations`` those of
    ``capture_relations``. Whatever fails, the store is left as it was. Raises SourceError and StoreError.
    """
    with source.snapshot(dsn, tenant) as connection:
        shape = source.shape(connection)
        existed = store.exists()
        complete = False
        try:
            with closing(connect(store, write=True)) as con:
                con.execute("begin")
                _accepts(con, store, tenant)
                landed = _land(connection, con, shape, tenant)
                derive(con)
                con.execute("commit")
                complete = True
        finally:
            # DuckDB rolls back what was not committed; a file that was not there before goes with it.
            if not complete and not existed:
                store.unlink(missing_ok=True)
    return landed


def _accepts(con: duckdb.DuckDBPyConnection, store: Path, tenant: str | None) -> None:
    """Refuse a store whose manifest has other columns than this version writes, or whose captures saw other rows."""
    held = {
        name for (name,) in con.execute("select column_name from duckdb_columns() where table_name = 'captures'").fetchall()
    }
    if held and not {"chain_hash", "tenant"} <= held:
        raise StoreError(f"{store} was made by a version that chained no captures: capture into a new file, and keep this one")
    before = con.execute("select tenant from captures limit 1").fetchone() if held else None
    if before and before[0] != tenant:
        saw = f"tenant {before[0]}" if before[0] else "every tenant"
        raise StoreError(f"{store} holds captures of {saw}: rows out of sight would be taken for vanished; use another file")


def export(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write what was captured as Parquet, one file a relation: evidence that outlives a storage format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"raw_{relation}" for relation in RELATIONS), *MANIFEST):
        con.table(name).order("all").write_parquet(str(folder / f"{name}.parquet"), compression="zstd")


def _land(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, shape: str, tenant: str | None) -> dict[str, Any]:
    manifest.prepare(con)
    last = con.execute("select capture_id, in_flight, chain_hash from captures order by capture_id desc limit 1").fetchone()
    before, in_flight, chained_to = last or (0, None, None)
    capture_id = before + 1
    capture = {"capture_id": capture_id, **source.context(connection), "shape": shape, "tenant": tenant}
    manifest.write(con, "captures", capture)
    described = source.described(connection)
    relations = [
        _land_relation(connection, con, relation, capture_id, in_flight, described.get(relation, {})) for relation in RELATIONS
    ]
    chained = {"capture_id": capture_id, "chain_hash": manifest.chain(con, capture_id, chained_to)}
    con.execute("update captures set chain_hash = $chain_hash where capture_id = $capture_id", chained)
    return capture | {"relations": relations, "chained_to": chained_to, "chain_hash": chained["chain_hash"]}


def _land_relation(
    connection: psycopg.Connection,
    con: duckdb.DuckDBPyConnection,
    relation: str,
    capture_id: int,
    in_flight: str | None,
    described: dict[str, Any],
) -> dict[str, Any]:
    """Read one relation, and add to its raw table what is new or changed; mark what is missing."""
    raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
    rows_read = _stage(connection, con, relation)
    columns = [name for name in con.table("stage").columns if name != "row_xid"]
    # Consecutive snapshots repeat each other: compressed together they take a twentieth of the room, and are read three
    # times as fast, as DuckDB's own choice for long texts.
    types = {name: f"varchar{' using compression zstd' if name in _LONG_TEXTS else ''}" for name in columns}
    manifest.extend(con, raw, {"capture_id": "integer", **types})
    con.execute(f"create or replace temporary view held_versions as select capture_id, {', '.join(columns)} from {raw}")
    con.execute(f"create or replace temporary table held as {query.text('store/held')}", {"relation": relation})
    con.execute(f"create or replace temporary table changed as {query.text('store/changed')}")
    con.execute(f"create or replace temporary table missing as {query.text('store/missing')}")
    this = {"capture_id": capture_id}
    con.execute(f"insert into {raw} by name select $capture_id as capture_id, * exclude (is_new, row_xid) from changed", this)
    con.execute("insert into vanished select $capture_id, $relation, key from missing", {**this, "relation": relation})
    manifest.seal(con, relation, capture_id, columns)
    counts = con.execute(
        "select count(*) filter (is_new), count(*) filter (not is_new), (select count(*) from missing) from changed"
    ).fetchone()
    assert counts is not None
    row = {"relation": relation, "rows_read": rows_read}
    row |= dict(zip(("rows_new", "rows_changed", "rows_vanished"), counts, strict=True))
    [(row["rows_rescued"],)] = con.execute(query.text("store/rescued"), {"in_flight": in_flight}).fetchall()
    row |= {"columns": ", ".join(columns), **described}
    manifest.write(con, "capture_relations", this | row)
    return row


def _stage(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Stream one relation of the source, every value as text, into the temporary table ``stage``; return its rows."""
    statement = query.text(f"capture/{relation}")
    cursor = connection.cursor()
    counted = cursor.execute(f"select count(*) from (\n{statement}) as source".encode()).fetchone()
    total = counted[0] if counted else 0
    described = cursor.execute(f"select * from (\n{statement}) as source limit 0".encode()).description or ()
    schema = {column.name: pl.String for column in described}
    con.register("chunk", pl.DataFrame(schema=schema))
    con.execute("create or replace temporary table stage as from chunk")
    read = 0
    with tqdm(total=total, desc=relation, unit=" rows", disable=None, leave=False) as bar:
        for chunk in _chunks(cursor, statement):
            con.register("chunk", pl.DataFrame(chunk, schema=schema, orient="row"))
            con.execute("insert into stage from chunk")
            read += len(chunk)
            bar.update(len(chunk))
    con.unregister("chunk")
    if read != total:
        raise SourceError(f"{relation}: the source counted {total} rows and sent {read}; nothing was stored")
    return read


def _chunks(cursor: psycopg.Cursor, statement: str) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    with cursor.copy(f"copy (\n{statement}) to stdout".encode()) as stream:
        for row in stream.rows():
            chunk.append(row)
            if len(chunk) == _CHUNK_ROWS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _load_folder(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for file in sorted(folder.glob("*.parquet")):
        try:
            con.read_parquet(str(file)).create(file.stem)
        except duckdb.Error as error:
            raise StoreError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _why_not_open(store: Path, error: duckdb.Error) -> str:
    said = str(error)
    if "Could not set lock" in said:
        return f"{store} is open in a process that writes to it: wait for it to end"
    if "not a valid DuckDB" in said:
        return f"{store} is not a DuckDB file: give the store that forensics capture wrote"
    return f"cannot open the store {store}: {' '.join(said.split())}"
