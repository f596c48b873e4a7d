"""A tiny language for tests: who holds what, and what a check asked for, planted in a store.

``a1 [0,10) firm · c1 [5,8)`` reads: when check c1 asked for table T from minute 5 up to minute 8, its snapshot listed the
firm allocation a1 on the same table from minute 0 up to minute 10. Minutes count from DAY; a bound may be missing, ``inf`` or
``-inf``, a window ``empty``. Other words of an allocation: ``shadow``, ``maintenance`` and ``key:value`` for any column, with
``null`` as a value; of a check: ``on:T,U`` its tables, ``by:`` its booking, ``at:`` its restaurant, ``refused``.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

import analysis
from analysis import constraint, manifest, stores

DAY = datetime(2025, 11, 20, 18, tzinfo=UTC)
CHECKED_AT = datetime(2025, 11, 20, 12, tzinfo=UTC)
CAPTURED_AT = "2025-12-01 00:00:00+00"
V12 = {"key": constraint.RULES["v12"].name, "definition": constraint.RULES["v12"].definition}
Row = dict[str, Any]

CAPTURES = tuple(manifest.TABLES["captures"])


def planted(
    *,
    captures: Iterable[str] = (CAPTURED_AT,),
    vanished: Iterable[Row] = (),
    read: Iterable[Row] = (),
    **raw: Iterable[Row],
) -> duckdb.DuckDBPyConnection:
    """Make a store in memory out of raw rows and derive what follows from them.

    Rows need no more than the columns they are about: ``key`` is a running number, ``capture_id`` is 1, the rest null.
    Without a word about rules, v12 is what the captures read.
    """
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    raw = {"rules": [V12], **raw}
    for relation, columns in stores.COLUMNS.items():
        rows = [{"key": str(i), "capture_id": 1, **row} for i, row in enumerate(raw.pop(relation, ()), 1)]
        _create(con, f"raw_{relation}", columns, rows)
    assert not raw, f"no such relations: {list(raw)}"
    _create(con, "captures", CAPTURES, [{"capture_id": i, "captured_at": at} for i, at in enumerate(captures, 1)])
    con.execute("alter table captures alter captured_at type timestamptz")
    _create(con, "vanished", ("relation", "key"), list(vanished))
    _create(con, "capture_relations", manifest.TABLES["capture_relations"], list(read))
    for name, type_ in manifest.TABLES["capture_relations"].items():
        con.execute(f"alter table capture_relations alter {name} type {type_}")
    analysis.derive(con)
    return con


def _create(con: duckdb.DuckDBPyConnection, name: str, columns: Iterable[str], rows: list[dict[str, Any]]) -> None:
    schema: dict[str, Any] = {"capture_id": pl.Int32} | {column: pl.String for column in columns if column != "capture_id"}
    unknown = {key for row in rows for key in row} - schema.keys()
    assert not unknown, f"{name} has no {unknown}"
    con.register("planted", pl.DataFrame(rows, schema=schema))
    con.execute(f"create table {name} as from planted")
    con.unregister("planted")


def window(text: str) -> str:
    """Write a window in minutes as PostgreSQL prints it in UTC.

    >>> window("[0,10.5)"), window("(,inf]"), window("empty")
    ('["2025-11-20 18:00:00+00","2025-11-20 18:10:30+00")', '(,infinity]', 'empty')
    """
    if text == "empty":
        return text
    lower, upper = text[1:-1].split(",")
    return f"{text[0]}{_bound(lower)},{_bound(upper)}{text[-1]}"


def _bound(minutes: str) -> str:
    if not minutes or minutes.endswith("inf"):
        return minutes.replace("inf", "infinity")
    at = DAY + timedelta(minutes=float(minutes))
    fraction = f"{at:.%f}".rstrip("0").rstrip(".")
    return f'"{at:%Y-%m-%d %H:%M:%S}{fraction}+00"'


@dataclass(frozen=True)
class Held:
    """An allocation of a story, window still in minutes."""

    name: str
    window: str | None
    shadow: bool | None = False
    booking_id: str | None = None
    restaurant_id: str | None = "R"
    resource_type: str | None = "table"
    resource_id: str | None = "T"
    is_maintenance: bool | None = False
    updated_at: str | None = "2025-11-19 12:00:00+00"

    def item(self) -> dict[str, Any]:
        """Return its entry in a snapshot."""
        held = {**vars(self), "id": self.name, "created_at": self.updated_at}
        del held["name"]
        return held | {"window": None if self.window is None else window(self.window)}

    def row(self, **more: Any) -> dict[str, Any]:
        """Return its row of raw_allocations."""
        row = {
            key: value if value is None else str(value).lower() if isinstance(value, bool) else value
            for key, value in self.item().items()
        }
        row["key"], row["window_text"] = row.pop("id"), row.pop("window")
        return row | more


@dataclass(frozen=True)
class Asked:
    """What a check asked for, with what its snapshot listed; ``moved`` names what its own transaction moved away."""

    name: str
    window: str
    held: tuple[Held, ...] = ()
    tables: tuple[str, ...] = ("T",)
    booking_id: str | None = "B"
    restaurant_id: str | None = "R"
    confirmed: bool = True
    checked_at: datetime = CHECKED_AT
    scope: str | None = "(,)"
    conflict: dict[str, Any] | None = None
    moved: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def apart(self, name: str) -> "Asked":
        """Name the check and its tables so: the snapshots of other checks in the store then say nothing about it."""
        held = tuple(replace(one, resource_id=one.resource_id and one.resource_id + name) for one in self.held)
        return replace(self, name=name, held=held, tables=tuple(table + name for table in self.tables))

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshot that the kit's own confirm function would have written."""
        request = {"booking_id": self.booking_id, "restaurant_id": self.restaurant_id, "table_ids": self.tables}
        scope = self.scope and {"restaurant_id": self.restaurant_id, "window": window(self.scope)}
        return {
            "version": 12,
            "request": request | {"hold_id": "H", "window": window(self.window)},
            "scope": scope,
            "allocations": [held.item() for held in self.held],
            "capacities": [],
        } | self.more

    def row(self, **more: Any) -> dict[str, Any]:
        """Return its row of raw_checks."""
        return {
            "key": self.name,
            "booking_id": self.booking_id,
            "confirmed": str(self.confirmed).lower(),
            "checked_at": self.checked_at.isoformat(" "),
            "snapshot_data": json.dumps(self.snapshot()),
            "conflict_details": self.conflict and json.dumps(self.conflict),
        } | more


