"""Rates: a cache replayed event by event, retention by brute force over the raw text."""

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from story import planted

from analysis import measure
from analysis.measure import POLICIES
from analysis.model import ForensicsError

START = datetime(2025, 11, 15, tzinfo=UTC)
# A lookup: seconds after the start, which key, which verdict.
Lookup = tuple[float, str, bool]


def looked_up(lookups: Iterable[Lookup]) -> duckdb.DuckDBPyConnection:
    """Make a store that knows nothing but the checks behind these lookups; the key is the booking."""
    rows = [
        {
            "check_id": str(number),
            "booking_id": key,
            "restaurant_id": "R",
            "checked_at": START + timedelta(seconds=at),
            "recorded_verdict": "confirmed" if verdict else "refused",
            "table_ids": ["T"],
            "requested_window": "empty",
        }
        for number, (at, key, verdict) in enumerate(lookups, 1)
    ]
    schema: dict[str, Any] = {
        **dict.fromkeys(("check_id", "booking_id", "restaurant_id", "recorded_verdict", "requested_window"), pl.String),
        "checked_at": pl.Datetime("us", "UTC"),
        "table_ids": pl.List(pl.String),
    }
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("rows", pl.DataFrame(rows, schema=schema))
    con.execute("create table checks as from rows")
    measure.run(con)
    return con


def curve(lookups: Iterable[Lookup], ttls_s: Sequence[float], policy: str = "last_write") -> list[tuple[int, int]]:
    """Return hits and stale hits for each TTL."""
    with closing(looked_up(lookups)) as con:
        found = measure.ttl_curve(con, ttls_s).filter(policy=policy).sort("ttl_s")
    return list(zip(found["hits"], found["stale_hits"], strict=True))


def simulate(lookups: Iterable[Lookup], ttl_s: float, policy: str) -> tuple[int, int]:
    """Play one lookup after the other, of all keys, against a dictionary whose entries expire."""
    cache: dict[str, tuple[float, bool]] = {}
    hits = stale_hits = 0
    for at, key, verdict in sorted(lookups, key=lambda lookup: lookup[0]):
        expired = [k for k, (touched, _) in cache.items() if at - touched > ttl_s]
        for k in expired:
            del cache[k]
        if key in cache:
            touched, answer = cache[key]
            hits += 1
            stale_hits += answer != verdict
            cache[key] = (at if policy == "last_use" else touched, answer)
        else:
            cache[key] = (at, verdict)
    return hits, stale_hits


# Few keys and round times, so that repeats, ties and gaps of exactly a TTL are common.
LOOKUPS = st.lists(st.tuples(st.integers(0, 40).map(float), st.sampled_from("ABC"), st.booleans()), max_size=30)
TTLS = st.lists(st.integers(0, 45).map(float), min_size=1, max_size=4, unique=True)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=60, deadline=None)
@given(lookups=LOOKUPS, ttls_s=TTLS)
def test_hits_are_those_of_a_cache_played_event_by_event(policy: str, lookups: list[Lookup], ttls_s: list[float]) -> None:
    assert curve(lookups, ttls_s, policy) == [simulate(lookups, ttl, policy) for ttl in sorted(ttls_s)]


@settings(max_examples=40, deadline=None)
@given(lookups=LOOKUPS)
def test_a_longer_ttl_from_last_use_never_loses_a_hit(lookups: list[Lookup]) -> None:
    hits = [hit for hit, _ in curve(lookups, range(0, 45, 3), "last_use")]
    assert hits == sorted(hits)
    assert all(stale <= hit for hit, stale in curve(lookups, range(0, 45, 3), "last_use"))


def test_the_gaps_alone_do_not_tell_what_a_cache_answers() -> None:
    """Both have the gaps 8 and 8: from last write, the answer of minute 0 has expired at minute 16."""
    lookups = [(0.0, "A", True), (8.0, "A", True), (16.0, "A", True)]
    gaps = [8, 8]
    assert sum(gap <= 10 for gap in gaps) == 2
    assert curve(lookups, [10], "last_use") == [(2, 0)]
    assert curve(lookups, [10], "last_write") == [(1, 0)]


