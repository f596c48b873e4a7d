"""A check told: headlines, proof, PostgreSQL's words and alternatives, on planted checks and on the lab's evidence."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from typing import Any

import duckdb
import psycopg
import pytest
from conftest import database
from story import Held, planted, story
from story import window as minutes

import analysis
from analysis import Explanation, canvas, constraint, replay, timeline
from analysis.model import Allocation, Alternative, Cause, Change, Check, Conflict, Grade, Look, NearMiss, Verdict, Window
from analysis.phrases import local_zone, rival_names

DAY = datetime(2025, 11, 15, tzinfo=UTC)
OVERLAP = ("23P01", 'conflicting key value violates exclusion constraint "allocations_no_overlap"')
NOTHING_SAID: dict[str, str | None] = dict.fromkeys(("sqlstate", "constraint", "message", "detail"))
HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'single' </pre></div>"
CONTROL = "\x1b[31mred\x07\x00\x9b\u202e\r"


def window(lower: str | datetime, upper: str | datetime) -> Window:
    """Write a window of that day, or of two instants, as PostgreSQL prints it in UTC; infinity and nothing stay words."""
    bounds = [_instant(bound) for bound in (lower, upper)]
    texts = [f'"{b:%Y-%m-%d %H:%M:%S}+00"' if isinstance(b, datetime) else b for b in bounds]
    at = [b if isinstance(b, datetime) else None for b in bounds]
    return Window(f"[{texts[0]},{texts[1]})", at[0], at[1])


def _instant(bound: str | datetime) -> str | datetime:
    if isinstance(bound, datetime) or ":" not in bound:
        return bound
    hours, minutes = bound.split(":")
    return DAY + timedelta(hours=int(hours), minutes=int(minutes))


REQUEST = Allocation("table", "t7", window("18:00", "19:30"), "request", "request", "r1", label="T7", seats=4, shadow=False)


def rival(lower: str | datetime = "17:30", upper: str | datetime = "19:00", **changes: Any) -> Allocation:
    since = DAY - timedelta(hours=14, minutes=48)
    held = Allocation(
        "table", "t7", window(lower, upper), "booking", "snapshot", "r1", "a91e", "52d0", "T7", shadow=False, since=since
    )
    return replace(held, **changes)


def conflict(held: Allocation | None = None, overlap: Window | None = None) -> Conflict:
    overlap = overlap or window("18:00", "19:00")
    length = overlap.length
    return Conflict(REQUEST, held or rival(), overlap, None if length is None else length.total_seconds())


REFUSED = Check(
    check_id="4711",
    booking_id="8f3c",
    restaurant_id="r1",
    restaurant_name="The Anchor",
    timezone="Europe/London",
    checked_at=datetime(2025, 11, 15, 17, 42, 3, tzinfo=UTC),
    captured_at=datetime(2025, 11, 20, 3, tzinfo=UTC),
    capture_id=12,
    recorded_verdict="refused",
    replayed_verdict=Verdict.CONFLICT,
    cause=Cause.AGREED,
    unknown_because=None,
    grade=Grade.COMPLETE,
    rule=constraint.RULES["v12"],
    recorded=NOTHING_SAID | {"sqlstate": OVERLAP[0], "message": OVERLAP[1]},
    scope=Window('["2025-11-15 00:00:00+00","2025-11-16 00:00:00+00")', DAY, DAY + timedelta(days=1)),
    hold_id="h1",
    requests=(REQUEST,),
    conflicts=(conflict(),),
    state=(rival(),),
    alternatives=(),
)
CLEAR = {"replayed_verdict": Verdict.CLEAR, "conflicts": ()}
CONFIRMED = {"recorded_verdict": "confirmed", "recorded": NOTHING_SAID}


def told(**changes: Any) -> str:
    return str(Explanation(replace(REFUSED, **changes)))


def said(sqlstate: str, message: str) -> dict[str, Any]:
    return {"recorded": NOTHING_SAID | {"sqlstate": sqlstate, "message": message}}


def unknown(cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause,
        "unknown_because": cause,
        "replayed_verdict": Verdict.UNKNOWN,
        "conflicts": (),
        "alternatives": None,
    }


HEADLINES: dict[str, tuple[dict[str, Any], str]] = {
    "refused rightly": ({}, "Refused, and rightly so."),
    "confirmed rightly": (CLEAR | CONFIRMED, "Confirmed, and rightly so: nothing stood in the way."),
    "race": (
        CLEAR | {"cause": Cause.RIVAL_COMMITTED_MEANWHILE},
        "Refused, though its own snapshot shows nothing in the way: the rival was not committed yet.",
    ),
    "below a millisecond": (
        {"cause": Cause.OVERLAP_BELOW_A_MILLISECOND},
        "Refused by the rule, over less than a millisecond: the overlap may be an artefact of a writer's clock.",
    ),
    "another rule": (
        CLEAR | {"cause": Cause.DECIDED_UNDER_ANOTHER_RULE, "recorded": NOTHING_SAID | {"constraint": "v11"}},
        "Refused under another rule, v11; the rule in force finds nothing in the way.",
    ),
    "rival gone": (CLEAR | {"cause": Cause.RIVAL_NOT_IN_EVIDENCE}, "Refused; by whom, this store cannot tell."),
    "a race without a name": (
        CLEAR | {"cause": Cause.RIVAL_PERHAPS_COMMITTED_MEANWHILE},
        "Refused, though its own snapshot shows nothing in the way, and no key is recorded: "
        "perhaps a rival that was not committed yet.",
    ),
    "transient": (
        CLEAR | CONFIRMED | {"cause": Cause.TRANSIENT_OVERLAP},
        "Confirmed, and rightly so: its own transaction moved what overlapped out of the way.",
    ),
    "a unique violation in disguise": (
        CLEAR | said("P0001", "allocations_no_overlap") | {"cause": Cause.UNIQUE_VIOLATION_CALLED_OVERLAP},
        "Refused as an overlap, yet nothing in evidence overlaps: the booking already held just that, "
        "so it was likely a unique violation.",
    ),
    "a shadow under another rule": (
        CONFIRMED | {"cause": Cause.CONFIRMED_OVER_SHADOW},
        "Confirmed by the rule in force; allocations_no_overlap refuses it: confirmed over a shadow row.",
    ),
    "another tenant under another rule": (
        CONFIRMED | {"cause": Cause.CONFIRMED_OVER_OTHER_TENANT},
        "Confirmed by the rule in force; allocations_no_overlap refuses it: confirmed over another restaurant's row.",
    ),
    "several kinds under another rule": (
        CONFIRMED | {"cause": Cause.RULE_LOOSER_THEN},
        "Confirmed by the rule in force; allocations_no_overlap refuses it: confirmed under a looser rule.",
    ),
    "policy": (
        CLEAR | said("P0003", "policy version changed") | {"cause": Cause.POLICY_CHANGED},
        "Refused for another reason: policy version changed.",
    ),
    "party": (
        CLEAR | said("23514", "party does not fit") | {"cause": Cause.PARTY_TOO_LARGE},
        "Refused for another reason: party does not fit.",
    ),
    "foreign table": (
        CLEAR | said("23503", "table of another restaurant") | {"cause": Cause.TABLE_OF_ANOTHER_RESTAURANT},
        "Refused for another reason: table of another restaurant.",
    ),
    "cancelled": (
        CLEAR | said("P0001", "booking cancelled") | {"cause": Cause.OTHER_REFUSAL},
        "Refused for another reason: booking cancelled.",
    ),
    "over a conflict": (
        CONFIRMED | {"cause": Cause.CONFIRMED_OVER_CONFLICT},
        "Confirmed over a conflict: the rule should have refused this one.",
    ),
    "hold": (
        CLEAR | said("P0001", "hold expired") | {"cause": Cause.HOLD_NOT_LIVE},
        "Refused for another reason: hold expired.",
    ),
    "hold and overlap": (
        said("P0001", "hold expired") | {"cause": Cause.HOLD_NOT_LIVE},
        "Refused for another reason: hold expired; an overlap stood in the way as well.",
    ),
    "deadlock": (
        CLEAR | said("40P01", "deadlock detected") | {"cause": Cause.DEADLOCK},
        "Refused in a race with another transaction, perhaps for the same table: deadlock detected. No rival is named.",
    ),
    "deadlock without words": (
        CLEAR | {"recorded": NOTHING_SAID, "cause": Cause.DEADLOCK},
        "Refused in a race with another transaction, perhaps for the same table: deadlock. No rival is named.",
    ),
    "deadlock over an overlap": (
        said("40P01", "deadlock detected") | {"cause": Cause.DEADLOCK},
        "Refused in a race with another transaction, perhaps for the same table: deadlock detected. None is named; an overlap "
        "stood in the way as well.",
    ),
    "serialization": (
        CLEAR | said("40001", "could not serialize") | {"cause": Cause.SERIALIZATION_FAILURE},
        "Refused in a race with another transaction, perhaps for the same table: could not serialize. No rival is named.",
    ),
    "unique": (
        CLEAR | said("23505", "duplicate key") | {"cause": Cause.UNIQUE_VIOLATION},
        "Refused for another reason: duplicate key.",
    ),
    "no reason": (
        CLEAR | {"recorded": NOTHING_SAID, "cause": Cause.REASON_NOT_RECORDED},
        "Refused; no reason was recorded, and its own snapshot shows nothing in the way.",
    ),
    "no reason, but a rival": (
        {"recorded": NOTHING_SAID},
        "Refused; no reason was recorded, but an overlap stood in the way and was reason enough.",
    ),
    "no evidence": (unknown(Cause.EVIDENCE_MISSING), "Refused; whether rightly, cannot be told: evidence missing."),
    "bad evidence": (
        unknown(Cause.EVIDENCE_UNDECODABLE) | CONFIRMED,
        "Confirmed; whether rightly, cannot be told: evidence cannot be decoded.",
    ),
    "no rule": (
        unknown(Cause.RULE_UNKNOWN) | {"rule": None},
        "Refused; whether rightly, cannot be told: rule in force not known.",
    ),
}


@pytest.mark.parametrize(("changes", "headline"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_says_both_verdicts_and_the_cause(changes: dict[str, Any], headline: str) -> None:
    assert told(**changes).splitlines()[1] == headline
    assert escape(headline) in Explanation(replace(REFUSED, **changes))._repr_html_()


def test_a_confirmed_check_names_its_nearest_neighbours() -> None:
    before, after = rival("17:00", "18:00"), rival("21:35", "22:00")
    misses = (NearMiss(before, "before", 0.0), NearMiss(after, "after", 7500.0))
    text = told(**CLEAR, **CONFIRMED, near_misses=misses)
    assert f"Nearest before: booking {before.booking_id}, table {before.label}, [17:00, 18:00), touches it." in text
    assert f"Nearest after: booking {after.booking_id}, table {after.label}, [21:35, 22:00), lies 2 h 5 min after it." in text
    assert "Nearest" not in told(near_misses=misses)


def test_the_timeline_lists_everything_once_with_its_role() -> None:
    other = rival(allocation_id="a2")
    data = Explanation(replace(REFUSED, state=(rival(), other))).data
    assert [(bar["role"], bar["allocation_id"]) for bar in data["timeline"]] == [
        ("request", None),
        ("rival", rival().allocation_id),
        ("held", "a2"),
    ]


def test_the_notebook_block_ends_with_the_timeline() -> None:
    block = Explanation(REFUSED)._repr_html_()
    [picture] = re.findall(r'<img alt="[^"]+" src="data:image/svg\+xml;base64,([^"]+)"></div>$', block)
    assert b64decode(picture).decode() == canvas.svg(timeline.draw(REFUSED))
    with_hostile_text = Explanation(hostile(HOSTILE))._repr_html_()
    assert "<img src=x" not in b64decode(re.findall(r"base64,([^\"]+)", with_hostile_text)[0]).decode()


def test_what_would_have_to_go() -> None:
    second = conflict(rival("18:30", "20:00", allocation_id="b2"), window("18:30", "19:30"))
    both = replace(REFUSED, conflicts=(conflict(), second))
    clear: dict[str, Any] = {**CLEAR}
    assert Explanation(both).data["to_clear"] == ["a91e", "b2"]
    assert "Each of the 2 alone stands in the way: all would have to go." in str(Explanation(both))
    assert Explanation(REFUSED).data["to_clear"] == ["a91e"]
    assert "would have to go" not in str(Explanation(REFUSED))
    assert Explanation(replace(REFUSED, **clear)).data["to_clear"] == []
    nameless = conflict(rival(allocation_id=None, source="named by PostgreSQL"))
    assert Explanation(replace(REFUSED, conflicts=(conflict(), nameless))).data["to_clear"] is None
    assert Explanation(replace(REFUSED, grade=Grade.PARTIAL)).data["to_clear"] is None
    assert Explanation(replace(REFUSED, **unknown(Cause.EVIDENCE_MISSING))).data["to_clear"] is None


def test_a_transient_overlap_is_told_with_what_was_moved() -> None:
    moved = conflict(rival(source="moved before commit"))
    changes: dict[str, Any] = CONFIRMED | {
        "replayed_verdict": Verdict.CLEAR,
        "cause": Cause.TRANSIENT_OVERLAP,
        "conflicts": (moved,),
    }
    text = told(**changes)
    assert "(in the check's own snapshot, moved out of the way before commit)" in text
    assert "Either it was moved before C was inserted, or the rule was deferred, and looked at what was left at commit." in text
    assert "forbids that" not in text
    assert "PostgreSQL would say" not in told(**(changes | {"recorded": NOTHING_SAID}))
    assert Explanation(replace(REFUSED, **changes)).data["to_clear"] == []


def test_an_inferred_request_says_so() -> None:
    guessed = replace(REFUSED, requests=(replace(REQUEST, source="inferred"),), grade=Grade.INFERRED)
    assert "Evidence: inferred." in str(Explanation(guessed))
    limit = "Cannot be seen: what was asked for: it is inferred from the booking's own allocations."
    assert limit in str(Explanation(guessed))
    assert limit not in told()


def test_what_lies_beyond_all_instants_is_no_near_miss() -> None:
    far = replace(story("c1 [5,8)"), held=(replace(story("a1 [0,1) firm · c1 [5,8)").held[0], window="[inf,)"),))
    assert replay.check(planted(checks=[far.row()]), "c1").near_misses == ()


ATTEMPTED = {"resource_type": "table", "resource_id": "T", "window": minutes("[5,8)")}
NOT_ALONE = {
    "another kind of resource": {"resource_type": "merge_group", "resource_id": "G", "window": minutes("[5,8)")},
    "another window": {"resource_type": "table", "resource_id": "U", "window": minutes("[8,11)")},
    "nothing else": None,
}


@pytest.mark.parametrize("other", NOT_ALONE)
def test_alternatives_are_those_of_tables_for_one_window(other: str) -> None:
    """What else was asked for, and would have to move along, was not tried."""
    attempted = [ATTEMPTED, *filter(None, [NOT_ALONE[other]])]
    check = replace(story("a1 [0,6) firm by:A · c1 [5,8) refused"), conflict={"sqlstate": "23P01", "attempted": attempted})
    snapshot = check.snapshot() | {"capacities": [{"table_id": "V", "restaurant_id": "R", "capacity": 4}]}
    del snapshot["request"]
    found = replay.check(planted(checks=[check.row(snapshot_data=json.dumps(snapshot))]), "c1")
    assert len(found.conflicts) == 1
    assert (found.alternatives is None) == (other != "nothing else")


def test_tables_of_another_restaurant_are_not_offered() -> None:
    check = story("a1 [0,6) firm by:A · c1 [5,8) refused")
    seats = [{"table_id": t, "restaurant_id": r, "capacity": 4} for t, r in (("T", "R"), ("U", "R"), ("V", "X"), ("W", None))]
    check = replace(check, conflict={"sqlstate": "23P01"}, more={"capacities": seats})
    offered = replay.check(planted(checks=[check.row()]), "c1").alternatives or ()
    assert [a.resource_id for a in offered if not a.shift_s] == ["U", "W"]


def test_near_misses_are_the_nearest_firm_rows_of_other_bookings_on_the_same_table() -> None:
    others = "a1 [0,1) firm · a2 [2,4) firm · a3 [4.5,5) shadow · own [3,5) firm by:B · a4 [8,9) firm · a5 [8,9) firm on:U"
    con = planted(checks=[story(f"{others} · c1 [5,8)").row()])
    assert [(m.allocation.allocation_id, m.side, m.gap_s) for m in replay.check(con, "c1").near_misses] == [
        ("a2", "before", 60.0),
        ("a4", "after", 0.0),
    ]


@pytest.mark.parametrize(
    ("look", "where"),
    [
        (
            Look(REFUSED.checked_at + timedelta(milliseconds=412), "4793", None),
            "in the snapshot of check 4793, which began 0.412 s later",
        ),
        (
            Look(REFUSED.checked_at - timedelta(microseconds=388), "4793", None),
            "in the snapshot of check 4793, which began 0.388 ms earlier but looked later",
        ),
        (Look(REFUSED.captured_at, None, 12), "by capture 12, which began 4.4 days later"),
    ],
)
def test_a_race_is_told_with_the_look_that_found_the_rival(look: Look, where: str) -> None:
    found = replace(conflict(rival(source="later evidence")), first_seen=look)
    raced: dict[str, Any] = CLEAR | {"cause": Cause.RIVAL_COMMITTED_MEANWHILE, "conflicts": (found,), "state": ()}
    assert f"(named by PostgreSQL; not in this check's own snapshot, first seen so {where})" in told(**raced)
    assert "It committed between the two looks." in told(**raced)
    told_as_data = Explanation(replace(REFUSED, **raced)).data["rivals"][0]["first_seen"]
    assert (told_as_data["check_id"], told_as_data["capture_id"]) == (look.check_id, look.capture_id)
    unseen = raced | {"conflicts": (replace(found, first_seen=None),)}
    assert "first seen so in other evidence)" in told(**unseen)
    assert "between the two looks" not in told(**unseen)


@pytest.mark.parametrize(
    ("look", "when"),
    [
        (Look(REFUSED.checked_at + timedelta(hours=2, minutes=5), "4793", None), "the snapshot of check 4793, 2 h 5 min later"),
        (Look(REFUSED.captured_at, None, 12), "capture 12, 4.4 days later"),
        (None, "nothing has since"),
    ],
)
def test_what_cannot_be_told_is_told_with_the_next_look(look: Look | None, when: str) -> None:
    gone: dict[str, Any] = CLEAR | {"cause": Cause.RIVAL_NOT_IN_EVIDENCE, "next_look": look}
    line = f"Either it rolled back, or it had gone, or been changed, before anything looked again: {when}."
    assert f"  No evidence shows the allocation that stood in the way. {line}\n" in told(**gone)
    assert "looked again" not in told(next_look=look)


def test_every_cause_has_a_headline() -> None:
    assert {changes.get("cause", Cause.AGREED) for changes, _ in HEADLINES.values()} == set(Cause)


def test_the_proof_of_a_refusal() -> None:
    assert told().splitlines()[:8] == [
        "Check 4711   booking 8f3c   The Anchor, table T7   checked Sat 15 Nov 2025 17:42:03 (London)",
        "Refused, and rightly so.",
        "",
        "  Let C be the request: table T7, [Sat 15 Nov 18:00, 19:30).",
        "  Let A be allocation a91e of booking 52d0: table T7, [17:30, 19:00), firm, unchanged since 14 Nov 09:12:00.000"
        " (in the check's own snapshot).",
        "  C and A have the same restaurant, type and resource; neither is shadow;",
        "  and [18:00, 19:30) and [17:30, 19:00) share [18:00, 19:00): 60 minutes.",
        "  Rule allocations_no_overlap (v12, in force since 13 Nov 2025 21:21 UTC) forbids that.",
    ]


def test_a_table_without_an_id_is_unknown() -> None:
    nameless = replace(REQUEST, resource_id=None, label=None)
    assert "  Let C be the request: table unknown, [Sat 15 Nov 18:00, 19:30)." in told(requests=(nameless,))


def test_what_postgresql_said_is_told_again_or_corrected() -> None:
    key = '(restaurant_id, resource_type, resource_id, "window")=(r1, table, t7, '
    detail = f"Key {key}{REQUEST.window}) conflicts with existing key {key}{rival().window})."
    again = said(*OVERLAP)
    again["recorded"]["detail"] = detail
    assert f"PostgreSQL said, and would say again:\n  {OVERLAP[1]}\n  {detail}" in told(**again)
    assert f"Nothing was recorded; PostgreSQL would say:\n  {OVERLAP[1]}\n  {detail}" in told(recorded=NOTHING_SAID)
    wrapped = told(**said("P0001", "allocations_no_overlap"))
    assert f"Recorded was 'allocations_no_overlap'; of this overlap PostgreSQL would say:\n  {OVERLAP[1]}" in wrapped
    assert "PostgreSQL said:\n  hold expired" in told(**CLEAR | said("P0001", "hold expired"))


def test_of_several_rivals_the_recorded_one_is_quoted() -> None:
    second = conflict(rival("18:30", "20:00", allocation_id="b2"), window("18:30", "19:30"))
    both = Explanation(replace(REFUSED, conflicts=(conflict(), second)))
    quoted = {both.data["detail"]}
    for other in (conflict(), second):
        alone = Explanation(replace(REFUSED, conflicts=(other,))).data["detail"]
        recorded = said(*OVERLAP)["recorded"] | {"detail": alone}
        assert Explanation(replace(both.check, recorded=recorded)).data["detail"] == alone
        quoted.add(alone)
    assert len(quoted) == 2


def test_rivals_have_letters_of_their_own() -> None:
    rivals = tuple(conflict(rival(allocation_id=f"a{n}")) for n in range(60))
    names = re.findall(r"Let (\w+) be allocation", told(conflicts=rivals))
    assert len(set(names)) == 60
    assert "C" not in names
    assert names == rival_names(60)


@pytest.mark.parametrize(
    ("zone", "lower", "minutes", "shown"),
    {
        "summer": ("Europe/London", datetime(2026, 7, 1, 18, tzinfo=UTC), 60, "[19:00, 20:00)"),
        "spring forward": ("Europe/London", datetime(2026, 3, 29, 0, 30, tzinfo=UTC), 60, "[00:30, 02:30)"),
        "fall back": ("Europe/London", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 60, "[01:30 BST, 01:30 GMT)"),
        "past midnight": ("Asia/Tokyo", datetime(2025, 11, 15, 14, tzinfo=UTC), 90, "[23:00, Sun 16 Nov 00:30)"),
        "half an hour off": ("Asia/Kolkata", datetime(2025, 11, 15, 14, tzinfo=UTC), 60, "[19:30, 20:30)"),
        "seconds count": ("UTC", datetime(2025, 11, 15, 14, 0, 1, tzinfo=UTC), 60, "[14:00:01, 15:00:01)"),
        "microseconds too": ("UTC", datetime(2025, 11, 15, 14, 0, 0, 1, tzinfo=UTC), 60, "[14:00:00.000001, 15:00:00.000001)"),
    }.values(),
)
def test_windows_are_told_in_local_time(zone: str, lower: datetime, minutes: int, shown: str) -> None:
    when = window(lower, lower + timedelta(minutes=minutes))
    asked = replace(REQUEST, window=when)
    text = told(
        timezone=zone, requests=(asked,), conflicts=(Conflict(asked, rival(lower, when.upper or ""), when, minutes * 60),)
    )
    assert f"and {shown} and {shown} share {shown}: {minutes} minutes." in text


@pytest.mark.parametrize("zone", [None, "", "Mars/Olympus", "../../etc/passwd", "Europe", "x" * 300, "UTC\0"])
def test_a_zone_nobody_knows_is_utc(zone: str | None) -> None:
    assert "checked Sat 15 Nov 2025 17:42:03 (UTC)" in told(timezone=zone)


@pytest.mark.parametrize(
    ("held", "overlap", "shown"),
    {
        "infinity": (
            rival("17:30", "infinity"),
            window("18:00", "19:30"),
            "[17:30, infinity) share [18:00, 19:30): 90 minutes.",
        ),
        "no bounds": (rival("", ""), window("18:00", "19:30"), "[no bound, no bound) share [18:00, 19:30): 90 minutes."),
        "both endless": (rival("17:30", ""), window("18:00", ""), "[17:30, no bound) share [18:00, no bound): without end."),
        "an instant": (rival(), Window("[18:00,18:00]", DAY, DAY), "share [00:00, 00:00]: a single instant."),
        "a minute": (rival(), window("18:00", "18:01"), "share [18:00, 18:01): 1 minute."),
        "half a second": (rival(), replace(window("18:00", "18:01"), upper=DAY + timedelta(hours=18, seconds=0.5)), ": 0.5 s."),
    }.values(),
)
def test_windows_without_end_and_of_odd_lengths(held: Allocation, overlap: Window, shown: str) -> None:
    assert shown in told(conflicts=(conflict(held, overlap),))


@pytest.mark.parametrize(
    ("source", "words"),
    {
        "later evidence": "named by PostgreSQL; not in this check's own snapshot, first seen so in other evidence",
        "perhaps later": "not in this check's own snapshot; changed within a minute of it, and first seen so in other evidence",
        "other restaurant": "held by another restaurant, seen in other evidence",
        "named by PostgreSQL": "known only from PostgreSQL's error",
    }.items(),
)
def test_where_a_rival_is_known_from(source: str, words: str) -> None:
    held = rival(source=source, allocation_id=None, booking_id=None, since=None, label=None, kind="maintenance")
    assert (
        f"Let A be an allocation whose id is not in evidence, a closure for maintenance: table t7, [17:30, 19:00) ({words})."
        in told(conflicts=(conflict(held),))
    )


def test_what_the_own_snapshot_has_of_a_rival_that_became_one_later() -> None:
    late = conflict(rival(source="later evidence", since=REFUSED.checked_at + timedelta(microseconds=119)))
    shadow = told(conflicts=(late,), state=(rival(shadow=True),))
    assert "checked Sat 15 Nov 2025 17:42:03.000000 (London)" in shadow
    assert "unchanged since 15 Nov 17:42:03.000119, 0.119 ms after this check began (named by PostgreSQL; in this" in shadow
    assert "in this check's own snapshot only as the shadow of a hold, first seen so in other evidence)." in shadow
    assert "in this check's own snapshot otherwise, first seen so" in told(conflicts=(late,), state=(rival(),))
    assert "not in this check's own snapshot, first seen so" in told(conflicts=(late,), state=())


def test_what_became_of_the_row_is_told() -> None:
    changed = Change(3, 1, "refused", ("confirmed", "conflict_details"))
    words = told(changes=(changed, Change(4, 3, "confirmed", ("snapshot_data",)), Change(5, None, None, ())))
    assert (
        "Note: the row was changed in place at the source: capture 3 read another confirmed, conflict_details than capture 1; "
        "it was recorded as refused.\n"
        "Note: the row was changed in place at the source: capture 4 read another snapshot_data than capture 3.\n"
        "Note: the row was gone from the source when capture 5 looked.\n"
    ) in words


def test_alternatives_are_told_by_table_and_shift() -> None:
    def fitting(lower: str, shift_s: float, table: str = "T7", seats: int = 4) -> Alternative:
        start = _instant(lower)
        assert isinstance(start, datetime)
        return Alternative(table, table, window(start, start + timedelta(minutes=90)), shift_s, seats)

    later = (fitting("19:00", 3600), fitting("16:00", -7200), fitting("20:25", 8700), fitting("18:00", 0, "T12", 6))
    assert (
        "What would have fitted then, each verified against the same state:\n  table T7 at 19:00 (1 h later)"
        " · table T7 at 16:00 (2 h earlier) · table T7 at 20:25 (2 h 25 min later) · table T12 at 18:00 (seats 6)\n"
    ) in told(alternatives=later)
    assert "nothing on that day that this evidence can verify" in told(alternatives=())
    assert "fitted" not in told(alternatives=None)


class Reader(HTMLParser):
    """Collects the tags, attributes and text that a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(text: str) -> Check:
    """Return a check whose every text from outside is this one."""
    asked = replace(REQUEST, resource_id=text, label=text, resource_type=text)
    held = rival(resource_id=text, label=text, allocation_id=text, booking_id=text, resource_type=text)
    return replace(
        REFUSED,
        check_id=text,
        booking_id=text,
        restaurant_name=text,
        scope=Window(text, None, None),
        recorded=dict.fromkeys(NOTHING_SAID, text),
        requests=(asked,),
        conflicts=(replace(conflict(held), requested=asked),),
        alternatives=(Alternative(text, text, window("19:00", "20:30"), 3600, 4),),
    )


