"""Decoding: every form of a window, and everything that cannot be decoded, next to what can.

What a range text means is asked of the server; a story is planted as raw rows (see story.py).
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from story import Asked, planted, story, window

import analysis
from analysis import query, replay, stores
from analysis.model import NotFoundError

S18, S20 = "2025-11-15 18:00:00+00", "2025-11-15 20:00:00+00"

FORMS = {
    "half-open": f'["{S18}","{S20}")',
    "closed": f'["{S18}","{S20}"]',
    "open": f'("{S18}","{S20}")',
    "open below": f'("{S18}","{S20}"]',
    "unquoted": f"[{S18},{S20})",
    "point": f'["{S18}","{S18}"]',
    "nothing, half-open": f'["{S18}","{S18}")',
    "nothing, open": f'("{S18}","{S18}")',
    "nothing in one microsecond": '("2025-11-15 18:00:00+00","2025-11-15 18:00:00.000001+00")',
    "empty": "empty",
    "unbounded": "(,)",
    "unbounded in square brackets": "[,]",
    "no lower bound": f'(,"{S20}")',
    "no upper bound": f'["{S18}",)',
    "until infinity": f'["{S18}",infinity)',
    "through infinity": f'["{S18}",infinity]',
    "quoted infinity": f'["{S18}","infinity")',
    "since minus infinity": f'[-infinity,"{S20}")',
    "after minus infinity": f'(-infinity,"{S20}")',
    "all that is finite": "(-infinity,infinity)",
    "beyond infinity": "(infinity,)",
    "infinity alone": "[infinity,infinity]",
    "infinity, nothing": "[infinity,infinity)",
    "microseconds": '["2025-11-15 18:00:00.000001+00","2025-11-15 18:00:00.5+00")',
    "milliseconds": '["2025-11-15 18:00:00.123+00","2025-11-15 18:00:00.124000+00")',
    "east by half an hour": '["2025-11-15 23:30:00+05:30","2025-11-16 01:30:00+05:30")',
    "west": '["2025-11-15 13:00:00-05","2025-11-15 15:00:00-05")',
    "offset without colon": '["2025-11-15 13:00:00-0500","2025-11-15 15:00:00-0500")',
    "two offsets": '["2025-11-15 13:00:00-05","2025-11-15 20:00:00+00")',
    "offset with seconds": '["1925-11-15 18:00:00+00:19:32",)',
    "JavaScript": '["2025-11-15T18:00:00.123Z","2025-11-15T20:00:00.000Z")',
    "leap day": '["2028-02-29 00:00:00+00","2028-02-29 23:59:59.999999+00"]',
    "year one": '["0001-01-01 00:00:00+00","0002-01-01 00:00:00+00")',
    "year ten thousand": '["12345-01-01 00:00:00+00","12346-01-01 00:00:00+00")',
    "before Christ": '["0045-03-15 12:00:00+00 BC","0044-03-15 12:00:00.5+00 BC")',
    "since Plato": '["0428-01-01 00:00:00+00 BC",)',
    "around year one": '["0001-12-31 23:00:00+00 BC","0001-01-01 01:00:00+00")',
    "before 1970": '["1969-12-31 23:59:59.999999+00","1970-01-01 00:00:00+00")',
}
OBJECTS = {
    "start and end": ({"start": "2025-11-15T18:00:00.000Z", "end": "2025-11-15T20:00:00Z"}, f'["{S18}","{S20}")'),
    "no end": ({"start": "2025-11-15T18:00:00Z", "end": None}, f'["{S18}",)'),
    "no start": ({"end": "2025-11-15T20:00:00+00:00", "start": None}, f'(,"{S20}")'),
    "nothing between": ({"start": "2025-11-15T20:00:00Z", "end": "2025-11-15T20:00:00Z"}, "empty"),
    "as columns": ({"start_at": "2025-11-15T18:00:00Z", "end_at": "2025-11-15T20:00:00Z"}, f'["{S18}","{S20}")'),
    "as the outbox says it": ({"startAt": "2025-11-15T18:00:00Z", "endAt": "2025-11-15T20:00:00Z"}, f'["{S18}","{S20}")'),
    "as the window's": ({"window_start": "2025-11-15T18:00:00Z", "window_end": None}, f'["{S18}",)'),
    "more keys": ({"start": "2025-11-15T18:00:00Z", "end": "2025-11-15T20:00:00Z", "zone": "UTC"}, f'["{S18}","{S20}")'),
}
NOT_A_RANGE, NOT_AN_INSTANT = "window is not a range", "window bound is not an instant with an offset"
BACKWARDS = "window ends before it begins"
BAD_WINDOWS: dict[str, tuple[Any, str]] = {
    "prose": ("next Tuesday at eight", NOT_A_RANGE),
    "nothing written": ("", NOT_A_RANGE),
    "one bound": (f'["{S18}"]', NOT_A_RANGE),
    "three bounds": (f'["{S18}","{S20}","{S20}")', NOT_A_RANGE),
    "text around": (f'x["{S18}","{S20}")', NOT_A_RANGE),
    "no brackets": (f'"{S18}","{S20}"', NOT_A_RANGE),
    "number": (1763229600, NOT_A_RANGE),
    "list": ([S18, S20], NOT_A_RANGE),
    "truth": (True, NOT_A_RANGE),
    "object of other keys": ({"lower": S18, "upper": S20}, NOT_A_RANGE),
    "object without end": ({"start": S18}, NOT_A_RANGE),
    "object without anything": ({}, NOT_A_RANGE),
    "no offset": ('["2025-11-15 18:00:00","2025-11-15 20:00:00")', NOT_AN_INSTANT),
    "one without offset": (f'["{S18}","2025-11-15 20:00:00")', NOT_AN_INSTANT),
    "named zone": ('["2025-11-15 18:00:00 Europe/London",)', NOT_AN_INSTANT),
    "date": ("[2025-11-15,2025-11-16)", NOT_AN_INSTANT),
    "day or month": ('["11/12/2025 18:00:00 UTC","12/12/2025 18:00:00 UTC")', NOT_AN_INSTANT),
    "zone of three countries": ('["15.11.2025 18:00:00 IST",)', NOT_AN_INSTANT),
    "no such zone": ('["15.11.2025 18:00:00 XYZ",)', NOT_AN_INSTANT),
    "no such month": ('["Sat Foo 15 18:00:00 2025 UTC",)', NOT_AN_INSTANT),
    "German without zone": ('["15.11.2025 18:00:00",)', NOT_AN_INSTANT),
    "beyond DuckDB's calendar": ('["294270-01-01 00:00:00+00",)', NOT_AN_INSTANT),
    "before DuckDB's calendar": ('["290400-01-01 00:00:00+00 BC",)', NOT_AN_INSTANT),
    "thirtieth of February": ('["2026-02-30 18:00:00+00",)', NOT_AN_INSTANT),
    "nanoseconds": ('["2025-11-15 18:00:00.000000001+00",)', NOT_AN_INSTANT),
    "numbers in an object": ({"start": 1763229600, "end": 1763229601}, NOT_AN_INSTANT),
    "JavaScript without offset": ({"start": "2025-11-15T18:00:00.000", "end": None}, NOT_AN_INSTANT),
    "backwards": (f'["{S20}","{S18}")', BACKWARDS),
    "backwards by a microsecond": ('["2025-11-15 18:00:00.000001+00","2025-11-15 18:00:00+00"]', BACKWARDS),
    "infinity before the end": (f'[infinity,"{S18}")', BACKWARDS),
    "object, backwards": ({"start": "2025-11-15T20:00:00Z", "end": "2025-11-15T18:00:00Z"}, BACKWARDS),
}


def decoded(windows: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A store whose one snapshot lists an allocation for each window, by its name."""
    allocation = story("a [0,1) · c [0,1)").snapshot()["allocations"][0]
    listed = [allocation | {"id": name, "window": written} for name, written in windows.items()]
    return planted(checks=[Asked("c", "[0,1)", more={"allocations": listed}).row()])


