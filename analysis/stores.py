"""Where evidence is kept: a DuckDB file that captures write, or a folder of Parquet files; opened, laid out, written out."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from analysis import manifest
from analysis.model import DamagedError, LockedError, StoreError

_ALLOCATIONS = (
    *("key", "booking_id", "restaurant_id", "resource_type", "resource_id", "window_text"),
    *("shadow", "is_maintenance", "created_at", "updated_at", "created_by"),
)

_VALUES = {
    "checks": (
        *("key", "booking_id", "confirmed", "conflict_details", "checked_at", "snapshot_data"),
        *("snapshot_stored_bytes", "conflict_stored_bytes"),
    ),
    "allocations": _ALLOCATIONS,
    "allocations_archive": (*_ALLOCATIONS, "archived_at"),
    "tables": ("key", "restaurant_id", "table_number", "capacity", "min_party_size", "max_party_size", "section", "active"),
    "restaurants": ("key", "name", "timezone"),
    "rules": ("key", "definition"),
    "confirmations": (
        *("key", "booking_id", "hold_id", "restaurant_id", "idempotency_key", "table_ids", "window_text"),
        *("created_at", "actor_id", "metadata"),
    ),
    "capacity_outbox": ("key", "document"),
    "audit_logs": ("key", "document"),
    "booking_assignment_idempotency": ("key", "document"),
    "booking_table_assignments": ("key", "document"),
    "table_holds": ("key", "document"),
    "observability_events": ("key", "document"),
}

COLUMNS = {relation: (*columns, "row_xid") for relation, columns in _VALUES.items()}
"""What the statement of that name in ``sql/capture`` reads, with the versions the store holds as ``raw_NAME``. A capture reads
those that the source's shape has; what a store never read is there, and empty. Every value is a text to who reads it; the uuids
of a source lie in the file as such."""

RELATIONS = tuple(COLUMNS)

_LATER = manifest.LATER | {
    f"raw_{relation}": {"capture_id": "integer", **dict.fromkeys(columns, "varchar")}
    for relation, columns in COLUMNS.items()
    if f"raw_{relation}" not in manifest.FIRST_FORM
}

MANIFEST = tuple(manifest.TABLES)
"""What each capture writes about itself, chained from one to the next by hash."""

_LONG_TEXTS = ("snapshot_data", "conflict_details", "document")

# A row group is the least that is compressed, or read by a thread of its own: of DuckDB's 122,880 checks, one takes 700 MB.
_WRITTEN = """
attach '{0}' as store (row_group_size 16384);
use store;
set write_buffer_row_group_count = 1;
set temp_directory = '{0}.tmp'
"""


_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false"}

_writing: dict[Path, object] = {}  # by this process


@contextmanager
def open_to_write(store: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store file for its one writer, or make it; close it in the end.

    Raises StoreError when it is no store, and LockedError when anyone has it open.
    """
    if store.is_dir():
        raise StoreError(f"{store} is a folder: a capture is written to a file, like {store}/evidence.duckdb")
    place, mine = store.resolve(), object()
    if _writing.setdefault(place, mine) is not mine:
        raise _written_here(store)
    try:
        with closing(duckdb.connect(config=_CONFIG)) as con:
            try:
                con.execute(_WRITTEN.format(_escaped(store)))
            except duckdb.Error as error:
                raise _why_not_open(store, error) from None
            con.execute("set TimeZone = 'UTC'")
            yield con
    finally:
        del _writing[place]


def connect(store: Path) -> duckdb.DuckDBPyConnection:
    """Open a store to read: a DuckDB file, or a folder of Parquet files, into memory.

    Instants are shown in UTC; columns that the kit added after the store was written are null. Raises StoreError when there
    is no such store, it is no store, or a writer has it.
    """
    if not store.exists():
        raise StoreError(f"no store at {store}: make one with forensics capture DSN --store {store}")
    if store.is_dir():
        con = duckdb.connect(config=_CONFIG)
        _load_folder(con, store)
    else:
        # Refused by DuckDB, a second handle of this process would take the writer's lock with it when it is closed.
        if store.resolve() in _writing:
            raise _written_here(store)
        try:
            con = duckdb.connect(str(store), read_only=True, config=_CONFIG)
        except duckdb.Error as error:
            raise _why_not_open(store, error) from None
    con.execute("set TimeZone = 'UTC'")
    held = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
    if "captures" not in held:
        con.close()
        raise StoreError(f"{store} holds no capture: make one with forensics capture DSN --store FILE")
    needed = {"capture_relations", "vanished", *(name for name in manifest.FIRST_FORM if name.startswith("raw_"))}
    if "capture_relations" in held:
        needed.update(_recorded(con))
    lacking = sorted(needed - held)
    if lacking:
        con.close()
        raise DamagedError(f"{store} lacks {', '.join(lacking)}, which its captures wrote: it is not what it was", lacking)
    [(database,)] = con.execute("select current_database()").fetchall()
    for name in _LATER:
        _show(con, name, "temporary view", database if name in held else None)
    return con