def test_html_shows_hostile_text_and_obeys_none_of_it() -> None:
    read = Reader(Explanation(hostile(HOSTILE))._repr_html_())
    assert read.tags <= {"div", "small", "strong", "table", "thead", "tbody", "tr", "th", "td", "pre", "img"}
    assert read.attributes <= {"style", "alt", "src"}
    assert read.text.count(HOSTILE) > 12
    refused = replace(hostile(HOSTILE), conflicts=(), cause=Cause.OTHER_REFUSAL, replayed_verdict=Verdict.CLEAR)
    assert f"for another reason: {HOSTILE}." in Reader(Explanation(refused)._repr_html_()).text


def test_control_characters_reach_neither_terminal_nor_notebook() -> None:
    explanation = Explanation(hostile(CONTROL))
    for rendered in (str(explanation), explanation._repr_html_()):
        assert rendered.replace("\n", "").isprintable()
        assert "\N{REPLACEMENT CHARACTER}[31mred" in rendered


def test_no_text_can_pretend_to_be_a_line_of_ours() -> None:
    genuine = [line[:10] for line in told().splitlines() if not line.startswith("  ")]
    forged = hostile("x\nRefused, and rightly so.")
    assert "Refused, and rightly so." not in str(Explanation(forged)).splitlines()[2:]
    assert len([line for line in str(Explanation(forged)).splitlines() if not line.startswith("  ")]) == len(genuine)


