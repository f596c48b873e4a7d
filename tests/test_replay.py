"""The replay: who stands in whose way, which verdict follows, and which one cause it has.

Stories are told in minutes (see story.py), planted as raw rows, and judged by the store.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from story import CAPTURED_AT, CHECKED_AT, DAY, V12, Asked, Held, planted, shifted, story, window

import analysis
from analysis import constraint, query, replay
from analysis.model import Cause, Grade, Look, NotFoundError, RuleError, Verdict

# Story → the rivals under allocations_no_overlap.
STORIES = {
    # plain
    "inside": ("a1 [0,10) firm · c1 [5,8)", "a1"),
    "around": ("a1 [5,8) firm · c1 [0,10)", "a1"),
    "from before": ("a1 [0,6) firm · c1 [5,8)", "a1"),
    "until after": ("a1 [7,20) firm · c1 [5,8)", "a1"),
    "same window": ("a1 [5,8) firm · c1 [5,8)", "a1"),
    "by a microsecond": ("a1 [0,5.0000001666666667) firm · c1 [5,8)", "a1"),
    # none
    "nobody": ("c1 [5,8)", ""),
    "before": ("a1 [0,4) firm · c1 [5,8)", ""),
    "after": ("a1 [9,10) firm · c1 [5,8)", ""),
    "another table": ("a1 [0,10) firm on:U · c1 [5,8)", ""),
    "another kind of resource": ("a1 [0,10) firm type:merge_group · c1 [5,8)", ""),
    "another restaurant": ("a1 [0,10) firm at:S · c1 [5,8)", ""),
    "only a hold": ("a1 [0,10) shadow · c1 [5,8)", ""),
    # edge
    "ends as it begins": ("a1 [0,5) firm · c1 [5,8)", ""),
    "begins as it ends": ("a1 [8,9) firm · c1 [5,8)", ""),
    "ends with it, inclusive": ("a1 [0,5] firm · c1 [5,8)", "a1"),
    "ends with it, but it begins after": ("a1 [0,5] firm · c1 (5,8)", ""),
    "both inclusive above": ("a1 [8,9) firm · c1 [5,8]", "a1"),
    "open inside": ("a1 (5,8) firm · c1 [5,8]", "a1"),
    "point within": ("a1 [6,6] firm · c1 [5,8)", "a1"),
    "point at the start": ("a1 [5,5] firm · c1 [5,8)", "a1"),
    "point at the end": ("a1 [8,8] firm · c1 [5,8)", ""),
    "point on a point": ("a1 [5,5] firm · c1 [5,5]", "a1"),
    "unbounded": ("a1 (,) firm · c1 [5,8)", "a1"),
    "until further notice": ("a1 [0,) firm · c1 [5,8)", "a1"),
    "until infinity": ("a1 [0,inf) firm · c1 [5,8)", "a1"),
    "ever since": ("a1 (,6) firm · c1 [5,8)", "a1"),
    "until infinity meets from infinity": ("a1 [0,inf) firm · c1 [inf,)", ""),
    "no end meets from infinity": ("a1 [0,) firm · c1 [inf,)", "a1"),
    "through infinity meets from infinity": ("a1 [0,inf] firm · c1 [inf,)", "a1"),
    # empty
    "an empty rival": ("a1 empty firm · c1 [5,8)", ""),
    "[a,a) is empty": ("a1 [6,6) firm · c1 [5,8)", ""),
    "(a,a] is empty": ("a1 (6,6] firm · c1 [5,8)", ""),
    "an empty request": ("a1 [0,10) firm · c1 empty", ""),
    "a request for [a,a)": ("a1 [0,10) firm · c1 [5,5)", ""),
    "empty and empty": ("a1 empty firm · c1 empty", ""),
    # itself
    "the booking's own row": ("a1 [0,10) firm by:B · c1 [5,8)", ""),
    "the booking's own row on another table": ("a1 [0,10) firm by:B · c1 [5,8) on:T,U", ""),
    "the same booking's other table is asked for, too": ("a1 [0,10) firm by:B on:U · a2 [0,10) by:C · c1 [5,8)", "a2"),
    "its own hold and a rival": ("a1 [0,10) shadow by:B · a2 [0,10) firm by:C · c1 [5,8)", "a2"),
    "nobody's row for nobody's booking": ("a1 [0,10) firm by:null · c1 [5,8) by:null", "a1"),
    # nulls pass
    "null window": ("a1 null firm · c1 [5,8)", ""),
    "null table": ("a1 [0,10) firm on:null · c1 [5,8)", ""),
    "null kind": ("a1 [0,10) firm type:null · c1 [5,8)", ""),
    "null restaurant": ("a1 [0,10) firm at:null · c1 [5,8)", ""),
    "restaurant of the request not known": ("a1 [0,10) firm · c1 [5,8) at:null", ""),
    "neither restaurant known": ("a1 [0,10) firm at:null · c1 [5,8) at:null", ""),
    "shadow null": ("a1 [0,10) shadow:null · c1 [5,8)", ""),
    "maintenance is nobody's booking": ("a1 [0,10) firm maintenance by:null · c1 [5,8)", "a1"),
    # many
    "all that overlap": ("a1 [0,6) firm · a2 [5,7) firm · a3 [7,9) firm · a4 [9,10) firm · c1 [5,8)", "a1 a2 a3"),
    "the same window twice": ("a1 [0,6) firm · a2 [0,6) firm · c1 [5,8)", "a1 a2"),
    "one of two tables": ("a1 [0,10) firm on:U · c1 [5,8) on:T,U", "a1"),
    "a rival on each table": ("a1 [0,10) firm · a2 [6,9) firm on:U · a3 [0,9) firm on:V · c1 [5,8) on:T,U", "a1 a2"),
    "a table asked for twice": ("a1 [0,10) firm · c1 [5,8) on:T,T", "a1"),
}


@pytest.fixture(scope="module")
def told() -> Iterator[duckdb.DuckDBPyConnection]:
    """A store with every story, each a check of that name."""
    with closing(planted(checks=[story(text, name).row() for name, (text, _) in STORIES.items()])) as con:
        yield con


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, told: duckdb.DuckDBPyConnection) -> None:
    rivals = STORIES[name][1]
    check = replay.check(told, name)
    assert sorted(str(conflict.rival.allocation_id) for conflict in check.conflicts) == rivals.split()
    assert check.replayed_verdict == (Verdict.CONFLICT if rivals else Verdict.CLEAR)
    assert check.cause is (Cause.CONFIRMED_OVER_CONFLICT if rivals else Cause.AGREED)
    assert (check.grade, check.unknown_because) == (Grade.COMPLETE, None)


OVERLAPS = {
    "a1 [0,6) firm · c1 [5,8)": ("[5,6)", 60),
    "a1 (5,20) firm · c1 [5,8]": ("(5,8]", 180),
    "a1 [0,5] firm · c1 [5,8)": ("[5,5]", 0),
    "a1 [7,inf) firm · c1 [5,)": ("[7,inf)", None),
    "a1 (,6) firm · c1 (,)": ("(,6)", None),
    "a1 [6,) firm · c1 (,7.5)": ("[6,7.5)", 90),
}


@pytest.mark.parametrize("text", OVERLAPS)
def test_overlap(text: str) -> None:
    [conflict] = replay.check(planted(checks=[story(text).row()]), "c1").conflicts
    expected, seconds = OVERLAPS[text]
    assert (conflict.overlap.text, conflict.overlap_s) == (window(expected), seconds)


KINDS = {
    "a1 [0,9) firm by:B2": "booking",
    "a1 [0,9) firm maintenance by:null": "maintenance",
    "a1 [0,9) shadow by:B2": "hold",
}


@pytest.mark.parametrize("held", KINDS)
def test_kind_of_rival(held: str) -> None:
    with closing(planted(checks=[story(f"{held} · c1 [5,8)").row()])) as con, replay.under(con, replay.named("strict")):
        [conflict] = replay.check(con, "c1").conflicts
    assert conflict.rival.kind == KINDS[held]


NO_OVERLAP = constraint.RULES["v12"].name
REFUSED = story("a1 [0,10) firm · c1 [5,8) refused")
ALONE = story("c1 [5,8) refused")
DETAIL = (
    'Key (restaurant_id, resource_type, resource_id, "window")=(R, table, T, {}) '
    'conflicts with existing key (restaurant_id, resource_type, resource_id, "window")=(R, table, T, {}).'
)
NAMED = DETAIL.format(window("[5,8)"), window("[0,10)"))
LATER = replace(story("a9 [0,10) firm by:C · c [0,1)").held[0], updated_at="2025-11-20 11:59:59+00")


def refusal(sqlstate: str | None, constraint: str | None = None, message: str = "", detail: str = "") -> dict[str, Any]:
    return {"sqlstate": sqlstate, "constraint": constraint, "message": message, "detail": detail, "attempted": []}


OVERLAP = refusal("23P01", NO_OVERLAP, f'conflicting key value violates exclusion constraint "{NO_OVERLAP}"', NAMED)
# Evidence → replayed verdict, cause, what is unknown, and grade.
CAUSES: dict[str, tuple[Asked, tuple[str, str, str | None, str]]] = {
    "confirmed, nobody there": (story("c1 [5,8)"), ("clear", "agreed", None, "complete")),
    "refused over the rival in the snapshot": (replace(REFUSED, conflict=OVERLAP), ("conflict", "agreed", None, "complete")),
    "constraint not recorded": (replace(REFUSED, conflict=refusal("23P01")), ("conflict", "agreed", None, "complete")),
    "refused by the wrapper": (
        replace(REFUSED, conflict=refusal("P0001", None, NO_OVERLAP, "Resource T overlaps requested window for booking B")),
        ("conflict", "agreed", None, "complete"),
    ),
    "refused by the wrapper, rival lost": (
        replace(ALONE, conflict=refusal("P0001", None, NO_OVERLAP)),
        ("clear", "rival_not_in_evidence", None, "complete"),
    ),
    "refused without a word, over a rival": (REFUSED, ("conflict", "agreed", None, "complete")),
    "refused without a word": (ALONE, ("clear", "reason_not_recorded", None, "complete")),
    "refused, sqlstate null": (
        replace(ALONE, conflict=refusal(None)),
        ("clear", "reason_not_recorded", None, "complete"),
    ),
    "refused over an overlap that nothing shows": (
        replace(ALONE, conflict=refusal("23P01", NO_OVERLAP)),
        ("clear", "rival_not_in_evidence", None, "complete"),
    ),
    "refused by a rule of before the migration": (
        replace(ALONE, conflict=refusal("23P01", constraint.RULES["v11"].name)),
        ("clear", "decided_under_another_rule", None, "complete"),
    ),
    "refused over sixty microseconds": (
        replace(story("a1 [0,5.000001) firm · c1 [5,8) refused"), conflict=refusal("23P01", NO_OVERLAP)),
        ("conflict", "overlap_below_a_millisecond", None, "complete"),
    ),
    "confirmed over a rival": (
        story("a1 [0,10) firm · c1 [5,8)"),
        ("conflict", "confirmed_over_conflict", None, "complete"),
    ),
    "unique violation": (
        replace(ALONE, conflict=refusal("23505", "allocations_booking_id_key")),
        ("clear", "unique_violation", None, "complete"),
    ),
    "deadlock over a rival": (replace(REFUSED, conflict=refusal("40P01")), ("conflict", "deadlock", None, "complete")),
    "serialization failure": (
        replace(ALONE, conflict=refusal("40001")),
        ("clear", "serialization_failure", None, "complete"),
    ),
    "hold expired": (
        replace(ALONE, conflict=refusal("P0001", None, "hold expired")),
        ("clear", "hold_not_live", None, "complete"),
    ),
    "booking cancelled": (
        replace(ALONE, conflict=refusal("P0001", None, "booking cancelled")),
        ("clear", "other_refusal", None, "complete"),
    ),
    "policy changed": (
        replace(ALONE, conflict=refusal("P0003", None, "policy version changed")),
        ("clear", "policy_changed", None, "complete"),
    ),
    "foreign table over a rival": (
        replace(REFUSED, conflict=refusal("23503", None, "table of another restaurant")),
        ("conflict", "table_of_another_restaurant", None, "complete"),
    ),
    "party too large": (
        replace(ALONE, conflict=refusal("23514", None, "party does not fit")),
        ("clear", "party_too_large", None, "complete"),
    ),
    "capacity, as a wrapper raises it": (
        replace(ALONE, conflict=refusal("P0001", None, "Insufficient capacity for party of 5")),
        ("clear", "party_too_large", None, "complete"),
    ),
    "confirmed twice, and the wrapper calls it an overlap": (
        replace(story("a1 [5,8) firm by:B · c1 [5,8) refused"), conflict=refusal("P0001", None, NO_OVERLAP)),
        ("clear", "unique_violation_called_overlap", None, "complete"),
    ),
    "the wrapper's overlap over the booking's own hold": (
        replace(story("a1 [5,8) shadow by:B · c1 [5,8) refused"), conflict=refusal("P0001", None, NO_OVERLAP)),
        ("clear", "rival_not_in_evidence", None, "complete"),
    ),
    "the wrapper's overlap over the booking's own row at another time": (
        replace(story("a1 [20,30) firm by:B · c1 [5,8) refused"), conflict=refusal("P0001", None, NO_OVERLAP)),
        ("clear", "rival_not_in_evidence", None, "complete"),
    ),
    "the wrapper's overlap over the very row that the request is inferred from": (
        replace(
            story("a1 [5,8) firm by:B · c1 [5,8) refused"), conflict=refusal("P0001", None, NO_OVERLAP), more={"request": None}
        ),
        ("clear", "rival_not_in_evidence", None, "inferred"),
    ),
    "inferred from the booking's own hold": (
        replace(story("a1 [5,8) shadow by:B · a2 [0,10) firm by:C · c1 [5,8)"), more={"request": None}),
        ("conflict", "confirmed_over_conflict", None, "inferred"),
    ),
    "inferred, and clear": (
        replace(story("a1 [5,8) firm by:B · a2 [0,5) firm by:C · c1 [5,8)"), more={"request": {"restaurant_id": "R"}}),
        ("clear", "agreed", None, "inferred"),
    ),
    "another exclusion constraint": (
        replace(REFUSED, conflict=refusal("23P01", "shifts_no_overlap")),
        ("conflict", "other_refusal", None, "complete"),
    ),
    "scope not said": (story("c1 [5,8) scope:null"), ("clear", "agreed", None, "partial")),
    "scope ends within": (
        story("c1 [5,8) scope:[0,7)"),
        ("unknown", "evidence_missing", "evidence_missing", "partial"),
    ),
    "scope begins within": (
        story("c1 [5,8) scope:(5,9)"),
        ("unknown", "evidence_missing", "evidence_missing", "partial"),
    ),
    "scope ends within, yet the rival is in it": (
        story("a1 [0,6) firm · c1 [5,8) scope:[0,7)"),
        ("conflict", "confirmed_over_conflict", None, "partial"),
    ),
    "scope just covers": (story("c1 [5,8) scope:[5,8)"), ("clear", "agreed", None, "complete")),
    "scope covers, but for the last instant": (
        story("c1 [5,8] scope:[5,8)"),
        ("unknown", "evidence_missing", "evidence_missing", "partial"),
    ),
    "empty request outside the scope": (story("c1 empty scope:[0,1)"), ("clear", "agreed", None, "complete")),
    "nothing asked for": (
        replace(story("c1 [5,8)"), tables=()),
        ("unknown", "evidence_missing", "evidence_missing", "partial"),
    ),
    "snapshot missing and the overlap recorded": (
        replace(ALONE, conflict=refusal("23P01", NO_OVERLAP), more={"allocations": None}),
        ("unknown", "evidence_undecodable", "evidence_undecodable", "none"),
    ),
    "snapshot undecodable and a deadlock recorded": (
        replace(ALONE, conflict=refusal("40P01"), more={"allocations": 7}),
        ("unknown", "deadlock", "evidence_undecodable", "none"),
    ),
    "an entry cannot be decoded": (
        replace(story("c1 [5,8)"), more={"allocations": [{"id": "a1"}]}),
        ("unknown", "evidence_undecodable", "evidence_undecodable", "partial"),
    ),
    "requested window cannot be decoded": (
        replace(story("c1 [5,8)"), more={"request": {"table_ids": ["T"], "window": "soon"}}),
        ("unknown", "evidence_undecodable", "evidence_undecodable", "partial"),
    ),
}


@pytest.fixture(scope="module")
def judged() -> duckdb.DuckDBPyConnection:
    return planted(checks=[asked.row(key=name) for name, (asked, _) in CAUSES.items()])


@pytest.mark.parametrize("name", CAUSES)
def test_cause(name: str, judged: duckdb.DuckDBPyConnection) -> None:
    check = replay.check(judged, name)
    assert (check.replayed_verdict, check.cause, check.unknown_because, check.grade) == CAUSES[name][1]


class TestRivalsBeyondTheSnapshot:
    """A refusal names its rival in the detail; the snapshot need not have seen it."""

    def cause(self, detail: str = NAMED, **raw: Any) -> tuple[Cause, list[tuple[str | None, str]]]:
        con = planted(checks=[replace(ALONE, conflict=OVERLAP | {"detail": detail}).row()], **raw)
        check = replay.check(con, "c1")
        assert check.replayed_verdict == Verdict.CLEAR
        return check.cause, [(conflict.rival.allocation_id, conflict.rival.source) for conflict in check.conflicts]

    def test_committed_while_the_check_waited(self) -> None:
        at = (CHECKED_AT + timedelta(seconds=2)).isoformat(" ")
        found = self.cause(allocations=[replace(LATER, updated_at=at).row()])
        assert found == (Cause.RIVAL_COMMITTED_MEANWHILE, [("a9", "later evidence")])

    def first_seen(self, *others: Asked, detail: str = NAMED, **raw: Any) -> Look | None:
        con = planted(checks=[replace(ALONE, conflict=OVERLAP | {"detail": detail}).row(), *(o.row() for o in others)], **raw)
        [conflict] = replay.check(con, "c1").conflicts
        return conflict.first_seen

    @pytest.mark.parametrize("detail", [NAMED, ""])
    def test_first_seen_in_the_snapshot_of_another_check(self, detail: str) -> None:
        at = CHECKED_AT.isoformat(" ")
        firm = replace(LATER, updated_at=at)
        after = CHECKED_AT + timedelta(milliseconds=412)
        other = Asked("c2", "[20,30)", (firm,), booking_id="D", checked_at=after)
        third = replace(other, name="c3", checked_at=after + timedelta(seconds=1))
        assert self.first_seen(third, other, detail=detail) == Look(after, "c2", None)
        assert self.first_seen(other, detail=detail, allocations=[firm.row()]) == Look(after, "c2", None)
        # Another check of the very same instant may have seen it as a hold still.
        held_then = replace(other, name="c0", held=(replace(firm, shadow=True),))
        assert self.first_seen(held_then, other, detail=detail) == Look(after, "c2", None)
        # The snapshot of another check may show it as a hold, or at another time, and its own one before it commits.
        for held in (replace(firm, shadow=True), replace(firm, window="[8,9)")):
            captured = Look(datetime.fromisoformat(CAPTURED_AT), None, 1)
            assert self.first_seen(replace(other, held=(held,)), detail=detail, allocations=[firm.row()]) == captured
        assert self.first_seen(replace(other, booking_id=LATER.booking_id), detail=detail) is None

    def test_a_rival_of_the_own_snapshot_was_seen_there(self) -> None:
        [conflict] = replay.check(planted(checks=[replace(REFUSED, conflict=OVERLAP).row()]), "c1").conflicts
        assert conflict.first_seen is None

    def test_who_looked_next(self) -> None:
        """By then the rival had committed, if it ever did; and only a snapshot that covers the request looked at it."""
        refused = replace(ALONE, conflict=OVERLAP | {"detail": ""})

        def looked(*others: Asked, cause: Cause = Cause.RIVAL_NOT_IN_EVIDENCE, **raw: Any) -> Look | None:
            check = replay.check(planted(checks=[refused.row(), *(other.row() for other in others)], **raw), "c1")
            assert check.cause is cause
            return check.next_look

        at = CHECKED_AT + timedelta(minutes=2)
        other = Asked("c2", "[20,30)", booking_id="D", checked_at=at)
        captured = Look(datetime.fromisoformat(CAPTURED_AT), None, 1)
        assert looked(other, replace(other, name="c3", checked_at=at + timedelta(minutes=1))) == Look(at, "c2", None)
        assert looked() == captured
        for blind in (
            replace(other, checked_at=CHECKED_AT + timedelta(seconds=59)),
            replace(other, restaurant_id="S"),
            replace(other, scope="[0,7)"),
            replace(other, more={"allocations": 7}),
            replace(other, more={"allocations": [{"id": "a1"}]}),
        ):
            assert looked(blind) == captured
        assert looked(captures=[CHECKED_AT.isoformat(" ")]) is None
        assert looked(other, cause=Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE, allocations=[LATER.row()]) is None

    @pytest.mark.parametrize(("more", "found"), [({"scope": None}, Verdict.CONFLICT), ({"allocations": 7}, Verdict.UNKNOWN)])
    def test_what_stood_before_and_after_stood_then_where_no_snapshot_claims_to_show_all(
        self, more: dict[str, Any], found: Verdict
    ) -> None:
        old = replace(LATER, updated_at="2025-11-19 12:00:00+00").row()
        check = replay.check(planted(checks=[replace(ALONE, conflict=OVERLAP, more=more).row()], allocations=[old]), "c1")
        assert check.replayed_verdict is found
        assert [(c.rival.allocation_id, c.rival.source) for c in check.conflicts] == [("a9", "reconstructed")]
        assert "rightly so" in str(analysis.Explanation(check)) or found is Verdict.UNKNOWN

    def test_of_several_rivals_the_named_one_is_quoted_whatever_the_form_of_its_window(self) -> None:
        moscow = '["2025-11-20 21:00:00+03","2025-11-20 21:10:00+03")'
        named = DETAIL.format('["2025-11-20 21:05:00+03","2025-11-20 21:08:00+03")', moscow)
        check = replace(story("a1 [-9,6) firm · a2 [0,10) firm · c1 [5,8) refused"), conflict=OVERLAP | {"detail": named})
        told = analysis.explain_check(planted(checks=[check.row()]), "c1")
        assert len(told.data["rivals"]) == 2
        assert told.data["detail"] == DETAIL.format(window("[5,8)"), window("[0,10)"))

    def test_seen_only_in_the_archive(self) -> None:
        found = self.cause(allocations_archive=[LATER.row()])
        assert found == (Cause.RIVAL_COMMITTED_MEANWHILE, [("a9", "later evidence")])

    @pytest.mark.parametrize(
        "other",
        [
            replace(LATER, updated_at="2025-11-20 12:02:00+00"),
            replace(LATER, updated_at="2025-11-20 10:59:00+00"),
            replace(LATER, shadow=True),
            replace(LATER, window="[0,9)"),
            replace(LATER, resource_id="U"),
            replace(LATER, restaurant_id="S"),
            replace(LATER, booking_id="B"),
        ],
        ids=[
            "firm long after",
            "firm long before",
            "only a hold",
            "other window",
            "other table",
            "other restaurant",
            "the booking's own",
        ],
    )
    def test_never_seen(self, other: Held) -> None:
        found = self.cause(allocations=[other.row()])
        assert found == (Cause.RIVAL_NOT_IN_EVIDENCE, [(None, "named by PostgreSQL")])

    @pytest.mark.parametrize(
        "detail",
        [
            "",
            "Key exists.",
            NAMED.replace("(R, table, T,", "(R, table, T, and more,"),
            DETAIL.format(window("[5,8)"), window("[9,10)")),
            DETAIL.format(window("[5,8)"), "soon"),
        ],
        ids=["withheld", "other text", "a comma in a value", "no overlap", "no window"],
    )
    def test_details_that_name_no_rival(self, detail: str) -> None:
        assert self.cause(detail) == (Cause.RIVAL_NOT_IN_EVIDENCE, [])
        named = "[9,10)" in detail or window("[9,10)") in detail
        perhaps = (Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE, [("a9", "perhaps later")])
        found = self.cause(detail, allocations=[LATER.row()])
        assert found == ((Cause.RIVAL_NOT_IN_EVIDENCE, []) if named else perhaps)

    @pytest.mark.parametrize(
        "other",
        [
            replace(LATER, updated_at="2025-11-20 11:58:59+00"),
            replace(LATER, updated_at="2025-11-20 12:01:01+00"),
            replace(LATER, shadow=True),
            replace(LATER, window="[8,10)"),
            replace(LATER, resource_id="U"),
            replace(LATER, restaurant_id="S"),
            replace(LATER, booking_id="B"),
        ],
    )
    def test_not_even_perhaps(self, other: Held) -> None:
        assert self.cause("", allocations=[other.row()]) == (Cause.RIVAL_NOT_IN_EVIDENCE, [])

    def test_the_wrapper_names_nobody(self) -> None:
        for message, cause in ((NO_OVERLAP, Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE), ("hold expired", Cause.HOLD_NOT_LIVE)):
            check = replace(ALONE, conflict=refusal("P0001", None, message))
            assert replay.check(planted(checks=[check.row()], allocations=[LATER.row()]), "c1").cause is cause

    def test_named_and_in_the_snapshot_is_one_rival(self) -> None:
        con = planted(checks=[replace(REFUSED, conflict=OVERLAP).row()], allocations=[REFUSED.held[0].row()])
        [conflict] = replay.check(con, "c1").conflicts
        assert conflict.rival.source == "snapshot"


class TestRuleInForce:
    """The rule at the time of the check decides: documented until the migration, captured after it."""

    BEFORE = constraint.MIGRATED_AT - timedelta(microseconds=1)

    def verdict(self, asked: Asked, *rules: dict[str, Any], **raw: Any) -> tuple[str, str, str | None, str | None]:
        con = planted(checks=[asked.row()], rules=rules, **raw)
        [found] = con.execute("select replayed_verdict, cause, rule, rule_version from verdicts").fetchall()
        verdict, cause, rule, version = found
        return verdict, cause, rule, version

    def test_before_the_migration_both_old_rules(self) -> None:
        asked = replace(story("a1 [0,10) shadow · c1 [5,8)"), checked_at=self.BEFORE)
        both = "allocations_firm_window_excl, allocations_resource_window_excl"
        assert self.verdict(asked, V12) == ("conflict", "confirmed_over_conflict", both, "v11, strict")

    def test_from_the_migration_on_the_new_one(self) -> None:
        asked = replace(story("a1 [0,10) shadow · c1 [5,8)"), checked_at=constraint.MIGRATED_AT)
        assert self.verdict(asked, V12) == ("clear", "agreed", NO_OVERLAP, "v12")

    def test_no_rule_captured(self) -> None:
        assert self.verdict(story("c1 [5,8)")) == ("unknown", "rule_unknown", None, None)

    @pytest.mark.parametrize(
        "definition",
        [
            V12["definition"].replace("(NOT shadow)", "(NOT shadow) AND (NOT is_maintenance)"),
            V12["definition"].replace("restaurant_id WITH =", "restaurant_id WITH <>"),
            V12["definition"].replace("restaurant_id", "created_by"),
        ],
    )
    def test_a_rule_that_is_not_replayed(self, definition: str) -> None:
        rule = {"key": "odd", "definition": definition}
        late = replace(story("c1 [5,8)"), checked_at=datetime.fromisoformat(CAPTURED_AT))
        assert self.verdict(late, rule) == ("unknown", "rule_unknown", "odd", "captured")
        # Another rule that is replayed may still find a rival, never the absence of one.
        assert self.verdict(late, rule, V12)[:2] == ("unknown", "rule_unknown")
        rival = replace(story("a1 [0,10) firm · c1 [5,8)"), checked_at=late.checked_at)
        assert self.verdict(rival, rule, V12)[:2] == ("conflict", "confirmed_over_conflict")

    def test_a_rule_that_compares_nothing_but_windows(self) -> None:
        rule = {"key": "one_at_a_time", "definition": 'EXCLUDE USING gist ("window" WITH &&)'}
        for text, verdict in (
            ("a1 [0,10) shadow on:U by:B at:S · c1 [5,8)", "conflict"),
            # Nobody's snapshot shows what every other restaurant holds.
            ("a1 [0,10) firm by:B · c1 [5,8)", "unknown"),
            ("a1 [0,5) firm · c1 [5,8)", "unknown"),
        ):
            late = replace(story(text), checked_at=datetime.fromisoformat(CAPTURED_AT))
            assert self.verdict(late, rule)[0] == verdict

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_captured_rule_counts_from_the_first_check_that_it_refused(self, wrapped: bool) -> None:
        rule = {"key": "own", "definition": V12["definition"]}
        named = refusal("P0001", None, "own") if wrapped else refusal("23P01", "own")
        at = [CHECKED_AT + timedelta(hours=n) for n in range(3)]
        texts = ("c0 [5,8) on:U", "a1 [0,10) firm · c1 [5,8) refused", "a1 [0,10) firm · c2 [5,8) on:U")
        asked = [replace(story(text), checked_at=when) for text, when in zip(texts, at, strict=True)]
        asked[1] = replace(asked[1], conflict=named)
        verdicts = "select check_id, replayed_verdict, cause, rule from verdicts order by check_id"
        found = planted(checks=[each.row() for each in asked], rules=[rule]).execute(verdicts).fetchall()
        assert found == [
            ("c0", "unknown", "rule_unknown", None),
            ("c1", "conflict", "agreed", "own"),
            ("c2", "clear", "agreed", "own"),
        ]
        # What was in force when a capture did not show it, or when it read otherwise, the name does not tell.
        captures = [at[1].isoformat(" "), CAPTURED_AT]
        later = [{**rule, "capture_id": 2}]
        asked[2] = replace(asked[1], name="c2", checked_at=at[2])
        found = planted(checks=[each.row() for each in asked], rules=later, captures=captures).execute(verdicts).fetchall()
        assert [cause for _, _, cause, _ in found] == ["rule_unknown", "rule_unknown", "agreed"]
        both: list[dict[str, Any]] = [{"key": "own", "definition": constraint.RULES["v11"].definition}, *later]
        con = planted(checks=[each.row() for each in asked], rules=both, captures=captures)
        assert {rule for *_, rule in con.execute(verdicts).fetchall()} == {None, "own"}
        since = con.execute("select valid_from::varchar from rules where rule = 'own' order by valid_from").fetchall()
        assert since == [(f"{at[1]:%Y-%m-%d %H:%M:%S}+00",), ("2025-12-01 00:00:00+00",)]

    def test_a_documented_rule_that_no_capture_shows_counts_to_the_last_check_that_it_refused(self) -> None:
        rollback = {"key": constraint.RULES["rollback"].name, "definition": constraint.RULES["rollback"].definition}
        refused = replace(REFUSED, conflict=OVERLAP).row()
        later = replace(story("c2 [5,8)"), checked_at=CHECKED_AT + timedelta(microseconds=1)).row()
        con = planted(checks=[refused, later], rules=[rollback])
        assert con.execute("select check_id, cause, rule_version from verdicts order by check_id").fetchall() == [
            ("c1", "agreed", "v12"),
            ("c2", "rule_unknown", None),
        ]

    def test_a_rule_that_was_dropped_is_still_called_an_overlap_rule(self) -> None:
        check = replace(ALONE, checked_at=self.BEFORE, conflict=refusal("23P01", constraint.RULES["strict"].name))
        con = planted(checks=[check.row()])
        with replay.under(con, constraint.RULES["v12"]):
            assert replay.check(con, "c1").cause is Cause.DECIDED_UNDER_ANOTHER_RULE

    def test_of_two_rules_the_one_that_the_error_names_is_told_and_no_rival_twice(self) -> None:
        """A hold that only the strict one looks at, and another restaurant's row, named in the error by the key alone."""
        at: dict[str, Any] = {"checked_at": self.BEFORE}
        key = '(resource_type, resource_id, "window")'
        detail = f"Key {key}=(table, T, {window('[5,8)')}) conflicts with existing key {key}=(table, T, {window('[0,10)')})."
        strict = constraint.RULES["strict"].name
        conflict = refusal("23P01", strict, f'conflicting key value violates exclusion constraint "{strict}"', detail)
        hold = replace(story("a1 [0,10) shadow · c1 [5,8) refused"), conflict=conflict, **at)
        other = Held("a2", "[0,10)", restaurant_id="S", booking_id="D", updated_at="2025-11-12 12:00:00+00")
        alone = replace(ALONE, conflict=conflict, **at)
        for check, rows, rival in ((hold, [], "a1"), (alone, [other.row()], "a2")):
            told = replay.check(planted(checks=[check.row()], allocations=rows), "c1")
            assert [conflict.rival.allocation_id for conflict in told.conflicts] == [rival]
            assert (told.rule and told.rule.version, told.cause) == ("strict", Cause.AGREED)
        # Of a rival that nothing shows nobody knows whether the other rule looks at it.
        con = planted(checks=[alone.row()])
        assert con.execute("select rule, source from rivals").fetchall() == [(strict, "named by PostgreSQL")]

    def test_what_another_rule_named_is_no_rival_under_this_one(self) -> None:
        key = '(resource_type, resource_id, "window")'
        detail = f"Key {key}=(table, T, {window('[5,8)')}) conflicts with existing key {key}=(table, T, {window('[0,10)')})."
        check = replace(ALONE, conflict=refusal("23P01", "gone", "gone", detail))
        rival = replace(LATER, restaurant_id="S").row()
        told = replay.check(planted(checks=[check.row()], allocations=[rival]), "c1")
        assert (told.cause, told.conflicts) == (Cause.OTHER_REFUSAL, ())

    def test_a_captured_rule_counts_from_its_first_capture_to_the_one_that_misses_it(self) -> None:
        captures = ["2025-12-01 00:00:00+00", "2025-12-02 00:00:00+00"]
        rollback = {
            "key": constraint.RULES["rollback"].name,
            "definition": constraint.RULES["rollback"].definition,
            "capture_id": 2,
        }
        gone = [{"capture_id": 2, "relation": "rules", "key": NO_OVERLAP}]
        found = [
            self.verdict(
                replace(story("c1 [5,8)"), checked_at=datetime.fromisoformat(at)),
                V12,
                rollback,
                captures=captures,
                vanished=gone,
            )[3]
            for at in ("2025-12-01 23:59:59+00:00", "2025-12-02 00:00:00+00:00")
        ]
        assert found == ["v12", "rollback"]


