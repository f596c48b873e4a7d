"""Rates of groups, ages and ceilings: every figure counted again by hand from the checks and the simulation of test_measure."""

import json
from bisect import bisect_left
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from statistics import mean
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from story import planted, story
from test_measure import DAY, FAILED, HOUR, LOOKUPS, START, Came, Lookup, booking_of, hits, looked_up, of_store, simulate

from analysis import measure, query, report
from analysis.model import ForensicsError


def test_the_first_cut_is_where_uncertainty_ends() -> None:
    """A gap longer than the TTL, or none older than it: nothing from before can still answer."""
    lookups: list[Lookup] = [(0, "B", "yes"), (10, "Aa", "yes"), (11, "Ab", "yes"), (20, "Aa", "yes"), (30.5, "Aa", "yes")]
    with closing(looked_up(lookups)) as con:
        assert measure.outcomes(con, 10)["uncertain"].to_list() == [True, True, False, True, False]
        assert measure.outcomes(con, 10, "last_use")["uncertain"].to_list() == [True, True, False, False, False]
        assert measure.outcomes(con)["uncertain"].to_list() == [True, True, True, False, False]
        [day] = measure.hit_rate_by(con, "day", 10).to_dicts()
    assert (day["hit_rate_low"], day["hit_rate"], day["hit_rate_high"]) == (0, 1 / 5, 3 / 5)


LEADS = {
    "already begun": (-1e-6,),
    "under 1 day": (0, DAY - 1),
    "1 to 3 days": (DAY, 3 * DAY - 1),
    "3 to 7 days": (3 * DAY, 7 * DAY - 1),
    "7 to 14 days": (7 * DAY, 14 * DAY - 1),
    "14 to 30 days": (14 * DAY, 30 * DAY - 1),
    "30 days or more": (30 * DAY, 999 * DAY),
}


@pytest.mark.parametrize(("label", "leads_s"), LEADS.items(), ids=LEADS)
def test_lead_time_at_its_boundaries(label: str, leads_s: tuple[float, ...]) -> None:
    for lead_s in leads_s:
        with closing(looked_up([(0, "A", "yes")], requested_lower=START + timedelta(seconds=lead_s))) as con:
            assert measure.hit_rate_by(con, "lead")["label"].to_list() == [label]


PLACES: dict[str, tuple[str | None, datetime, str, str]] = {
    "winter": ("R", START, "00:00", "The Anchor"),
    "summer": ("R", datetime(2025, 7, 1, 23, 59, tzinfo=UTC), "00:00", "The Anchor"),
    "unknown zone": ("X", START, "unknown", "Nowhere"),
    "unknown restaurant": ("Q", START, "unknown", "Q"),
    "no restaurant": (None, START, "unknown", "unknown"),
}


@pytest.mark.parametrize(("restaurant_id", "at", "hour", "name"), PLACES.values(), ids=PLACES)
def test_hours_are_the_restaurants(restaurant_id: str | None, at: datetime, hour: str, name: str) -> None:
    with closing(looked_up([(0, "A", "yes")], restaurant_id=restaurant_id, checked_at=at)) as con:
        assert measure.hit_rate_by(con, "hour")["label"].to_list() == [hour]
        assert measure.hit_rate_by(con, "restaurant")["label"].to_list() == [name]
        assert measure.hit_rate_by(con, "day")["label"].to_list() == [f"{at:%Y-%m-%d}"]


