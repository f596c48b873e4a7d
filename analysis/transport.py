"""PostgreSQL into DuckDB in bulk: the rows of a capture's statement, streamed, every value as text but for uuids.

Large relations come over two ADBC connections that import the snapshot of the one that psycopg holds: half the rows each, as
binary COPY. Where the source is reached through a pooler, or lends its snapshot to nobody, psycopg's own connection reads
them as CSV: slower, and with no more than one transaction. No driver interprets any value: all are sent as text, or, for half
of the time on the way and a quarter of the room, as the sixteen bytes of a uuid.
"""

import queue
import threading
from collections.abc import Generator
from contextlib import ExitStack, closing, suppress

import duckdb
import psycopg
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pyarrow import csv
from tqdm import tqdm

from analysis import query, source
from analysis.model import SourceError

_BULK_ROWS = 5000  # fewer are read sooner than two connections are made
_CHUNK_BYTES = 8_000_000
_AHEAD = 4  # chunks that wait to be written
_TYPES = {2950: "uuid"}  # by the number that PostgreSQL has for a type; a domain has that of what is below it
# What a transaction of ours sets, and one that imports its snapshot must have too.
_SETTINGS = (
    *("timezone", "datestyle", "row_security", "app.restaurant_id"),
    *("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"),
)


class Reader:
    """Reads relations of one source in one snapshot, that of a connection; to be closed, which leaves the connection open."""

    def __init__(self, connection: psycopg.Connection, dsn: str) -> None:
        self._connection, self._dsn = connection, dsn
        self._stack = ExitStack()
        self._lenders: list[dbapi.Connection] | None = None

    def close(self) -> None:
        """End the connections that imported the snapshot."""
        with suppress(dbapi.Error):
            self._stack.close()

    def columns(self, relation: str) -> dict[str, str]:
        """Return what the statement of a relation gives here, ``row_xid`` among it, each column as ``uuid`` or ``varchar``."""
        found = self._connection.execute(f"select * from ({_statement(relation)}) as source limit 0".encode())
        return {column.name: _TYPES.get(column.type_code, "varchar") for column in found.description or ()}

    def versions(self, relation: str) -> tuple[int, str | None]:
        """Count the rows of a relation at the source, and hash which transaction wrote which: the same hash, the same rows.

        The hash is the source's own, and compares with that of the same server only. It reads no long values. Raises
        SourceError for rows without an id, which only a view can have: no later capture could tell which of them is which.
        """
        hashed = "sum(hashtextextended(key::text || ' ' || row_xid, 0))::text"
        statement = f"select count(*), count(key), {hashed} from ({_statement(relation)}) as source"
        [(rows, named, rows_hash)] = self._connection.execute(statement.encode()).fetchall()
        if named < rows:
            raise SourceError(f"{relation}: {rows - named} of {rows} rows have no id; nothing was stored")
        return rows, rows_hash

    def read(
        self, con: duckdb.DuckDBPyConnection, table: str, relation: str, total: int, capture_id: int | None = None
    ) -> None:
        """Stream all rows of a relation into a table that has its columns, and perhaps one for the capture.

        Raises SourceError where the source sends another number of rows than it counted.
        """
        columns = self.columns(relation)
        found = self._stream(con, table, columns, _statement(relation), relation, total, capture_id)
        if found != total:
            raise SourceError(f"{relation}: the source counted {total} rows and sent {found}; nothing was stored")

    def read_list(self, con: duckdb.DuckDBPyConnection, table: str, relation: str, total: int) -> None:
        """Stream the key of every row of a relation, and the transaction that wrote it, into a table."""
        columns = {name: type_ for name, type_ in self.columns(relation).items() if name in ("key", "row_xid")}
        self._stream(con, table, columns, _statement(relation), relation, total)

    def read_keys(self, con: duckdb.DuckDBPyConnection, table: str, relation: str, keys: list[str]) -> None:
        """Stream the rows of a relation that have one of these keys into a table that has its columns."""
        # COPY takes no parameters: the keys are quoted by psycopg.
        wanted = sql.Literal(keys).as_string(self._connection)
        statement = f"select * from ({_statement(relation)}) as source where key::text = any({wanted})"
        self._stream(con, table, self.columns(relation), statement, relation, len(keys))

    def _stream(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        columns: dict[str, str],
        statement: str,
        relation: str,
        total: int,
        capture_id: int | None = None,
    ) -> int:
        """Append these columns of the rows of a statement to a table; return how many rows they were."""
        lenders = self._borrowed() if total >= _BULK_ROWS else []
        chunks = _halves(lenders, statement, columns) if lenders else _csv(self._connection, statement, columns)
        shown = [f"{name}::{type_} as {name}" for name, type_ in columns.items()]
        if capture_id is not None:
            shown.append(f"{capture_id:d} as capture_id")
        found = 0
        # Closed at once where a chunk cannot be written: the threads must have ended before their connections do.
        with closing(chunks), tqdm(total=total, desc=relation, unit=" rows", disable=None, leave=False) as bar:
            for rows_just_read in chunks:
                # DuckDB finds the variable; what is registered is kept until the transaction ends, and all were in memory.
                insert = f"insert into {table} by name select {', '.join(shown)} from rows_just_read"
                [(written,)] = con.execute(insert).fetchall()
                found += written
                bar.update(rows_just_read.num_rows)
            bar.refresh()
        return found

    def _borrowed(self) -> list[dbapi.Connection]:
        """Return two connections that have imported the snapshot, once made; none where that cannot be."""
        if self._lenders is None:
            self._lenders = []
            [(pid,)] = self._connection.execute("select pg_backend_pid()").fetchall()
            # A pooler tells a number of its own; it may have one server connection for us, and let a second wait for ever.
            if pid == self._connection.info.backend_pid:
                with suppress(dbapi.Error):
                    self._lenders = self._lent()
        return self._lenders

    def _lent(self) -> list[dbapi.Connection]:
        [(snapshot,)] = self._connection.execute("select pg_export_snapshot()").fetchall()
        settings = self._connection.execute(
            "select name, current_setting(name, true) from unnest(%s::text[]) as name", [list(_SETTINGS)]
        ).fetchall()
        begin = ["begin isolation level repeatable read read only", f"set transaction snapshot '{snapshot}'"]
        for name, value in settings:
            if value is not None:
                quoted = sql.Literal(value).as_string(self._connection)
                begin.append(f"select set_config('{name}', {quoted}, true)")
        dsn = make_conninfo(self._dsn, application_name="forensics capture")
        lent = []
        for _ in range(2):
            connection = self._stack.enter_context(dbapi.connect(dsn, autocommit=True))
            lent.append(connection)
            with connection.cursor() as cursor:
                for statement in begin:
                    cursor.execute(statement)
        return lent