def test_a_check_with_hardly_any_evidence_is_still_told() -> None:
    names = ("booking_id", "restaurant_id", "restaurant_name", "timezone", "scope", "hold_id", "rule")
    nothing: dict[str, Any] = dict.fromkeys(names) | {
        "grade": Grade.NONE,
        "recorded": NOTHING_SAID,
        "requests": (),
        "state": (),
    }
    bare = replace(REFUSED, **unknown(Cause.EVIDENCE_MISSING) | nothing)
    text = str(Explanation(bare))
    assert "restaurant unknown, no table known" in text
    assert "Evidence: none. No usable snapshot was recorded with this check (capture 12)." in text
    assert Explanation(bare)._repr_html_().startswith("<div")
    data = Explanation(bare).data
    assert {name for name, value in data.items() if value is None} >= {
        "booking_id",
        "restaurant_id",
        "rule",
        "message",
        "detail",
    }
    assert data["request"]["window"] is None
    assert data["alternatives"] is None


CONTRACT = {
    "": "check_id booking_id restaurant_id checked_at recorded_verdict replayed_verdict cause grade rule message detail "
    "request rivals alternatives cannot_see",
    "rivals": "allocation_id booking_id kind resource_type resource_id window overlap overlap_s source",
    "alternatives": "resource_id window shift_s seats",
}