def labels(by: str, con: duckdb.DuckDBPyConnection) -> list[str]:
    """Name the group of every lookup, from the checks alone."""
    rows = con.sql(
        "select c.checked_at, c.requested_lower, c.recorded_verdict, r.name, r.timezone, "
        "concat_ws('|', c.booking_id, list_sort(c.table_ids), c.requested_window), c.booking_id "
        "from checks as c left join restaurants as r using (restaurant_id) order by c.checked_at, c.check_id::int"
    ).pl()
    edges = [0, *(lead[0] for lead in list(LEADS.values())[2:])]
    seen: dict[str, datetime] = {}
    booked, named = set(), []
    for at, lower, verdict, name, zone, asked, booking in rows.iter_rows():
        repeat = "first check" if booking not in booked else "new request"
        if asked in seen:
            repeat = "retry" if at - seen[asked] <= timedelta(seconds=60) else "re-check"
        seen[asked] = at
        booked.add(booking)
        lead = None if lower is None else (lower - at).total_seconds()
        named.append(
            {
                "day": f"{at:%Y-%m-%d}",
                "hour": f"{at.astimezone(ZoneInfo(zone)):%H}:00" if zone else "unknown",
                "restaurant": name or "unknown",
                "verdict": verdict,
                "repeat": repeat,
                "lead": "unknown" if lead is None else list(LEADS)[sum(lead >= edge for edge in edges)],
            }[by]
        )
    return named


