"""Raw text, JSON and ranges → typed facts; what cannot be decoded is kept in quarantine with its reason."""

import duckdb

from analysis import query

RELATIONS = (
    "snapshots",
    "snapshot_items",
    "named_rivals",
    "windows",
    "quarantine",
    "snapshot_allocations",
    "requests",
    "capacities",
    "restaurants",
    "tables",
    "checks",
)
"""In the order in which each reads the ones before it."""


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write the typed relations of the store, one for each statement in ``sql/decode``."""
    for name in RELATIONS:
        query.materialise(con, f"decode/{name}")