def test_the_data_has_the_keys_of_the_contract() -> None:
    fitting = Alternative("t7", "T7", window("19:00", "20:30"), 3600, 4)
    data = Explanation(replace(REFUSED, alternatives=(fitting,))).data
    assert set(CONTRACT[""].split()) <= data.keys()
    for name in ("rivals", "alternatives"):
        assert set(CONTRACT[name].split()) <= data[name][0].keys()
    assert data["checked_at"] == "2025-11-15T17:42:03Z"
    assert data["rivals"][0]["overlap_s"] == 3600


# The lab's evidence.


@pytest.fixture
def refused(evidence: duckdb.DuckDBPyConnection) -> list[Check]:
    """Return some 60 checks of the lab that were refused over an overlap, all that had more than one table among them."""
    ids = evidence.execute(
        "select check_id from verdicts join checks using (check_id) where recorded_verdict = 'refused' "
        "and (cause = 'agreed' or cause = 'rival_committed_meanwhile') "
        "order by len(table_ids) desc, hash(check_id::int) limit 60"
    ).fetchall()
    return [analysis.explain_check(evidence, check_id).check for (check_id,) in ids]


def test_every_cause_of_the_lab_is_told(evidence: duckdb.DuckDBPyConnection) -> None:
    found = evidence.execute("select cause, min(check_id) from verdicts group by cause order by cause").fetchall()
    assert {"agreed", "other_refusal"} < {cause for cause, _ in found}
    for cause, check_id in found:
        explanation = analysis.explain_check(evidence, check_id)
        assert explanation.data["cause"] == cause
        assert str(explanation).splitlines()[1]
        assert Reader(explanation._repr_html_()).text