@pytest.fixture(scope="module")
def windows() -> dict[str, str]:
    con = decoded(FORMS | {name: written for name, (written, _) in OBJECTS.items()})
    return dict(con.execute('select allocation_id, "window" from snapshot_allocations').fetchall())


@pytest.fixture(scope="module")
def refused() -> dict[str, str]:
    """The reason for each bad window; all of them between two good ones."""
    bad = {name: written for name, (written, _) in BAD_WINDOWS.items()}
    con = decoded({"before": window("[0,10)"), **bad, "after": window("[10,20)")})
    assert con.execute("select allocation_id from snapshot_allocations").fetchall() == [("before",), ("after",)]
    return {json.loads(raw)["id"]: reason for reason, raw in con.execute("select reason, raw from quarantine").fetchall()}


@pytest.fixture(scope="module")
def oracle(server: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("set timezone = 'UTC'; set datestyle = 'ISO, YMD'")
        yield conn


class TestWindows:
    @pytest.mark.parametrize("form", FORMS)
    def test_text_is_as_postgresql_prints_it(self, form: str, windows: dict[str, str], oracle: psycopg.Connection) -> None:
        assert oracle.execute("select %s::tstzrange::text", [FORMS[form]]).fetchone() == (windows[form],)

    @pytest.mark.parametrize("form", OBJECTS)
    def test_objects_are_half_open(self, form: str, windows: dict[str, str]) -> None:
        assert windows[form] == OBJECTS[form][1]

    @pytest.mark.parametrize("form", BAD_WINDOWS)
    def test_what_is_no_window_goes_to_quarantine(self, form: str, refused: dict[str, str]) -> None:
        assert refused[form] == BAD_WINDOWS[form][1]

    def test_good_windows_around_bad_ones_are_decoded(self, refused: dict[str, str]) -> None:
        assert refused.keys() == BAD_WINDOWS.keys()

    @pytest.mark.parametrize("form", ["year ten thousand", "before Christ"])
    def test_every_window_can_be_shown(self, form: str) -> None:
        snapshot = story("c [0,1)").snapshot()
        snapshot["request"]["window"] = FORMS[form]
        snapshot["allocations"] = [story("a [0,1) firm by:C · c [0,1)").held[0].item() | {"window": FORMS[form]}]
        con = planted(checks=[GOOD.row(key="c", snapshot_data=json.dumps(snapshot))])
        check = replay.check(con, "c")
        assert str(check.requests[0].window) == str(check.conflicts[0].overlap) == FORMS[form]
        assert check.conflicts[0].overlap_s in (365 * 86400, 365 * 86400 + 0.5)

    def test_two_fields_instead_of_a_window(self) -> None:
        told = story("a1 [0,10) firm · c1 [5,8)").snapshot()
        for place, (first, last) in ((told["request"], ("start_at", "end_at")), (told["scope"], ("startAt", "endAt"))):
            place |= {first: "2025-11-20T18:05:00Z", last: "2025-11-20T18:08:00Z"}
            del place["window"]
        told["allocations"][0] |= {"start": "2025-11-20T19:00:00+01:00", "end": "2025-11-20T18:06:00Z"}
        del told["allocations"][0]["window"]
        attempted = [{"resource_type": "table", "resource_id": "T", "window_start": S18, "window_end": None}]
        rows = [
            GOOD.row(key="asked", snapshot_data=json.dumps(told)),
            GOOD.row(
                key="attempted",
                snapshot_data=json.dumps(told | {"request": None}),
                conflict_details=json.dumps({"attempted": attempted}),
            ),
        ]
        con = planted(checks=rows)
        assert con.execute("from quarantine").fetchall() == []
        asked = replay.check(con, "asked")
        assert (str(asked.scope), str(asked.requests[0].window)) == (window("[5,8)"), window("[5,8)"))
        assert [str(conflict.overlap) for conflict in asked.conflicts] == [window("[5,6)")]
        assert str(replay.check(con, "attempted").requests[0].window) == f'["{S18}",)'


# How PostgreSQL prints ranges for a writer who set another style or zone: always readable, but where a day may be a month,
# or where the zone's abbreviation means different offsets in different countries.
STYLES = ["ISO", "German", "SQL, DMY", "SQL, MDY", "Postgres, DMY", "Postgres, MDY"]
ZONES = {
    "UTC": True,
    "Europe/London": True,
    "Europe/Paris": True,
    "America/New_York": True,
    "Australia/Sydney": True,
    "Asia/Tokyo": True,
    "America/Sao_Paulo": True,  # printed as -03
    "Asia/Kathmandu": True,  # printed as +0545
    "Asia/Kolkata": False,  # IST
    "America/Chicago": False,  # CST
}
PRINTED = [
    '["2025-11-15 18:00:00+00","2025-11-15 20:00:00+00")',
    '["2025-07-15 18:00:00.000001+00","2025-07-15 20:00:00.5+00"]',
    '["2025-12-12 12:00:00+00","2025-12-12 13:00:00+00")',
    '["2025-11-12 12:00:00+00","2025-11-13 13:00:00+00")',
    '["2025-11-15 18:00:00+00",infinity)',
    '(,"12345-06-20 12:00:00+00"]',
    '["0044-03-15 12:00:00+00 BC","2025-11-15 18:00:00+00")',
]


@pytest.fixture(scope="module")
def printed(server: str) -> dict[tuple[str, str, str], str | None]:
    """What each range as printed in each style and zone is read as; null where it is not."""
    texts = {}
    for style in STYLES:
        for zone in ZONES:
            with psycopg.connect(server, options=f"-c timezone={zone}", autocommit=True) as conn:
                conn.execute(psycopg.sql.SQL("set datestyle = {}").format(style).as_bytes())
                for iso in PRINTED:
                    [texts[f"{style}|{zone}|{iso}"]] = conn.execute("select %s::tstzrange::text", [iso]).fetchone() or ()
    read = dict(decoded(texts).execute('select allocation_id, "window" from snapshot_allocations').fetchall())
    return {(style, zone, iso): read.get(f"{style}|{zone}|{iso}") for style in STYLES for zone in ZONES for iso in PRINTED}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("style", STYLES)
def test_ranges_are_read_in_every_style_that_postgresql_prints(
    style: str, zone: str, printed: dict[tuple[str, str, str], str | None]
) -> None:
    for iso in PRINTED:
        read = printed[style, zone, iso]
        # A time before the zones had names is printed as the place's mean time, LMT.
        can_be_read = style == "ISO" or (ZONES[zone] and ("BC" not in iso or zone == "UTC"))
        assert read == iso if can_be_read else read in (None, iso)


def test_day_and_month_are_told_apart_or_not_at_all() -> None:
    con = decoded({text: text for text in ('["11/12/2025 18:00:00 UTC",)', '["12/12/2025 18:00:00 UTC",)')})
    assert con.execute('select "window" from snapshot_allocations').fetchall() == [('["2025-12-12 18:00:00+00",)',)]


def test_abbreviations_that_are_read_mean_one_offset_wherever_they_are_used() -> None:
    known = dict(re.findall(r"'([A-Z]{3,4})': '([+-]\d\d(?::\d\d)?)'", query.text("decode/windows")))
    used: dict[str, set[str]] = {name: set() for name in known}
    for zone in map(ZoneInfo, available_timezones() - {"localtime", "Factory"}):
        for day in range(0, 36 * 365, 45):
            at = (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day)).astimezone(zone)
            used.get(str(at.tzname()), set()).add(re.sub(r"(...)(..)", r"\1:\2", f"{at:%z}").removesuffix(":00"))
    assert len(known) > 20
    assert {name: {offset} for name, offset in known.items()} == used


