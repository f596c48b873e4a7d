"""Every chart says what it found, reads in any time zone, and comes out the same each time."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import altair as alt
import duckdb
import polars as pl
import pytest
import vl_convert
from story import planted, story
from test_explain import REFUSED, REQUEST, conflict, rival, window

import analysis
from analysis import canvas, chart, measure, storage, timeline
from analysis.model import Alternative, Check, ForensicsError, Grade, Window

ROWS = 5000  # Altair and every viewer refuse more


def svg(drawn: Any) -> str:
    """Draw a chart as the svg renderer of Altair does."""
    return vl_convert.vegalite_to_svg(drawn.to_dict())


def texts(drawn: Any) -> list[str]:
    """Return every text that the picture shows; that it is well-formed XML is what every viewer needs."""
    root = ElementTree.fromstring(svg(drawn))
    return [" ".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def title(drawn: Any) -> str:
    said: list[str] = drawn.to_dict()["title"]["text"]
    return " ".join(said)


def subtitle(drawn: Any) -> str:
    said: list[str] = drawn.to_dict()["title"]["subtitle"]
    return " ".join(said)


def share(part: Any, whole: Any) -> str:
    return f"{100 * part / whole:.1f} %"


def some_check(con: duckdb.DuckDBPyConnection, where: str) -> Check:
    rows = con.execute(
        f"select check_id from verdicts join checks using (check_id) where {where} order by rivals desc, check_id::int limit 1"
    ).fetchall()
    assert rows, where
    return analysis.explain_check(con, rows[0][0]).check


CHARTS: dict[str, Callable[[duckdb.DuckDBPyConnection], Any]] = {
    "conflict": lambda con: timeline.draw(some_check(con, "cause = 'agreed' and replayed_verdict = 'conflict'")),
    "clear": lambda con: timeline.draw(some_check(con, "cause = 'agreed' and replayed_verdict = 'clear'")),
    "unknown": lambda con: timeline.draw(some_check(con, "replayed_verdict = 'unknown'")),
    "race": lambda con: timeline.draw(some_check(con, "cause in ('rival_committed_meanwhile', 'rival_not_in_evidence')")),
    "by day": lambda con: chart.hit_rate_by_day(measure.hit_rate_by(con, "day")),
    "by day, 900 s": lambda con: chart.hit_rate_by_day(measure.hit_rate_by(con, "day", 900), ttl_s=900),
    "by lead": lambda con: chart.outcomes_by(measure.hit_rate_by(con, "lead", 900), "time until the meal", ttl_s=900),
    "by restaurant": lambda con: chart.outcomes_by(measure.hit_rate_by(con, "restaurant"), "restaurant"),
    "by age": lambda con: chart.ages(measure.ages(con)),
    "by TTL": lambda con: chart.hit_rate_by_ttl(measure.ttl_curve(con, measure.FINE_TTLS_S)),
    "growth": lambda con: chart.growth(by_day := storage.growth(con), storage.outlook(by_day)),
    "retention": lambda con: chart.retention(by_days := storage.retention_by_days(con), knee=storage.knee(by_days)),
}
OF_RATES = ("by day", "by day, 900 s", "by lead", "by restaurant", "by age", "by TTL", "growth", "retention")
AXES = {
    "conflict": ("table", "time ("),
    "clear": ("table", "time ("),
    "unknown": ("table", "time ("),
    "race": ("table", "time ("),
    "by day": ("share of lookups answered", "lookups a day", "day (UTC)"),
    "by day, 900 s": ("share of lookups answered", "lookups a day", "day (UTC)"),
    "by lead": ("share of the group's lookups", "time until the meal", "re-checks answered", "first check of a booking"),
    "by restaurant": ("share of the group's lookups", "restaurant", "re-checks answered", "first check of a booking"),
    "by age": ("hits", "age of the answer", "still holds", "no longer holds"),
    "by TTL": ("share of all lookups", "TTL (log scale)", "TTL from last use", "TTL from last write", "answered wrongly"),
    "growth": ("MB of evidence text", "day (UTC)"),
    "retention": (
        "share of what is kept",
        "retention (days)",
        "space freed",
        "explanations lost",
        "gone before the meal",
        "30 d",
    ),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_of_the_lab_reads(evidence: duckdb.DuckDBPyConnection, name: str) -> None:
    drawn = CHARTS[name](evidence)
    shown = texts(drawn)
    for axis in AXES[name]:
        assert any(text.startswith(axis) for text in shown), axis
    assert title(drawn) in shown
    assert subtitle(drawn) in shown
    assert not {"null", "NaN", "undefined", "Invalid Date"} & set(shown)
    assert sum(len(rows) for rows in drawn.to_dict()["datasets"].values()) <= ROWS
    assert drawn.to_dict()["config"]["font"] == "Liberation Sans"


@pytest.mark.parametrize("name", CHARTS)
def test_no_text_is_cut_at_the_edge(evidence: duckdb.DuckDBPyConnection, name: str) -> None:
    """Titles are wrapped at what fits over the plot: some 7.4 pixels a bold letter of 15, 5.7 one of 11.5."""
    drawn = CHARTS[name](evidence)
    box = re.search(r'viewBox="0 0 ([\d.]+) ', svg(drawn))
    assert box
    width = float(box[1])
    said = drawn.to_dict()["title"]
    assert max(len(line) for line in said["text"]) * 7.4 < width + 20
    assert max(len(line) for line in said["subtitle"]) * 5.7 < width + 20
    assert width < 900


def test_every_title_has_its_figure(evidence: duckdb.DuckDBPyConnection) -> None:
    figures = measure.cache(evidence, [900, 3600])
    lookups, hits = figures["lookups"], figures["hits"]
    assert (
        title(CHARTS["by day"](evidence)) == f"A cache that never expires would have answered {share(hits, lookups)} of checks"
    )
    assert subtitle(CHARTS["by day"](evidence)).startswith(f"{hits:,} of {lookups:,} lookups")
    point = {(row["policy"], row["ttl_s"]): row for row in figures["ttl_curve"]}
    quarter, hour = point["last_write", 900], point["last_write", 3600]
    assert f"A 15-minute cache would have answered {share(quarter['hits'], lookups)}" in title(
        CHARTS["by day, 900 s"](evidence)
    )
    by_ttl = chart.hit_rate_by_ttl(measure.ttl_curve(evidence), ttl_s=3600)
    assert title(by_ttl) == (
        f"A 1-hour cache would have answered {share(hour['hits'], lookups)} of checks, "
        f"{share(hour['stale_hits'], hour['hits'])} of its answers wrong"
    )
    assert f"1 hour: {share(hour['hits'], lookups)}" in texts(by_ttl)

    by_lead = measure.hit_rate_by(evidence, "lead", 900)
    missed = share(by_lead["first_checks"].sum(), lookups - by_lead["hits"].sum())
    large = [row for row in by_lead.to_dicts() if row["lookups"] * 20 >= lookups]
    most = max(large, key=lambda row: row["hits"] / row["lookups"])
    assert title(CHARTS["by lead"](evidence)) == (
        f"First checks of a booking are {missed} of what a 15-minute cache misses; "
        f"most answered: {most['label']}, {share(most['hits'], most['lookups'])}"
    )
    by_age = measure.ages(evidence)
    stale, safe = (sum(by_age[kind]) for kind in ("stale_hits", "safe_hits"))
    assert title(CHARTS["by age"](evidence)).endswith(f"of the answer, and {share(stale, stale + safe)} get a wrong one")

    mean = storage.outlook(storage.growth(evidence))["bytes_a_day"] / 1e6
    assert title(CHARTS["growth"](evidence)).startswith(f"The evidence grows by {mean:,.2f} MB of text a day, ")
    kept = storage.retention(evidence, 7)
    week = chart.retention(storage.retention_by_days(evidence), days=7)
    assert title(week) == (
        f"Keeping 7 days frees {share(kept['bytes_freed'], kept['bytes_freed'] + kept['bytes_kept'])} of the space "
        f"and loses {kept['explanations_lost']:,} explanations; {kept['purged_before_meal']:,} checks would go before the meal"
    )
    assert {"7 days", "space freed"} <= set(texts(week))
    knee = storage.knee(storage.retention_by_days(evidence))
    assert f"knee: {knee} days" in texts(CHARTS["retention"](evidence))

    check = some_check(evidence, "cause = 'agreed' and replayed_verdict = 'conflict'")
    assert title(timeline.draw(check)).startswith(f"Refused: {len(check.conflicts)} rivals on tables ")


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_the_same_twice(evidence: duckdb.DuckDBPyConnection, name: str) -> None:
    assert svg(CHARTS[name](evidence)) == svg(CHARTS[name](evidence))


DRAW = """
import sys
import analysis
from test_chart import ANYWHERE, CHARTS, svg
con = analysis.open_store(sys.argv[1])
print("".join(svg(CHARTS[name](con)) for name in ANYWHERE), end="")
con.close()
"""
ANYWHERE = ("conflict", "by day", "by lead", "by age", "growth", "retention")


def test_a_chart_is_drawn_the_same_anywhere(evidence: duckdb.DuckDBPyConnection, lab_store: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", DRAW, str(lab_store)]
    there = subprocess.run(command, env=env, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    assert there == "".join(svg(CHARTS[name](evidence)) for name in ANYWHERE)


def test_a_notebook_shows_a_still_picture_or_a_live_one(evidence: duckdb.DuckDBPyConnection) -> None:
    drawn = CHARTS["by day"](evidence)
    with alt.renderers.enable(alt.renderers.active):  # gives back what was chosen before
        canvas.show("still")
        assert drawn._repr_mimebundle_()["image/svg+xml"] == svg(drawn)
        canvas.show("interactive")
        assert (alt.renderers.active, alt.renderers.options) == ("jupyter", {"offline": True})


HOSTILE = "<img src=x onerror=alert(1)>&\x00\x1b[31m\n\u202e\"'"


@pytest.mark.parametrize("text", [HOSTILE, "", "x" * 300, "null", "12 ½", "٣"])
def test_a_table_may_be_called_anything(text: str) -> None:
    held = rival(label=text, resource_id=text, booking_id=text, allocation_id=text)
    check = replace(
        REFUSED,
        check_id=text,
        requests=(replace(REQUEST, label=text),),
        conflicts=(conflict(held),),
        state=(held, rival(label="2", allocation_id="b2")),
    )
    drawn = svg(timeline.draw(check))
    assert "<img" not in drawn
    root = ElementTree.fromstring(drawn)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "text", "tspan", "line", "rect", "defs", "clipPath"}
    if text == HOSTILE:
        assert any("<img src=x onerror=alert(1)>&\N{REPLACEMENT CHARACTER}" in shown for shown in texts(timeline.draw(check)))


NOTHING: dict[str, Any] = {"conflicts": (), "state": (), "requests": (), "grade": Grade.NONE, "recorded_verdict": "confirmed"}
FOREVER = Window("(,)", None, None)
TIMELINES: dict[str, tuple[dict[str, Any], str]] = {
    "one rival": ({}, "Refused: 1 rival on table T7 shares 60 minutes of the request"),
    "two rivals": (
        {"conflicts": (conflict(), conflict(rival("19:00", "20:00", label="T10"), window("19:00", "19:30")))},
        "Refused: 2 rivals on tables T7, T10 share up to 60 minutes of the request",
    ),
    "nothing known": (NOTHING, "Confirmed: what was asked for is not in evidence"),
    "no snapshot": (NOTHING | {"requests": (REQUEST,)}, "Confirmed: no snapshot tells what stood in the way"),
    "clear": ({"conflicts": ()}, "Refused: none of the 1 allocations in its own snapshot stood in the way"),
    "endless": (
        {"requests": (replace(REQUEST, window=FOREVER),), "conflicts": (conflict(rival("", ""), FOREVER),), "state": ()},
        "Refused: 1 rival on table T7 shares an endless part of the request",
    ),
    "a year": (
        {"requests": (replace(REQUEST, window=window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))),)},
        "Refused: 1 rival on table T7 shares 60 minutes of the request",
    ),
    "half a second": (
        {"conflicts": (replace(conflict(), overlap_s=0.5),)},
        "Refused: 1 rival on table T7 shares 0.5 s of the request",
    ),
}


@pytest.mark.parametrize(("changes", "finding"), TIMELINES.values(), ids=TIMELINES)
def test_a_timeline_of_any_evidence(changes: dict[str, Any], finding: str) -> None:
    drawn = timeline.draw(replace(REFUSED, **changes))
    assert title(drawn) == finding
    assert "time (London, UTC)" in texts(drawn)


def bars(drawn: Any) -> list[dict[str, Any]]:
    return [row for rows in drawn.to_dict()["datasets"].values() for row in rows if "kind" in row]


def test_a_timeline_is_in_the_time_of_the_restaurant() -> None:
    """On the night the clocks go back the offset is that of the request's begin, and so no hour is drawn twice."""
    lower = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    asked = replace(REQUEST, window=window(lower, lower + timedelta(hours=2)))
    drawn = timeline.draw(replace(REFUSED, requests=(asked,), conflicts=(), state=(), checked_at=lower - timedelta(hours=1)))
    assert "time (London, UTC+1)" in texts(drawn)
    [bar] = bars(drawn)
    assert (bar["from"], bar["to"], bar["held"]) == (
        (lower + timedelta(hours=1)).timestamp() * 1000,
        (lower + timedelta(hours=3)).timestamp() * 1000,
        "25 Oct 01:30 to 25 Oct 03:30",
    )


