"""PostgreSQL, read-only: one consistent snapshot of the source, its shape recognised, filtered reads refused."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from analysis import query
from analysis.model import ConflictError, SourceError

_UNREADABLE = "the DSN cannot be read: expected postgresql://user@host:port/database"
_ANY = {"any": "any type", "any[]": "a list"}
_CONFLICT = "40001"
_INSTANT = "timestamp with time zone"
EVIDENCE = "booking_confirmation_results"
SHAPES = {
    "audit": {
        "id": "any",
        "booking_id": "any",
        "confirmed": "boolean",
        "conflict_details": "jsonb",
        "checked_at": _INSTANT,
        "snapshot_data": "jsonb",
    },
    "idempotency": {
        "booking_id": "any",
        "hold_id": "any",
        "restaurant_id": "any",
        "idempotency_key": "any",
        "table_ids": "any[]",
        "assignment_window": "tstzrange",
        "created_at": _INSTANT,
        "actor_id": "any",
        "metadata": "jsonb",
    },
}
"""The columns by which each shape of the evidence table is known; ids may be of any type."""

_ALLOCATIONS = {
    **dict.fromkeys(("id", "booking_id", "restaurant_id", "resource_type", "resource_id"), "any"),
    "window": "tstzrange",
    "shadow": "boolean",
    "is_maintenance": "boolean",
    "created_at": _INSTANT,
    "updated_at": _INSTANT,
    "created_by": "any",
}
_INVENTORY = ("restaurant_id", "table_number", "capacity", "min_party_size", "max_party_size", "section", "active")
_LOGS = {
    "capacity_outbox": ("event_type", "created_at", "restaurant_id", "booking_id", "idempotency_key", "payload", "status"),
    "audit_logs": ("action", "created_at"),
    "booking_assignment_idempotency": ("booking_id", "idempotency_key", "table_ids", "assignment_window", "created_at"),
    "booking_table_assignments": ("booking_id", "table_id"),
    "table_holds": ("booking_id", "restaurant_id", "expires_at"),
    "observability_events": ("event_type", "created_at"),
}
_TABLES = {"checks": EVIDENCE, "confirmations": EVIDENCE, "tables": "table_inventory"}
"""The table that a relation is read from, where it has another name."""

# What the statement of an optional relation cannot do without, and what it takes besides, where it is there.
_NEEDED = {
    "allocations_archive": (*_ALLOCATIONS, "archived_at"),
    "tables": ("id",),
    "restaurants": ("id",),
}
_WANTED = {"tables": _INVENTORY, "restaurants": ("name", "timezone"), **_LOGS}
READ = {
    "audit": ("checks", "allocations", "allocations_archive", "tables", "restaurants", "rules"),
    "idempotency": ("confirmations", "allocations", "allocations_archive", "tables", "restaurants", "rules", *_LOGS),
}
"""The relations that belong to each shape; all but the evidence, allocations and the rules may be missing."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a source has to read: the shape of its evidence table by name, and with it the relations.

    ``missing`` says for each optional relation that cannot be read why; ``lacking`` lists documented columns, as
    table.column, that tables which are read do not have.
    """

    name: str
    relations: tuple[str, ...]
    missing: Mapping[str, str]
    lacking: tuple[str, ...]


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


# What a standby had replayed before the snapshot was taken is in the snapshot; kept for its transaction.
_KEEP = "select set_config('forensics.replayed', %s, true)"
_BEHIND = """
select current_setting('forensics.replayed')
where nullif(current_setting('forensics.replayed', true), '')::pg_lsn < %s::pg_lsn"""
# What the policies of the documented system read (sql/postgres/migration_up.sql).
_TENANT = "select set_config('row_security', 'on', true), set_config('app.restaurant_id', %s, true)"


@contextmanager
def snapshot(dsn: str, tenant: str | None = None) -> Iterator[psycopg.Connection]:
    """Open one read-only repeatable-read transaction on the source; every read inside sees the same instant.

    With a tenant, a restaurant's id, what row-level security shows on its behalf is enough. Raises SourceError, in one
    line and without credentials, when the DSN is no DSN, the server cannot be reached, the evidence table or allocations
    are missing or have other columns, a permission is missing, or row-level security would hide rows from this role;
    ConflictError when a standby ends the read because of what it has to replay.
    """
    _readable(dsn)
    try:
        connection = psycopg.connect(dsn, prepare_threshold=None, application_name="forensics capture", autocommit=True)
        [(replayed,)] = connection.execute(query.text("capture/replayed").encode()).fetchall()
    except psycopg.OperationalError as error:
        raise SourceError(f"cannot reach the source: {_one_line(error)}") from None
    except (psycopg.ProgrammingError, UnicodeError):  # in whose words a value of the DSN may stand
        raise SourceError(_UNREADABLE) from None
    with connection:
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        try:
            connection.execute(_SETTINGS)
            if replayed:
                connection.execute(_KEEP, [replayed])
            _guard(connection, tenant)
            yield connection
            connection.rollback()
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(_refused(connection.info.user, error)) from None
        except psycopg.errors.UndefinedTable as error:
            raise SourceError(f"{_one_line(error)}: expected it on the search path of this database") from None
        except psycopg.Error as error:
            raise failed(error.sqlstate, _one_line(error)) from None


def failed(sqlstate: str | None, said: str) -> SourceError:
    """Return the error for a read that the source ended: a ConflictError where a standby did so in order to replay."""
    # Nothing else makes a transaction that only reads fail to serialize.
    if sqlstate == _CONFLICT or "conflict with recovery" in said:
        return ConflictError(
            f"the source is a standby and ended the read, which kept it from replaying ({said}): set hot_standby_feedback = on "
            "or a longer max_standby_streaming_delay there, or read from the primary"
        )
    return SourceError(f"the source failed while it was read: {said}")


def shape(connection: psycopg.Connection) -> Shape:
    """Recognise from the catalog which shape the evidence table has, and what else there is to read.

    Raises SourceError where the evidence table or allocations are not there, or have other columns: expected against
    found, column by column, for the nearer shape.
    """
    found: dict[str, dict[str, str]] = {}
    unreadable = set()
    for row in connection.cursor(row_factory=dict_row).execute(query.text("capture/columns").encode()).fetchall():
        found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
        if not row["readable"]:
            unreadable.add(row["table_name"])
    for table in (EVIDENCE, "allocations"):
        if table not in found:
            raise SourceError(_not_there(connection, table))
    wrong = {name: _differences(columns, found[EVIDENCE]) for name, columns in SHAPES.items()}
    name = min(wrong, key=lambda each: len(wrong[each]))
    if wrong[name]:
        also = sorted(set(found[EVIDENCE]) - set(SHAPES[name]))
        told = [*wrong[name], *(f"{column}: expected nothing, found {found[EVIDENCE][column]}" for column in also)]
        raise SourceError(f"{EVIDENCE} is not of the {name} shape, the nearer of the two: {'; '.join(told)}")
    if other := _differences(_ALLOCATIONS, found["allocations"]):
        raise SourceError(f"allocations has other columns than documented: {'; '.join(other)}")
    missing, lacking = {}, []
    for relation in (relation for relation in READ[name] if relation in _NEEDED | _WANTED):
        table = _TABLES.get(relation, relation)
        lacks = [column for column in _NEEDED.get(relation, ()) if column not in found.get(table, ())]
        if table not in found:
            missing[relation] = f"no table {table}"
        elif lacks:
            missing[relation] = f"{table} has no column {', '.join(lacks)}"
        elif table in unreadable:
            missing[relation] = f"role {connection.info.user} may not select from {table}"
        else:
            lacking += [f"{table}.{column}" for column in _WANTED.get(relation, ()) if column not in found[table]]
    return Shape(name, tuple(each for each in READ[name] if each not in missing), missing, tuple(lacking))


def why_empty(connection: psycopg.Connection, tenant: str | None) -> str:
    """Say why the evidence table shows no rows: row-level security, another table meant, a standby behind, or it is empty."""
    [row] = connection.cursor(row_factory=dict_row).execute(query.text("capture/sight").encode()).fetchall()
    reasons = []
    if row["filtered"]:
        about = f", of about {row['rows_estimated']:,} rows" if row["rows_estimated"] > 0 else ""
        reasons.append(f"row-level security shows none to tenant {tenant}{about}")
    if row["elsewhere"]:
        reasons.append(
            f"it is {row['schema_name']}.{EVIDENCE}, the first on the search path; another is in schema {row['elsewhere']}"
        )
    if row["standby"]:
        until = f"has replayed until {row['replayed_until']}" if row["replayed_until"] else "has replayed nothing yet"
        reasons.append(f"the server is a standby and {until}: what was committed since is not there yet")
    return "; ".join(reasons) or f"the table {row['schema_name']}.{EVIDENCE} is empty, nothing is hidden from this role"


def _guard(connection: psycopg.Connection, tenant: str | None) -> None:
    """Refuse a role that row-level security would show a part, unless it is to see one tenant only."""
    read = {_TABLES.get(relation, relation) for relation in shape(connection).relations}
    rows = connection.execute(query.text("capture/filtered").encode()).fetchall()
    filtered = [(table, policies) for table, policies in rows if table in read]
    if tenant is not None:
        if not filtered:
            raise SourceError(f"role {connection.info.user} sees every tenant: capture without --tenant")
        connection.execute(_TENANT, [tenant])
    elif filtered:
        table, policies = filtered[0]
        raise SourceError(_filtered(connection.info.user, table, policies, _outcome(connection, table)))


def _outcome(connection: psycopg.Connection, table: str) -> str:
    """Say what a plain read of a filtered table comes to, as whoever asks without care would find out, or not."""
    try:
        with connection.transaction():
            connection.execute("set local row_security = on")
            connection.execute(sql.SQL("select from {} limit 1").format(sql.Identifier(table)))
    except psycopg.errors.InsufficientPrivilege as error:
        return f"which raises 42501: {_one_line(error)}"
    return "which hides rows and says nothing"


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """List expected against found, for each column that is not as expected."""
    return [
        f"{column}: expected {_ANY.get(type_, type_)}, found {found.get(column, 'nothing')}"
        for column, type_ in expected.items()
        if column not in found or not (type_ in ("any", found[column]) or (type_ == "any[]" and found[column].endswith("[]")))
    ]


def _not_there(connection: psycopg.Connection, table: str) -> str:
    [row] = connection.cursor(row_factory=dict_row).execute(query.text("capture/sight").encode()).fetchall()
    if table == EVIDENCE and row["elsewhere"]:
        first = row["elsewhere"].split(", ")[0]
        return (
            f"no table {table} on the search path ({row['search_path']}); there is one in schema {row['elsewhere']}: "
            f"add ?options=-csearch_path%3D{first} to the DSN"
        )
    return f"no table {table} on the search path: is this the booking database?"


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


def refuse_behind(connection: psycopg.Connection, last: Mapping[str, Any]) -> None:
    """Refuse a standby that has not replayed what a capture of the same server, a row of ``captures``, has read."""
    behind = connection.execute(_BEHIND, [last.get("lsn")]).fetchone()
    if behind is None:
        return
    if is_other(context(connection), last):
        return
    raise SourceError(
        f"the source is a standby that has replayed until {behind[0]}, behind {last['lsn']}, where capture "
        f"{last['capture_id']} read the same system: rows written in between would be taken for vanished; "
        "wait until it has caught up, or read from the primary"
    )


def is_other(here: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """Say whether two captures, rows of ``captures``, read different servers or databases, as far as both tell."""
    # What is not known of either is not known to differ.
    names = ("system_identifier", "database_oid")
    return any(None not in (here.get(name), last.get(name)) and here[name] != last[name] for name in names)


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
    except (psycopg.ProgrammingError, UnicodeError):
        raise SourceError(_UNREADABLE) from None
    if "://" in dsn and any("@" in str(parts.get(part, "")) for part in ("host", "port", "dbname")):
        raise SourceError("the DSN cannot be read: an @ or / in the user's name or password must be written as %40 or %2F")


def _filtered(role: str, table: str, policies: str | None, outcome: str) -> str:
    which = f"policy {policies}" if policies else "no policy admits anybody"
    return (
        f"role {role} would not see every row: row-level security filters {table} ({which}), {outcome}. "
        "Use forensics_reader (sql/postgres/reader.sql), or capture one tenant with --tenant ID"
    )


def _refused(role: str, error: psycopg.Error) -> str:
    return f"role {role} may not read the source: {_one_line(error)}. Use forensics_reader (sql/postgres/reader.sql)"


def _one_line(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())
