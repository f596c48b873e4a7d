"""What the evidence takes up, how it grows, and what keeping it for so many days would free and lose."""

from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl

from analysis import query
from analysis.measure import at_most
from analysis.model import ForensicsError

PURGED_BOUND = 0.01
"""The share of checks for a known meal that may be gone before it under a recommended retention."""

_LONGEST_DAYS = 100_000


def growth(con: duckdb.DuckDBPyConnection, by: Literal["day", "restaurant"] = "day") -> pl.DataFrame:
    """Return rows and bytes of evidence by day (UTC) or restaurant.

    Columns: ``label, checks, snapshot_bytes, conflict_bytes``, of text; ``stored_bytes``, as PostgreSQL stores them, null
    where not recorded; ``bytes_a_check``, of text.
    """
    return query.frame(con, "measure/growth", by=by)


def size(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return what the evidence table took up on its source's disk at the last capture: one row.

    Columns: ``captured_at, checks, heap_bytes, toast_bytes, index_bytes, bytes_a_check``; null where not recorded. Dead rows
    that vacuum has not freed are in it.
    """
    return query.frame(con, "measure/size")


def outlook(by_day: pl.DataFrame, days: int = 365) -> dict[str, Any]:
    """Return what the growth by day comes to in so many days, if it goes on as it went.

    ``bytes_a_day`` is the mean of the whole days (the first and the last are not), ``low`` and ``high`` the means of the
    seven quietest and the seven busiest days in a row; ``bytes, bytes_low, bytes_high`` the same in so many days. Null where
    there are too few days.
    """
    whole = by_day.select(pl.col("label").str.to_date(), size=pl.col("snapshot_bytes") + pl.col("conflict_bytes")).sort("label")
    whole = whole.upsample("label", every="1d").fill_null(0)[1:-1] if len(whole) else whole
    weeks = whole["size"].cast(pl.Float64).rolling_mean(7).drop_nulls()
    means: dict[str, Any] = {"bytes_a_day": whole["size"].mean(), "low": weeks.min(), "high": weeks.max()}
    names = {"bytes": "bytes_a_day", "bytes_low": "low", "bytes_high": "high"}
    projected = {name: None if means[of] is None else round(days * means[of]) for name, of in names.items()}
    return {"whole_days": len(whole), **means, "days": days, **projected}


def snapshot_parts(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return what the snapshots' bytes consist of: columns ``part, bytes, bytes_if_shared``.

    The last is what would be left if every distinct allocation were stored once, and referred to by eight bytes.
    """
    return query.frame(con, "measure/snapshot_parts")


def retention(con: duckdb.DuckDBPyConnection, days: int) -> dict[str, Any]:
    """Return what one retention frees and loses; ``forensics retention --json`` adds knee, outlook and a recommendation.

    Bytes are those of the snapshot and conflict text; ``stored_bytes_freed`` as PostgreSQL stores them, null where no capture
    recorded it. ``hits_lost`` and ``purged_before_meal`` count over all checks, as if the retention had always been in force,
    the latter over those ``meals`` of which is known when they begin;
    the other losses are those of the rows that would go at ``as_of``, the newest check. A check that stays, but was explained
    by the snapshot of one that goes, is not among them. ``hits_forgotten`` are repeats that could then no longer be counted.
    ``variants`` are the same figures for other ways to count the days.
    """
    if not 0 <= days <= _LONGEST_DAYS:
        raise ForensicsError(f"a retention is a whole number of days from 0 to {_LONGEST_DAYS}")
    found = query.rows(con, "measure/retention_by_days", days=[days], basis="check", refusals=1)
    figures = found[0] if found else dict.fromkeys(_RETENTION, 0) | {"days": days, "as_of": None}
    return figures | {"variants": retention_variants(con, days).to_dicts()}


_RETENTION = (
    "days",
    "as_of",
    "rows_kept",
    "rows_freed",
    "bytes_kept",
    "bytes_freed",
    "stored_bytes_freed",
    "hits_lost",
    "hits_forgotten",
    "explanations_lost",
    "refusals_lost",
    "meals",
    "purged_before_meal",
)


def retention_by_days(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return the same figures for every retention from 0 days to the whole span of the evidence, up to ``as_of``."""
    today = query.frame(con, "measure/retention_by_days", days=[0], basis="check", refusals=1)["as_of"].first()
    [(span,)] = con.execute(
        "select greatest(coalesce(date_diff('day', min(checked_at), $today::timestamptz), 0), 0) + 1 from checks",
        {"today": today},
    ).fetchall()
    return query.frame(con, "measure/retention_by_days", days=list(range(span + 1)), basis="check", refusals=1)


def retention_variants(con: duckdb.DuckDBPyConnection, days: int) -> pl.DataFrame:
    """Return the figures of one retention, counted in other ways: a ``variant`` a row.

    By the age of the check; by the time since the end of the window it asked for; either with refusals kept three times as
    long.
    """
    named = {
        "by check": ("check", 1),
        "by check, refusals ×3": ("check", 3),
        "by window end": ("window", 1),
        "by window end, refusals ×3": ("window", 3),
    }
    return pl.concat(
        query.frame(con, "measure/retention_by_days", days=[days], basis=basis, refusals=refusals).select(
            pl.lit(name).alias("variant"), pl.all()
        )
        for name, (basis, refusals) in named.items()
    )


def best_retention(by_days: pl.DataFrame, bound: float = PURGED_BOUND) -> dict[str, Any] | None:
    """Return the shortest retention under which no more than a share of the checks for a known meal is gone before it.

    Rows of :func:`retention_by_days`; null where none of them keeps so much, or no meal is known. Added to the row:
    ``purged_share``, and by Wilson's interval (95 %) at most ``purged_share_high`` of checks like these.
    """
    within = by_days.filter(pl.col("meals") > 0, pl.col("purged_before_meal") <= bound * pl.col("meals")).sort("days")
    if within.is_empty():
        return None
    best = within.row(0, named=True)
    of, gone = best["meals"], best["purged_before_meal"]
    return best | {"purged_share": gone / of, "purged_share_high": at_most(gone, of)}


def knee(by_days: pl.DataFrame, column: str = "purged_before_meal") -> int | None:
    """Return the retention after which a further day gains less than the days before did on average, if there is one.

    It is where the falling curve of a loss lies furthest below the straight line between its ends; null where it nowhere
    lies a tenth of the whole below: then every day counts for about the same.
    """
    loss = by_days[column].to_numpy()
    if len(loss) < 3 or loss[0] == loss[-1]:
        return None
    below = np.linspace(1, 0, len(loss)) - (loss - loss[-1]) / (loss[0] - loss[-1])
    return int(by_days["days"][int(below.argmax())]) if below.max() >= 0.1 else None
