"""Allocations as of any instant, each with how sure its presence is."""

from datetime import UTC, datetime
from typing import Any

import duckdb

from analysis import query
from analysis.model import NotFoundError


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write what stood when: every state in which anything shows an allocation, and what follows for single checks.

    ``allocation_versions`` is for all; ``reconstructed`` for checks that recorded no snapshot, ``leftovers`` for refusals that
    recorded nothing at all: both are empty in the audit shape.
    """
    for name in ("allocation_versions", "reconstructed", "leftovers"):
        query.materialise(con, f"reconstruct/{name}")


def state(con: duckdb.DuckDBPyConnection, restaurant_id: str, at: datetime) -> dict[str, Any]:
    """Return who held what at a restaurant at an instant: the object that ``forensics state --json`` prints.

    ``presence`` is certain between an allocation's last change and its last sighting, and possible from there to its next
    known change, or to a snapshot that covers its window without it; as well as from when it was made, or the last such
    snapshot, to its first change that anything shows: it was there, and where it stood nobody saw. ``grade`` is partial, as
    an allocation that lived between two sightings leaves no trace, and none after the last capture or where nothing of the
    restaurant is known. Raises NotFoundError for a restaurant without evidence.
    """
    known = con.execute(
        "select 1 from restaurants where restaurant_id = $id union select 1 from checks where restaurant_id = $id "
        "union select 1 from allocation_versions where restaurant_id = $id",
        {"id": restaurant_id},
    ).fetchall()
    if not known:
        raise NotFoundError(f"no restaurant {restaurant_id} in the store: list ids with forensics checks")
    allocations = query.rows(con, "reconstruct/state", restaurant_id=restaurant_id, at=at.astimezone(UTC))
    [(captured_until,)] = con.execute("select epoch_us(max(captured_at)) from captures").fetchall()
    covered = bool(allocations) and captured_until is not None and at.timestamp() * 1_000_000 <= captured_until
    return {
        "restaurant_id": restaurant_id,
        "at": at.astimezone(UTC),
        "grade": "partial" if covered else "none",
        "allocations": allocations,
    }
