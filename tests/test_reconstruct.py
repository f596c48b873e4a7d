"""Who held what at an instant, and how sure that is."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import psycopg
import pytest
from story import CAPTURED_AT, planted, story

from analysis import history, reconstruct
from analysis.model import NotFoundError

R = {"key": "R", "name": "The Anchor", "timezone": "Europe/London"}
A1 = story("a1 [0,10) firm by:B · c1 [0,1)").held[0]
CHANGED, CAPTURED = datetime(2025, 11, 19, 12, tzinfo=UTC), datetime.fromisoformat(CAPTURED_AT)
SECOND = timedelta(seconds=1)
TWO_CAPTURES = [CAPTURED_AT, "2025-12-05 00:00:00+00"]


def held(con: duckdb.DuckDBPyConnection, at: datetime, restaurant: str = "R") -> list[tuple[str, str]]:
    """Return what was held, as allocation and presence."""
    allocations = reconstruct.state(con, restaurant, at)["allocations"]
    return [(row["allocation_id"], row["presence"]) for row in allocations]


class TestSeenAgain:
    """A capture that finds a row as it was adds no version, and has seen it all the same."""

    LOOKED = (
        {
            "capture_id": 2,
            "relation": "allocations",
            "rows_read": "1",
            "rows_new": "1",
            "rows_changed": "0",
            "rows_vanished": "0",
        },
    )
    AGAIN = datetime.fromisoformat(TWO_CAPTURES[1])

    def last_seen(self, **more: Any) -> list[datetime]:
        con = planted(restaurants=[R], captures=TWO_CAPTURES, **{"allocations": [A1.row()], **more})
        seen: list[datetime] = con.table("allocation_versions").order("updated_at").pl()["last_seen_at"].to_list()
        return seen

    def test_by_the_last_capture_that_looked(self) -> None:
        assert self.last_seen(read=self.LOOKED) == [self.AGAIN]
        assert self.last_seen() == [CAPTURED]
        assert self.last_seen(read=[{**self.LOOKED[0], "rows_read": None}]) == [CAPTURED]
        # Nothing is derived where nothing was found.
        assert self.last_seen(read=[{**self.LOOKED[0], "rows_new": "0"}]) == [CAPTURED]

    def test_until_it_was_changed_or_gone(self) -> None:
        changed = A1.row(capture_id=2, updated_at="2025-12-03 00:00:00+00")
        assert self.last_seen(read=self.LOOKED, allocations=[A1.row(), changed]) == [CAPTURED, self.AGAIN]
        gone = {"capture_id": 2, "relation": "allocations", "key": "a1"}
        assert self.last_seen(read=self.LOOKED, vanished=[gone]) == [CAPTURED]

    def test_an_archived_row_was_seen_when_it_was_moved(self) -> None:
        moved = A1.row(archived_at="2025-11-30 00:00:00+00")
        assert self.last_seen(read=self.LOOKED, allocations=[], allocations_archive=[moved]) == [
            datetime(2025, 11, 30, tzinfo=UTC)
        ]


def test_a_restaurant_is_known_by_its_allocations() -> None:
    assert held(planted(allocations=[A1.row()]), CHANGED) == [("a1", "certain")]


class TestOneVersion:
    """Allocation a1, changed on the 19th and seen by a capture on the 1st."""

    @pytest.fixture(scope="module")
    @classmethod
    def con(cls) -> duckdb.DuckDBPyConnection:
        return planted(restaurants=[R, {**R, "key": "S"}], allocations=[A1.row(), A1.row(key="b1", restaurant_id="S")])

    @pytest.mark.parametrize(
        ("at", "presence"),
        [
            (CHANGED - SECOND, None),
            (CHANGED, "certain"),
            (CAPTURED, "certain"),
            (CAPTURED + SECOND, "possible"),
        ],
        ids=["before its last change", "at its last change", "when last seen", "later"],
    )
    def test_presence(self, at: datetime, presence: str | None, con: duckdb.DuckDBPyConnection) -> None:
        assert held(con, at) == ([("a1", presence)] if presence else [])

    def test_grade(self, con: duckdb.DuckDBPyConnection) -> None:
        assert [
            reconstruct.state(con, "R", at)["grade"] for at in (CHANGED - SECOND, CHANGED, CAPTURED, CAPTURED + SECOND)
        ] == ["none", "partial", "partial", "none"]

    def test_row(self, con: duckdb.DuckDBPyConnection) -> None:
        [row] = reconstruct.state(con, "R", CHANGED)["allocations"]
        assert row == {
            "allocation_id": "a1",
            "booking_id": "B",
            "resource_type": "table",
            "resource_id": "T",
            "window": '["2025-11-20 18:00:00+00","2025-11-20 18:10:00+00")',
            "shadow": False,
            "presence": "certain",
            "since": CHANGED,
            "until": None,
            "source": "allocations",
        }

    def test_restaurants_are_kept_apart(self, con: duckdb.DuckDBPyConnection) -> None:
        assert held(con, CHANGED, "S") == [("b1", "certain")]

    def test_any_time_zone_will_do(self, con: duckdb.DuckDBPyConnection) -> None:
        tokyo = CHANGED.astimezone(timezone(timedelta(hours=9)))
        assert reconstruct.state(con, "R", tokyo) == reconstruct.state(con, "R", CHANGED)

    def test_unknown_restaurant(self, con: duckdb.DuckDBPyConnection) -> None:
        with pytest.raises(NotFoundError, match="no restaurant Q"):
            reconstruct.state(con, "Q", CHANGED)


class TestSeveralVersions:
    def test_from_a_snapshot_to_the_next_change(self) -> None:
        """Seen by a check at noon on the 20th, moved on the 25th, captured on the 1st."""
        moved = replace(A1, window="[20,30)", updated_at="2025-11-25 00:00:00+00")
        con = planted(restaurants=[R], checks=[story("a1 [0,10) firm by:B · c1 [0,1)").row()], allocations=[moved.row()])
        noon, move = datetime(2025, 11, 20, 12, tzinfo=UTC), datetime(2025, 11, 25, tzinfo=UTC)
        found = [held(con, at) for at in (noon, noon + SECOND, move - SECOND, move)]
        assert found == [[("a1", "certain")], [("a1", "possible")], [("a1", "possible")], [("a1", "certain")]]
        [before], [after] = (reconstruct.state(con, "R", at)["allocations"] for at in (noon, move))
        assert (before["until"], after["since"]) == (move, move)
        assert before["window"] < after["window"]

    def test_seen_in_two_ways_is_one_version(self) -> None:
        con = planted(checks=[story("a1 [0,10) firm by:B · c1 [0,1)").row()], allocations=[A1.row()])
        [version] = con.table("allocation_versions").pl().to_dicts()
        assert (version["sources"], version["last_seen_at"]) == (["allocations", "snapshot"], CAPTURED)

    @pytest.mark.parametrize(
        ("later", "until"),
        [
            ("c2 [0,1)", "12:30"),
            ("c2 [0,1) scope:[0,10)", "12:30"),
            ("c2 [0,1) scope:[0,9)", None),
            ("c2 [0,1) scope:null", None),
            ("c2 [0,1) at:S", None),
            ("a1 [0,10) firm by:B · c2 [0,1)", None),
            ("a9 soon · c2 [0,1)", None),
        ],
        ids=["all", "just covered", "beyond its scope", "no scope", "elsewhere", "there", "not read whole"],
    )
    def test_a_snapshot_that_covers_it_and_is_without_it(self, later: str, until: str | None) -> None:
        checks = [replace(story(text), checked_at=self.NOON + n * self.HALF) for n, text in enumerate((self.SEEN, later))]
        if "soon" in later:
            checks[1] = replace(checks[1], held=(), more={"allocations": [A1.item() | {"id": "a9", "window": "soon"}]})
        con = planted(restaurants=[R], checks=[check.row() for check in checks])
        after = self.NOON + self.HALF
        [row] = [row for row in reconstruct.state(con, "R", self.NOON)["allocations"] if row["allocation_id"] == "a1"]
        assert row["until"] == (after if until else None)
        assert (("a1", "possible") in held(con, after + SECOND)) == (until is None)

    def test_a_snapshot_within_a_minute_of_it_tells_nothing(self) -> None:
        soon = self.NOON + timedelta(minutes=1)
        checks = [replace(story(text), checked_at=at) for text, at in ((self.SEEN, self.NOON), ("c2 [0,1)", soon))]
        con = planted(restaurants=[R], checks=[check.row() for check in checks])
        assert held(con, soon + SECOND) == [("a1", "possible")]

    SEEN, NOON, HALF = "a1 [0,10) firm by:B · c1 [0,1)", datetime(2025, 11, 20, 12, tzinfo=UTC), timedelta(minutes=30)

    @pytest.mark.parametrize(
        ("check", "since"),
        [(None, "09:00"), ("c1 [0,1) scope:[0,10)", "11:30"), ("c1 [0,1) scope:[0,9)", "09:00"), (SEEN, None)],
        ids=["nobody looked", "a snapshot was without it", "it did not cover it", "it was seen"],
    )
    def test_before_its_first_change_it_stood_perhaps(self, check: str | None, since: str | None) -> None:
        """Made at nine, changed at noon: what it was in between is known where somebody looked."""
        looked = datetime(2025, 11, 20, 11, 30, tzinfo=UTC)
        checks = [replace(story(check), checked_at=looked).row()] if check else []
        made = looked.replace(hour=9, minute=0)
        held_then = A1.row(created_at=made.isoformat(), updated_at=self.NOON.isoformat())
        con = planted(restaurants=[R], checks=checks, allocations=[held_then])
        rows = reconstruct.state(con, "R", self.NOON - SECOND)["allocations"]
        if since:
            [row] = rows
            assert (row["presence"], row["until"]) == ("possible", self.NOON)
            assert f"{row['since']:%H:%M}" == since
            assert held(con, row["since"] - SECOND) == []
        else:
            assert [row["since"] for row in rows] == [CHANGED]
        assert held(con, self.NOON) == [("a1", "certain")]

    def test_vanished(self) -> None:
        con = planted(
            captures=TWO_CAPTURES,
            vanished=[{"capture_id": 2, "relation": "allocations", "key": "a1"}],
            restaurants=[R],
            allocations=[A1.row()],
        )
        missed = datetime.fromisoformat(TWO_CAPTURES[1])
        found = [held(con, at) for at in (CAPTURED, CAPTURED + SECOND, missed)]
        assert found == [[("a1", "certain")], [("a1", "possible")], []]

    def test_archived(self) -> None:
        """In the archive a row is no longer held: it was until it was moved there."""
        archived_at = "2025-11-28 00:00:00+00"
        con = planted(restaurants=[R], allocations_archive=[A1.row(archived_at=archived_at)])
        archived = datetime.fromisoformat(archived_at)
        found = [held(con, at) for at in (CHANGED - SECOND, CHANGED, archived - SECOND, archived, CAPTURED)]
        assert found == [[], [("a1", "certain")], [("a1", "certain")], [], []]
        assert con.table("allocation_versions").pl()["last_seen_at"].to_list() == [archived]

    def test_a_window_that_cannot_be_decoded_is_not_held(self) -> None:
        con = planted(restaurants=[R], allocations=[A1.row(window_text="soon"), A1.row(key="a2", window_text=None)])
        assert held(con, CHANGED) == [("a2", "certain")]


class TestLab:
    def test_what_is_certain_is_in_the_ledger_and_what_is_in_it_is_held(
        self, evidence: duckdb.DuckDBPyConnection, lab_dsn: str
    ) -> None:
        """The ledger, which no capture reads, tells the true state at any instant of the history; some of it nobody saw."""
        with psycopg.connect(lab_dsn) as conn:
            conn.execute("set local timezone = 'UTC'")
            ledger = conn.execute("""
                select at, coalesce(new, old) ->> 'id', coalesce(new, old) ->> 'restaurant_id',
                       new ->> 'shadow' = 'true', (new ->> 'window')::tstzrange::text
                from lab.ledger order by entry""").fetchall()
        rng, plan = random.Random(7), history.Plan()
        restaurants = sorted({row[2] for row in ledger})
        versions = evidence.table("allocation_versions").pl()
        changed = {row[:3]: row[3] for row in versions.select("allocation_id", "shadow", "window", "updated_at").rows()}
        certain = possible = stood = 0
        for _ in range(40):
            at = plan.start + rng.random() * (plan.end - plan.start)
            restaurant = rng.choice(restaurants)
            true: dict[str, tuple[Any, ...]] = {}
            for when, allocation, where, shadow, window in ledger:
                if when <= at and where == restaurant:
                    true[allocation] = (shadow, window)
            found = reconstruct.state(evidence, restaurant, at)["allocations"]
            told = {(row["allocation_id"], row["shadow"], row["window"]) for row in found}
            for version in ((allocation, *values) for allocation, values in true.items()):
                if version in changed and changed[version] <= at:
                    stood += 1
                    assert version in told, (at, version)
            for row in found:
                if row["presence"] == "certain":
                    certain += 1
                    assert true.get(row["allocation_id"]) == (row["shadow"], row["window"]), (at, row)
                else:
                    possible += 1
        assert certain > 500
        assert possible > 0
        assert stood > 500


def test_versions_keep_what_a_snapshot_said() -> None:
    check = story("a1 [0,10) firm by:C maintenance · a2 null shadow:null by:null · c1 [0,1)")
    con = planted(checks=[check.row()])
    assert con.execute("""
        select allocation_id, booking_id, shadow, is_maintenance, "window" is null, first_seen_at = last_seen_at
        from allocation_versions order by allocation_id""").fetchall() == [
        ("a1", "C", False, True, False, True),
        ("a2", None, None, False, True, True),
    ]
