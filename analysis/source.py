"""PostgreSQL, read-only: one consistent snapshot of the source, its shape recognised, filtered reads refused."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from analysis import query
from analysis.model import SourceError

AUDIT_SHAPE = {
    "id": "any",
    "booking_id": "any",
    "confirmed": "boolean",
    "conflict_details": "jsonb",
    "checked_at": "timestamp with time zone",
    "snapshot_data": "jsonb",
}

# Transaction-local, so that it also works through a transaction pooler: text in UTC and ISO, and a read that
# row-level security would filter becomes an error instead of a smaller answer.
_SETTINGS = """
set local client_encoding = 'UTF8';
set local timezone = 'UTC';
set local datestyle = 'ISO, YMD';
set local row_security = off;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
set local lock_timeout = '10s'"""


# What the policies of the documented system read (sql/postgres/migration_up.sql).
_TENANT = "select set_config('row_security', 'on', true), set_config('app.restaurant_id', %s, true)"


@contextmanager
def snapshot(dsn: str, tenant: str | None = None) -> Iterator[psycopg.Connection]:
    """Open one read-only repeatable-read transaction on the source; every read inside sees the same instant.

    With a tenant, a restaurant's id, what row-level security shows on its behalf is enough. Raises SourceError, in one
    line and without credentials, when the DSN is no DSN, the server cannot be reached, a table is missing, a permission is,
    or row-level security would hide rows from this role.
    """
    _readable(dsn)
    try:
        connection = psycopg.connect(dsn, prepare_threshold=None, application_name="forensics capture")
    except psycopg.OperationalError as error:
        raise SourceError(f"cannot reach the source: {_one_line(error)}") from None
    with connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        try:
            connection.execute(_SETTINGS)
            filtered = connection.execute(query.text("capture/filtered").encode()).fetchall()
            if tenant is not None:
                if not filtered:
                    raise SourceError(f"role {connection.info.user} sees every tenant: capture without --tenant")
                connection.execute(_TENANT, [tenant])
            elif filtered:
                raise SourceError(_filtered(connection.info.user, *filtered[0]))
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(_refused(connection.info.user, error)) from None
        except psycopg.errors.UndefinedTable as error:
            raise SourceError(f"{_one_line(error)}: expected it on the search path of this database") from None
        except psycopg.Error as error:
            raise SourceError(f"the source failed while it was read: {_one_line(error)}") from None


def shape(connection: psycopg.Connection) -> str:
    """Name the shape of ``booking_confirmation_results`` from the catalog: ``audit``; raise SourceError for any other."""
    cursor = connection.cursor(row_factory=dict_row)
    found = {row["column_name"]: row["data_type"] for row in cursor.execute(query.text("capture/shape").encode()).fetchall()}
    if not found:
        raise SourceError("no table booking_confirmation_results on the search path: is this the booking database?")
    wrong = [
        f"{column}: expected {expected}, found {found.get(column, 'nothing')}"
        for column, expected in AUDIT_SHAPE.items()
        if column not in found or expected not in ("any", found[column])
    ]
    if "idempotency_key" in found:
        raise SourceError("booking_confirmation_results has the idempotency shape; this version reads the audit shape only")
    if wrong:
        raise SourceError(f"booking_confirmation_results is not of the audit shape: {'; '.join(wrong)}")
    return "audit"


def context(connection: psycopg.Connection) -> dict[str, Any]:
    """Say who reads from which server, in which snapshot: the columns of ``captures`` of that name.

    ``system_identifier`` is null where the role may not ask for it.
    """
    cursor = connection.cursor(row_factory=dict_row)
    found = cursor.execute(query.text("capture/context").encode()).fetchone() or {}
    found["system_identifier"] = None
    with suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction), connection.transaction():
        found |= cursor.execute(query.text("capture/identity").encode()).fetchone() or {}
    return found


def writers(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """List who has written and not committed yet: the columns of ``capture_writers``.

    Asked after the snapshot was taken: whoever committed in between is in the snapshot's own list.
    """
    return connection.cursor(row_factory=dict_row).execute(query.text("capture/writers").encode()).fetchall()


def described(connection: psycopg.Connection) -> dict[str, dict[str, Any]]:
    """Say of each relation that is read from a table which columns it has there, and how many bytes it takes up."""
    cursor = connection.cursor(row_factory=dict_row)
    found = cursor.execute(query.text("capture/described").encode()).fetchall()
    return {row.pop("relation"): row for row in found}


def _readable(dsn: str) -> None:
    """Refuse a DSN that would be taken apart in the wrong place, so that an error names a part of the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise SourceError("the DSN cannot be read: expected postgresql://user@host:port/database") from None
    if "://" in dsn and any("@" in str(parts.get(part, "")) for part in ("host", "port", "dbname")):
        raise SourceError("the DSN cannot be read: an @ or / in the user's name or password must be written as %40 or %2F")


def _filtered(role: str, table: str, policies: str | None) -> str:
    which = f"policy {policies}" if policies else "no policy admits anybody"
    return (
        f"role {role} would not see every row: row-level security filters {table} ({which}). "
        "Use forensics_reader (sql/postgres/reader.sql), or capture one tenant with --tenant ID"
    )


def _refused(role: str, error: psycopg.Error) -> str:
    return f"role {role} may not read the source: {_one_line(error)}. Use forensics_reader (sql/postgres/reader.sql)"


def _one_line(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())