MINUTES = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1.25]))
BOUNDS = st.one_of(MINUTES.map(str), MINUTES.map(str), st.sampled_from(["", "inf", "-inf"]))
RANGES = st.one_of(
    st.just("empty"),
    st.tuples(st.sampled_from("[("), BOUNDS, BOUNDS, st.sampled_from(")]")).map(lambda r: f"{r[0]}{r[1]},{r[2]}{r[3]}"),
)
IN_BATCHES = settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.generate])


@IN_BATCHES
@given(st.lists(RANGES, min_size=40, max_size=80, unique=True))
def test_places_overlap_as_postgresql_says(oracle: psycopg.Connection, ranges: list[str]) -> None:
    texts = [window(text) for text in ranges]
    con = decoded({text: text for text in texts})
    valid = [text for (text,) in con.execute("select window_text from windows where problem is null").fetchall()]
    canonical, overlaps = (
        "select r, r::tstzrange::text from unnest(%s::text[]) as r",
        "select a, b, a::tstzrange && b::tstzrange from unnest(%s::text[]) as a cross join unnest(%s::text[]) as b",
    )
    assert (
        oracle.execute(canonical, [valid]).fetchall()
        == con.execute(
            'select window_text, "window" from windows where problem is null order by list_position($1, window_text)', [valid]
        ).fetchall()
    )
    asked = """
        select a.window_text, b.window_text, coalesce(a.lower_pos <= b.upper_pos and b.lower_pos <= a.upper_pos, false)
        from windows as a cross join windows as b where a.problem is null and b.problem is null"""
    assert set(oracle.execute(overlaps, [valid, valid]).fetchall()) == set(con.execute(asked).fetchall())
    for text in set(texts) - set(valid):
        with pytest.raises(psycopg.errors.DataException):
            oracle.execute("select %s::tstzrange", [text])


