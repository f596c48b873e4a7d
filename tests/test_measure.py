"""Hit rates: a cache replayed event by event, every cut of a history, and the charts' figures by brute force.

The simulation below is written from the words of ``measure.DEFINITIONS`` and shares nothing with the code it judges. What a
retention costs is in test_keeping.
"""

import os
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import libcachesim
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import measure
from analysis.measure import POLICIES

CUTS = int(os.environ.get("FORENSICS_CUTS", "20"))
START = datetime(2025, 11, 15, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0
KEYS: tuple[measure.Key, ...] = ("request", "booking")

# A lookup: seconds after the start; what is asked, the booking and in small letters which of its requests; what the check came
# to: confirmed, refused, or failed.
Lookup = tuple[float, str, str]
CONFIRMED, REFUSED, FAILED = "yes", "no", "failed"


def looked_up(lookups: Iterable[Lookup], **columns: Any) -> duckdb.DuckDBPyConnection:
    """Make a store that knows nothing but restaurant R in London and the checks behind these lookups.

    A column is one value for all checks.
    """
    rows = [
        {
            "check_id": str(number),
            "shape": "audit",
            "booking_id": asked[0],
            "restaurant_id": "R",
            "checked_at": START + timedelta(seconds=at),
            "recorded_verdict": "confirmed" if verdict == CONFIRMED else "refused",
            "sqlstate": {CONFIRMED: None, REFUSED: "23P01", FAILED: "40P01"}[verdict],
            "table_ids": [asked[1:]],
            "requested_window": "empty",
            "requested_lower": None,
        }
        | columns
        for number, (at, asked, verdict) in enumerate(lookups, 1)
    ]
    texts = ("check_id", "shape", "booking_id", "restaurant_id", "recorded_verdict", "sqlstate", "requested_window")
    instants = ("checked_at", "requested_lower")
    schema = dict.fromkeys(texts, pl.String()) | dict.fromkeys(instants, pl.Datetime("us", "UTC"))
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("rows", pl.DataFrame(rows, schema={**schema, "table_ids": pl.List(pl.String)}))
    con.execute("create table checks as select *, row_number() over () as check_no from rows")
    con.execute("create table snapshots (check_no bigint, requested_text varchar)")
    con.execute("create table restaurants (restaurant_id varchar, label varchar, timezone varchar)")
    con.execute("insert into restaurants values ('R', 'The Anchor', 'Europe/London'), ('X', 'Nowhere', 'Mars/Olympus')")
    measure.run(con)
    return con


def of_store(con: duckdb.DuckDBPyConnection) -> list[Lookup]:
    """Return what a store looked up, requests told apart by number."""
    rows = con.execute(
        "select epoch_us(checked_at) / 1e6, booking_no, request_no, failed, recorded_verdict from lookups order by lookup_no"
    ).fetchall()
    verdicts = {"confirmed": CONFIRMED, "refused": REFUSED}
    return [(at, f"{booking}/{request}", FAILED if failed else verdicts[said]) for at, booking, request, failed, said in rows]


class Came(NamedTuple):
    """How one lookup came out."""

    outcome: str
    age_s: float | None = None

    @property
    def hit(self) -> bool:
        return self.age_s is not None


def booking_of(asked: str) -> str:
    return asked.partition("/")[0] if "/" in asked else asked[0]


def simulate(
    lookups: Iterable[Lookup], ttl_s: float = inf, policy: str = "last_write", *, key: str = "request", days: float = inf
) -> list[Came]:
    """Play one lookup after the other against a dictionary whose entries expire, and are purged so many days after a write."""
    kept: dict[str, dict[str, Any]] = {}
    kept_once, booked = set(), set()
    came = []
    for at, asked, verdict in sorted(lookups, key=lambda lookup: lookup[0]):
        place = booking_of(asked) if key == "booking" else asked
        entry = kept.get(place)
        if entry and (
            _us(at - entry["written" if policy == "last_write" else "touched"]) > _us(ttl_s)
            or _us(at - entry["written"]) > _us(days * DAY)
        ):
            del kept[place]
            entry = None
        if entry:
            entry["touched"] = at
            kind = "undecided" if verdict == FAILED else "safe" if entry["answer"] == verdict else "stale"
            came.append(Came(f"{kind} hit", at - entry["written"]))
        else:
            first = booking_of(asked) not in booked
            came.append(
                Came(
                    "error"
                    if verdict == FAILED
                    else "first check"
                    if first
                    else "expired miss"
                    if place in kept_once
                    else "cold miss"
                )
            )
            if verdict != FAILED:
                kept[place] = {"written": at, "touched": at, "answer": verdict}
                kept_once.add(place)
        booked.add(booking_of(asked))
    return came


def _us(seconds: float) -> float:
    return seconds if seconds == inf else round(seconds * 1e6)


def hits(came: Iterable[Came]) -> int:
    return sum(one.hit for one in came)


def counted(came: Iterable[Came]) -> tuple[int, int]:
    """Return hits and stale hits."""
    came = list(came)
    return hits(came), sum(one.outcome == "stale hit" for one in came)


def curve(
    con: duckdb.DuckDBPyConnection, ttls_s: Sequence[float], key: measure.Key = "request"
) -> dict[tuple[str, float], tuple[int, int]]:
    """Return hits and stale hits by policy and TTL."""
    rows = measure.ttl_curve(con, ttls_s, key=key).to_dicts()
    return {(row["policy"], row["ttl_s"]): (row["hits"], row["stale_hits"]) for row in rows}


def out(con: duckdb.DuckDBPyConnection, ttl_s: float = inf, policy: measure.Policy = "last_write") -> list[Came]:
    """Return how every lookup came out."""
    frame = measure.outcomes(con, ttl_s, policy).sort("lookup_no")
    assert frame["hit"].to_list() == frame["age_s"].is_not_null().to_list()
    return [Came(outcome, age_s) for outcome, age_s in frame.select("outcome", "age_s").iter_rows()]


# Few keys and round times, so that repeats, ties and gaps of exactly a TTL are common; six hours, so that some are purged.
VERDICTS = st.sampled_from([CONFIRMED, CONFIRMED, REFUSED, FAILED])
LOOKUPS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: n * 6.0 * HOUR), st.sampled_from(["Aa", "Ab", "Ba"]), VERDICTS), max_size=30
)
TTLS = st.lists(st.integers(0, 45).map(lambda n: n * 6.0 * HOUR) | st.just(inf), min_size=1, max_size=4, unique=True)


