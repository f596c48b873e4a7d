"""What a cache of confirmation verdicts would save.

:data:`DEFINITIONS` says what is counted; notebook 03 shows the same words. In the audit shape every check was computed and
recorded, none was answered from a cache: hits are inferred, those that a cache would have answered (``observed`` is false).
What was asked before the first recorded check is not in evidence: beside ``hits`` stand ``hits_low`` and ``hits_high``, between
which their number lies whatever that was; beside ``hit_rate``, ``hit_rate_low`` and ``hit_rate_high``.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl

from analysis import query, simulate
from analysis.model import ForensicsError

DEFINITIONS = {
    "lookup": "one check; the denominator of every rate",
    "key": "what is asked: the booking with the tables and the window (request), or the booking alone (booking)",
    "hit": "a lookup whose key has an answer in the cache, no older than the TTL (just as old still counts)",
    "cold miss": "nothing was kept for the key: it was never asked before, or only with an error",
    "first check": "a cold miss that had to be one: the first lookup of its booking",
    "expired miss": "an answer was kept once, and its TTL was over",
    "error": "a miss whose check then failed without a verdict (deadlock, timeout): it leaves no answer either",
    "age at hit": "the time since the answer that was given had been computed",
    "safe hit": "the answer given is the verdict that the check itself then recorded",
    "stale hit": "the check itself then recorded the other verdict",
    "undecided hit": "the check itself failed, so that nobody knows what it would have said",
    "retry": "the same request within 60 s of the lookup before: a client that tries again",
    "re-check": "the same request after more than 60 s: somebody asks again",
    "TTL from last write": "an answer is kept for so long after it was computed (last_write)",
    "TTL from last use": "every hit begins the TTL anew (last_use)",
    "retention horizon": "how long a row is kept after its check; a purged row answers nothing",
}

Policy = Literal["last_write", "last_use"]
Key = Literal["request", "booking"]
POLICIES: tuple[Policy, ...] = ("last_write", "last_use")
TTLS_S = (15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400, 14 * 86400, 30 * 86400)
FINE_TTLS_S = tuple(sorted({*TTLS_S, *(float(f"{10 ** (n / 12):.3g}") for n in range(81))}))
"""A hundred or so from one second to fifty days, evenly spread on a logarithmic scale: for a line."""

STALE_BOUND = 0.01
"""The share of wrong answers that a recommended TTL stays below."""


def run(con: duckdb.DuckDBPyConnection) -> None:
    """Write ``lookups``: every check as a lookup, with what was asked before it."""
    query.materialise(con, "measure/lookups")


def cache(con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float] = TTLS_S) -> dict[str, Any]:
    """Return the object that ``forensics cache --json`` prints.

    ``hits`` and ``hit_rate`` are those of a cache without expiry, the ceiling of ``ttl_curve``; the rate is null when
    there are no lookups. ``unseen`` is what the idempotency shape tells instead, whose hits leave no row: successes recorded,
    confirmations logged, and those of them that were computed again for a key that had been answered. ``clairvoyant`` counts
    the hits of a cache that also knew when its answer no longer held. TTLs are in seconds, days are UTC.
    """
    if math.inf in ttls_s:
        raise ForensicsError("a TTL is a number of seconds from 0 up; without one, hits and hit_rate say it")
    [found] = query.rows(con, "measure/ceilings")
    curve = ttl_curve(con, ttls_s)
    return {
        "lookups": found["lookups"],
        "hits": found["infinite"],
        "hit_rate": found["infinite"] / found["lookups"] if found["lookups"] else None,
        "observed": False,
        **{name: found[name] for name in ("clairvoyant", "retries", "rechecks", "failures")},
        "by_day": hit_rate_by(con, "day").rename({"label": "day"}).to_dicts(),
        "ttl_curve": curve.to_dicts(),
        "ttl_curve_by_booking": ttl_curve(con, ttls_s, key="booking").to_dicts(),
        "stale_bound": STALE_BOUND,
        "best_ttl": best_ttl(con, curve),
        "uniqueness": uniqueness(con),
        "unseen": query.rows(con, "measure/unseen")[0],
    }


def ttl_curve(con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float] = TTLS_S, *, key: Key = "request") -> pl.DataFrame:
    """Return hits and stale hits for each TTL under both policies, all played in one pass over the lookups.

    Columns: ``policy, ttl_s, lookups, hits, stale_hits, hits_low, hits_high``. The true number of hits, that of a record which
    goes further back, lies between the last two; ``hits_low`` is ``hits`` without undecided ones where a use keeps no answer.
    """
    limits = [_microseconds(ttl) for ttl in sorted(ttls_s)]
    forever = [simulate.FOREVER] * len(limits)
    points = {"last_write": (limits, forever), "last_use": (forever, limits)}
    lookups = _lookups(con, key)
    # Where a check failed, each past has an answer or not for reasons of its own: any may hit that comes soon enough.
    failed = np.sort(simulate.gaps_of(lookups)[lookups.answers == simulate.FAILED])
    plays = [(policy, warm) for policy in POLICIES for warm in (False, True)]
    with ThreadPoolExecutor(2) as pool:  # numpy works on several threads at once
        counted = dict(
            zip(plays, pool.map(lambda play: simulate.count(lookups, *points[play[0]], warm=play[1]), plays), strict=True)
        )
    curve = []
    for policy in POLICIES:
        cold = counted[policy, False]
        low = cold.answered if policy == "last_write" else cold.hits
        high = counted[policy, True].answered + np.searchsorted(failed, limits, side="right")
        for ttl_s, *counts in zip(sorted(ttls_s), cold.hits, cold.stale, low, high, strict=True):
            curve.append((policy, float(ttl_s), len(lookups.keys), *map(int, counts)))
    columns = dict.fromkeys(("lookups", "hits", "stale_hits", "hits_low", "hits_high"), pl.Int64)
    return pl.DataFrame(curve, schema={"policy": pl.String, "ttl_s": pl.Float64, **columns}, orient="row")


def ttl_by_retention(
    con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float] = TTLS_S, days: Sequence[int] = (1, 7, 14, 30)
) -> pl.DataFrame:
    """Return what is left of each TTL's hits where rows are purged so many days after they were written.

    Columns: ``policy, ttl_s, days, lookups, hits, stale_hits``.
    """
    lookups = _lookups(con, "request")
    grid = [(policy, float(ttl), n) for policy in POLICIES for ttl in sorted(ttls_s) for n in sorted(days)]
    written = [
        min(_microseconds(ttl) if policy == "last_write" else simulate.FOREVER, n * 86_400_000_000) for policy, ttl, n in grid
    ]
    used = [_microseconds(ttl) if policy == "last_use" else simulate.FOREVER for policy, ttl, _ in grid]
    hits, stale, _ = simulate.count(lookups, written, used)
    schema = {"policy": pl.String, "ttl_s": pl.Float64, "days": pl.Int64}
    return pl.DataFrame(grid, schema=schema, orient="row").with_columns(
        lookups=pl.lit(len(lookups.keys), pl.Int64), hits=pl.Series(hits), stale_hits=pl.Series(stale)
    )


def outcomes(con: duckdb.DuckDBPyConnection, ttl_s: float = math.inf, policy: Policy = "last_write") -> pl.DataFrame:
    """Return how every lookup comes out under one TTL, without one by default.

    Columns: ``lookup_no``; ``outcome``, as :data:`DEFINITIONS` names them; ``hit``; ``uncertain``: with an unrecorded past it
    could come out the other way; ``age_s``, the age at a hit.
    """
    limit = [_microseconds(ttl_s)]
    points = (limit, [simulate.FOREVER]) if policy == "last_write" else ([simulate.FOREVER], limit)
    lookups = _lookups(con, "request")
    hit, asked_before = np.zeros((2, len(lookups.keys)), dtype=bool)
    given = np.full(len(lookups.keys), simulate.UNKNOWN, dtype=np.int8)
    age = np.zeros(len(lookups.keys), dtype=np.int64)
    for step in simulate.play(lookups, *points):
        hit[step.rows], given[step.rows] = step.hit[:, 0], step.answers[:, 0]
        asked_before[step.rows] = step.written[:, 0] != simulate.NEVER
        age[step.rows] = lookups.instants[step.rows] - step.written[:, 0]
    first = lookups.bookings == lookups.numbers
    failed = lookups.answers == simulate.FAILED
    return (
        pl.DataFrame(
            {
                "lookup_no": lookups.numbers,
                "outcome": np.select(
                    [hit & failed, hit & (given == lookups.answers), hit, failed, first, asked_before],
                    ["undecided hit", "safe hit", "stale hit", "error", "first check", "expired miss"],
                    "cold miss",
                ),
                "hit": hit,
                # From last use or for ever, an answer that the record alone would give is given in any case.
                "uncertain": simulate.reached(lookups, limit[0])
                & (~hit | ((policy == "last_write") & (limit[0] < simulate.FOREVER))),
                "age_s": age / 1e6,
            },
            schema_overrides={"outcome": pl.String},
        )
        .with_columns(pl.when("hit").then("age_s"))
        .sort("lookup_no")
    )


def hit_rate_by(
    con: duckdb.DuckDBPyConnection,
    by: Literal["day", "restaurant", "hour", "lead", "verdict", "repeat"],
    ttl_s: float = math.inf,
    policy: Policy = "last_write",
) -> pl.DataFrame:
    """Return how the lookups of each group come out: one row a ``label``.

    Days are UTC, hours the restaurant's, ``lead`` is how long before its window a check was made. Beside the counts of
    outcomes: ``hit_rate``, and ``hit_rate_low`` and ``hit_rate_high``, between which the rate lies whatever was asked before
    the first recorded check, over all lookups of the group; ``hit_rate_by_booking``, the mean of its bookings' rates, in
    which each booking counts once.
    """
    con.register("outcomes", outcomes(con, ttl_s, policy))
    try:
        return query.frame(con, "measure/hit_rate", by=by)
    finally:
        con.unregister("outcomes")


def ages(con: duckdb.DuckDBPyConnection, up_to_s: Sequence[float] = TTLS_S) -> pl.DataFrame:
    """Return how old the answers of a cache without expiry would have been, and how many of each age still held.

    Columns: ``up_to_s``, the oldest of the group, null for all above; ``safe_hits, stale_hits``.
    """
    edges = sorted(float(edge) for edge in up_to_s)
    hits = outcomes(con).filter("hit")
    place = pl.Series(np.searchsorted(np.array(edges), hits["age_s"].to_numpy(), side="left"))
    counted = hits.select(place=place, safe=pl.col("outcome") == "safe hit", stale=pl.col("outcome") == "stale hit")
    every = pl.DataFrame({"place": range(len(edges) + 1), "up_to_s": [*edges, None]}, schema_overrides={"place": pl.Int64})
    sums = counted.group_by("place").agg(safe_hits=pl.col("safe").sum(), stale_hits=pl.col("stale").sum())
    return (
        every.join(sums.cast(pl.Int64), on="place", how="left")
        .sort("place")
        .select("up_to_s", pl.col("safe_hits", "stale_hits").fill_null(0))
    )


def best_ttl(con: duckdb.DuckDBPyConnection, curve: pl.DataFrame, stale_bound: float = STALE_BOUND) -> dict[str, Any] | None:
    """Return the row of a TTL curve with the most hits among those whose stale hits stay within a share of their hits.

    Of two with as many hits the shorter TTL. Null where no TTL has a hit within the bound. Added to the row: of
    ``bookings_hit`` with a hit, ``bookings_stale`` had a stale one, and by Wilson's interval (95 %) no more than
    ``stale_share_high`` of all such bookings have: bookings are told apart, hits of one booking go together.
    """
    within = curve.filter((pl.col("hits") > 0) & (pl.col("stale_hits") <= stale_bound * pl.col("hits")))
    if within.is_empty():
        return None
    best = within.sort("hits", "ttl_s", "policy", descending=[True, False, True]).row(0, named=True)
    hits = outcomes(con, best["ttl_s"], best["policy"]).filter("hit").join(con.table("lookups").pl(), on="lookup_no")
    booked = hits.group_by("booking_no").agg(stale=(pl.col("outcome") == "stale hit").any())
    n, stale = len(booked), int(booked["stale"].sum())
    return best | {"bookings_hit": n, "bookings_stale": stale, "stale_share_high": at_most(stale, n)}


def at_most(found: int, of: int) -> float:
    """Return the upper end of Wilson's 95 % interval for a share."""
    z = 1.959964
    share = found / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle + half) / (1 + z * z / of)