def test_every_rival_is_named_with_window_and_overlap(refused: list[Check]) -> None:
    for check in refused:
        explanation = Explanation(check)
        assert check.conflicts
        for c in check.conflicts:
            assert f"of booking {c.rival.booking_id}" in str(explanation) or c.rival.booking_id is None
            assert c.rival.window.lower
            local = c.rival.window.lower.astimezone(local_zone(check.timezone)[0])
            assert f"{local:%H:%M}, " in str(explanation)
            assert c.overlap_s is not None
            assert f"{c.overlap_s / 60:.0f} minute" in str(explanation)


def test_the_message_and_detail_are_those_that_postgresql_gave(refused: list[Check]) -> None:
    told = [check for check in refused if len(check.conflicts) == 1]
    assert len(told) > 30
    for check in told:
        data = Explanation(check).data
        assert (data["message"], data["detail"]) == (check.recorded["message"], check.recorded["detail"])


@pytest.fixture(scope="module")
def judge(server: str) -> Iterator[psycopg.Connection]:
    """Yield PostgreSQL with a table of allocations that nothing guards yet."""
    with database(server, "forensics_judge") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create extension btree_gist")
        columns = 'restaurant_id uuid, resource_type text, resource_id uuid, "window" tstzrange, shadow boolean'
        conn.execute(f"create table allocations ({columns})".encode())
        yield conn


