"""What keeping costs: retention counted over the raw text, and by really deleting; uniqueness, growth, snapshot parts."""

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from story import CHECKED_AT, Asked, planted, story
from test_replay import LATER, OVERLAP

import analysis
from analysis import measure, storage, stores
from analysis.model import ForensicsError

NEVER = datetime.max.replace(tzinfo=UTC)
VARIANTS = {
    "by check": ("check", 1),
    "by check, refusals ×3": ("check", 3),
    "by window end": ("window", 1),
    "by window end, refusals ×3": ("window", 3),
}


class Kept(NamedTuple):
    """A raw check, read by Python alone."""

    key: str
    at: datetime
    asked: str
    booking: str
    verdict: str  # or failed
    refused: bool
    meal: datetime | None
    end: datetime | None
    size: int
    stored: int | None
    explained: bool


def kept(con: duckdb.DuckDBPyConnection) -> list[Kept]:
    """Read the raw checks in the order in which they ran."""
    rows = con.execute(
        "select key, booking_id, confirmed, checked_at, snapshot_data, conflict_details, snapshot_stored_bytes, "
        "conflict_stored_bytes from raw_checks"
    ).fetchall()
    return sorted((_kept(*row) for row in rows), key=lambda one: (one.at, int(one.key)))


def _kept(
    key: str, booking: str, confirmed: str, at: str, snapshot: str | None, conflict: str | None, *stored: str | None
) -> Kept:
    request = json.loads(snapshot)["request"] if snapshot else {}
    asked = request.get("window")
    meal, end = _bounds(asked) if asked else (None, None)
    sized = list(zip((snapshot, conflict), stored, strict=True))
    state = (json.loads(conflict) if conflict else {}).get("sqlstate") or ""
    return Kept(
        key,
        datetime.fromisoformat(at),
        json.dumps([booking, request and sorted(request["table_ids"]), asked]),
        booking,
        "failed" if state[:2] in ("08", "40", "53", "55", "57", "58", "XX") else confirmed,
        confirmed == "false",
        meal,
        # What nothing was asked for is counted from the check, what never ends is never over.
        end or (NEVER if asked else datetime.fromisoformat(at)),
        len((snapshot or "").encode()) + len((conflict or "").encode()),
        None if any(text and not size for text, size in sized) else sum(int(size or 0) for _, size in sized),
        snapshot is not None,
    )


def _bounds(text: str) -> tuple[datetime | None, datetime | None]:
    if text == "empty":
        return None, None
    lower, upper = (bound.strip('"') for bound in text[1:-1].split(","))
    return tuple(None if not b or "infinity" in b else datetime.fromisoformat(b) for b in (lower, upper))  # type: ignore[return-value]


def by_hand(rows: list[Kept], captured_at: datetime, days: int, variant: str) -> dict[str, Any]:
    """Count what a retention frees and loses, check by check."""
    basis, refusals = VARIANTS[variant]
    as_of = max((one.at for one in rows if one.at <= captured_at), default=captured_at)

    def gone(one: Kept, at: datetime) -> bool:
        since = one.at if basis == "check" else one.end
        assert since is not None
        return since < at and at - since > timedelta(days=days * (refusals if one.refused else 1))

    lost = forgotten = 0
    answers: dict[str, list[Kept]] = {}
    for one in rows:
        before = answers.setdefault(one.asked, [])
        lost += bool(before) and all(gone(answer, one.at) for answer in before)
        forgotten += bool(before) and (gone(one, as_of) or all(gone(answer, as_of) for answer in before))
        if one.verdict != "failed":
            before.append(one)
    purged = [one for one in rows if gone(one, as_of)]
    stored = [one.stored for one in rows]
    return {
        "days": days,
        "as_of": as_of,
        "rows_kept": len(rows) - len(purged),
        "rows_freed": len(purged),
        "bytes_kept": sum(one.size for one in rows) - sum(one.size for one in purged),
        "bytes_freed": sum(one.size for one in purged),
        "stored_bytes_freed": None if None in stored else sum(one.stored or 0 for one in purged),
        "hits_lost": lost,
        "hits_forgotten": forgotten,
        "explanations_lost": sum(one.explained for one in purged),
        "refusals_lost": sum(one.explained and one.refused for one in purged),
        "meals": sum(one.meal is not None for one in rows),
        "purged_before_meal": sum(one.meal is not None and gone(one, one.meal) for one in rows),
    }


