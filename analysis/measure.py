"""What a cache of confirmation verdicts would save, and what a retention would cost.

Definitions
    lookup          one check; the denominator of every rate here
    key             the booking, with the tables and the window it asks for
    hit             a lookup whose key was looked up before, no longer ago than the TTL
    stale hit       a hit whose cached verdict is not what the check itself then recorded
    TTL             how long an answer is kept: from its last write (``last_write``), or from its last use (``last_use``)
    retention       how many days of evidence are kept, counted back from the newest check

In the audit shape every check was computed and recorded, none was answered from a cache: hits are inferred, those that a
cache would have answered (``observed`` is false). Gaps that began before the first recorded check are invisible, so the
rates of the first days are too low.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

import duckdb
import polars as pl

from analysis import query
from analysis.model import ForensicsError

Policy = Literal["last_write", "last_use"]
POLICIES: tuple[Policy, ...] = ("last_write", "last_use")
TTLS_S = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400)

_LONGEST_DAYS = 100_000


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``lookups``: every check as a lookup, with the gap to the one before it of the same key."""
    query.materialise(con, "measure/lookups")


def hit_rate_by_day(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return what a cache without expiry would have answered: columns ``day`` (UTC), ``lookups, hits, hit_rate``."""
    return query.frame(con, "measure/hit_rate_by_day")


def cache(con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float] = TTLS_S) -> dict[str, Any]:
    """Return the object that ``forensics cache --json`` prints.

    ``hits`` and ``hit_rate`` are those of a cache without expiry, the ceiling of ``ttl_curve``; the rate is null when
    there are no lookups. TTLs are in seconds, days are UTC.
    """
    days = hit_rate_by_day(con)
    lookups, hits = int(days["lookups"].sum()), int(days["hits"].sum())
    return {
        "lookups": lookups,
        "hits": hits,
        "hit_rate": hits / lookups if lookups else None,
        "observed": False,
        "by_day": days.with_columns(pl.col("day").cast(pl.String)).to_dicts(),
        "ttl_curve": ttl_curve(con, ttls_s).to_dicts(),
    }


def ttl_curve(con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float] = TTLS_S) -> pl.DataFrame:
    """Return hits and stale hits for each TTL under both policies.

    Columns: ``policy, ttl_s, lookups, hits, stale_hits``. An answer exactly as old as the TTL is still a hit.
    """
    if not all(0 <= ttl < math.inf for ttl in ttls_s):
        raise ForensicsError("a TTL is a number of seconds from 0 up")
    rows = (
        con.table("lookups")
        .order("lookup_key, checked_at, try_cast(check_id as bigint), check_id")
        .select("lookup_key, epoch_us(checked_at), recorded_verdict")
        .fetchall()
    )
    keys = [[(at, verdict) for _, at, verdict in group] for _, group in groupby(rows, key=lambda row: row[0])]
    curve = [
        {"policy": policy, "ttl_s": ttl, "lookups": len(rows), **_walk(keys, ttl, policy)}
        for policy in POLICIES
        for ttl in sorted(ttls_s)
    ]
    schema = {"policy": pl.String, "ttl_s": pl.Float64, "lookups": pl.Int64, "hits": pl.Int64, "stale_hits": pl.Int64}
    return pl.DataFrame(curve, schema=schema)


def retention(con: duckdb.DuckDBPyConnection, days: int) -> dict[str, Any]:
    """Return the object that ``forensics retention --days N --json`` prints.

    Bytes are those of the snapshot and conflict text. ``hits_lost`` and ``purged_before_meal`` count over all checks, as
    if the retention had always been in force; the other losses are those of the rows that would go today.
    """
    if not 0 <= days <= _LONGEST_DAYS:
        raise ForensicsError(f"a retention is a whole number of days from 0 to {_LONGEST_DAYS}")
    found = query.rows(con, "measure/retention_by_days", days=[days])
    return found[0] if found else dict.fromkeys(_RETENTION, 0) | {"days": days}


_RETENTION = (
    "days",
    "rows_kept",
    "rows_freed",
    "bytes_kept",
    "bytes_freed",
    "hits_lost",
    "explanations_lost",
    "purged_before_meal",
)


def retention_by_days(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return the same figures for every retention from 0 days to the whole span of the evidence."""
    [(span,)] = con.execute("select coalesce(date_diff('day', min(checked_at), max(checked_at)), 0) + 1 from checks").fetchall()
    return query.frame(con, "measure/retention_by_days", days=list(range(span + 1)))


def _walk(keys: list[list[tuple[int, str]]], ttl_s: float, policy: Policy) -> dict[str, int]:
    """Play the lookups of every key, in order of time, against a cache with this TTL."""
    ttl_us = ttl_s * 1_000_000
    hits = stale_hits = 0
    for lookups in keys:
        fresh_from, cached = lookups[0]
        for at, verdict in lookups[1:]:
            if at - fresh_from <= ttl_us:
                hits += 1
                stale_hits += verdict != cached
                if policy == "last_use":
                    fresh_from = at
            else:
                fresh_from, cached = at, verdict
    return {"hits": hits, "stale_hits": stale_hits}