def lay_out(con: duckdb.DuckDBPyConnection, found: Mapping[str, Mapping[str, str]]) -> None:
    """Make every raw relation that is not there, and the columns that one lacks: what no capture read has no rows.

    ``found`` has the columns of the relations that will be read, each as ``uuid`` or ``varchar``.
    """
    for relation, columns in COLUMNS.items():
        types = {name: found.get(relation, {}).get(name, "varchar") for name in columns}
        # Consecutive snapshots repeat each other: compressed together they take a twentieth of the room, and are read three
        # times as fast, as DuckDB's own choice for long texts.
        kept = {name: f"{type_}{' using compression zstd' if name in _LONG_TEXTS else ''}" for name, type_ in types.items()}
        manifest.extend(con, f"raw_{relation}", {"capture_id": "integer", **kept})
        raw = con.table(f"raw_{relation}")
        for name, held in zip(raw.columns, raw.types, strict=True):
            if relation in found and held == "UUID" and types.get(name) == "varchar":
                con.execute(f"alter table raw_{relation} alter {name} type varchar")


def show_texts(con: duckdb.DuckDBPyConnection) -> None:
    """Show who reads from a store that is open to be written what other readers see; what is written goes to :func:`table`."""
    for relation in RELATIONS:
        _show(con, f"raw_{relation}", "temporary view", "store")


def table(relation: str) -> str:
    """Return where a store that is open to be written keeps the rows of a relation."""
    return f"store.main.raw_{relation}"


def connect_raw(store: Path) -> duckdb.DuckDBPyConnection:
    """Open what was captured into a store file, and nothing that was derived from it, for derivation in memory."""
    if store.resolve() in _writing:
        raise _written_here(store)
    con = duckdb.connect(config=_CONFIG)
    con.execute(f"attach '{_escaped(store)}' as kept (read_only)")
    held = {name for (name,) in con.execute("select table_name from duckdb_tables() where database_name = 'kept'").fetchall()}
    for name in (*(f"raw_{relation}" for relation in RELATIONS), *MANIFEST):
        _show(con, name, "view", "kept" if name in held else None)
    con.execute("set TimeZone = 'UTC'")
    return con


def _recorded(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the raw relations that captures say they read, of this version's and of any other."""
    found = con.execute("select distinct relation from capture_relations where rows_read is not null order by relation")
    return [f"raw_{relation}" for (relation,) in found.fetchall()]


def _show(con: duckdb.DuckDBPyConnection, name: str, kind: str, database: str | None) -> None:
    """Show a table of a store with all the columns that the kit writes now, and ids as texts.

    An older version wrote fewer columns, or no such table.
    """
    columns = _LATER.get(name, {})
    if database is not None:
        kept = f"{manifest.quoted(database)}.main.{name}"
        held = con.table(kept)
        uuids = [manifest.quoted(each) for each, type_ in zip(held.columns, held.types, strict=True) if type_ == "UUID"]
        texts = f" replace ({', '.join(f'{each}::varchar as {each}' for each in uuids)})" if uuids else ""
        lacking = "".join(f", null::{columns[each]} as {each}" for each in columns if each not in held.columns)
        if texts or lacking or kind == "view":
            con.execute(f"create {kind} {name} as select *{texts}{lacking} from {kept}")
    elif name not in manifest.FIRST_FORM:
        con.execute(
            f"create {kind} {name} as select {', '.join(f'null::{columns[each]} as {each}' for each in columns)} limit 0"
        )


def export(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write what was captured as Parquet, one file a relation: evidence that outlives a storage format."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {*(name for name in manifest.FIRST_FORM if name.startswith("raw_")), *_recorded(con)}
    for name in (*sorted(raw), *MANIFEST):
        con.table(name).order("all").write_parquet(str(folder / f"{name}.parquet"), compression="zstd")


def _escaped(store: Path) -> str:
    """Write a path as it stands between the quotes of a text of SQL."""
    return str(store).replace("'", "''")


def _load_folder(con: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for file in sorted(folder.glob("*.parquet")):
        try:
            con.read_parquet(str(file)).create(file.stem)
        except duckdb.Error as error:
            raise StoreError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())}") from None


def _written_here(store: Path) -> LockedError:
    return LockedError(f"{store} is open in this process, which writes to it: wait for it to end, and try again")


def _why_not_open(store: Path, error: duckdb.Error) -> StoreError:
    said = str(error)
    if "Could not set lock" in said:
        holder = re.search(r"\(PID (\d+)\)", said)
        process = f"process {holder[1]}" if holder else "a process"
        # DuckDB says so where the others only read.
        if "read-only mode" in said:
            close = "close it there (a notebook: shut its kernel down), and try again"
            return LockedError(f"{store} is open for reading in {process}: {close}")
        return LockedError(f"{store} is open in {process}, which writes to it: wait for it to end, and try again")
    if "Unique file handle conflict" in said:
        return LockedError(f"{store} is open for reading in this process: close it, and try again")
    if "not a valid DuckDB" in said:
        return StoreError(f"{store} is not a DuckDB file: give the store that forensics capture wrote")
    return StoreError(f"cannot open the store {store}: {' '.join(said.split())}")