_SHORT = {"on": "resource_id", "by": "booking_id", "at": "restaurant_id", "type": "resource_type"}


def story(text: str, name: str | None = None) -> Asked:
    """Read a story of one check."""
    *held, asked = re.split(r"\s*·\s*", text)
    who, when, *words = asked.split()
    told: dict[str, Any] = {"tables": ("T",)}
    for word in words:
        key, _, value = word.partition(":")
        match key:
            case "refused":
                told["confirmed"] = False
            case "on":
                told["tables"] = tuple(value.split(","))
            case "scope":
                told["scope"] = None if value == "null" else value
            case "by" | "at":
                told[_SHORT[key]] = None if value == "null" else value
            case _:
                raise AssertionError(f"a check knows no {word!r}")
    return Asked(name or who, when, tuple(_held(words) for words in held), **told)


def _held(text: str) -> Held:
    name, when, *words = text.split()
    told: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition(":")
        match key:
            case "firm":
                told["shadow"] = False
            case "shadow":
                told["shadow"] = None if value == "null" else True
            case "maintenance":
                told["is_maintenance"] = True
            case "on" | "by" | "at" | "type":
                told[_SHORT[key]] = None if value == "null" else value
            case _:
                raise AssertionError(f"an allocation knows no {word!r}")
    return Held(name, None if when == "null" else when, **told)


def shifted(text: str, minutes: int) -> str:
    """Move a window in minutes."""
    return re.sub(r"(?<![a-z\d.])-?\d+(\.\d+)?", lambda match: f"{float(match[0]) + minutes:g}", text)
