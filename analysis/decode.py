"""Raw text, JSON and ranges → typed facts; what cannot be decoded is kept in quarantine with its reason."""

import duckdb

from analysis import query

RELATIONS = (
    "ids",
    "snapshots",
    "snapshot_items",
    "named_rivals",
    "logged",
    "holds",
    "clocks",
    "windows",
    "snapshot_entries",
    "snapshot_duplicates",
    "snapshot_listing",
    "snapshot_allocations",
    "quarantine",
    "requests",
    "capacities",
    "restaurants",
    "tables",
    "checks",
)
"""In the order in which each reads the ones before it. ``snapshot_items`` is the text of what ``snapshot_entries`` has typed,
and is not kept; ``snapshot_allocations`` puts entries and checks together whenever it is asked."""


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write the typed relations of the store, one for each statement in ``sql/decode``."""
    kinds: dict[str, query.Kind] = {"snapshot_items": "temporary table", "snapshot_allocations": "view"}
    for name in RELATIONS:
        query.materialise(con, f"decode/{name}", kinds.get(name, "table"))
    con.execute("drop table temp.snapshot_items")
