"""Allocations as of any instant: every version that any evidence has seen."""

import duckdb

from analysis import query


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``allocation_versions``: every state in which snapshots, captures or the archive show an allocation."""
    query.materialise(con, "reconstruct/allocation_versions")
