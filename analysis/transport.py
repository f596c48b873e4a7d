"""PostgreSQL into DuckDB in bulk: the rows of a capture's statement, every value as text."""

from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import psycopg
from psycopg import sql
from tqdm import tqdm

from analysis import query
from analysis.model import SourceError

_CHUNK_ROWS = 20_000


def columns(connection: psycopg.Connection, relation: str) -> list[str]:
    """Return the columns that the statement of a relation gives at this source, ``row_xid`` among them."""
    described = connection.execute(f"select * from ({_statement(relation)}) as source limit 0".encode()).description or ()
    return [column.name for column in described]


def versions(connection: psycopg.Connection, relation: str) -> tuple[int, str | None]:
    """Count the rows of a relation at the source, and hash which transaction wrote which: the same hash, the same rows.

    The hash is the source's own, and compares with that of the same server only. It reads no long values.
    """
    hashed = "sum(hashtextextended(key || ' ' || row_xid, 0))::text"
    return connection.execute(f"select count(*), {hashed} from ({_statement(relation)}) as source".encode()).fetchall()[0]


def read(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, relation: str, total: int) -> None:
    """Stream all rows of a relation into the temporary table ``stage``.

    Raises SourceError where the source sends another number of rows than it counted.
    """
    statement = f"select * from ({_statement(relation)}) as source"
    found = _stream(connection, con, "stage", columns(connection, relation), statement, relation, total)
    if found != total:
        raise SourceError(f"{relation}: the source counted {total} rows and sent {found}; nothing was stored")


def read_list(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, relation: str, total: int) -> None:
    """Stream the key of every row of a relation, and the transaction that wrote it, into the temporary table ``listed``."""
    statement = f"select key, row_xid from ({_statement(relation)}) as source"
    _stream(connection, con, "listed", ["key", "row_xid"], statement, relation, total)


def read_keys(connection: psycopg.Connection, con: duckdb.DuckDBPyConnection, relation: str, keys: list[str]) -> None:
    """Stream the rows of a relation that have one of these keys into the temporary table ``stage``."""
    # COPY takes no parameters: the keys are quoted by psycopg.
    wanted = sql.Literal(keys).as_string(connection)
    statement = f"select * from ({_statement(relation)}) as source where key = any({wanted})"
    _stream(connection, con, "stage", columns(connection, relation), statement, relation, len(keys))


def _statement(relation: str) -> str:
    """Return the statement of a relation without its order, which is for people: the source need not sort."""
    return query.text(f"capture/{relation}").rpartition("\norder by ")[0]


def _stream(
    connection: psycopg.Connection,
    con: duckdb.DuckDBPyConnection,
    table: str,
    names: list[str],
    statement: str,
    relation: str,
    total: int,
) -> int:
    """Stream the rows of a statement into a new temporary table; return how many they were."""
    schema = dict.fromkeys(names, pl.String)
    con.register("chunk", pl.DataFrame(schema=schema))
    con.execute(f"create or replace temporary table {table} as from chunk")
    found = 0
    with tqdm(total=total, desc=relation, unit=" rows", disable=None, leave=False) as bar:
        for chunk in _chunks(connection.cursor(), statement):
            con.register("chunk", pl.DataFrame(chunk, schema=schema, orient="row"))
            con.execute(f"insert into {table} from chunk")
            found += len(chunk)
            bar.update(len(chunk))
    con.unregister("chunk")
    return found


def _chunks(cursor: psycopg.Cursor, statement: str) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    with cursor.copy(f"copy ({statement}) to stdout".encode()) as stream:
        for row in stream.rows():
            chunk.append(row)
            if len(chunk) == _CHUNK_ROWS:
                yield chunk
                chunk = []
    if chunk:
        yield chunk