def test_a_bound_beyond_the_frame_is_not_drawn_as_if_it_ended_there(sample: duckdb.DuckDBPyConnection) -> None:
    curve = measure.ttl_curve(sample, measure.FINE_TTLS_S)
    of_write = curve.filter(pl.col("policy") == "last_write", pl.col("ttl_s") > 0)
    highest = of_write.select((pl.col("hits_high") / pl.col("lookups")).max()).item()
    drawn = chart.hit_rate_by_ttl(curve).to_dict()
    [area] = [layer for layer in drawn["layer"] if layer["mark"]["type"] == "area"]
    [top] = {
        layer["encoding"]["y"]["scale"]["domain"][1] for layer in drawn["layer"] if "scale" in layer["encoding"].get("y", {})
    }
    shown = [row["hit_rate_high"] for row in drawn["datasets"][area["data"]["name"]]]
    assert max(shown) <= top < highest
    assert shown == (of_write["hits_high"] / of_write["lookups"]).to_list()[: len(shown)], "bounds are drawn as they are"
    assert "more than the axis shows" in subtitle(chart.hit_rate_by_ttl(curve))


def test_what_is_shared_is_dark_and_what_is_recommended_has_a_row() -> None:
    fitting = Alternative("t9", "T9", REQUEST.window, 0.0, 4)
    drawn = timeline.draw(replace(REFUSED, alternatives=(fitting,)))
    [shared] = [bar for bar in bars(drawn) if bar["kind"] == "shared"]
    assert shared["held"] == "15 Nov 18:00 to 15 Nov 19:00"
    assert shared["to"] - shared["from"] == 3_600_000
    assert {"T7", "T9"} <= set(texts(drawn))


