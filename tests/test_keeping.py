"""What keeping costs: retention by brute force over the raw text, and by really deleting; uniqueness, growth, snapshot parts."""

import json
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pytest
from story import CAPTURED_AT, CHECKED_AT, DAY, Asked, planted, story, window

import analysis
from analysis import capture, measure
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
    explained: bool


def kept(con: duckdb.DuckDBPyConnection) -> list[Kept]:
    """Read the raw checks in the order in which they ran."""
    rows = con.execute("select key, booking_id, confirmed, checked_at, snapshot_data, conflict_details from raw_checks").fetchall()
    return sorted((_kept(*row) for row in rows), key=lambda one: (one.at, int(one.key)))


def _kept(key: str, booking: str, confirmed: str, at: str, snapshot: str | None, conflict: str | None) -> Kept:
    request = json.loads(snapshot)["request"] if snapshot else {}
    asked = request.get("window")
    meal, end = _bounds(asked) if asked else (None, None)
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
    return {
        "days": days,
        "as_of": as_of,
        "rows_kept": len(rows) - len(purged),
        "rows_freed": len(purged),
        "bytes_kept": sum(one.size for one in rows) - sum(one.size for one in purged),
        "bytes_freed": sum(one.size for one in purged),
        "hits_lost": lost,
        "hits_forgotten": forgotten,
        "explanations_lost": sum(one.explained for one in purged),
        "refusals_lost": sum(one.explained and one.refused for one in purged),
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
        figures = measure.retention(con, days)
        told = {row.pop("variant"): row for row in figures.pop("variants")}
        assert told[variant] == by_hand(rows, captured, days, variant), days
        assert figures == told["by check"]


def test_the_edges_are_kept(edges: duckdb.DuckDBPyConnection) -> None:
    """Exactly as many days old is kept; a clock that runs ahead is no today; a window without an end is never over."""
    week = {row["variant"]: row for row in measure.retention_variants(edges, 7).to_dicts()}
    assert {row["as_of"] for row in week.values()} == {CHECKED_AT}
    gone = {"by check": 11, "by check, refusals ×3": 9, "by window end": 1, "by window end, refusals ×3": 1}
    assert {name: row["rows_freed"] for name, row in week.items()} == gone