GOOD = story("a1 [0,10) firm · good [5,8)")
TOLD = GOOD.snapshot()
ITEM = TOLD["allocations"][0]
BAD_SNAPSHOTS: dict[str, tuple[str, str]] = {
    "not JSON": ("{oops", "snapshot is not JSON"),
    "nothing": ("", "snapshot is not JSON"),
    "cut off in its list": (json.dumps(TOLD).partition('"shadow"')[0], "snapshot is not JSON"),
    "list": ("[1]", "snapshot is not an object"),
    "string": ('"{}"', "snapshot is not an object"),
    "no allocations": (json.dumps({k: v for k, v in TOLD.items() if k != "allocations"}), "snapshot has no allocations"),
    "null allocations": (json.dumps(TOLD | {"allocations": None}), "allocations is not a list"),
    "object of allocations": (json.dumps(TOLD | {"allocations": {"a1": ITEM}}), "allocations is not a list"),
    "text of allocations": (json.dumps(TOLD | {"allocations": "[]"}), "allocations is not a list"),
    "bad requested window": (
        json.dumps(TOLD | {"request": TOLD["request"] | {"window": "soon"}}),
        f"requested window: {NOT_A_RANGE}",
    ),
}
NO_ID, NO_SHADOW = "entry is not an allocation with an id", "shadow is not a boolean"
NOT_WRITTEN = "entry lacks a column that a rule compares"
BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "number": (5, NO_ID),
    "null": (None, NO_ID),
    "list": ([ITEM], NO_ID),
    "string": ("a1", NO_ID),
    "no id": ({k: v for k, v in ITEM.items() if k != "id"}, NO_ID),
    "no window, but two fields": (
        {k: v for k, v in ITEM.items() if k != "window"} | {"starts_at": S18, "ends_at": S20},
        NOT_WRITTEN,
    ),
    "no restaurant": ({k: v for k, v in ITEM.items() if k != "restaurant_id"}, NOT_WRITTEN),
    "no shadow": ({k: v for k, v in ITEM.items() if k != "shadow"}, NOT_WRITTEN),
    "doubtful shadow": (ITEM | {"shadow": "perhaps"}, NO_SHADOW),
    "shadow is an object": (ITEM | {"shadow": {"is": True}}, NO_SHADOW),
    "bad window": (ITEM | {"window": "soon"}, NOT_A_RANGE),
}