def test_what_may_have_gone_by_then_is_dashed() -> None:
    perhaps = rival("20:00", "21:00", allocation_id="b1", label="T8", source="perhaps gone")
    drawn = timeline.draw(replace(REFUSED, state=(rival(), perhaps)))
    assert [(bar["table"], bar["told"].endswith(", perhaps gone")) for bar in bars(drawn) if not bar["sure"]] == [("T8", True)]
    assert canvas.svg(drawn).count('stroke-dasharray="4,3"') == 1 + canvas.svg(timeline.draw(REFUSED)).count(
        'stroke-dasharray="4,3"'
    )
    assert "dashed: perhaps gone" in subtitle(drawn)
    assert "dashed" not in subtitle(timeline.draw(REFUSED))


def test_rivals_have_the_letters_of_the_explanation(evidence: duckdb.DuckDBPyConnection) -> None:
    check = some_check(evidence, "cause = 'agreed' and replayed_verdict = 'conflict'")
    told = re.findall(r"Let (\w+) be allocation", str(analysis.explain_check(evidence, check.check_id)))[1:] or ["A"]
    shown = texts(timeline.draw(check))
    assert "A" in shown
    assert set(told) <= set(shown)


def test_the_check_is_marked_where_its_instant_is_in_sight() -> None:
    assert "checked 17:42" in texts(timeline.draw(REFUSED))
    assert not any(
        "checked" in text for text in texts(timeline.draw(replace(REFUSED, checked_at=datetime(2025, 11, 1, tzinfo=UTC))))
    )