@settings(max_examples=50, deadline=None)
@given(lookups=LOOKUPS, ttls_s=TTLS, days=st.integers(0, 8))
def test_hits_are_those_of_a_cache_played_event_by_event(lookups: list[Lookup], ttls_s: list[float], days: int) -> None:
    every = [(policy, ttl) for policy in POLICIES for ttl in sorted(ttls_s)]
    with closing(looked_up(lookups)) as con:
        for key in KEYS:
            assert curve(con, ttls_s, key) == {(p, ttl): counted(simulate(lookups, ttl, p, key=key)) for p, ttl in every}
        for policy, ttl in every:
            assert out(con, ttl, policy) == simulate(lookups, ttl, policy)
        purged = measure.ttl_by_retention(con, ttls_s, [days]).to_dicts()
    assert [(row["policy"], row["ttl_s"], row["days"], row["hits"], row["stale_hits"]) for row in purged] == [
        (policy, ttl, days, *counted(simulate(lookups, ttl, policy, days=days))) for policy, ttl in every
    ]


@pytest.mark.parametrize("store", ["evidence", "sample"])
def test_real_stores_agree_with_the_simulation(store: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    lookups = of_store(con)
    every = [(policy, ttl) for policy in POLICIES for ttl in (60.0, 900.0, 86400.0, inf)]
    for key in KEYS:
        found = curve(con, [60, 900, 86400, inf], key)
        assert found == {(p, ttl): counted(simulate(lookups, ttl, p, key=key)) for p, ttl in every}
        assert found["last_write", inf] == found["last_use", inf] > found["last_write", 900]
    for policy, ttl in every:
        came = simulate(lookups, ttl, policy)
        found_by_one = out(con, ttl, policy)
        assert [one.outcome for one in found_by_one] == [one.outcome for one in came]
        assert [one.age_s for one in found_by_one] == pytest.approx([one.age_s for one in came], abs=1e-6)
    for row in measure.ttl_by_retention(con, [900, 30 * DAY], [1, 7, 30]).to_dicts():
        came = simulate(lookups, row["ttl_s"], row["policy"], days=row["days"])
        assert (row["lookups"], row["hits"], row["stale_hits"]) == (len(lookups), *counted(came))


EDGES: dict[str, tuple[list[Lookup], float, tuple[int, int], tuple[int, int]]] = {
    "nothing": ([], 10, (0, 0), (0, 0)),
    "one": ([(0, "A", "yes")], 10, (0, 0), (0, 0)),
    "exactly as old as the TTL": ([(0, "A", "yes"), (10, "A", "yes")], 10, (1, 0), (1, 0)),
    "a microsecond older": ([(0, "A", "yes"), (10.000001, "A", "yes")], 10, (0, 0), (0, 0)),
    "exactly as old, in milliseconds": ([(0, "A", "yes"), (1.001, "A", "yes")], 1.001, (1, 0), (1, 0)),
    "TTL 0, same instant": ([(5, "A", "yes"), (5, "A", "yes")], 0, (1, 0), (1, 0)),
    "TTL 0, later": ([(5, "A", "yes"), (5.000001, "A", "yes")], 0, (0, 0), (0, 0)),
    "another key": ([(0, "A", "yes"), (1, "B", "yes")], 10, (0, 0), (0, 0)),
    "another request of the booking": ([(0, "Aa", "yes"), (1, "Ab", "yes")], 10, (0, 0), (0, 0)),
    "another verdict": ([(0, "A", "yes"), (1, "A", "no")], 10, (1, 1), (1, 1)),
    "the cached answer stays": ([(0, "A", "yes"), (1, "A", "no"), (2, "A", "no"), (3, "A", "yes")], 10, (3, 2), (3, 2)),
    "refreshed by use": ([(0, "A", "yes"), (9, "A", "yes"), (18, "A", "no"), (27, "A", "no")], 10, (2, 0), (3, 2)),
    "a failure leaves no answer": ([(0, "A", "failed"), (1, "A", "yes")], 10, (0, 0), (0, 0)),
    "a failure that would have been answered": ([(0, "A", "yes"), (1, "A", "failed")], 10, (1, 0), (1, 0)),
    "a failure that is answered is a use": ([(0, "A", "yes"), (9, "A", "failed"), (18, "A", "yes")], 10, (1, 0), (2, 0)),
    "a failure keeps what it finds": ([(0, "A", "yes"), (5, "A", "failed"), (9, "A", "no")], 10, (2, 1), (2, 1)),
}


@pytest.mark.parametrize(("lookups", "ttl_s", "last_write", "last_use"), EDGES.values(), ids=EDGES)
def test_edges(lookups: list[Lookup], ttl_s: float, last_write: tuple[int, int], last_use: tuple[int, int]) -> None:
    with closing(looked_up(lookups)) as con:
        assert curve(con, [ttl_s]) == {("last_write", ttl_s): last_write, ("last_use", ttl_s): last_use}
    assert counted(simulate(lookups, ttl_s, "last_write")) == last_write
    assert counted(simulate(lookups, ttl_s, "last_use")) == last_use


def by_gaps(lookups: Iterable[Lookup], ttl_s: float) -> int:
    """Count the gaps between lookups of one key that are no longer than a TTL: a histogram of gaps, read at one point."""
    times: dict[str, list[float]] = {}
    for at, asked, _ in sorted(lookups):
        times.setdefault(asked, []).append(at)
    return sum(b - a <= ttl_s for key in times.values() for a, b in pairwise(key))


def test_a_histogram_of_gaps_would_be_caught(sample: duckdb.DuckDBPyConnection) -> None:
    """From last use it tells the truth. From last write the answer of second 0 has expired at second 16, whatever the gaps."""
    lookups: list[Lookup] = [(0, "A", "yes"), (8, "A", "yes"), (16, "A", "yes")]
    for asked, ttl_s in ((lookups, 10.0), ([one for one in of_store(sample) if one[2] != FAILED], 86400.0)):
        found = {policy: hits(simulate(asked, ttl_s, policy)) for policy in POLICIES}
        assert found["last_write"] < by_gaps(asked, ttl_s) == found["last_use"]
    assert by_gaps(lookups, 10) == 2 == hits(simulate(lookups, 10, "last_use")) == 1 + hits(simulate(lookups, 10))


def lru(keys: Iterable[str]) -> int:
    """Count the hits of libcachesim's LRU that holds everything."""
    numbers: dict[str, int] = {}
    cache = libcachesim.LRU(cache_size=1 << 40)
    return sum(cache.get(libcachesim.Request(obj_id=numbers.setdefault(key, len(numbers)), obj_size=1)) for key in keys)


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.integers(0, 30).map(str), max_size=200))
def test_without_a_ttl_hits_are_those_of_an_unbounded_lru(keys: list[str]) -> None:
    with closing(looked_up((n, f"A{key}", CONFIRMED) for n, key in enumerate(keys))) as con:
        assert set(curve(con, [inf]).values()) == {(lru(keys), 0)}