# A store of edges: the newest check before the capture is E, at CHECKED_AT. What the window is counted from differs from it.
EDGES = {
    "1": ("c [0,8) by:A", timedelta(days=-7)),  # exactly seven days old
    "2": ("c [0,8) by:A", timedelta(days=-7, microseconds=-1)),
    "3": ("c [0,8) by:A refused", timedelta(days=-21)),  # exactly three times as old
    "4": ("c [0,8) by:A refused", timedelta(days=-21, microseconds=-1)),
    "5": ("c [-9999,inf) by:B", timedelta(days=-40)),
    "6": ("c [-9999,) by:B", timedelta(days=-39)),
    "7": ("c (-inf,-9998) by:C", timedelta(days=-38)),
    "8": ("c (,-9998) by:C refused", timedelta(days=-31)),
    "9": ("c empty by:D", timedelta(days=-37)),
    "10": ("c [14000,14100) by:E", timedelta(0)),  # the newest: its meal is ten days ahead
    "11": ("c [0,8) by:A", timedelta(days=3650)),  # by a clock that runs far ahead
    "12": ("c [0,8) by:F refused", timedelta(days=-20)),
    "13": ("c [0,8) by:F", timedelta(days=-9)),
}
FAILURE = {"sqlstate": "40P01", "message": "deadlock detected"}


@pytest.fixture(scope="module")
def edges() -> Any:
    """Yield a store of checks at the boundaries, one of them failed, one without a snapshot."""
    rows = [
        Asked(**{**vars(story(text, name)), "checked_at": CHECKED_AT + after}).row() for name, (text, after) in EDGES.items()
    ]
    rows[11]["conflict_details"] = json.dumps(FAILURE)
    bare = Asked("14", "[0,8)", checked_at=CHECKED_AT - timedelta(days=30)).row(snapshot_data=None)
    with closing(planted(checks=[*rows, bare])) as con:
        yield con


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("store", ["evidence", "sample", "edges"])
def test_retention_is_what_counting_the_raw_text_gives(store: str, variant: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    rows = kept(con)
    assert len(rows) == con.table("checks").shape[0] == len({one.key for one in rows})
    [(captured_at,)] = con.execute("select epoch_us(captured_at) from captures").fetchall()
    captured = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=captured_at)
    for days in (0, 1, 7, 10, 30, 1000):
        figures = storage.retention(con, days)
        told = {row.pop("variant"): row for row in figures.pop("variants")}
        assert told[variant] == by_hand(rows, captured, days, variant), days
        assert figures == told["by check"]


def test_the_edges_are_kept(edges: duckdb.DuckDBPyConnection) -> None:
    """Exactly as many days old is kept; a clock that runs ahead is no today; a window without an end is never over."""
    week = {row["variant"]: row for row in storage.retention_variants(edges, 7).to_dicts()}
    assert {row["as_of"] for row in week.values()} == {CHECKED_AT}
    gone = {"by check": 11, "by check, refusals ×3": 9, "by window end": 1, "by window end, refusals ×3": 1}
    assert {name: row["rows_freed"] for name, row in week.items()} == gone


