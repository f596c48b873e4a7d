"""Source → raw: one consistent pull into the store, which it changes wholly or not at all, with a manifest."""

from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
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

MANIFEST = ("captures", "capture_relations", "capture_blocks", "vanished")
"""What each capture writes about itself, chained from one to the next by hash."""

_CHUNK_ROWS = 20_000
_LONG_TEXTS = ("snapshot_data", "conflict_details")
_MANIFEST = """
create table if not exists captures (
    capture_id integer, captured_at timestamptz, role varchar, server_version varchar, database varchar,
    snapshot varchar, in_flight varchar, standby boolean, shape varchar, tenant varchar, chain_hash varchar
);
create table if not exists capture_relations (
    capture_id integer, relation varchar, rows_read bigint, rows_new bigint, rows_changed bigint, rows_vanished bigint,
    rows_rescued bigint
);
create table if not exists capture_blocks (
    capture_id integer, relation varchar, block_no bigint, first_key varchar, last_key varchar, rows bigint,
    content_hash varchar
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


def connect_raw(store: Path) -> duckdb.DuckDBPyConnection:
    """Open what was captured into a store file, and nothing that was derived from it, for derivation in memory."""
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    quoted = str(store).replace("'", "''")
    con.execute(f"attach '{quoted}' as kept (read_only)")
    held = {name for (name,) in con.execute("select table_name from duckdb_tables() where database_name = 'kept'").fetchall()}
    for name in (*(f"raw_{relation}" for relation in RELATIONS), *MANIFEST):
        if name in held:
            con.execute(f"create view {name} as from kept.{name}")
    con.execute("set TimeZone = 'UTC'")
    return con


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
                manifest = _land(connection, con, shape, tenant)
                derive(con)
                con.execute("commit")
                complete = True
        finally:
            # DuckDB rolls back what was not committed; a file that was not there before goes with it.
            if not complete and not existed:
                store.unlink(missing_ok=True)
    return manifest


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
    con.execute(_MANIFEST)
    context = connection.cursor(row_factory=dict_row).execute(query.text("capture/context").encode()).fetchone()
    assert context is not None
    last = con.execute("select capture_id, in_flight, chain_hash from captures order by capture_id desc limit 1").fetchone()
    before, in_flight, chained_to = last or (0, None, None)
    capture_id = before + 1
    con.execute(
        "insert into captures values "
        "($capture_id, $captured_at, $role, $server_version, $database, $snapshot, $in_flight, $standby, $shape, "
        "$tenant, null)",
        {"capture_id": capture_id, **context, "shape": shape, "tenant": tenant},
    )
    relations = [_land_relation(connection, con, relation, capture_id, in_flight) for relation in RELATIONS]
    chained = {"capture_id": capture_id, "chain_hash": chain(con, capture_id, chained_to)}
    con.execute("update captures set chain_hash = $chain_hash where capture_id = $capture_id", chained)
    manifest = {"capture_id": capture_id, **context, "shape": shape, "tenant": tenant, "relations": relations}
    return manifest | {"chained_to": chained_to, "chain_hash": chained["chain_hash"]}


def chain(con: duckdb.DuckDBPyConnection, capture_id: int, chained_to: str | None) -> str:
    """Hash all that one capture wrote about itself, hashes of its rows included, onto the hash of the capture before it."""
    digest = sha256((chained_to or "").encode())
    # A renamed column would tell the same values of something else.
    for table in (*(f"raw_{relation}" for relation in RELATIONS), *MANIFEST):
        digest.update(repr((table, con.table(table).columns, [str(type_) for type_ in con.table(table).types])).encode())
    for table in MANIFEST:
        columns = "columns(lambda name : name <> 'chain_hash')::varchar"
        statement = f"select {columns} from {table} where capture_id = $capture_id order by all"
        for row in con.execute(statement, {"capture_id": capture_id}).fetchall():
            digest.update(repr((table, *row)).encode())
    return digest.hexdigest()


def _land_relation(
    connection: psycopg.Connection,
    con: duckdb.DuckDBPyConnection,
    relation: str,
    capture_id: int,
    in_flight: str | None,
) -> dict[str, Any]:
    """Read one relation, and add to its raw table what is new or changed; mark what is missing."""
    raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
    rows_read = _stage(connection, con, relation)
    staged = con.table("stage").columns
    # Consecutive snapshots repeat each other: compressed together they take a twentieth of the room, and are read three
    # times as fast, as DuckDB's own choice for long texts.
    columns = ", ".join(
        f"{name} varchar{' using compression zstd' if name in _LONG_TEXTS else ''}" for name in staged if name != "row_xid"
    )
    con.execute(f"create table if not exists {raw} (capture_id integer, {columns})")
    con.execute(f"create or replace temporary view held_versions as from {raw}")
    con.execute(f"create or replace temporary table held as {query.text('store/held')}", {"relation": relation})
    con.execute(f"create or replace temporary table changed as {query.text('store/changed')}")
    con.execute(f"create or replace temporary table missing as {query.text('store/missing')}")
    this = {"capture_id": capture_id}
    con.execute(f"insert into {raw} by name select $capture_id as capture_id, * exclude (is_new, row_xid) from changed", this)
    con.execute("insert into vanished select $capture_id, $relation, key from missing", {**this, "relation": relation})
    _seal(con, raw, relation, capture_id)
    counts = con.execute(
        "select count(*) filter (is_new), count(*) filter (not is_new), (select count(*) from missing) from changed"
    ).fetchone()
    assert counts is not None
    row = dict(zip(("rows_new", "rows_changed", "rows_vanished"), counts, strict=True))
    [(row["rows_rescued"],)] = con.execute(query.text("store/rescued"), {"in_flight": in_flight}).fetchall()
    con.execute(
        "insert into capture_relations values "
        "($capture_id, $relation, $rows_read, $rows_new, $rows_changed, $rows_vanished, $rows_rescued)",
        {**this, "relation": relation, "rows_read": rows_read, **row},
    )
    return {"relation": relation, "rows_read": rows_read, **row}


def _seal(con: duckdb.DuckDBPyConnection, raw: str, relation: str, capture_id: int) -> None:
    """Write the hash of every block of rows that a capture added to a raw table."""
    con.execute(f"create or replace temporary view version_rows as from {raw} where capture_id = {capture_id:d}")
    ranges = query.text("store/block_ranges")
    con.execute(f"create or replace temporary table block_ranges as {ranges}", {"capture_id": capture_id})
    con.execute(
        "insert into capture_blocks by name select *, $relation as relation "
        f"from block_ranges inner join ({query.text('store/block_hashes')}) using (capture_id, block_no) order by block_no",
        {"relation": relation},
    )


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