@pytest.fixture(scope="module")
def mixed() -> duckdb.DuckDBPyConnection:
    """A good check, one for each bad snapshot, and one for each bad entry between two good ones."""
    listed = {case: TOLD | {"allocations": [ITEM, bad, ITEM | {"id": "a3"}]} for case, (bad, _) in BAD_ITEMS.items()}
    return planted(
        checks=[
            GOOD.row(),
            *(GOOD.row(key=f"snapshot: {case}", snapshot_data=raw) for case, (raw, _) in BAD_SNAPSHOTS.items()),
            *(GOOD.row(key=f"entry: {case}", snapshot_data=json.dumps(told)) for case, told in listed.items()),
        ]
    )


class TestQuarantine:
    @pytest.mark.parametrize("case", BAD_SNAPSHOTS)
    def test_bad_snapshot(self, case: str, mixed: duckdb.DuckDBPyConnection) -> None:
        key, (raw, reason) = [f"snapshot: {case}"], BAD_SNAPSHOTS[case]
        [(relation, item_no, found, kept)] = mixed.execute(
            "select relation, item_no, reason, raw from quarantine where key = $1", key
        ).fetchall()
        assert (relation, item_no, found) == ("checks", None, reason)
        assert kept in raw
        verdict = "select replayed_verdict, unknown_because, cause from verdicts where check_id = $1"
        assert mixed.execute(verdict, key).fetchall() == [("unknown", "evidence_undecodable", "evidence_undecodable")]

    @pytest.mark.parametrize("case", BAD_ITEMS)
    def test_bad_entry_between_good_ones(self, case: str, mixed: duckdb.DuckDBPyConnection) -> None:
        key, (bad, reason) = [f"entry: {case}"], BAD_ITEMS[case]
        [(relation, item_no, found, kept)] = mixed.execute(
            "select relation, item_no, reason, raw from quarantine where key = $1", key
        ).fetchall()
        assert (relation, item_no, found, json.loads(kept)) == ("snapshot allocations", 2, reason, bad)
        listed = mixed.execute("select allocation_id from snapshot_allocations where check_id = $1", key).fetchall()
        assert listed == [("a1",), ("a3",)]
        verdict = "select replayed_verdict, grade, rivals from verdicts where check_id = $1"
        assert mixed.execute(verdict, key).fetchall() == [("conflict", "partial", 2)]

    def test_good_check_among_bad_ones(self, mixed: duckdb.DuckDBPyConnection) -> None:
        assert mixed.execute("from quarantine where key = 'good'").fetchall() == []
        verdict = "select replayed_verdict, grade, rivals from verdicts where check_id = 'good'"
        assert mixed.execute(verdict).fetchall() == [("conflict", "complete", 1)]

    def test_counts_add_up(self, mixed: duckdb.DuckDBPyConnection) -> None:
        [(listed, kept, refused)] = mixed.execute("""
            select (select count(*) from snapshot_listing), (select count(*) from snapshot_allocations),
                   (select count(*) from quarantine where relation = 'snapshot allocations')""").fetchall()
        # A bad requested window leaves the list of allocations as good as it was.
        assert (listed, kept, refused) == (2 + 3 * len(BAD_ITEMS), 2 + 2 * len(BAD_ITEMS), len(BAD_ITEMS))
        reasons = query.rows(mixed, "decode/quarantine_reasons")
        assert sum(row["rows"] for row in reasons) == len(BAD_ITEMS) + len(BAD_SNAPSHOTS)
        assert {row["reason"] for row in reasons} == {reason for _, reason in (*BAD_ITEMS.values(), *BAD_SNAPSHOTS.values())}

    @pytest.mark.parametrize("nothing", [None, "null"], ids=["SQL null", "JSON null"])
    def test_no_snapshot_is_missing_not_undecodable(self, nothing: str | None) -> None:
        con = planted(checks=[GOOD.row(snapshot_data=nothing, conflict_details=nothing)])
        assert con.execute("from quarantine").fetchall() == []
        assert con.execute("select has_snapshot, snapshot_allocations from checks").fetchall() == [(False, 0)]
        assert con.execute("select unknown_because, grade from verdicts").fetchall() == [("evidence_missing", "none")]

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [("{oops", "conflict_details is not JSON"), ('["23P01"]', "conflict_details is not an object")],
    )
    def test_bad_conflict_details(self, raw: str, reason: str) -> None:
        con = planted(checks=[GOOD.row(confirmed="false", conflict_details=raw)])
        assert con.execute("select relation, key, reason, raw from quarantine").fetchall() == [("checks", "good", reason, raw)]
        assert con.execute("select replayed_verdict from verdicts").fetchall() == [("conflict",)]

    def test_bad_live_and_archived_allocations(self) -> None:
        good = story("a1 [0,10) · c [0,1)").held[0]
        con = planted(
            allocations=[good.row(), good.row(key="a2", window_text="soon")],
            allocations_archive=[good.row(key="a3"), good.row(key="a4", window_text=BAD_WINDOWS["backwards"][0])],
        )
        assert con.execute("select relation, key, reason from quarantine").fetchall() == [
            ("allocations", "a2", NOT_A_RANGE),
            ("allocations", "a4", BACKWARDS),
        ]
        assert con.execute("select allocation_id from allocation_versions").fetchall() == [("a1",), ("a3",)]