@pytest.mark.parametrize("store", ["evidence", "sample", "edges"])
def test_a_longer_retention_keeps_more_and_loses_less(store: str, request: pytest.FixtureRequest) -> None:
    by_days = storage.retention_by_days(request.getfixturevalue(store))
    assert by_days["days"].to_list() == list(range(len(by_days)))
    assert all(by_days[column].is_sorted() for column in ("rows_kept", "bytes_kept"))
    losses = ("rows_freed", "bytes_freed", "hits_lost", "hits_forgotten", "explanations_lost", "refusals_lost")
    assert all(by_days[column].is_sorted(descending=True) for column in (*losses, "purged_before_meal"))
    assert by_days["rows_freed"][0] > by_days["rows_freed"][-1] == 0


def test_a_clock_that_runs_ahead_makes_no_retention_longer(edges: duckdb.DuckDBPyConnection) -> None:
    """The oldest check is 40 days older than the newest that ran before the capture; another ran ten years later."""
    assert len(storage.retention_by_days(edges)) == 42


# Really deleting.


def without(con: duckdb.DuckDBPyConnection, keys: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """Copy what was captured into a new store, all but some checks, and derive it anew."""
    copy = duckdb.connect()
    copy.execute("set TimeZone = 'UTC'")
    held = {name for (name,) in con.execute("select table_name from information_schema.tables").fetchall()}
    for name in held & {*(f"raw_{relation}" for relation in stores.RELATIONS), *stores.MANIFEST}:
        copy.register("rows", con.table(name).to_arrow_table())
        copy.execute(f"create table {name} as from rows")
        copy.unregister("rows")
    copy.execute("delete from raw_checks where key in (select unnest($keys))", {"keys": sorted(keys)})
    analysis.derive(copy)
    return copy


def gone_now(con: duckdb.DuckDBPyConnection, days: int, variant: str) -> set[str]:
    basis, refusals = VARIANTS[variant]
    rows = kept(con)
    [(us,)] = con.execute("select epoch_us(max(captured_at)) from captures").fetchall()
    as_of = max(one.at for one in rows if one.at.timestamp() * 1e6 <= us)
    since = {one.key: (one.at if basis == "check" else one.end or NEVER) for one in rows}
    times = {one.key: refusals if one.refused else 1 for one in rows}
    return {key for key in since if since[key] < as_of and as_of - since[key] > timedelta(days=days * times[key])}


def explained(con: duckdb.DuckDBPyConnection) -> dict[str, tuple[Any, ...]]:
    rows = con.execute("select check_id, replayed_verdict, cause, unknown_because, grade, rivals from verdicts").fetchall()
    return {check_id: tuple(rest) for check_id, *rest in rows}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("store", "days"), [("sample", 7), ("sample", 30), ("evidence", 14)])