@pytest.mark.parametrize("store", ["evidence", "sample"])
def test_real_stores_agree_with_the_lru(store: str, request: pytest.FixtureRequest) -> None:
    """An LRU keeps everything, also what a failed check left: these lookups stay out of the comparison."""
    con = request.getfixturevalue(store)
    came = [asked for _, asked, verdict in of_store(con) if verdict != FAILED]
    assert sum(one.outcome in ("safe hit", "stale hit") for one in out(con)) == lru(came) > 1000
    assert measure.cache(con)["hits"] == hits(out(con))


# What lies before the first lookup, and bounds.

LONG = st.lists(
    st.tuples(st.integers(0, 60).map(float), st.sampled_from(["Aa", "Aa", "Ba"]), VERDICTS), min_size=2, max_size=40
).map(lambda lookups: sorted(lookups, key=lambda lookup: lookup[0]))


@settings(max_examples=60, deadline=None)
@given(whole=LONG, share=st.floats(0, 1), ttls_s=st.lists(st.integers(0, 30).map(float), min_size=1, max_size=3, unique=True))
def test_no_past_leaves_the_bounds(whole: list[Lookup], share: float, ttls_s: list[float]) -> None:
    cut = int(share * (len(whole) - 1))
    with closing(looked_up(whole[cut:])) as con:
        within_bounds(con, whole, cut, len(whole), ttls_s)
        groups_within_bounds(con, whole, cut, len(whole), ttls_s)