def test_of_many_tables_those_that_matter_are_drawn() -> None:
    many = tuple(rival("12:00", "13:00", label=f"{n}", allocation_id=f"x{n}", booking_id=f"b{n}") for n in range(1, 41))
    drawn = timeline.draw(replace(REFUSED, state=(*many, rival())))
    shown = texts(drawn)
    assert "T7" in shown
    assert f"{timeline.TABLES} of 41 tables" in subtitle(drawn)
    assert len({bar["table"] for bar in bars(drawn)}) == timeline.TABLES
    numbers = [int(text) for text in shown if text.isdecimal()]
    assert numbers == sorted(numbers)


NOTHING_FOUND = {
    "by day": "A cache that never expires would have answered none of checks",
    "by day, 900 s": "A 15-minute cache would have answered none of checks",
    "by lead": "First checks of a booking are none of what a 15-minute cache misses",
    "by restaurant": "First checks of a booking are none of what a cache that never expires misses",
    "by age": "Nothing is asked twice",
    "by TTL": "A 15-minute cache would have answered none of checks, none of its answers wrong",
    "growth": "No whole day of evidence: how fast it grows is not known",
    "retention": "Keeping 30 days frees nothing: the evidence spans less",
}
ONE_FOUND = NOTHING_FOUND | {
    "by day": "A cache that never expires would have answered 0.0 % of checks",
    "by lead": "First checks of a booking are 100.0 % of what a 15-minute cache misses",
    "by restaurant": "First checks of a booking are 100.0 % of what a cache that never expires misses",
    "by TTL": "A 15-minute cache would have answered 0.0 % of checks, none of its answers wrong",
    "by day, 900 s": "A 15-minute cache would have answered 0.0 % of checks",
    "retention": "Keeping 30 days frees nothing: the evidence spans less",
}