EDGES: dict[str, tuple[list[Lookup], float, tuple[int, int], tuple[int, int]]] = {
    "nothing": ([], 10, (0, 0), (0, 0)),
    "one": ([(0, "A", True)], 10, (0, 0), (0, 0)),
    "exactly as old as the TTL": ([(0, "A", True), (10, "A", True)], 10, (1, 0), (1, 0)),
    "a microsecond older": ([(0, "A", True), (10.000001, "A", True)], 10, (0, 0), (0, 0)),
    "TTL 0, same instant": ([(5, "A", True), (5, "A", True)], 0, (1, 0), (1, 0)),
    "TTL 0, later": ([(5, "A", True), (5.000001, "A", True)], 0, (0, 0), (0, 0)),
    "another key": ([(0, "A", True), (1, "B", True)], 10, (0, 0), (0, 0)),
    "another verdict": ([(0, "A", True), (1, "A", False)], 10, (1, 1), (1, 1)),
    "the cached answer stays": ([(0, "A", True), (1, "A", False), (2, "A", False), (3, "A", True)], 10, (3, 2), (3, 2)),
    "refreshed by use": ([(0, "A", True), (9, "A", True), (18, "A", False), (27, "A", False)], 10, (2, 0), (3, 2)),
}


@pytest.mark.parametrize(("lookups", "ttl_s", "last_write", "last_use"), EDGES.values(), ids=EDGES)
def test_edges(lookups: list[Lookup], ttl_s: float, last_write: tuple[int, int], last_use: tuple[int, int]) -> None:
    assert curve(lookups, [ttl_s], "last_write") == [last_write] == [simulate(lookups, ttl_s, "last_write")]
    assert curve(lookups, [ttl_s], "last_use") == [last_use] == [simulate(lookups, ttl_s, "last_use")]


def test_every_lookup_is_in_the_denominator() -> None:
    lookups = [(0.0, "A", True), (86400.0, "A", True), (86401.0, "A", False), (86402.0, "B", True)]
    with closing(looked_up(lookups)) as con:
        figures = measure.cache(con, [10])
    assert (figures["lookups"], figures["hits"], figures["hit_rate"], figures["observed"]) == (4, 2, 0.5, False)
    assert figures["by_day"] == [
        {"day": "2025-11-15", "lookups": 1, "hits": 0, "hit_rate": 0.0},
        {"day": "2025-11-16", "lookups": 3, "hits": 2, "hit_rate": 2 / 3},
    ]
    assert figures["ttl_curve"] == [
        {"policy": policy, "ttl_s": 10.0, "lookups": 4, "hits": 1, "stale_hits": 1} for policy in ("last_write", "last_use")
    ]


def test_another_window_or_table_is_another_question(evidence: duckdb.DuckDBPyConnection) -> None:
    """The gap of a lookup goes back to the newest earlier check of the same booking, tables and window."""
    rows = evidence.execute(
        "select check_id, booking_id, list_sort(table_ids)::varchar, requested_window, epoch_us(checked_at) from checks "
        "order by checked_at, check_id::int"
    ).fetchall()
    seen: dict[tuple[str, ...], int] = {}
    expected = {}
    for check_id, *key, at in rows:
        expected[check_id] = None if tuple(key) not in seen else (at - seen[tuple(key)]) / 1e6
        seen[tuple(key)] = at
    found = dict(evidence.execute("select check_id, gap_s from lookups").fetchall())
    assert found == pytest.approx(expected)
    assert sum(gap is not None for gap in found.values()) > 100


@pytest.mark.parametrize("policy", POLICIES)
def test_the_lab_agrees_with_the_simulation(evidence: duckdb.DuckDBPyConnection, policy: str) -> None:
    rows = evidence.execute(
        "select epoch_us(checked_at) / 1e6, lookup_key, recorded_verdict = 'confirmed' from lookups "
        "order by checked_at, check_id::int"
    ).fetchall()
    found = measure.ttl_curve(evidence, [60, 900, 86400]).filter(policy=policy)
    expected = [simulate(rows, ttl, policy) for ttl in (60, 900, 86400)]
    assert list(zip(found["hits"], found["stale_hits"], strict=True)) == expected
    assert expected[-1][1] > 0


