"""Source → raw: one consistent pull into the store, which it changes wholly or not at all, with a manifest."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from analysis import manifest, query, source, transport
from analysis.model import ConflictError, LockedError, StoreError
from analysis.stores import COLUMNS, lay_out, open_to_write, show_texts, table

_MEMORY = "500MB"  # of DuckDB's, while rows are taken in, compared and hashed; the drivers' buffers come on top
_ATTEMPTS = 3  # to read from a standby that ends the read
_FEW = 1000  # rows that are asked for by their keys, however few there are
_DIFFERENCES = ("new", "changed", "vanished")


def pull(
    dsn: str, store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None], tenant: str | None = None
) -> dict[str, Any]:
    """Read the source once into the store and derive its relations, in one transaction of each database.

    With a tenant only what it may see is read, and the store says so; it then takes captures of no other.

    Returns the manifest of this capture: the row of ``captures``, under ``relations`` those of ``capture_relations``, under
    ``missing`` why others could not be read, under ``lacking`` the documented columns that the source has not, under ``empty``
    why there is no check to read, if so, and under ``moved`` whether the capture before read another server or database. A
    standby that ends the read is read anew, three times in all.

    Whatever fails, the store is left as it was. Raises SourceError and StoreError.
    """
    try:
        return _read(dsn, store, derive, tenant, _MEMORY)
    except duckdb.OutOfMemoryException:
        # Values that are too long for little memory: DuckDB's own limit is most of the machine's.
        with suppress(duckdb.OutOfMemoryException):
            return _read(dsn, store, derive, tenant, None)
    raise StoreError(f"this machine has too little memory for this capture; {store} is as it was")


def _read(
    dsn: str, store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None], tenant: str | None, memory: str | None
) -> dict[str, Any]:
    """Capture within so much of DuckDB's memory, anew where a standby ends the read."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(ConflictError):
            return _pull(dsn, store, derive, tenant, memory)
    try:
        return _pull(dsn, store, derive, tenant, memory)
    except ConflictError as error:
        raise ConflictError(f"{error}; tried {_ATTEMPTS} times") from None


def _pull(
    dsn: str, store: Path, derive: Callable[[duckdb.DuckDBPyConnection], None], tenant: str | None, memory: str | None
) -> dict[str, Any]:
    with source.snapshot(dsn, tenant) as connection:
        shape = source.shape(connection)
        try:
            with _opened(store) as con:
                con.execute("begin")
                _accepts(con, store, tenant)
                con.execute("set preserve_insertion_order = false")
                if memory is not None:
                    con.execute(f"set memory_limit = '{memory}'")
                with closing(transport.Reader(connection, dsn)) as reader:
                    landed = _land(connection, reader, con, shape, tenant)
                con.execute("reset preserve_insertion_order; reset memory_limit")
                if not any(row["rows_read"] for row in landed["relations"] if row["relation"] in ("checks", "confirmations")):
                    landed["empty"] = source.why_empty(connection, tenant)
                # All is read: the source need keep nothing for us while it is made sense of.
                connection.rollback()
                # Without snapshots what is derived also rests on when captures looked, though they found nothing new.
                found = any(row[f"rows_{what}"] for row in landed["relations"] for what in _DIFFERENCES)
                if found or not query.derived_by_this_version(con) or shape.name == "idempotency":
                    derive(con)
                con.execute("commit")
        except (duckdb.IOException, duckdb.TransactionException) as error:
            raise StoreError(f"{store} could not be written, and is as it was: {' '.join(str(error).split())}") from None
    return landed