@pytest.mark.parametrize("by", ["day", "restaurant", "hour", "lead", "verdict", "repeat"])
@pytest.mark.parametrize("store", ["evidence", "sample"])
def test_groups_are_counted_by_hand(store: str, by: Any, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    lookups, said, repeats = of_store(con), labels(by, con), labels("repeat", con)
    columns = {"first check": "first_checks", "cold miss": "cold_misses", "expired miss": "expired_misses", "error": "errors"}
    points: tuple[tuple[float, measure.Policy], ...] = ((900, "last_write"), (inf, "last_use"))
    for ttl, policy in points:
        frame = measure.hit_rate_by(con, by, ttl, policy)
        came = simulate(lookups, ttl, policy)
        grouped: dict[str, list[tuple[str, Came, str]]] = {label: [] for label in said}
        for (_, asked, _), label, one, repeat in zip(lookups, said, came, repeats, strict=True):
            grouped[label].append((booking_of(asked), one, repeat))
        assert set(frame["label"]) == set(said)
        for row in frame.to_dicts():
            members = grouped[row["label"]]
            counts = Counter(one.outcome for _, one, _ in members)
            assert (row["lookups"], row["hits"]) == (len(members), hits(one for _, one, _ in members))
            assert row["hit_rate"] == pytest.approx(row["hits"] / row["lookups"])
            assert row["stale_hits"] == counts["stale hit"]
            assert {name: row[column] for name, column in columns.items()} == {name: counts[name] for name in columns}
            assert row["retry_hits"] == sum(one.hit for _, one, repeat in members if repeat == "retry")
            rates: dict[str, list[bool]] = {booking: [] for booking, _, _ in members}
            for booking, one, _ in members:
                rates[booking].append(one.hit)
            assert row["bookings"] == len(rates)
            assert row["hit_rate_by_booking"] == pytest.approx(mean(mean(map(int, each)) for each in rates.values()))
            assert row["hit_rate_low"] <= row["hit_rate"] <= row["hit_rate_high"]
    places = [[*LEADS, "unknown"].index(label) for label in frame["label"]] if by == "lead" else frame["label"].to_list()
    assert places == sorted(places)


REPEATS: dict[str, tuple[float, str, str]] = {
    "at once": (0, "Aa", "retry"),
    "exactly a minute": (60, "Aa", "retry"),
    "a microsecond more": (60.000001, "Aa", "re-check"),
    "another request": (1, "Ab", "new request"),
    "another booking": (1, "Ba", "first check"),
}


@pytest.mark.parametrize(("at", "asked", "repeat"), REPEATS.values(), ids=REPEATS)
def test_retries_come_within_a_minute(at: float, asked: str, repeat: str) -> None:
    with closing(looked_up([(0, "Aa", "yes"), (at, asked, "yes")])) as con:
        assert con.table("lookups").order("lookup_no").pl()["repeat"].to_list() == ["first check", repeat]


@settings(max_examples=40, deadline=None)
@given(lookups=LOOKUPS)
def test_ceilings_are_those_of_a_cache_that_knows(lookups: list[Lookup]) -> None:
    """A clairvoyant cache computes anew when its answer no longer holds; a failure it cannot foresee."""
    answers: dict[str, str] = {}
    found = {"lookups": len(lookups), "infinite": 0, "clairvoyant": 0, "failures": 0}
    for _, asked, verdict in sorted(lookups, key=lambda lookup: lookup[0]):
        found["infinite"] += asked in answers
        found["clairvoyant"] += answers.get(asked) == verdict
        found["failures"] += verdict == FAILED
        if verdict != FAILED:
            answers[asked] = verdict
    with closing(looked_up(lookups)) as con:
        [told] = query.rows(con, "measure/ceilings")
    assert {name: told[name] for name in found} == found
    assert told["clairvoyant"] <= told["infinite"] == hits(simulate(lookups))


@settings(max_examples=40, deadline=None)
@given(lookups=LOOKUPS, edges=st.lists(st.integers(0, 40).map(lambda n: n * 6.0 * HOUR), max_size=4, unique=True))
def test_ages_are_those_of_the_hits(lookups: list[Lookup], edges: list[float]) -> None:
    decided = [(one.age_s, one.outcome) for one in simulate(lookups) if one.outcome in ("safe hit", "stale hit")]
    counts = Counter((bisect_left(sorted(edges), age), outcome) for age, outcome in decided if age is not None)
    with closing(looked_up(lookups)) as con:
        rows = measure.ages(con, edges).to_dicts()
    assert [row["up_to_s"] for row in rows] == [*sorted(edges), None]
    assert [(row["safe_hits"], row["stale_hits"]) for row in rows] == [
        (counts[place, "safe hit"], counts[place, "stale hit"]) for place in range(len(rows))
    ]
    assert sum(row["safe_hits"] + row["stale_hits"] for row in rows) == len(decided)


TWICE: list[Lookup] = [(0, "A", "yes"), (5, "A", "yes"), (20, "A", "no"), (21, "A", "no")]
BEST: dict[str, tuple[list[Lookup], float, tuple[str, float, int, int] | None]] = {
    "nothing asked": ([], 0.01, None),
    "nothing twice": ([(0, "A", "yes")], 0.01, None),
    "only wrong answers": ([(0, "A", "yes"), (1, "A", "no")], 0.01, None),
    "the shortest of those with as many hits": ([(0, "A", "yes"), (5, "A", "yes")], 0.01, ("last_write", 5, 1, 0)),
    "more hits, were they right": (TWICE, 0.01, ("last_write", 5, 2, 0)),
    "more hits, some wrong": (TWICE, 0.7, ("last_use", 20, 3, 2)),
    "just within the bound": ([*TWICE[:2], (6, "A", "no")], 0.5, ("last_use", 5, 2, 1)),
    "just outside": ([*TWICE[:2], (6, "A", "no")], 0.499, ("last_write", 5, 1, 0)),
}


@pytest.mark.parametrize(("lookups", "bound", "best"), BEST.values(), ids=BEST)
def test_best_ttl(lookups: list[Lookup], bound: float, best: tuple[str, float, int, int] | None) -> None:
    with closing(looked_up(lookups)) as con:
        found = measure.best_ttl(con, measure.ttl_curve(con, [0, 5, 6, 20, 30]), bound)
    assert (found and (found["policy"], found["ttl_s"], found["hits"], found["stale_hits"])) == best


def test_best_ttl_of_the_sample_counts_bookings(sample: duckdb.DuckDBPyConnection) -> None:
    lookups, points = of_store(sample), measure.ttl_curve(sample, measure.FINE_TTLS_S)
    for bound in (0.01, 0.1, 1.0):
        best = measure.best_ttl(sample, points, bound)
        assert best
        allowed = [row for row in points.to_dicts() if row["hits"] > 0 and row["stale_hits"] <= bound * row["hits"]]
        assert best["hits"] == max(row["hits"] for row in allowed)
        assert best["ttl_s"] == min(row["ttl_s"] for row in allowed if row["hits"] == best["hits"])
        came = simulate(lookups, best["ttl_s"], best["policy"])
        by = [(booking_of(asked), one.outcome) for (_, asked, _), one in zip(lookups, came, strict=True) if one.hit]
        assert best["bookings_hit"] == len({booking for booking, _ in by})
        assert best["bookings_stale"] == len({booking for booking, outcome in by if outcome == "stale hit"})
        assert best["bookings_stale"] / best["bookings_hit"] < best["stale_share_high"] < 1


@pytest.mark.parametrize(("found", "of", "high"), [(0, 10, 0.27753), (1, 10, 0.40415), (10, 10, 1), (5, 1000, 0.011646)])
def test_wilsons_interval(found: int, of: int, high: float) -> None:
    """Published values, as of R's prop.test(correct = FALSE)."""
    assert measure.at_most(found, of) == pytest.approx(high, abs=1e-5)


def test_every_lookup_is_in_the_denominator() -> None:
    lookups: list[Lookup] = [(0, "A", "yes"), (DAY, "A", "yes"), (DAY + 1, "A", "no"), (DAY + 2, "B", "yes")]
    with closing(looked_up(lookups)) as con:
        found = measure.hit_rate_by(con, "day")
    assert [(row["label"], row["lookups"], row["hits"], row["hit_rate"]) for row in found.to_dicts()] == [
        ("2025-11-15", 1, 0, 0),
        ("2025-11-16", 3, 2, 2 / 3),
    ]


@pytest.mark.parametrize("ttl_s", [-1.0, -1e-6, float("nan")])
def test_a_ttl_that_is_no_span_is_refused(ttl_s: float) -> None:
    with closing(looked_up([])) as con, pytest.raises(ForensicsError, match="from 0 up"):
        measure.ttl_curve(con, [60, ttl_s])


def test_an_empty_store_has_figures_of_zero_and_no_rate() -> None:
    with closing(planted()) as con:
        told = measure.cache(con)
        assert (told["lookups"], told["hits"], told["hit_rate"], told["by_day"], told["best_ttl"]) == (0, 0, None, [], None)
        assert set(told["uniqueness"].values()) == {0}
        for curve in (told["ttl_curve"], told["ttl_curve_by_booking"], measure.ttl_by_retention(con).to_dicts()):
            assert {value for row in curve for name, value in row.items() if "hits" in name or name == "lookups"} == {0}
        assert len(measure.ttl_by_retention(con, [60, 900], [1, 7])) == 8
        assert measure.outcomes(con).is_empty()
        assert measure.ages(con, [60]).rows() == [(60, 0, 0), (None, 0, 0)]
        for by in ("day", "restaurant", "hour", "lead", "verdict", "repeat"):
            assert measure.hit_rate_by(con, by).is_empty()


def test_windows_that_cannot_be_read_are_questions_of_their_own() -> None:
    texts = ["at eight", "at nine", "at eight"]
    checks = [replace(story(f"c{n} [0,8) by:A"), checked_at=START + timedelta(minutes=n)).row() for n, _ in enumerate(texts, 1)]
    for check, text in zip(checks, texts, strict=True):
        snapshot = json.loads(check["snapshot_data"])
        snapshot["request"]["window"] = text
        check["snapshot_data"] = json.dumps(snapshot)
    with closing(planted(checks=checks)) as con:
        asked = con.execute("select repeat from lookups order by lookup_no").fetchall()
    assert asked == [("first check",), ("new request",), ("re-check",)]


def test_a_check_that_failed_is_no_refusal_of_a_repeat() -> None:
    checks = [story(f"c{n} [0,8) by:A").row(checked_at=(START + timedelta(minutes=n)).isoformat()) for n in range(3)]
    checks[1] |= {"confirmed": "false", "conflict_details": '{"sqlstate": "40P01"}'}
    for last, refused in (("true", 0), ("false", 1)):
        checks[2]["confirmed"] = last
        with closing(planted(checks=checks)) as con:
            told = measure.uniqueness(con)
        assert (told["asked_after_confirmed"], told["refused_after_confirmed"]) == (2, refused)


def test_nothing_follows_from_nothing_asked_again() -> None:
    with closing(planted(checks=[story("c1 [0,8) by:A").row()])) as con:
        assert not any("idempotent" in line for line in report.cache(measure.cache(con)))