# A row of failures leaves no answer, and shows how old the one before it is: in a past of its own, time and again. TTL 10.
FAILURES: dict[str, tuple[list[Lookup], int]] = {
    "more than after a warm past": ([(0, "B", "yes"), (5, "A", "yes"), *((at, "A", "failed") for at in (12, 13, 14))], 0),
    "fewer than after none": (
        [(0, "A", "yes"), (1, "B", "yes"), (6, "A", "yes"), *((at, "A", "failed") for at in (13, 14, 15))],
        1,
    ),
}


@pytest.mark.parametrize(("whole", "cut"), FAILURES.values(), ids=FAILURES)
def test_failures_do_not_leave_the_bounds(whole: list[Lookup], cut: int) -> None:
    with closing(looked_up(whole[cut:])) as con:
        within_bounds(con, whole, cut, len(whole), [10])
        groups_within_bounds(con, whole, cut, len(whole), [10])


def within_bounds(con: duckdb.DuckDBPyConnection, whole: list[Lookup], first: int, end: int, ttls_s: Sequence[float]) -> None:
    """Hold what is measured on a part of a history against what the whole says of the same lookups."""
    for row in measure.ttl_curve(con, ttls_s).to_dicts():
        truth = hits(simulate(whole, row["ttl_s"], row["policy"])[first:end])
        assert row["lookups"] == end - first
        assert row["hits_low"] <= truth <= row["hits_high"], row
        assert row["hits_low"] <= row["hits"] <= row["hits_high"]


def groups_within_bounds(
    con: duckdb.DuckDBPyConnection, whole: list[Lookup], first: int, end: int, ttls_s: Sequence[float]
) -> None:
    """Hold every single lookup against its bounds: then those of any group of lookups hold, too."""
    for ttl_s, policy in ((ttl_s, policy) for ttl_s in ttls_s for policy in POLICIES):
        frame = measure.outcomes(con, ttl_s, policy)
        truth = pl.Series([one.hit for one in simulate(whole, ttl_s, policy)[first:end]])
        assert frame["lookup_no"].is_sorted()
        assert (frame["uncertain"] | (frame["hit"] == truth)).all()


def test_which_lookup_hits_differs_between_pasts() -> None:
    """Hits of a group may lie beyond a cold and a warm past: the last lookup hits after neither, but does after the truth."""
    whole: list[Lookup] = [(at, "A", "yes") for at in (-3, 0, 5, 8, 12, 16, 19, 28)]
    cold, warm, truth = (simulate(whole[first:], 10)[-1].hit for first in (2, 1, 0))
    assert (cold, warm, truth) == (False, False, True)
    with closing(looked_up(whole[2:])) as con:
        assert out(con, 10)[-1] == Came("expired miss")
        assert measure.outcomes(con, 10)["uncertain"][-1]


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_cut_history_keeps_its_bounds(evidence: duckdb.DuckDBPyConnection, lab_store: Path, seed: int) -> None:
    whole = of_store(evidence)
    first, end = sorted(random.Random(seed).sample(range(len(whole) + 1), 2))
    rows = {"first": first + 1, "last": end}
    with closing(duckdb.connect()) as con:
        con.execute("set TimeZone = 'UTC'")
        con.execute(f"attach '{lab_store}' as kept (read_only)")
        con.execute("create table restaurants as from kept.restaurants; create table snapshots as from kept.snapshots")
        con.execute(
            "create table checks as select c.* from kept.checks as c inner join kept.lookups as l using (check_id) "
            "where l.lookup_no between $first and $last",
            rows,
        )
        measure.run(con)
        assert of_store(con)[:1] == [(whole[first][0], "1/1", whole[first][2])]
        within_bounds(con, whole, first, end, [1, 15, 60, 900, 4 * HOUR, DAY, 3 * DAY, 14 * DAY, inf])
        groups_within_bounds(con, whole, first, end, [60, 900, DAY, 7 * DAY, inf])