def test_postgresql_accepts_every_alternative_and_refuses_the_request(judge: psycopg.Connection, refused: list[Check]) -> None:
    assert {check.rule and check.rule.definition for check in refused} == {constraint.RULES["v12"].definition}
    judge.execute(f"alter table allocations add constraint rule {constraint.RULES['v12'].definition}".encode())
    insert = "insert into allocations values (%s, %s, %s, %s, false)"
    accepted = 0
    for check in refused:
        with judge.transaction(force_rollback=True):
            # The rows of the booking itself are what the request replaces.
            firm = [a for a in check.state if not a.shadow and a.booking_id != check.booking_id]
            firm += [c.rival for c in check.conflicts if c.rival.source != "snapshot"]
            for a in firm:
                judge.execute(insert, [check.restaurant_id, a.resource_type, a.resource_id, str(a.window)])
            refusals = 0
            for request in check.requests:
                try:
                    with judge.transaction():
                        judge.execute(insert, [check.restaurant_id, "table", request.resource_id, str(request.window)])
                except psycopg.errors.ExclusionViolation:
                    refusals += 1
            assert refusals, check.check_id
        with judge.transaction(force_rollback=True):
            for a in firm:
                judge.execute(insert, [check.restaurant_id, a.resource_type, a.resource_id, str(a.window)])
            for alternative in check.alternatives or ():
                with judge.transaction(force_rollback=True):
                    judge.execute(insert, [check.restaurant_id, "table", alternative.resource_id, str(alternative.window)])
                accepted += 1
    assert accepted > 50