@pytest.mark.parametrize("name", OF_RATES)
def test_charts_of_nothing_and_of_one_check(name: str) -> None:
    for checks, found in (([], NOTHING_FOUND), ([story("c1 [5,8)", "1").row()], ONE_FOUND)):
        with closing(planted(checks=checks, restaurants=[{"key": "R", "name": HOSTILE, "timezone": "UTC"}])) as con:
            drawn = CHARTS[name](con)
        assert title(drawn) == found[name]
        assert not {"null", "NaN", "undefined", "Invalid Date"} & set(texts(drawn))


def test_a_restaurant_may_be_called_anything() -> None:
    with closing(planted(checks=[story("c1 [5,8)", "1").row()], restaurants=[{"key": "R", "name": HOSTILE}])) as con:
        drawn = svg(CHARTS["by restaurant"](con))
    assert "<img" not in drawn
    assert "&lt;img src=x" in drawn


def test_days_without_lookups_are_days_too() -> None:
    rates = {"hits": [0, 2], "hit_rate_low": [0.0, 1.0], "hit_rate_high": [0.0, 1.0]}
    two = pl.DataFrame({"label": ["2025-11-01", "2025-11-30"], "lookups": [4, 2], **rates})
    rows = [row for rows in chart.hit_rate_by_day(two).to_dict()["datasets"].values() for row in rows]
    last = max(rows, key=lambda row: row["day"])
    assert len({row["day"] for row in rows}) == 30
    assert (last["hit_rate"], last["rolling"]) == (1, 1)


def test_a_ttl_that_was_not_asked_for_cannot_be_told(evidence: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ForensicsError, match="no point at a TTL of 42 s"):
        chart.hit_rate_by_ttl(measure.ttl_curve(evidence), ttl_s=42)