def test_what_is_predicted_is_what_deleting_does(store: str, days: int, variant: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    told = {row["variant"]: row for row in storage.retention_variants(con, days).to_dicts()}[variant]
    before, of_refusals = explained(con), refused(con)
    with closing(without(con, gone_now(con, days, variant))) as copy:
        after = explained(copy)
        [(rows, size)] = copy.execute("select count(*), sum(snapshot_bytes + conflict_bytes)::bigint from checks").fetchall()
        assert (rows, size) == (told["rows_kept"], told["bytes_kept"])
        assert measure.cache(copy)["hits"] == measure.cache(con)["hits"] - told["hits_forgotten"]
        assert storage.growth(copy)["checks"].sum() == told["rows_kept"]
        assert 0 < rows < len(before)
    for refusals_only, lost in ((False, told["explanations_lost"]), (True, told["refusals_lost"])):
        counts = [
            sum(verdict[3] != "none" and (not refusals_only or key in of_refusals) for key, verdict in verdicts.items())
            for verdicts in (before, after)
        ]
        assert counts[0] - counts[1] == lost
    assert {key: verdict for key, verdict in before.items() if key in after} == after


def refused(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {key for (key,) in con.execute("select key from raw_checks where confirmed = 'false'").fetchall()}


# c1 was refused over a key that its own snapshot does not hold. What the kit says of it may rest on the snapshots of others:
# what is asked, what goes with the retention, the cause before, the cause after.
SEEN_LATER = replace(story("c2 [20,21)", "2"), held=(LATER,), checked_at=CHECKED_AT + timedelta(minutes=5))
SEEN_BEFORE = replace(
    story("c0 [20,21)", "2"),
    held=(replace(LATER, updated_at="2025-11-20 11:50:00+00"),),
    checked_at=CHECKED_AT - timedelta(minutes=5),
)
RESTS: dict[str, tuple[Asked, dict[str, Any], str, str, str]] = {
    "the rival is known from a confirmation that goes first": (
        SEEN_LATER,
        {},
        "by check, refusals ×3",
        "rival_committed_meanwhile",
        "rival_not_in_evidence",
    ),
    "that it was no news is known from an older check": (
        SEEN_BEFORE,
        {"allocations": [SEEN_BEFORE.held[0].row()]},
        "by check",
        "rival_not_in_evidence",
        "rival_committed_meanwhile",
    ),
}


@pytest.mark.parametrize(("other", "raw", "variant", "before", "after"), RESTS.values(), ids=RESTS)
def test_a_kept_check_may_rest_on_a_purged_one(
    other: Asked, raw: dict[str, Any], variant: str, before: str, after: str
) -> None:
    """No store of the lab has such a check; explanations_lost does not count it."""
    refusal = replace(story("c1 [5,8) refused", "1"), conflict=OVERLAP)
    newest = replace(story("c9 [30,31)", "9"), checked_at=other.checked_at + timedelta(days=7, seconds=1))
    with closing(planted(checks=[one.row() for one in (refusal, other, newest)], **raw)) as con:
        assert gone_now(con, 7, variant) == {"2"}
        [row] = storage.retention_variants(con, 7).filter(variant=variant).to_dicts()
        assert (row["rows_freed"], row["explanations_lost"], row["refusals_lost"]) == (1, 1, 0)
        assert explained(con)["1"][1] == before
        with closing(without(con, {"2"})) as copy:
            assert explained(copy)["1"][1] == after


# Uniqueness, growth, and what bytes consist of.


@pytest.mark.parametrize("store", ["evidence", "sample", "edges"])
def test_uniqueness_is_counted_by_hand(store: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    rows = kept(con)
    bookings = [list(group) for _, group in groupby(sorted(rows, key=lambda one: one.booking), key=lambda one: one.booking)]
    overwritten = [(one, group[-1]) for group in bookings for one in group[:-1]]
    # The last verdict on a question before it is asked again: what failed came to none.
    again = []
    for _, group in groupby(sorted(rows, key=lambda one: one.asked), key=lambda one: one.asked):
        before = "failed"
        for one in group:
            if before == "true":
                again.append(one)
            before = before if one.verdict == "failed" else one.verdict
    assert measure.uniqueness(con) == {
        "bookings": len(bookings),
        "bookings_with_several": sum(len(group) > 1 for group in bookings),
        "bookings_with_several_requests": sum(len({one.asked for one in group}) > 1 for group in bookings),
        "bookings_disagreeing": sum(len({one.verdict for one in group} - {"failed"}) > 1 for group in bookings),
        "bookings_confirmed_again": sum(sum(one.verdict == "true" for one in group) > 1 for group in bookings),
        "rows_overwritten": len(overwritten),
        "verdicts_overwritten": sum(
            one.verdict != last.verdict and "failed" not in (one.verdict, last.verdict) for one, last in overwritten
        ),
        "refusals_overwritten": sum(one.verdict == "false" for one, _ in overwritten),
        "snapshots_overwritten": sum(one.explained for one, _ in overwritten),
        "explanations_overwritten": sum(one.explained for one, _ in overwritten),
        "bytes_overwritten": sum(one.size for one, _ in overwritten),
        "asked_after_confirmed": len(again),
        "refused_after_confirmed": sum(one.verdict == "false" for one in again),
    }


@pytest.mark.parametrize("store", ["evidence", "sample", "edges"])
def test_growth_counts_every_check(store: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    rows = kept(con)
    for by in ("day", "restaurant"):
        frame = storage.growth(con, by)
        assert frame["checks"].sum() == len(rows)
        assert sum(map(sum, frame.select("snapshot_bytes", "conflict_bytes").rows())) == sum(one.size for one in rows)
        for row in frame.to_dicts():
            assert row["bytes_a_check"] * row["checks"] == pytest.approx(row["snapshot_bytes"] + row["conflict_bytes"])
    by_day = {row["label"]: row["checks"] for row in storage.growth(con).to_dicts()}
    assert by_day == dict(Counter(f"{one.at:%Y-%m-%d}" for one in rows))


def grown(*sizes: int, first: str = "2025-11-01") -> pl.DataFrame:
    """Make a frame of days that grew so; a day of nothing is no row."""
    day = datetime.fromisoformat(first)
    rows = [(f"{day + timedelta(days=n):%Y-%m-%d}", size, 0) for n, size in enumerate(sizes) if size]
    return pl.DataFrame(rows, schema={"label": pl.String, "snapshot_bytes": pl.Int64, "conflict_bytes": pl.Int64}, orient="row")


OUTLOOKS: dict[str, tuple[tuple[int, ...], tuple[int, float | None, float | None, float | None, int | None]]] = {
    "nothing": ((), (0, None, None, None, None)),
    "one day": ((5,), (0, None, None, None, None)),
    "first and last day only": ((5, 5), (0, None, None, None, None)),
    "one whole day": ((5, 7, 9), (1, 7, None, None, 70)),
    "a day without checks": ((5, 8, 0, 7), (2, 4, None, None, 40)),
    "one week": ((1, *[7] * 7, 1), (7, 7, 7, 7, 70)),
    "a quiet week and a busy one": ((1, *[7] * 7, *[14] * 7, 1), (14, 10.5, 7, 14, 105)),
}


@pytest.mark.parametrize(("sizes", "outlook"), OUTLOOKS.values(), ids=OUTLOOKS)
def test_outlook(sizes: tuple[int, ...], outlook: tuple[int, float | None, float | None, float | None, int | None]) -> None:
    told = storage.outlook(grown(*sizes), days=10)
    assert (told["whole_days"], told["bytes_a_day"], told["low"], told["high"], told["bytes"]) == outlook
    ends = [told["bytes_low"], told["bytes_high"]]
    assert ends == [None if end is None else 10 * end for end in outlook[2:4]]


@pytest.mark.parametrize("store", ["evidence", "sample", "edges"])
def test_snapshot_parts_are_all_there_is(store: str, request: pytest.FixtureRequest) -> None:
    con = request.getfixturevalue(store)
    parts = storage.snapshot_parts(con)
    assert parts["bytes"].sum() == storage.growth(con)["snapshot_bytes"].sum()
    assert parts["part"].is_unique().all()
    by_part = {row["part"]: row for row in parts.to_dicts()}
    assert {"version", "rule", "request", "scope", "allocations", "capacities"} - {"rule"} <= by_part.keys()
    for name, row in by_part.items():
        assert row["bytes_if_shared"] <= row["bytes"] if name == "allocations" else row["bytes_if_shared"] == row["bytes"]


def test_snapshots_that_cannot_be_read_are_parts_too() -> None:
    broken = [story("c1 [0,8)").row(), *(story(f"c{n} [0,8)").row(snapshot_data=text) for n, text in ((2, '{"a'), (3, "null")))]
    with closing(planted(checks=broken)) as con:
        assert storage.snapshot_parts(con)["bytes"].sum() == storage.growth(con)["snapshot_bytes"].sum() > 0


def test_one_entry_that_two_checks_list_is_stored_once() -> None:
    """In place of each list: what is listed once, and eight bytes for each place where it stands."""
    lists = [story(f"a1 [0,10) firm · c{n} [{n},20) by:B{n}", str(n)) for n in (1, 2)]
    size = len(json.dumps(lists[0].held[0].item(), separators=(",", ":")))
    with closing(planted(checks=[one.row() for one in lists])) as con:
        [row] = storage.snapshot_parts(con).filter(part="allocations").to_dicts()
    assert (row["bytes"], row["bytes_if_shared"]) == (2 * (size + 2), size + 2 * 8)


def test_two_restaurants_of_one_name_are_told_apart() -> None:
    checks = [story(f"c{n} [0,9) by:B{n}").row() for n in range(3)]
    for n, check in enumerate(checks):
        check["snapshot_data"] = check["snapshot_data"].replace('"R"', f'"R{n}"')
    places = [{"key": f"R{n}", "name": "The Anchor" if n else "The Bell", "timezone": "UTC"} for n in range(3)]
    with closing(planted(checks=checks, restaurants=places)) as con:
        labels = ["The Anchor R1", "The Anchor R2", "The Bell"]
        assert storage.growth(con, "restaurant")["label"].to_list() == labels
        assert measure.hit_rate_by(con, "restaurant")["label"].to_list() == labels


def lost(*before_meal: int, rows: int = 1000) -> pl.DataFrame:
    """Make rows of retention_by_days that lose so many before the meal."""
    return pl.DataFrame(
        {"days": range(len(before_meal)), "purged_before_meal": before_meal, "meals": rows},
        schema_overrides={"days": pl.Int64, "purged_before_meal": pl.Int64},
    )


KNEES = {
    "nothing": ((), None),
    "two points": ((9, 0), None),
    "flat": ((5, 5, 5), None),
    "straight": (tuple(range(100, -1, -10)), None),
    "nearly straight": ((100, 85, 75, 50, 25, 0), None),
    "an elbow": ((100, 50, 10, 8, 6, 4, 2, 0), 2),
    "all at once": ((100, 0, 0, 0), 1),
    "bulging upwards": ((100, 99, 98, 95, 50, 0), None),
}


@pytest.mark.parametrize(("losses", "knee"), KNEES.values(), ids=KNEES)
def test_knee(losses: tuple[int, ...], knee: int | None) -> None:
    assert storage.knee(lost(*losses)) == knee


BEST: dict[str, tuple[tuple[int, ...], tuple[int, float] | None]] = {
    "nothing": ((), None),
    "none keeps so much": ((900, 500, 11), None),
    "exactly the bound": ((900, 11, 10, 0), (2, 0.01)),
    "the shortest": ((0, 0), (0, 0.0)),
}


@pytest.mark.parametrize(("losses", "best"), BEST.values(), ids=BEST)
def test_best_retention(losses: tuple[int, ...], best: tuple[int, float] | None) -> None:
    assert storage.best_retention(lost(*losses, rows=0)) is None
    found = storage.best_retention(lost(*losses))
    assert (found and (found["days"], found["purged_share"])) == best
    if found:
        assert found["purged_share"] < found["purged_share_high"] < 0.02


@pytest.mark.parametrize("days", [-1, 100_001, 10**12])
def test_a_retention_that_is_no_span_is_refused(evidence: duckdb.DuckDBPyConnection, days: int) -> None:
    with pytest.raises(ForensicsError, match="from 0 to 100000"):
        storage.retention(evidence, days)


def test_an_empty_store_keeps_nothing() -> None:
    with closing(planted()) as con:
        told = storage.retention(con, 30)
        assert (told.pop("days"), told.pop("as_of"), told.pop("variants")) == (30, None, [])
        assert set(told.values()) == {0}
        by_days, by_day = storage.retention_by_days(con), storage.growth(con)
        assert by_days.is_empty()
        assert (storage.best_retention(by_days), storage.knee(by_days)) == (None, None)
        assert by_day.is_empty()
        assert storage.growth(con, "restaurant").is_empty()
        assert storage.outlook(by_day)["bytes"] is None
        assert storage.snapshot_parts(con).is_empty()
        assert set(measure.uniqueness(con).values()) == {0}