def uniqueness(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return what a unique ``booking_id`` would have cost, had each check overwritten the one before it.

    ``refused_after_confirmed`` of ``asked_after_confirmed`` were refused though the same request had just been confirmed:
    where it is not zero, confirming is not idempotent.
    """
    return query.rows(con, "measure/uniqueness")[0]


def _lookups(con: duckdb.DuckDBPyConnection, key: Key) -> simulate.Lookups:
    columns = (
        f"lookup_no, booking_no, {key}_no as key_no, epoch_us(checked_at) as instant, "
        "if(failed, -1, (recorded_verdict = 'confirmed')::int)::tinyint as answer"
    )
    read = con.table("lookups").filter("shape = 'audit'").select(columns).order("key_no, lookup_no").fetchnumpy()
    numbers, bookings, keys, instants, answers = (
        np.ascontiguousarray(read[name]) for name in ("lookup_no", "booking_no", "key_no", "instant", "answer")
    )
    return simulate.Lookups(numbers, bookings, keys, instants, answers, int(instants.min()) if len(instants) else 0)


def _microseconds(ttl_s: float) -> int:
    if not ttl_s >= 0:
        raise ForensicsError("a TTL is a number of seconds from 0 up")
    return simulate.FOREVER if ttl_s * 1e6 >= simulate.FOREVER else round(ttl_s * 1_000_000)
