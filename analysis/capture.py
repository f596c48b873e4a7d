"""Source → raw: one consistent pull into the store, which it changes wholly or not at all, with a manifest."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
from psycopg.rows import dict_row
from tqdm import tqdm

from analysis import query, source
from analysis.model import SourceError, StoreError

RELATIONS = ("checks", "allocations", "allocations_archive", "tables", "restaurants", "rules")
"""What is read, each by the statement of that name in ``sql/capture``; the store holds it as ``raw_NAME``."""

_CHUNK_ROWS = 20_000
_MANIFEST = """
create table if not exists captures (
    capture_id integer, captured_at timestamptz, role varchar, server_version varchar, database varchar,
    snapshot varchar, standby boolean, shape varchar
);
create table if not exists capture_relations (
    capture_id integer, relation varchar, rows_read bigint, rows_new bigint, rows_changed bigint, rows_vanished bigint
);
create table if not exists vanished (capture_id integer, relation varchar, key varchar)
"""


def connect(store: Path, *, write: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a store: a DuckDB file read-only, or for the one writer; or a folder of Parquet files, into memory.

    Instants are shown in UTC. Raises StoreError when there is no such store, it is no store, or a writer has it.
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
    lacking = [name for name in ("captures", *(f"raw_{relation}" for relation in RELATIONS)) if name not in held]
    if not write and lacking:
        con.close()
        raise StoreError(f"{store} holds no capture: it lacks {lacking[0]}; make one with forensics capture DSN --store FILE")
    return con


def pull(dsn: str, store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None]) -> dict[str, Any]:
    """Read the source once into the store and derive its relations, in one transaction of each database.

    Returns the manifest of this capture: the row of ``captures`` and under ``relations`` those of
    ``capture_relations``. Whatever fails, the store is left as it was. Raises SourceError and StoreError.
    """
    with source.snapshot(dsn) as connection:
        shape = source.shape(connection)
        existed = store.exists()
        complete = False
        try:
            with closing(connect(store, write=True)) as con:
                con.execute("begin")
                manifest = _land(connection, con, shape)
                derive(con)
                con.execute("commit")
                complete = True
        finally:
            # DuckDB rolls back what was not committed; a file that was not there before goes with it.
            if not complete and not existed:
                store.unlink(missing_ok=True)
    return manifest


def export(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write what was captured as Parquet, one file a relation: evidence that outlives a storage format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"raw_{relation}" for relation in RELATIONS), "captures", "capture_relations", "vanished"):
        con.table(name).order("all").write_parquet(str(folder / f"{name}.parquet"), compression="zstd")


def _land(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, shape: str) -> dict[str, Any]:
    con.execute(_MANIFEST)
    context = connection.cursor(row_factory=dict_row).execute(query.text("capture/context").encode()).fetchone()
    assert context is not None
    [(capture_id,)] = con.execute("select coalesce(max(capture_id), 0) + 1 from captures").fetchall()
    con.execute(
        "insert into captures values "
        "($capture_id, $captured_at, $role, $server_version, $database, $snapshot, $standby, $shape)",
        {"capture_id": capture_id, **context, "shape": shape},
    )
    relations = [_land_relation(connection, con, relation, capture_id) for relation in RELATIONS]
    return {"capture_id": capture_id, **context, "shape": shape, "relations": relations}


def _land_relation(
    connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, relation: str, capture_id: int
) -> dict[str, Any]:
    """Read one relation, and add to its raw table what is new or changed; mark what is missing."""
    raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
    rows_read = _stage(connection, con, relation)
    con.execute(f"create table if not exists {raw} as select 0 as capture_id, * from stage limit 0")
    con.execute(f"create or replace temporary view held_versions as from {raw}")
    con.execute(f"create or replace temporary table held as {query.text('store/held')}", {"relation": relation})
    con.execute(f"create or replace temporary table changed as {query.text('store/changed')}")
    con.execute(f"create or replace temporary table missing as {query.text('store/missing')}")
    this = {"capture_id": capture_id}
    con.execute(f"insert into {raw} by name select $capture_id as capture_id, * exclude (is_new) from changed", this)
    con.execute("insert into vanished select $capture_id, $relation, key from missing", {**this, "relation": relation})
    counts = con.execute(
        "select count(*) filter (is_new), count(*) filter (not is_new), (select count(*) from missing) from changed"
    ).fetchone()
    assert counts is not None
    row = dict(zip(("rows_new", "rows_changed", "rows_vanished"), counts, strict=True))
    con.execute(
        "insert into capture_relations values ($capture_id, $relation, $rows_read, $rows_new, $rows_changed, $rows_vanished)",
        {**this, "relation": relation, "rows_read": rows_read, **row},
    )
    return {"relation": relation, "rows_read": rows_read, **row}


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