def _statement(relation: str) -> str:
    """Return the statement of a relation without its order, which is for people: the source need not sort."""
    return query.text(f"capture/{relation}").rpartition("\norder by ")[0]


def _halves(lenders: list[dbapi.Connection], statement: str, columns: dict[str, str]) -> Generator[pa.Table]:
    """Read the rows of a statement over several connections at once, each a part of them by the hash of the key."""
    # A uuid is as it is sent, and hashed as it is: as text, either would take longer than all else.
    sent = ", ".join(f"uuid_send({name}) as {name}" if type_ == "uuid" else f"{name}::text" for name, type_ in columns.items())
    hashed = "uuid_hash(key)" if columns["key"] == "uuid" else "hashtext(key::text)"
    cast = pa.schema([(name, pa.binary() if type_ == "uuid" else pa.string()) for name, type_ in columns.items()])
    ready: queue.Queue[pa.Table | SourceError | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(what: pa.Table | SourceError | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(what, timeout=0.1)
                return

    def read(connection: dbapi.Connection, part: int) -> None:
        try:
            with connection.cursor() as cursor:
                # A hash may be negative, and so would a remainder be.
                cursor.execute(f"select {sent} from ({statement}) as source where {hashed} & {len(lenders) - 1} = {part}")
                for batch in cursor.fetch_record_batch():
                    if stopped.is_set():
                        return
                    put(pa.Table.from_batches([batch]).cast(cast))
            put(None)
        except (dbapi.Error, pa.ArrowException, OSError) as error:
            put(source.failed(getattr(error, "sqlstate", None), _one_line(error)))

    threads = [threading.Thread(target=read, args=(lender, part), daemon=True) for part, lender in enumerate(lenders)]
    for thread in threads:
        thread.start()
    try:
        left = len(threads)
        while left:
            chunk = ready.get()
            if isinstance(chunk, SourceError):
                raise chunk
            if chunk is None:
                left -= 1
            else:
                yield chunk
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _csv(connection: psycopg.Connection, statement: str, columns: dict[str, str]) -> Generator[pa.Table]:
    """Read the rows of a statement over one connection as CSV, in which a null is nothing and an empty text is quoted."""
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    lines = csv.ParseOptions(newlines_in_values=True)

    def table(rows: list[bytes]) -> pa.Table:
        told = b"".join(rows)
        # No row may reach beyond a block, however long it is.
        layout = csv.ReadOptions(column_names=list(columns), use_threads=False, block_size=len(told))
        return csv.read_csv(pa.BufferReader(told), layout, lines, texts)

    sent = f"select {', '.join(f'{name}::text' for name in columns)} from ({statement}) as source"
    with connection.cursor().copy(f"copy ({sent}) to stdout (format csv)".encode()) as stream:
        rows: list[bytes] = []
        size = 0
        for row in stream:
            rows.append(bytes(row))
            size += len(row)
            if size >= _CHUNK_BYTES:
                yield table(rows)
                rows, size = [], 0
        if rows:
            yield table(rows)


def _one_line(error: Exception) -> str:
    """Return what the server said: the driver puts the statement and a code around it."""
    said = " ".join(str(error).split())
    return said.partition("FATAL: ")[2] or said.partition("ERROR: ")[2] or said