HOSTILE = {
    "quotes": """O'Brien "the" `cat`""",
    "SQL": "'; drop table checks; --",
    "markup": "<script>alert(1)</script>&amp;",
    "control": "\x01\x1b[31m\r\n\t\x7f",
    "JSON": '{"a": [1]}',
    "path": "$.allocations[0]",
    "range": "[),(]",
    "script": "表\u202e🍣",
    "nothing": "",
}


@pytest.fixture(scope="module")
def hostile() -> duckdb.DuckDBPyConnection:
    rows = []
    for text in HOSTILE.values():
        told = story("a1 [0,10) firm · c1 [5,8)").snapshot()
        told["allocations"][0] |= {"id": text, "booking_id": text, "restaurant_id": text, "resource_id": text}
        told["request"] |= {"restaurant_id": text, "table_ids": [text], "hold_id": text}
        rows.append(GOOD.row(key=text, snapshot_data=json.dumps(told)))
    return planted(checks=rows)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_stays_data(kind: str, hostile: duckdb.DuckDBPyConnection) -> None:
    check = replay.check(hostile, HOSTILE[kind])
    [conflict] = check.conflicts
    rival = conflict.rival
    assert {check.check_id, check.restaurant_id, check.hold_id, check.requests[0].resource_id} == {HOSTILE[kind]}
    assert {rival.allocation_id, rival.booking_id, rival.restaurant_id, rival.resource_id} == {HOSTILE[kind]}