def luminance(colour: str) -> float:
    """Return how light a colour is in grey print, from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_what_must_be_told_apart_differs_in_grey_print() -> None:
    greys = sorted(luminance(colour) for kind, colour in timeline.HELD.items() if kind != "maintenance")
    assert all(b - a > 0.15 for a, b in pairwise(greys))
    assert min(greys) == luminance(timeline.HELD["rival"])


OF_OUTCOMES = {"retries answered", "re-checks answered", "expired", "first check of a booking", "other request", "error"}


def test_outcomes_differ_in_grey_print_from_their_neighbours(sample: duckdb.DuckDBPyConnection) -> None:
    """The parts of a bar lie side by side: each must be told from the next, whatever colours one sees."""
    drawn = CHARTS["by lead"](sample).to_dict()
    scale = drawn["encoding"]["color"]["scale"]
    assert set(scale["domain"]) == OF_OUTCOMES
    greys = [luminance({"black": "#000000"}.get(colour, colour)) for colour in scale["range"]]
    assert all(abs(b - a) > 0.15 for a, b in pairwise(greys))
    by_age = CHARTS["by age"](sample).to_dict()["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert abs(luminance(by_age[0]) - luminance(by_age[1])) > 0.15


def plotted(drawn: Any, mark: str, *channels: str) -> list[list[Any]]:
    """Return what each layer with a mark plots: for each of its rows the values of these channels."""
    spec = drawn.to_dict()

    def layers(part: dict[str, Any], data: Any) -> list[tuple[dict[str, Any], Any]]:
        data = part.get("data", data)
        inner = part.get("layer") or part.get("vconcat")
        return [(part, data)] if inner is None else [found for each in inner for found in layers(each, data)]

    found = []
    for layer, data in layers(spec, None):
        if layer["mark"]["type"] == mark:
            fields = [layer["encoding"][channel]["field"] for channel in channels]
            found.append([tuple(row[field] for field in fields) for row in spec["datasets"][data["name"]]])
    return found


def test_by_day_every_mark_has_its_number() -> None:
    hits = [1, 0, 0, 0, 0, 0, 0, 6]
    days = pl.DataFrame(
        {
            "label": [f"2025-11-0{n}" for n in range(1, 9)],
            "lookups": [4, 1, 1, 1, 1, 1, 1, 8],
            "hits": hits,
            "hit_rate_low": [0.125, *[0.0] * 7],
            "hit_rate_high": [0.5, *[0.0] * 7],
        }
    )
    drawn = chart.hit_rate_by_day(days)
    assert [y for (y,) in plotted(drawn, "circle", "y")[0]] == [0.25, 0, 0, 0, 0, 0, 0, 0.75]
    assert plotted(drawn, "rule", "y", "y2")[0][0] == (0.125, 0.5)
    # Seven days: the first has left the mean of the last.
    rolling = [y for (y,) in plotted(drawn, "line", "y")[0]]
    assert (rolling[0], rolling[6], rolling[7]) == (1 / 4, 1 / 10, 6 / 14)
    assert [y for (y,) in plotted(drawn, "bar", "y")[0]] == days["lookups"].to_list()


def test_by_group_every_bar_has_its_number() -> None:
    group = {
        "lookups": 64,
        "hits": 12,
        "retry_hits": 4,
        "expired_misses": 16,
        "first_checks": 32,
        "cold_misses": 3,
        "errors": 1,
    }
    luckier, few = {**group, "hits": 13}, {**group, "lookups": 4, "hits": 4}
    drawn = chart.outcomes_by(pl.DataFrame([{"label": "T", **group}, {"label": "U", **luckier}, {"label": "V", **few}]), "what")
    assert title(drawn).endswith("; most answered: U, 20.3 %")
    drawn = chart.outcomes_by(pl.DataFrame([{"label": "T", **group}]), "what")
    assert title(drawn).endswith("of what a cache that never expires misses")
    assert dict(plotted(drawn, "bar", "color", "x")[0]) == {
        "retries answered": 4 / 64,
        "re-checks answered": 8 / 64,
        "expired": 16 / 64,
        "first check of a booking": 32 / 64,
        "other request": 3 / 64,
        "error": 1 / 64,
    }


def test_by_age_every_bar_has_its_number() -> None:
    drawn = chart.ages(pl.DataFrame({"up_to_s": [60, None], "safe_hits": [5, 4], "stale_hits": [2, 0]}))
    near, far = "up to 1 minute", "over 1 minute"
    assert set(plotted(drawn, "bar", "x", "y", "color")[0]) == {
        (near, 5, "still holds"),
        (near, 2, "no longer holds"),
        (far, 4, "still holds"),
        (far, 0, "no longer holds"),
    }
    assert plotted(drawn, "text", "x", "y", "text") == [[(near, 7, 2)]]
    assert title(drawn) == "63.6 % of the repeats come within 1 minute of the answer, and 18.2 % get a wrong one"


def test_repeats_that_come_late_are_not_called_soon() -> None:
    drawn = chart.ages(pl.DataFrame({"up_to_s": [60, None], "safe_hits": [1, 2], "stale_hits": [0, 0]}))
    assert title(drawn).startswith("66.7 % of the repeats come more than 1 minute after the answer, ")


def test_by_ttl_every_line_has_its_number() -> None:
    point = {"lookups": 64, "hits_low": 8, "hits_high": 24}
    curve = pl.DataFrame(
        [
            {"policy": "last_use", "ttl_s": 900, **point, "hits": 20, "stale_hits": 3},
            {"policy": "last_write", "ttl_s": 900, **point, "hits": 18, "stale_hits": 2},
        ]
    )
    drawn = chart.hit_rate_by_ttl(curve)
    assert plotted(drawn, "area", "x", "y", "y2") == [[(0.25, 8 / 64, 24 / 64)]]
    assert plotted(drawn, "line", "x", "y") == [
        [(0.25, 20 / 64)],
        [(0.25, 3 / 64)],
        [(0.25, 18 / 64)],
        [(0.25, 2 / 64)],
    ]
    # The words stand at the ends of the lines that they name.
    *named, horizon = [layer for layer in drawn.to_dict()["layer"] if layer["mark"]["type"] == "text"]
    assert [(layer["encoding"]["text"]["value"], layer["encoding"]["y"]["field"]) for layer in named] == [
        ("TTL from last use", "hit_rate"),
        ("TTL from last write", "hit_rate"),
        ("answered wrongly", "stale_rate"),
    ]
    assert horizon["encoding"]["text"]["field"] == "words"
    assert plotted(drawn, "rule", "x") == [[(0.25,)]]


def test_of_growth_every_bar_has_its_number() -> None:
    rows = pl.DataFrame({"label": ["2025-11-01"], "checks": [3], "snapshot_bytes": [2_000_000], "conflict_bytes": [500_000]})
    drawn = chart.growth(rows, {"bytes_a_day": 4_000_000, "low": 1_000_000, "high": 5_000_000})
    assert plotted(drawn, "bar", "y") == [[(2.5,)]]
    assert title(drawn) == "The evidence grows by 4.00 MB of text a day, 1.00 to 5.00 by the week"
    quiet = chart.growth(rows, {"bytes_a_day": 4_000_000, "low": 0.0, "high": 5_000_000})
    assert title(quiet).endswith(", 0.00 to 5.00 by the week")


def test_of_retention_every_line_has_its_number() -> None:
    row = {"rows_kept": 48, "rows_freed": 16, "bytes_kept": 30, "bytes_freed": 10, "explanations_lost": 4, "meals": 32}
    rows = pl.DataFrame([{"days": 30, **row, "purged_before_meal": 2, "as_of": datetime(2025, 11, 30, tzinfo=UTC)}])
    drawn = chart.retention(rows, knee=12)
    assert plotted(drawn, "line", "x", "y") == [[(30, 10 / 40)], [(30, 4 / 64)], [(30, 2 / 32)]]
    names = [
        layer for layer in drawn.to_dict()["layer"] if layer["mark"]["type"] == "text" and "value" in layer["encoding"]["text"]
    ]
    assert all(layer["encoding"]["text"]["value"] == layer["encoding"]["y"]["field"] for layer in names)
    assert plotted(drawn, "rule", "x") == [[(12,)], [(30,)]]
