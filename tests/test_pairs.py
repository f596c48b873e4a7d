"""All pairs under one exclusion rule: what sorting, hashing and rounding find is what comparing every row with every row finds.

Windows are told in minutes (see story.py) and planted as versions of allocations.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from story import DAY, window
from test_replay import WINDOWS

from analysis import constraint, query

COLUMNS = ("restaurant_id", "resource_type", "resource_id", "booking_id", "shadow", "is_maintenance")
V12 = ("restaurant_id", "resource_type", "resource_id")


@dataclass(frozen=True)
class Version:
    """One state of an allocation: its window in minutes, and the days from which until which it certainly stood."""

    allocation_id: str
    window: str | None
    stood: tuple[int | None, int] = (0, 9)
    restaurant_id: str | None = "R"
    resource_type: str | None = "table"
    resource_id: str | None = "T"
    booking_id: str | None = "B"
    shadow: bool | None = False
    is_maintenance: bool | None = False

    def row(self) -> dict[str, Any]:
        since, until = (None if day is None else datetime(2025, 11, 1, tzinfo=UTC) + timedelta(days=day) for day in self.stood)
        lower, upper = (place if place is None else str(place) for place in places(self.window))
        text = None if self.window is None else window(self.window)
        told = {"window": text, "lower_pos": lower, "upper_pos": upper, "updated_at": since, "last_seen_at": until}
        return {**vars(self), **told}


def places(text: str | None) -> tuple[int | None, int | None]:
    """Put the bounds of a window on the line of sql/decode/windows.sql: four places a microsecond, none for an empty one."""
    if text is None or text == "empty":
        return None, None
    lower, upper = text[1:-1].split(",")
    far = {"-inf": -(10**29), "inf": 10**29}
    low, high = (
        none if not bound else far[bound] if bound in far else round((DAY.timestamp() + float(bound) * 60) * 1_000_000) * 4
        for bound, none in ((lower, -(10**30)), (upper, 10**30))
    )
    low_in, high_in = text[0] == "[" and lower != "", text[-1] == "]" and upper != ""
    if low == high and not (low_in and high_in):
        return None, None
    return low + (not low_in), high - (not high_in)


def stored(versions: Iterable[Version]) -> duckdb.DuckDBPyConnection:
    """Make a store in memory that holds the versions and nothing else."""
    schema: dict[str, Any] = dict.fromkeys(("allocation_id", *COLUMNS, "window", "lower_pos", "upper_pos"), pl.String)
    schema |= dict.fromkeys(("shadow", "is_maintenance"), pl.Boolean)
    schema |= dict.fromkeys(("updated_at", "last_seen_at"), pl.Datetime("us", "UTC"))
    con = duckdb.connect()
    con.register("planted", pl.DataFrame([version.row() for version in versions], schema=schema))
    con.execute("""
        create table allocation_versions as
        select * replace (lower_pos::hugeint as lower_pos, upper_pos::hugeint as upper_pos)
        from planted
    """)
    con.unregister("planted")
    return con


def pairs(con: duckdb.DuckDBPyConnection, equality: Iterable[str] = V12, *, firm_only: bool = True) -> list[tuple[str, str]]:
    """Ask for the pairs under a rule, each of which is to be told once and in order."""
    found = query.frame(con, "replay/pairs", equality=list(equality), firm_only=firm_only)
    told = found.select("allocation_id", "other_allocation_id").rows()
    assert told == sorted(set(told))
    return told


def by_hand(versions: Iterable[Version], equality: Iterable[str], firm_only: bool) -> list[tuple[str, str]]:
    """Compare every version with every other, as the definition of the rule says."""

    def forbidden(a: Version, b: Version) -> bool:
        (lower, upper), (other_lower, other_upper) = places(a.window), places(b.window)
        if lower is None or upper is None or other_lower is None or other_upper is None:
            return False
        same = all(None is not getattr(a, column) == getattr(b, column) for column in equality)
        counts = not firm_only or a.shadow is b.shadow is False
        overlap = lower <= other_upper and other_lower <= upper
        return same and counts and overlap and a.allocation_id != b.allocation_id and together(a, b)

    names = [sorted((a.allocation_id, b.allocation_id)) for a, b in combinations(versions, 2) if forbidden(a, b)]
    return sorted({(name, other) for name, other in names})


def together(a: Version, b: Version) -> bool:
    """Say whether two versions certainly stood at once: one that was never dated did so at no time."""
    (a_since, a_until), (b_since, b_until) = a.stood, b.stood
    return None not in (a_since, b_since) and max(a_since or 0, b_since or 0) < min(a_until, b_until)


A, B = Version("a", "[0,10)"), Version("b", "[5,8)")
# What the other allocation is like → whether the two are a pair under v12.
OTHERS = {
    "overlapping": (B, True),
    "touching": (replace(B, window="[10,12)"), False),
    "touching, inclusive": (replace(B, window="(-5,0]"), True),
    "apart by a microsecond within one second": (replace(B, window="[10.0000000166666667,12)"), False),
    "a point": (replace(B, window="[5,5]"), True),
    "empty": (replace(B, window="empty"), False),
    "[5,5) is empty": (replace(B, window="[5,5)"), False),
    "no window": (replace(B, window=None), False),
    "unbounded": (replace(B, window="(,)"), True),
    "until infinity": (replace(B, window="[5,inf)"), True),
    "from infinity": (replace(B, window="[inf,)"), False),
    "until before 1970": (replace(B, window="(,-100000000)"), False),
    "from after 2106": (replace(B, window="[100000000,)"), False),
    "from before 1970": (replace(B, window="[-100000000,1)"), True),
    "a hold": (replace(B, shadow=True), False),
    "perhaps a hold": (replace(B, shadow=None), False),
    "another table": (replace(B, resource_id="U"), False),
    "no table": (replace(B, resource_id=None), False),
    "gone before": (replace(A, allocation_id="b", stood=(-2, -1)), False),
    "seen last as the other began": (replace(B, stood=(-2, 0)), False),
    "of no known beginning": (replace(B, stood=(None, 9)), False),
    "itself, changed": (replace(A, window="[5,8)"), False),
}


def test_an_overlap_within_one_second() -> None:
    ends, begins = replace(A, window="[0,10.015)"), replace(B, window="[10.01,12)")
    with closing(stored([ends, begins])) as con:
        assert pairs(con) == [("a", "b")]


@pytest.mark.parametrize(("other", "pair"), OTHERS.values(), ids=OTHERS)
def test_pair(other: Version, pair: bool) -> None:
    assert by_hand([A, other], V12, firm_only=True) == [("a", "b")] * pair
    for versions in ([A, other], [other, A]):
        with stored(versions) as con:
            assert pairs(con) == [("a", "b")] * pair


def test_columns() -> None:
    with stored([replace(B, restaurant_id="S", resource_type="hold", booking_id="C", shadow=True), A]) as con:
        [row] = query.rows(con, "replay/pairs", equality=["resource_id"], firm_only=False)
    one = {"allocation_id": "a", "booking_id": "B", "restaurant_id": "R", "window": window("[0,10)"), "shadow": False}
    other = {"allocation_id": "b", "booking_id": "C", "restaurant_id": "S", "window": window("[5,8)"), "shadow": True}
    both = {"resource_type": None, "resource_id": "T"}
    assert row == one | {f"other_{column}": value for column, value in other.items()} | both


def test_of_several_versions_those_seen_latest_are_told() -> None:
    versions = [replace(A, stood=(0, 3)), replace(A, window="[0,9)", stood=(4, 9)), replace(B, stood=(0, 9))]
    with stored([*versions, replace(B, window="[6,8)", stood=(0, 8))]) as con:
        [row] = query.rows(con, "replay/pairs", equality=list(V12), firm_only=True)
    assert (row["window"], row["other_window"]) == (window("[0,9)"), window("[5,8)"))


# Windows of a minute, of infinity, and many within one second or far from any time that seconds are counted in.
MOMENTS = st.integers(0, 5).map(lambda i: f"[{i / 60_000:.9f},{(i + 1) / 60_000:.9f})")
FAR = st.sampled_from(["[-99999999,-99999998)", "[-99999998.5,5)", "[99999999,)", "[5,99999999]", "(99999998,99999999.5]"])
VERSIONS = st.builds(
    Version,
    allocation_id=st.integers(0, 30).map("a{:02}".format),
    window=st.one_of(st.none(), *[WINDOWS] * 5, MOMENTS, MOMENTS, FAR),
    stood=st.tuples(st.sampled_from([None, 0, 0, 2]), st.sampled_from([1, 3, 3])),
    restaurant_id=st.sampled_from(["R", "R", "S", None]),
    resource_type=st.sampled_from(["table", "table", "hold", None]),
    resource_id=st.sampled_from(["T", "U", "V", None]),
    booking_id=st.sampled_from(["B", "C", None]),
    shadow=st.sampled_from([False, False, True, None]),
    is_maintenance=st.sampled_from([False, True, None]),
)
ASKED = [
    *((rule.equality, rule.firm_only) for rule in constraint.RULES.values()),
    *[((), False), ((), True), (("booking_id", "shadow"), False), (("is_maintenance", "resource_id"), True), (COLUMNS, False)],
]


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.lists(VERSIONS, min_size=30, max_size=60))
def test_pairs_are_those_found_by_hand(versions: list[Version]) -> None:
    with stored(versions) as con:
        for equality, firm_only in ASKED:
            assert pairs(con, equality, firm_only=firm_only) == by_hand(versions, equality, firm_only)


@pytest.mark.parametrize("order", ["r, lower_pos", "hash(i)"])
def test_many_rows_in_any_order(order: str) -> None:
    """Enough rows that threads share them; one in a hundred is late, one in a thousand takes a day."""
    with duckdb.connect() as con:
        con.execute(f"""
            create table allocation_versions as
            select
                i::varchar as allocation_id, 'B' as booking_id, (r // 100)::varchar as restaurant_id,
                'table' as resource_type, r::varchar as resource_id, '' as "window",
                1763661600000000::hugeint * 4 + 28800000000 * (i // 3000) + if(i % 100 = 7, 14400000000, 0) as lower_pos,
                lower_pos + if(i % 1000 = 3, 345600000000, 28800000000) - 1 as upper_pos,
                false as shadow, false as is_maintenance, now() - interval 1 day as updated_at, now() as last_seen_at
            from (select i, i % 3000 as r from range(300_000) as t(i))
            order by {order}
        """)
        plain = con.execute("""
            select a.allocation_id, b.allocation_id
            from allocation_versions as a
            inner join allocation_versions as b using (restaurant_id, resource_type, resource_id)
            where a.lower_pos <= b.upper_pos and b.lower_pos <= a.upper_pos and a.allocation_id < b.allocation_id
        """).fetchall()
        assert len(plain) > 3_000
        assert pairs(con) == sorted(plain)