def test_an_id_told_twice_is_told_once_and_one_told_in_two_ways_is_set_aside() -> None:
    same, other = dict(ITEM), {**ITEM, "window": window("[100,110)")}
    con = planted(
        checks=[
            GOOD.row(),
            GOOD.row(key="same", snapshot_data=json.dumps({**TOLD, "allocations": [ITEM, same]})),
            GOOD.row(key="differs", snapshot_data=json.dumps({**TOLD, "allocations": [ITEM, {**ITEM, "id": "x"}, other]})),
            GOOD.row(key="alone", snapshot_data=json.dumps({**TOLD, "allocations": [other, other]})),
        ]
    )
    assert con.execute("select key, item_no, reason, raw ->> 'window' from quarantine order by all").fetchall() == [
        ("differs", place, "id is listed twice, with different content", told["window"])
        for place, told in ((1, ITEM), (3, other))
    ]
    verdicts = "select check_id, replayed_verdict, grade, rivals from verdicts order by all"
    assert con.execute(verdicts).fetchall() == [
        ("alone", "clear", "complete", 0),
        ("differs", "conflict", "partial", 1),
        ("good", "conflict", "complete", 1),
        ("same", "conflict", "complete", 1),
    ]
    assert query.rows(con, "assert/rows_accounted_for") == query.rows(con, "assert/rivals_in_evidence") == []


NESTED = {
    "nothing but brackets": ("[" * 1_000_000, "snapshot is nested deeper than 100 levels"),
    "closed brackets": ("[" * 100_000 + "]" * 100_000, "snapshot is nested deeper than 100 levels"),
    "objects in objects": ('{"a": ' * 100_000 + "1" + "}" * 100_000, "snapshot is nested deeper than 100 levels"),
    "inside a good list": ("good", "snapshot is nested deeper than 100 levels"),
    "short": ("[" * 30_000 + "]" * 30_000, "snapshot is not an object"),
    "short, cut off": ("[" * 30_000, "snapshot is not JSON"),
    "long": ('{"allocations": [' + "1," * 9_000_000 + "1]}", "snapshot is longer than 16 MiB"),
}