# Story → the versions under which it is a conflict.
UNDER = {
    "a1 [0,10) firm · c1 [5,8)": "strict v11 v12 rollback",
    "a1 [0,10) shadow · c1 [5,8)": "strict",
    "a1 [0,10) shadow:null · c1 [5,8)": "strict",
    "a1 [0,10) firm at:S · c1 [5,8)": "strict v11 rollback",
    "a1 [0,10) firm at:null · c1 [5,8)": "strict v11 rollback",
    "a1 [0,10) shadow at:S · c1 [5,8)": "strict",
    "a1 [0,10) firm by:B at:S · c1 [5,8)": "",
    "a1 [0,5) firm · c1 [5,8)": "",
}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    return planted(checks=[story(text).apart(text).row() for text in UNDER])


class TestUnder:
    @pytest.mark.parametrize("version", constraint.RULES)
    def test_documented_rule(self, version: str, con: duckdb.DuckDBPyConnection) -> None:
        conflicts = {text for text, versions in UNDER.items() if version in versions.split()}
        with replay.under(con, replay.named(version)):
            found = con.execute("select check_id, rule, rule_version from verdicts where rivals > 0").fetchall()
            changed = {row["check_id"] for row in query.rows(con, "replay/changed")}
        assert set(found) == {(text, constraint.RULES[version].name, version) for text in conflicts}
        assert changed == conflicts - {text for text, versions in UNDER.items() if "v12" in versions}

    def test_afterwards_the_stored_verdicts_are_seen_again(self, con: duckdb.DuckDBPyConnection) -> None:
        before = con.execute("from verdicts").fetchall()
        with replay.under(con, replay.named("strict")):
            assert con.execute("from verdicts").fetchall() != before
        assert con.execute("from verdicts").fetchall() == before

    def test_no_such_rule(self, con: duckdb.DuckDBPyConnection) -> None:
        with pytest.raises(NotFoundError, match="no rule v13: expected one of strict, v11, v12, rollback, or a file"):
            replay.named("v13")

    def test_a_rule_from_a_file(self, con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
        (tmp_path / "wider.sql").write_text('exclude using gist (resource_id with =, "window" with &&) where (not shadow)\n')
        rule = replay.named(str(tmp_path / "wider.sql"))
        assert (rule.name, rule.version) == ("wider", "given")
        with replay.under(con, rule):
            found = {check for (check,) in con.execute("select check_id from verdicts where rivals > 0").fetchall()}
        assert found == {text for text, versions in UNDER.items() if "v11" in versions.split()}
        (tmp_path / "odd.sql").write_text("exclude using gist (resource_id with <>)")
        with pytest.raises(RuleError, match="constraint odd has a form that cannot be replayed exactly"):
            replay.named(str(tmp_path / "odd.sql"))

    def test_refusals_keep_their_recorded_cause(self) -> None:
        refusals = {"c1": OVERLAP, "c2": refusal("40P01"), "c3": refusal("23P01", "shifts_no_overlap")}
        con = planted(checks=[replace(ALONE, name=name, conflict=said).row() for name, said in refusals.items()])
        with replay.under(con, replay.named("rollback")):
            found = con.execute("select cause from verdicts").fetchall()
        assert found == [("decided_under_another_rule",), ("deadlock",), ("other_refusal",)]

    def test_other_restaurants_are_looked_for_in_other_evidence(self) -> None:
        there = replace(LATER, restaurant_id="S", updated_at="2025-11-20 11:00:00+00")
        after = replace(there, name="a8", updated_at="2025-11-20 13:00:00+00")
        con = planted(checks=[story("c1 [5,8)").row()], allocations=[there.row(), after.row()])
        assert replay.check(con, "c1").conflicts == ()
        with replay.under(con, replay.named("v11")):
            check = replay.check(con, "c1")
        [conflict] = check.conflicts
        assert (conflict.rival.allocation_id, conflict.rival.source) == ("a9", "other restaurant")
        assert (check.replayed_verdict, check.grade) == (Verdict.CONFLICT, Grade.PARTIAL)

    def test_what_an_earlier_check_saw_was_no_news_to_this_one(self) -> None:
        seen = replace(LATER, updated_at="2025-11-20 11:58:00+00")
        earlier = replace(story("c0 [20,21)"), held=(seen,), checked_at=CHECKED_AT - timedelta(minutes=1))
        con = planted(checks=[earlier.row(), replace(ALONE, conflict=OVERLAP).row()], allocations=[seen.row()])
        assert replay.check(con, "c1").cause is Cause.RIVAL_NOT_IN_EVIDENCE


UUID = "5f0c1a52-6d0e-4b9e-9a43-0d2f5a3c7b1e"


def test_uuids_are_compared_not_their_spelling() -> None:
    asked = replace(story(f"a1 [0,10) firm on:{UUID} · c1 [5,8)"), tables=(UUID.upper(),))
    con = planted(checks=[asked.row()])
    assert replay.check(con, "c1").cause is Cause.CONFIRMED_OVER_CONFLICT


def test_a_writer_who_names_no_restaurant_still_names_its_table() -> None:
    conflict = OVERLAP | {"attempted": [{"resource_type": "table", "resource_id": "T", "window": window("[5,8)")}]}
    asked = replace(REFUSED, conflict=conflict, more={"request": None, "scope": None})
    table = {"key": "T", "restaurant_id": "R", "table_number": "1", "capacity": "4", "active": "true"}
    known = replay.check(planted(checks=[asked.row()], tables=[table]), "c1")
    assert (known.restaurant_id, known.replayed_verdict, known.cause) == ("R", Verdict.CONFLICT, Cause.AGREED)
    both = replace(asked, held=(), conflict=conflict | {"detail": None})
    unknown = replay.check(planted(checks=[both.row()]), "c1")
    assert (unknown.replayed_verdict, unknown.cause) == (Verdict.UNKNOWN, Cause.EVIDENCE_MISSING)


@pytest.mark.parametrize(
    ("own", "listed", "named", "restaurant"),
    [
        ((), ("R",), False, "R"),
        ((), ("R", "S"), False, "I"),
        (("S",), ("R",), False, "S"),
        (("S", "R"), ("R",), False, "R"),
        (("S",), ("S",), True, "R"),
    ],
)
def test_whose_check_it_is_where_the_writer_does_not_say(
    own: tuple[str, ...], listed: tuple[str, ...], named: bool, restaurant: str
) -> None:
    """What PostgreSQL compared, then the booking's own rows, then what the snapshot lists, then whose table it is."""
    place = {"resource_type": "table", "resource_id": "T", "window": window("[5,8)")}
    conflict = OVERLAP | {"attempted": [place], "detail": NAMED if named else None}
    held = tuple(Held(f"a{n}", "[20,30)", restaurant_id=of, booking_id="D") for n, of in enumerate(listed))
    asked = replace(REFUSED, held=held, conflict=conflict, more={"request": None, "scope": None})
    rows = [Held(f"o{n}", "[40,50)", restaurant_id=of, booking_id="B").row() for n, of in enumerate(own)]
    table = {"key": "T", "restaurant_id": "I", "table_number": "1", "capacity": "4", "active": "true"}
    assert replay.check(planted(checks=[asked.row()], allocations=rows, tables=[table]), "c1").restaurant_id == restaurant


class TestAlternatives:
    def found(self, text: str, *tables: dict[str, Any]) -> list[tuple[str, datetime | None]]:
        seats = [{"table_id": name, "restaurant_id": "R", "capacity": 4} for name in ("T", "U")]
        check = replace(story(text), conflict=refusal("23P01", NO_OVERLAP), more={"capacities": seats})
        fitting = replay.check(planted(checks=[check.row()], tables=tables), "c1").alternatives
        return [(each.resource_id, each.window.lower) for each in fitting or ()]

    def test_a_start_behind_an_inclusive_bound_is_just_behind_it(self) -> None:
        asked = DAY + timedelta(minutes=5)
        later = DAY + timedelta(minutes=6)
        earlier = DAY - timedelta(minutes=3)
        assert self.found("a1 [0,6) firm · c1 [5,8) refused") == [("T", later), ("T", earlier), ("U", asked)]
        just = later + timedelta(microseconds=1)
        assert self.found("a1 [0,6] firm · c1 [5,8) refused") == [("T", just), ("T", earlier), ("U", asked)]

    @pytest.mark.parametrize(("active", "offered"), [("true", True), ("false", False), (None, True)])
    def test_no_table_is_offered_that_is_not_in_use(self, active: str | None, offered: bool) -> None:
        table = {"key": "U", "restaurant_id": "R", "table_number": "2", "capacity": "4", "active": active}
        assert (("U", DAY + timedelta(minutes=5)) in self.found("a1 [0,6) firm · c1 [5,8) refused", table)) is offered


def test_a_scope_of_another_restaurant_says_nothing() -> None:
    scope = {"restaurant_id": "S", "window": window("(,)")}
    check = replay.check(planted(checks=[replace(story("c1 [5,8)"), more={"scope": scope}).row()]), "c1")
    assert (check.replayed_verdict, check.grade, check.scope) == (Verdict.CLEAR, Grade.PARTIAL, None)


def test_where_two_rules_forbid_it_each_rival_is_told_once() -> None:
    check = replay.check(planted(checks=[replace(REFUSED, checked_at=constraint.MIGRATED_AT - timedelta(days=1)).row()]), "c1")
    assert [conflict.rival.allocation_id for conflict in check.conflicts] == ["a1"]
    assert check.rule is not None


def test_every_cause_is_reached() -> None:
    meanwhile = replace(ALONE, conflict=OVERLAP).row(key="meanwhile")
    rows = [asked.row(key=name) for name, (asked, _) in CAUSES.items()]
    early = replace(story("c1 [5,8)"), checked_at=constraint.MIGRATED_AT).row(key="early")
    con = planted(checks=[meanwhile, story("c1 [5,8)").row(snapshot_data=None)], allocations=[LATER.row()])
    found = {cause for (cause,) in con.execute("select distinct cause from verdicts").fetchall()}
    found |= {cause for (cause,) in planted(checks=rows).execute("select distinct cause from verdicts").fetchall()}
    nobody_named = replace(ALONE, conflict=refusal("23P01")).row()
    found |= set(*planted(checks=[nobody_named], allocations=[LATER.row()]).execute("select cause from verdicts").fetchall())
    found |= {cause for (cause,) in planted(checks=[early], rules=[]).execute("select cause from verdicts").fetchall()}
    found |= {cause for _, cause in CONFIRMED_UNDER.values()} | {TestDeferred().moved("[20,30)")[1]}
    assert found == set(Cause)


# Story of a confirmed check → the rule under which it is replayed, and the cause then.
CONFIRMED_UNDER = {
    "a1 [0,10) shadow · c1 [5,8)": ("strict", "confirmed_over_shadow"),
    "a1 [0,10) shadow at:S · c1 [5,8)": ("strict", "confirmed_over_shadow"),
    "a1 [0,10) firm at:S · c1 [5,8)": ("v11", "confirmed_over_other_tenant"),
    "a1 [0,10) firm at:S · a2 [6,7) shadow · c1 [5,8)": ("strict", "rule_looser_then"),
    "a1 [0,10) firm · a2 [6,7) shadow · c1 [5,8)": ("strict", "confirmed_over_conflict"),
}


@pytest.mark.parametrize("text", CONFIRMED_UNDER)
def test_why_another_rule_would_have_refused_what_was_confirmed(text: str) -> None:
    version, cause = CONFIRMED_UNDER[text]
    with closing(planted(checks=[story(text).row()])) as con, replay.under(con, constraint.RULES[version]):
        assert con.execute("select replayed_verdict, cause from verdicts").fetchall() == [("conflict", cause)]


class TestDeferred:
    """A deferred rule looks at commit; that the check was confirmed, and a row moved at its instant, shows that it was."""

    def moved(self, to: str, text: str = "a1 [0,10) firm by:C · c1 [5,8)", **changes: Any) -> tuple[str, str]:
        check = story(text)
        row = replace(check.held[0], window=to, updated_at=CHECKED_AT.isoformat(" ")).row(**changes)
        con = planted(checks=[check.row()], allocations=[row])
        [(verdict, cause)] = con.execute("select replayed_verdict, cause from verdicts").fetchall()
        return verdict, cause

    def test_moved_out_of_the_way_before_commit(self) -> None:
        assert self.moved("[20,30)") == ("clear", "transient_overlap")
        assert self.moved("[8,10)") == ("clear", "transient_overlap")
        assert self.moved("[0,10)", resource_id="U") == ("clear", "transient_overlap")
        assert self.moved("[0,10)", shadow="true") == ("clear", "transient_overlap")

    def test_left_in_the_way(self) -> None:
        assert self.moved("[7,10)") == ("conflict", "confirmed_over_conflict")

    def test_moved_by_another_transaction(self) -> None:
        other = (CHECKED_AT + timedelta(microseconds=1)).isoformat(" ")
        assert self.moved("[20,30)", updated_at=other) == ("conflict", "confirmed_over_conflict")

    def test_one_of_two_left(self) -> None:
        text = "a1 [0,10) firm by:C · a2 [7,9) firm by:D · c1 [5,8)"
        assert self.moved("[20,30)", text) == ("conflict", "confirmed_over_conflict")

    def test_a_refusal_was_not_deferred(self) -> None:
        assert self.moved("[20,30)", "a1 [0,10) firm by:C · c1 [5,8) refused") == ("conflict", "agreed")

    def test_under_a_rule_that_cannot_be_deferred_it_was_moved_first(self) -> None:
        check = story("a1 [0,10) firm by:C · c1 [5,8)")
        row = replace(check.held[0], window="[20,30)", updated_at=CHECKED_AT.isoformat(" ")).row()
        with closing(planted(checks=[check.row()], allocations=[row])) as con, replay.under(con, constraint.RULES["v11"]):
            assert con.execute("select cause from verdicts").fetchall() == [("transient_overlap",)]


def test_what_another_rule_says_of_a_check_whose_own_is_not_known() -> None:
    late = replace(story("a1 [0,10) firm · c1 [5,8)"), checked_at=datetime.fromisoformat(CAPTURED_AT))
    odd = {"key": "odd", "definition": V12["definition"].replace("(NOT shadow)", "(NOT is_maintenance)")}
    with closing(planted(checks=[late.row()], rules=[odd])) as con:
        with replay.under(con, constraint.RULES["v11"]):
            assert con.execute("select replayed_verdict, cause from verdicts").fetchall() == [("conflict", "rule_unknown")]
        assert replay.pairs(con, constraint.RULES["v11"])["refused_in_force"].to_list() == []


class TestOneStatement:
    """What is asked for in one statement is compared with each other, too, where the rule compares no resources."""

    ONE_PARTY = constraint.parse("one_party", 'EXCLUDE USING gist (restaurant_id WITH =, "window" WITH &&) DEFERRABLE')

    def rivals(self, text: str) -> list[tuple[str | None, str, str | None]]:
        with closing(planted(checks=[story(text).row()])) as con, replay.under(con, self.ONE_PARTY):
            check = replay.check(con, "c1")
        assert check.replayed_verdict == (Verdict.CONFLICT if check.conflicts else Verdict.CLEAR)
        return [(c.rival.allocation_id, c.rival.source, c.rival.resource_id) for c in check.conflicts]

    def test_two_tables_at_once(self) -> None:
        assert self.rivals("c1 [5,8) on:T,U") == [(None, "same request", "U"), (None, "same request", "T")]
        assert self.rivals("c1 [5,8) on:T") == []

    def test_rivals_on_other_tables(self) -> None:
        assert self.rivals("a1 [0,10) firm on:V · c1 [5,8)") == [("a1", "snapshot", "V")]

    def test_the_bookings_own_rows_on_what_it_asks_for_are_replaced(self) -> None:
        assert self.rivals("a1 [0,10) firm by:B on:T · c1 [5,8)") == []
        assert self.rivals("a1 [0,10) firm by:B on:V · c1 [5,8)") == [("a1", "snapshot", "V")]


class TestWhatWasAskedFor:
    """The request in the snapshot, else what was attempted, else the booking's own allocations."""

    ROW = replace(story("a9 [5,8) firm by:B · c [0,1)").held[0], updated_at=CHECKED_AT.isoformat(" "))

    def asked(self, check: Asked, **raw: Any) -> list[tuple[str | None, str, str]]:
        found = replay.check(planted(checks=[check.row()], **raw), "c1").requests
        return [(request.resource_id, str(request.window), request.source) for request in found]

    def test_attempted_where_the_requested_window_cannot_be_read(self) -> None:
        attempted = [{"resource_type": "table", "resource_id": "T", "window": window("[5,8)")}]
        check = replace(ALONE, conflict=OVERLAP | {"attempted": attempted})
        check = replace(check, more={"request": {"table_ids": ["T"], "restaurant_id": "R", "window": "soon"}})
        assert self.asked(check) == [("T", window("[5,8)"), "attempted")]

    def test_the_hold_in_its_own_snapshot_comes_before_its_firm_rows(self) -> None:
        rows = (
            "a1 [5,8) shadow by:B · a2 [0,3) firm by:B on:U · a3 [5,8) shadow by:C on:V · a4 [5,8) shadow by:B on:H type:hold"
        )
        check = replace(story(f"{rows} · c1 [5,8)"), more={"request": None})
        assert self.asked(check) == [("T", window("[5,8)"), "inferred")]

    def test_a_row_found_later(self) -> None:
        check = replace(story("c1 [5,8)"), more={"request": None})
        assert self.asked(check, allocations=[self.ROW.row()]) == [("T", window("[5,8)"), "inferred")]
        assert self.asked(check, allocations_archive=[self.ROW.row()]) == [("T", window("[5,8)"), "inferred")]

    def test_a_row_changed_after_the_check_tells_nothing(self) -> None:
        check = replace(story("c1 [5,8)"), more={"request": None})
        changed = (CHECKED_AT + timedelta(minutes=2)).isoformat(" ")
        assert self.asked(check, allocations=[self.ROW.row(updated_at=changed)]) == []


def test_unknown_check() -> None:
    with pytest.raises(NotFoundError, match="no check 4711 in the store: it holds 1 checks, c1 to c1"):
        replay.check(planted(checks=[ALONE.row()]), "4711")
    with pytest.raises(NotFoundError, match=r"B is a booking, not a check: explain one of its checks, c1$"):
        replay.check(planted(checks=[ALONE.row()]), "B")
    with pytest.raises(NotFoundError, match="holds no checks at all"):
        replay.check(planted(), "4711")


# Properties, each over many checks in one store.

MINUTES = st.integers(0, 8).map(str)
LOWER = st.one_of(MINUTES, MINUTES, MINUTES, st.sampled_from(["", "-inf", "inf"]))
UPPER = st.one_of(MINUTES, MINUTES, MINUTES, st.sampled_from(["", "-inf", "inf"]))


def _ordered(bounds: tuple[str, str, str, str]) -> str:
    """Swap finite bounds that are in the wrong order, so that every window is one."""
    left, lower, upper, right = bounds
    value = {"-inf": -1.0, "inf": 99.0}
    low = value[lower] if lower in value else float(lower or -2)
    high = value[upper] if upper in value else float(upper or 100)
    return f"{left}{lower},{upper}{right}" if low <= high else f"{left}{upper},{lower}{right}"


WINDOWS = st.one_of(
    st.just("empty"),
    *[st.tuples(st.sampled_from("[[[("), LOWER, UPPER, st.sampled_from(")))]")).map(_ordered)] * 9,
)
HELD = st.builds(
    Held,
    name=st.just("a"),
    window=st.one_of(st.none(), *[WINDOWS] * 9),
    shadow=st.sampled_from([False, False, False, True, None]),
    booking_id=st.sampled_from(["B", "C", "D", None]),
    restaurant_id=st.sampled_from(["R", "R", "R", "S", None]),
    resource_type=st.sampled_from(["table", "table", "table", "merge_group", None]),
    resource_id=st.sampled_from(["T", "T", "U", None]),
)


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    held = draw(st.lists(HELD, max_size=5))
    return Asked(
        "c",
        draw(WINDOWS),
        tuple(replace(one, name=f"a{i}") for i, one in enumerate(held)),
        tables=draw(st.sampled_from([("T",), ("T", "U"), ("U",)])),
        booking_id=draw(st.sampled_from(["B", None])),
        restaurant_id=draw(st.sampled_from(["R", "R", "R", None])),
    )


class Batch(list[Asked]):
    """Many checks; a failure shows those that differ, not all of them."""

    def __repr__(self) -> str:
        return f"<{len(self)} checks>"


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    return Batch(draw(st.lists(asked(), min_size=50, max_size=100)))


# A batch that fails is not made smaller: the assertion shows the checks that differ.
IN_BATCHES = settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
FOREVER = timedelta(days=3_000)


def instants(text: str) -> tuple[datetime, bool, datetime, bool] | None:
    """Read a window in minutes into two datetimes and whether each is inside; null when it is empty."""
    if text == "empty":
        return None
    lower, upper = text[1:-1].split(",")
    no_bound = {"": 2, "inf": 1}
    low = DAY + (
        FOREVER
        if lower == "inf"
        else -2 * FOREVER
        if lower == ""
        else -FOREVER
        if lower == "-inf"
        else timedelta(minutes=float(lower))
    )
    high = DAY + (
        no_bound[upper] * FOREVER if upper in no_bound else -FOREVER if upper == "-inf" else timedelta(minutes=float(upper))
    )
    if low > high or (low == high and text[0] + text[-1] != "[]"):
        return None
    return low, text[0] == "[", high, text[-1] == "]"


def overlap(one: str | None, other: str | None) -> bool:
    a, b = one and instants(one), other and instants(other)
    if not a or not b:
        return False
    (low, low_in), (high, high_in) = max((a[0], not a[1]), (b[0], not b[1])), min((a[2], a[3]), (b[2], b[3]))
    return low < high or (low == high and not low_in and high_in)


def rivals_by_hand(check: Asked, version: str) -> set[tuple[str, str]]:
    """Compare every row asked for with every row held, as the definition of the rule says."""
    found = set()
    for table in check.tables:
        wanted = {"restaurant_id": check.restaurant_id, "resource_type": "table", "resource_id": table}
        for held in check.held:
            same = all(
                value is not None and value == vars(held)[column]
                for column, value in wanted.items()
                if column in constraint.RULES[version].equality
            )
            counts = held.shadow is False or version == "strict"
            replaced = None not in (held.booking_id, check.booking_id) and (
                (held.booking_id, held.resource_type, held.resource_id) == (check.booking_id, "table", table)
            )
            if same and counts and not replaced and overlap(held.window, check.window):
                found.add((table, held.name))
    return found


def replayed(checks: list[Asked], version: str = "v12") -> list[set[tuple[str, str]]]:
    """Replay many checks in one store; return the rivals of each."""
    rows = [check.apart(f"#{i}").row() for i, check in enumerate(checks)]
    with closing(planted(checks=rows)) as con, replay.under(con, replay.named(version)):
        rivals = con.execute("select check_id, resource_id, allocation_id from rivals").fetchall()
        verdicts = dict(con.execute("select check_id, replayed_verdict from verdicts").fetchall())
    assert len(set(rivals)) == len(rivals), "a rival was found twice"
    found: list[set[tuple[str, str]]] = [set() for _ in checks]
    for check_id, table, rival in rivals:
        found[int(check_id[1:])].add((table.removesuffix(check_id), rival))
    assert verdicts == {f"#{i}": "conflict" if rivals else "clear" for i, rivals in enumerate(found)}
    return found


def told_apart(checks: list[Asked], one: list[Any], other: list[Any]) -> list[tuple[Asked, Any, Any]]:
    """Return the checks of which two answers differ, for a failure that can be read."""
    return [case for case in zip(checks, one, other, strict=True) if case[1] != case[2]]


class TestProperties:
    @pytest.mark.parametrize("version", constraint.RULES)
    @IN_BATCHES
    @given(batches())
    def test_replay_equals_brute_force(self, version: str, checks: list[Asked]) -> None:
        assert not told_apart(checks, replayed(checks, version), [rivals_by_hand(check, version) for check in checks])

    @IN_BATCHES
    @given(st.lists(st.tuples(WINDOWS, WINDOWS), min_size=80, max_size=150))
    def test_symmetric_in_the_pair(self, pairs: list[tuple[str, str]]) -> None:
        there = [Asked("c", asked, (Held("a", held),)) for asked, held in pairs]
        back = [Asked("c", held, (Held("a", asked),)) for asked, held in pairs]
        assert not told_apart(there, replayed(there), replayed(back))

    @IN_BATCHES
    @given(batches(), st.integers(-100_000, 100_000))
    def test_shifting_all_times_changes_nothing(self, checks: list[Asked], minutes: int) -> None:
        def moved(check: Asked) -> Asked:
            held = tuple(replace(one, window=one.window and shifted(one.window, minutes)) for one in check.held)
            return replace(check, window=shifted(check.window, minutes), held=held)

        assert not told_apart(checks, replayed(checks), replayed([moved(check) for check in checks]))

    @IN_BATCHES
    @given(batches(), st.integers(0, 4))
    def test_removing_an_allocation_never_adds_a_rival(self, checks: list[Asked], gone: int) -> None:
        fewer = [replace(check, held=(*check.held[:gone], *check.held[gone + 1 :])) for check in checks]
        for before, after, check in zip(replayed(checks), replayed(fewer), checks, strict=True):
            removed = {held.name for held in check.held[gone : gone + 1]}
            assert after == {(table, rival) for table, rival in before if rival not in removed}


def test_attempted_rows_stand_in_for_a_request_that_is_not_in_the_snapshot() -> None:
    attempted = [{"resource_type": "merge_group", "resource_id": "T", "window": window("[5,8)")}]
    told = story("a1 [0,10) firm type:merge_group · a2 [0,10) firm · c1 [5,8) refused").snapshot()
    told["request"] = {"restaurant_id": "R"}
    con = planted(
        checks=[REFUSED.row(snapshot_data=json.dumps(told), conflict_details=json.dumps(OVERLAP | {"attempted": attempted}))]
    )
    check = replay.check(con, "c1")
    assert [(r.resource_type, r.source) for r in check.requests] == [("merge_group", "attempted")]
    assert [(c.rival.allocation_id, c.rival.kind) for c in check.conflicts] == [("a1", "merge_group")]