@contextmanager
def _opened(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store for the one writer; where it fails, DuckDB rolls back, and a file that was not there before goes with it."""
    existed = store.exists()

    def remove() -> None:
        if not existed:
            store.unlink(missing_ok=True)
            store.with_name(f"{store.name}.wal").unlink(missing_ok=True)

    with ExitStack() as stack:
        try:
            con = stack.enter_context(open_to_write(store))
        except LockedError:
            raise  # the file is another capture's by now
        except StoreError:
            remove()
            raise
        try:
            yield con
        except BaseException:
            remove()  # while it is still ours: once closed, another capture may write to it
            raise


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


def _land(
    connection: psycopg.Connection,
    reader: transport.Reader,
    con: duckdb.DuckDBPyConnection,
    shape: source.Shape,
    tenant: str | None,
) -> dict[str, Any]:
    manifest.prepare(con)
    lay_out(con, {relation: reader.columns(relation) for relation in shape.relations})
    show_texts(con)
    last = manifest.last(con)
    source.refuse_behind(connection, last)
    capture_id = last.get("capture_id", 0) + 1
    writers = source.writers(connection)
    context = source.context(connection) | {"in_flight": ",".join(writer["row_xid"] for writer in writers) or None}
    capture = {"capture_id": capture_id, **context, "shape": shape.name, "tenant": tenant}
    # What the server says of its rows' transactions compares with what it said before only while it is the very same.
    same = context["timeline"] is not None and all(
        context[name] == last.get(name) for name in ("system_identifier", "database_oid", "timeline", "started_at")
    )
    manifest.write(con, "captures", capture)
    for writer in writers:
        manifest.write(con, "capture_writers", {"capture_id": capture_id, **writer})
    described = source.described(connection)
    relations = [
        _land_relation(reader, con, relation, capture_id, last, described.get(relation, {}), same=same)
        for relation in shape.relations
    ]
    # Looked for, and not there to read: neither rows nor vanished ones.
    for relation in shape.missing:
        row = {"capture_id": capture_id, "relation": relation, "columns": ", ".join(COLUMNS[relation])}
        manifest.write(con, "capture_relations", row)
    chained = {"capture_id": capture_id, "chain_hash": manifest.chain(con, capture_id, last.get("chain_hash"))}
    con.execute("update captures set chain_hash = $chain_hash where capture_id = $capture_id", chained)
    capture |= {"relations": relations, "open": query.rows(con, "store/still_open", capture_id=capture_id)}
    capture |= {"missing": dict(shape.missing), "lacking": list(shape.lacking), "empty": None}
    # A copy, or a store that was given the wrong source: only its user knows.
    capture["moved"] = source.is_other(context, last)
    return capture | {"chained_to": last.get("chain_hash"), "chain_hash": chained["chain_hash"]}


def _land_relation(
    reader: transport.Reader,
    con: duckdb.DuckDBPyConnection,
    relation: str,
    capture_id: int,
    last: dict[str, Any],
    described: dict[str, Any],
    *,
    same: bool,
) -> dict[str, Any]:
    """Read of one relation what the store does not hold, add it to its raw table, and mark what is missing.

    Where the source is not the ``same`` as at the last capture, or no plain table of the same definition, all of it is read.
    """
    raw = f"raw_{relation}"  # a name out of RELATIONS, never from outside
    columns = list(reader.columns(relation))
    rows_read, rows_hash = reader.versions(relation)
    row = {"relation": relation, "rows_read": rows_read, "columns": ", ".join(columns), "rows_hash": rows_hash, **described}
    before = manifest.last_relation(con, relation, last)
    comparable = same and described.get("definition_hash") is not None
    comparable = comparable and all(row[name] == before.get(name) for name in ("columns", "definition_hash"))
    if comparable and (rows_read, rows_hash) == (before["rows_read"], before["rows_hash"]):
        row |= dict.fromkeys(("rows_sent", "rows_new", "rows_changed", "rows_vanished", "rows_rescued"), 0)
    elif not con.execute(f"select 1 from {raw} limit 1").fetchall():
        # Nothing to compare with: the rows go where they belong at once.
        reader.read(con, table(relation), relation, rows_read, capture_id)
        manifest.seal(con, relation, capture_id, columns)
        rescued = f"select count(*) from {raw} where list_contains(string_split($in_flight, ','), row_xid)"
        [(rows_rescued,)] = con.execute(rescued, {"in_flight": last.get("in_flight")}).fetchall()
        row |= {"rows_sent": rows_read, "rows_new": rows_read, "rows_changed": 0, "rows_vanished": 0}
        row["rows_rescued"] = rows_rescued
    else:
        row["rows_sent"] = _stage(reader, con, relation, columns, rows_read, listed=comparable)
        row |= _add(con, relation, capture_id, columns, last.get("in_flight"))
    manifest.write(con, "capture_relations", {"capture_id": capture_id, **row})
    return row


def _stage(
    reader: transport.Reader,
    con: duckdb.DuckDBPyConnection,
    relation: str,
    columns: list[str],
    rows_read: int,
    *,
    listed: bool,
) -> int:
    """Read into the table ``stage`` the rows that are not held as their transactions wrote them, or all; return their number.

    The table ``listed`` then has every key of the source, ``standing`` what the store holds of it.
    """
    con.execute(f"create or replace temporary table stage ({', '.join(f'{name} varchar' for name in columns)})")
    con.execute(f"create or replace temporary view all_versions as select key, capture_id, row_xid from raw_{relation}")
    con.execute(f"create or replace temporary table standing as {query.text('store/standing')}", {"relation": relation})
    if listed:
        con.execute("create or replace temporary table listed (key varchar, row_xid varchar)")
        reader.read_list(con, "listed", relation, rows_read)
        wanted = [key for (key,) in con.execute(query.text("store/wanted")).fetchall()]
        if len(wanted) <= max(_FEW, rows_read // 10):
            reader.read_keys(con, "stage", relation, wanted)
            return len(wanted)
    reader.read(con, "stage", relation, rows_read)
    con.execute("create or replace temporary table listed as select key, row_xid from stage")
    return rows_read


def _add(
    con: duckdb.DuckDBPyConnection, relation: str, capture_id: int, columns: list[str], in_flight: str | None
) -> dict[str, int]:
    """Add to a raw table what is staged and new or changed, mark what is missing, and count both."""
    this = {"capture_id": capture_id}
    manifest.show_versions(con, relation, "is not null", manifest.said(columns))
    con.execute("create or replace temporary table compared as from standing semi join stage using (key)")
    con.execute(f"create or replace temporary table held as {query.text('store/held')}")
    staged = f"select key, sha256({manifest.told(manifest.said(columns))}) as content_hash from stage"
    con.execute(f"create or replace temporary table staged as {staged}")
    for name in ("changed", "missing", "rewritten"):
        statement = query.text(f"store/{name}")
        con.execute(f"create or replace temporary table {name}_rows as {statement}")
    added = "select $capture_id as capture_id, * exclude (is_new) from changed_rows"
    con.execute(f"insert into {table(relation)} by name {added}", this)
    for marked, rows in (("vanished", "missing_rows"), ("rewritten", "rewritten_rows")):
        named = {**this, "relation": relation}
        con.execute(
            f"insert into {marked} by name select $capture_id as capture_id, $relation as relation, * from {rows}", named
        )
    manifest.seal(con, relation, capture_id, columns)
    [counts] = query.rows(con, "store/counts", in_flight=in_flight)
    return counts