@pytest.mark.parametrize("kind", NESTED)
def test_nesting_is_set_aside_and_the_checks_beside_it_are_used(kind: str) -> None:
    text, reason = NESTED[kind]
    if text == "good":
        text = json.dumps(GOOD.snapshot()).replace('"allocations": [', f'"allocations": [{"[" * 50_000}{"]" * 50_000}, ')
    con = planted(checks=[GOOD.row(), GOOD.row(key="deep", snapshot_data=text)])
    [(key, said, raw)] = con.execute("select key, reason, raw from quarantine").fetchall()
    assert (key, said, raw == text) == ("deep", reason, True)
    assert con.execute("select check_id, replayed_verdict, cause from verdicts order by all").fetchall() == [
        ("deep", "unknown", "evidence_undecodable"),
        ("good", "conflict", "confirmed_over_conflict"),
    ]
    assert query.rows(con, "assert/rows_accounted_for") == []


def test_a_hundred_megabytes_of_nesting_take_no_more_than_a_few_times_as_much() -> None:
    """Parsed, they would take some thirty times as much: a gigabyte of it no machine could read."""
    con = planted(checks=[GOOD.row(), GOOD.row(key="deep"), GOOD.row(key="refusal")])
    nest = "repeat('[', 50000000) || repeat(']', 50000000)"
    con.execute(f"update raw_checks set snapshot_data = {nest} where key = 'deep'")
    con.execute(f"update raw_checks set conflict_details = {nest} where key = 'refusal'")
    con.execute("set memory_limit = '1500MB'; set threads = 1")
    with pytest.raises(duckdb.OutOfMemoryException):
        con.execute("select json_type(snapshot_data) from raw_checks")
    analysis.derive(con)
    assert con.execute("select key, reason, strlen(raw) from quarantine order by all").fetchall() == [
        ("deep", "snapshot is longer than 16 MiB", 100_000_000),
        ("refusal", "conflict_details is longer than 16 MiB", 100_000_000),
    ]


def test_the_newest_version_of_a_check_counts() -> None:
    con = planted(
        captures=["2025-12-01 00:00:00+00", "2025-12-02 00:00:00+00"],
        checks=[GOOD.row(), {**GOOD.row(snapshot_data=None), "capture_id": 2}],
    )
    assert con.execute("select has_snapshot, capture_id from checks").fetchall() == [(False, 2)]


def test_stories_are_planted_in_the_columns_that_a_capture_writes(evidence: duckdb.DuckDBPyConnection) -> None:
    for relation, columns in stores.COLUMNS.items():
        assert evidence.table(f"raw_{relation}").columns == ["capture_id", *columns]


@pytest.mark.parametrize("instant", ["infinity", "-infinity", "12025-11-15 18:00:00+00", "0044-03-15 12:00:00+00 BC"])
def test_a_check_at_an_instant_that_no_calendar_here_knows_is_set_aside(instant: str) -> None:
    other_fault = json.dumps({"attempted": [{"resource_id": "t1", "window": "then"}]})
    con = planted(checks=[GOOD.row(), GOOD.row(key="odd", checked_at=instant, conflict_details=other_fault)])
    assert [check_id for (check_id,) in con.execute("select check_id from checks").fetchall()] == ["good"]
    assert query.frame(con, "assert/rows_accounted_for").is_empty()
    with pytest.raises(NotFoundError, match="odd is in quarantine: checked_at is not an instant of the years 2 to 9998"):
        replay.check(con, "odd")


@pytest.mark.parametrize(
    ("what", "said"), [("scope", "scope"), ("request", "requested window"), ("attempted", "attempted window")]
)
def test_every_window_that_cannot_be_read_is_in_quarantine(what: str, said: str) -> None:
    snapshot, conflict = GOOD.snapshot(), {"sqlstate": "23P01", "attempted": [{"resource_id": "t1", "window": "then"}]}
    if what != "attempted":
        snapshot[what]["window"] = "then"
        conflict["attempted"] = []
    con = planted(checks=[GOOD.row(snapshot_data=json.dumps(snapshot), conflict_details=json.dumps(conflict))])
    [(reason, raw)] = con.execute("select reason, raw from quarantine").fetchall()
    assert (reason, raw) == (f"{said}: window is not a range", "then")