@pytest.mark.parametrize(
    ("since_s", "free_from"),
    [(0, 20), (-3540, 20), (1, 10), (-7200, 10)],
)
def test_what_another_transaction_was_about_to_take_is_no_alternative(since_s: int, free_from: int) -> None:
    """Its own snapshot cannot show it; one that began later was not yet in the way."""
    asked = replace(story("a [0,10) by:A · c1 [0,10) refused", "c1"), conflict={"sqlstate": "23P01"})
    taken = Held("b", "[10,20)", booking_id="X", updated_at=str(asked.checked_at + timedelta(seconds=since_s)))
    with planted(checks=[asked.row()], allocations=[taken.row()]) as con:
        check = replay.check(con, "c1")
    assert [a.window.text for a in check.alternatives or () if a.shift_s > 0] == [minutes(f"[{free_from},{free_from + 10})")]


def test_no_nearer_minute_would_have_fitted(evidence: duckdb.DuckDBPyConnection, refused: list[Check]) -> None:
    minute = timedelta(minutes=1)
    tried = 0
    for check in refused[:20]:
        asked = check.requests[0].window
        [(lower_pos, upper_pos)] = evidence.execute(
            "select scope_lower_pos, scope_upper_pos from checks where check_id = $id", {"id": check.check_id}
        ).fetchall()
        tables = {request.resource_id for request in check.requests}
        held = [a.window for a in check.state if a.resource_id in tables and not a.shadow and a.booking_id != check.booking_id]
        held += [c.rival.window for c in check.conflicts]
        assert asked.lower
        assert asked.upper

        def fits(shift: timedelta, check: Check = check, asked: Window = asked, held: list[Window] = held) -> bool:
            assert asked.lower
            assert asked.upper
            lower, upper = asked.lower + shift, asked.upper + shift
            return lower > check.checked_at and not any(
                (w.lower is None or w.lower < upper) and (w.upper is None or lower < w.upper) for w in held
            )

        first = (lower_pos // 4 - _us(asked.lower)) // 60_000_000
        last = ((upper_pos + 1) // 4 - _us(asked.upper)) // 60_000_000
        free = [n for n in range(int(first) + (lower_pos > 0), int(last) + 1) if n and fits(n * minute)]
        told = {round(a.shift_s / 60) for a in check.alternatives or () if a.shift_s}
        expected = {max((n for n in free if n < 0), default=0), min((n for n in free if n > 0), default=0)} - {0}
        assert told == expected, check.check_id
        tried += len(expected)
    assert tried > 20


def _us(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000_000)