@pytest.mark.parametrize("ttl_s", [-1.0, -1e-6, float("nan"), float("inf")])
def test_a_ttl_that_is_no_span_is_refused(ttl_s: float) -> None:
    with closing(looked_up([])) as con, pytest.raises(ForensicsError, match="from 0 up"):
        measure.ttl_curve(con, [60, ttl_s])


@pytest.mark.parametrize("days", [-1, 100_001, 10**12])
def test_a_retention_that_is_no_span_is_refused(evidence: duckdb.DuckDBPyConnection, days: int) -> None:
    with pytest.raises(ForensicsError, match="from 0 to 100000"):
        measure.retention(evidence, days)


def test_an_empty_store_has_figures_of_zero_and_no_rate() -> None:
    with closing(planted()) as con:
        figures = measure.cache(con)
        assert (figures["lookups"], figures["hits"], figures["hit_rate"], figures["by_day"]) == (0, 0, None, [])
        assert {(row["lookups"], row["hits"], row["stale_hits"]) for row in figures["ttl_curve"]} == {(0, 0, 0)}
        kept = measure.retention(con, 30)
        assert kept.pop("days") == 30
        assert set(kept.values()) == {0}
        assert measure.retention_by_days(con).is_empty()


# Retention, by brute force over the raw text of the lab.

Raw = list[tuple[datetime, int, datetime | None]]


@pytest.fixture
def texts(evidence: duckdb.DuckDBPyConnection) -> Raw:
    """Return of each raw check when it ran, how many bytes it holds, and when its meal begins."""
    rows = evidence.execute("select checked_at, snapshot_data, conflict_details from raw_checks").fetchall()

    def meal(snapshot: str) -> datetime | None:
        window = json.loads(snapshot)["request"]["window"]
        return window and datetime.fromisoformat(window.split('"')[1])

    return [
        (datetime.fromisoformat(at), sum(len(text.encode()) for text in texts if text is not None), meal(texts[0]))
        for at, *texts in rows
    ]


@pytest.mark.parametrize("days", [0, 1, 7, 30, 36, 1000])
def test_retention_is_what_counting_the_raw_text_gives(evidence: duckdb.DuckDBPyConnection, texts: Raw, days: int) -> None:
    figures = measure.retention(evidence, days)
    horizon = max(at for at, *_ in texts) - timedelta(days=days)
    kept = [size for at, size, _ in texts if at >= horizon]
    assert (figures["rows_kept"], figures["bytes_kept"]) == (len(kept), sum(kept))
    assert figures["rows_kept"] + figures["rows_freed"] == len(texts)
    assert figures["bytes_kept"] + figures["bytes_freed"] == sum(size for _, size, _ in texts)
    ahead = [meal for at, _, meal in texts if meal and meal > at + timedelta(days=days)]
    assert figures["purged_before_meal"] == len(ahead)
    gaps = [gap for (gap,) in evidence.execute("select gap_s from lookups where gap_s is not null").fetchall()]
    assert figures["hits_lost"] == sum(gap > days * 86400 for gap in gaps)
    assert figures["explanations_lost"] <= figures["rows_freed"]
    assert measure.retention_by_days(evidence).filter(days=days).to_dicts() == ([figures] if days < 100 else [])


def test_a_longer_retention_keeps_more_and_loses_less(evidence: duckdb.DuckDBPyConnection, texts: Raw) -> None:
    by_days = measure.retention_by_days(evidence)
    assert by_days["days"].to_list() == list(range(len(by_days)))
    for column in ("rows_kept", "bytes_kept"):
        assert by_days[column].is_sorted()
    for column in ("rows_freed", "bytes_freed", "hits_lost", "explanations_lost", "purged_before_meal"):
        assert by_days[column].is_sorted(descending=True)
    assert by_days["rows_kept"][-1] == len(texts)
    assert by_days["rows_kept"][0] < by_days["rows_kept"][1] < len(texts)
