"""A check → its timeline: one row per table, the request outlined over what was held. Nothing here reads or writes anything."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from analysis.canvas import GREY, ORANGE, horizon, titled
from analysis.model import Allocation, Check, Conflict, Grade, Window
from analysis.phrases import local_zone, printable, rival_names

HELD = {"booking": "#A9CFE8", "hold": "#F0F0F0", "maintenance": "#8C8C8C", "rival": ORANGE}
TABLES = 14  # rows that are still read at a glance
AROUND = timedelta(hours=8)  # what is shown on either side of the request


def draw(check: Check) -> alt.TopLevelMixin:
    """Draw one check: a row per table, the request outlined over the allocations, rivals and the shared part marked.

    Time is the restaurant's, at the offset it has when the request begins. Rivals carry the letters of the explanation.
    Bars are cut at the edge of the picture. Where there are more tables than :data:`TABLES` the requested ones, those of
    rivals and of alternatives come first.
    """
    view, offset, place = _view(check), *_local(check)
    letters = rival_names(len(check.conflicts))
    rivals = {c.rival.allocation_id for c in check.conflicts} - {None}
    held = [
        _bar(a, "booking" if a.kind not in HELD else a.kind, a.window, sure=a.source != "perhaps gone")
        for a in check.state
        if a.resource_type == "table" and a.allocation_id not in rivals and a.booking_id != check.booking_id
    ]
    held += [
        _bar(c.rival, "rival", c.rival.window, letter, sure=c.rival.source != "perhaps gone")
        for c, letter in zip(check.conflicts, letters, strict=True)
    ]
    asked = [_bar(request, "request", request.window) for request in check.requests]
    shared = [_bar(c.requested, "shared", c.overlap) for c in check.conflicts]
    rows, tables = _rows(check, held + asked, view)

    def frame(bars: list[dict[str, Any]]) -> pl.DataFrame:
        cut = [_cut(bar, view, offset) for bar in bars if bar["table"] in rows]
        return pl.DataFrame([bar for bar in cut if bar["from"] <= bar["to"]], schema=_BAR)

    y = alt.Y("table:N", title="table", sort=rows, scale=alt.Scale(domain=rows), axis=alt.Axis(labelLimit=250))
    x, x2 = alt.X("from:T", title=f"time ({place})", axis=_hours(view, offset), scale=_time(view, offset)), alt.X2("to:T")
    drawn = frame(held)
    kinds = [kind for kind in HELD if kind in drawn["kind"]]
    legend = alt.Legend(orient="bottom", title="held by", titleOrient="left") if kinds else None
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[HELD[kind] for kind in kinds]), legend=legend)
    spans = (
        alt.Chart(drawn)
        .mark_bar(height={"band": 0.7}, stroke=GREY, strokeWidth=0.6)
        .encode(
            x=x,
            x2=x2,
            y=y,
            color=colour,
            strokeWidth=alt.when("datum.sure").then(alt.value(0.6)).otherwise(alt.value(1.5)),
            strokeDash=alt.when("datum.sure").then(alt.value([1, 0])).otherwise(alt.value([4, 3])),
            fillOpacity=alt.when("datum.sure").then(alt.value(1)).otherwise(alt.value(0.3)),
            description="told:N",
            tooltip=["table:N", "kind:N", "held:N", "booking:N"],
        )
    )
    overlaps = (
        alt.Chart(frame(shared))
        .mark_bar(height={"band": 0.4}, color="black", opacity=0.7)
        .encode(x=x, x2=x2, y=y, description="told:N")
    )
    request = (
        alt.Chart(frame(asked))
        .mark_bar(height={"band": 0.95}, filled=False, stroke="black", strokeWidth=2.5)
        .encode(x=x, x2=x2, y=y, description="told:N")
    )
    names = (
        alt.Chart(drawn.filter(pl.col("letter").is_not_null()))
        .mark_text(color="white", fontWeight="bold", fontSize=12)
        .encode(x=alt.X("middle:T", scale=_time(view, offset)), y=y, text="letter:N")
    )
    layers = [spans, overlaps, request, names, *_checked(check, view, offset)]
    step = {"step": 26} if rows else 60
    return titled(alt.layer(*layers), _title(check), _subtitle(check, len(rows), tables), height=step)


_BAR: dict[str, Any] = {
    "table": pl.String,
    "kind": pl.String,
    "sure": pl.Boolean,
    "letter": pl.String,
    "booking": pl.String,
    "held": pl.String,
    "told": pl.String,
    "from": pl.Float64,
    "to": pl.Float64,
    "middle": pl.Float64,
}


def _bar(allocation: Allocation, kind: str, window: Window, letter: str | None = None, *, sure: bool = True) -> dict[str, Any]:
    return {
        "table": _name(allocation),
        "kind": kind,
        "sure": sure,
        "letter": letter,
        "booking": printable(allocation.booking_id or "none"),
        "window": window,
    }


def _cut(bar: dict[str, Any], view: tuple[datetime, datetime], offset: timedelta) -> dict[str, Any]:
    """Cut a bar at the edges of the view, in milliseconds of local time, which no reader's time zone can move."""
    window = bar["window"]
    lower, upper = max(window.lower or view[0], view[0]), min(window.upper or view[1], view[1])
    held = " to ".join("no bound" if at is None else f"{at + offset:%d %b %H:%M}" for at in (window.lower, window.upper))
    return {name: bar[name] for name in ("table", "kind", "sure", "letter", "booking")} | {
        "from": _ms(lower, offset),
        "to": _ms(upper, offset),
        "middle": (_ms(lower, offset) + _ms(upper, offset)) / 2,
        "held": held,
        # Without words of ours a reader's program would be told the edges in the time zone of this machine.
        "told": f"{bar['kind']} of table {bar['table']}: {held}{'' if bar['sure'] else ', perhaps gone'}",
    }


def _ms(instant: datetime, offset: timedelta) -> float:
    return (instant + offset).timestamp() * 1000


def _view(check: Check) -> tuple[datetime, datetime]:
    """Return the time to draw: all that the evidence shows, but no more than some hours around the request."""
    windows = [a.window for a in (*check.state, *check.requests)] + [c.rival.window for c in check.conflicts]
    instants = [instant for w in windows for instant in (w.lower, w.upper) if instant is not None]
    asked = [instant for r in check.requests for instant in (r.window.lower, r.window.upper) if instant is not None]
    if not instants:
        return check.checked_at - AROUND, check.checked_at + AROUND
    around = asked or instants
    limit = min(around) - AROUND, max(around) + AROUND
    # What lies wholly beyond is not drawn, and needs no room.
    near = [instant for w in windows if _meets(w, limit) for instant in (w.lower, w.upper) if instant is not None]
    edge = timedelta(minutes=30)
    return max(min(near) - edge, limit[0]), min(max(near) + edge, limit[1])


def _local(check: Check) -> tuple[timedelta, str]:
    """Return the restaurant's offset from UTC when the request begins, and how to call it."""
    asked = next((r.window.lower for r in check.requests if r.window.lower), check.checked_at)
    zone, place = local_zone(check.timezone)
    offset = asked.astimezone(zone).utcoffset() or timedelta()
    minutes = round(abs(offset).total_seconds() / 60)
    sign = "" if not minutes else "−" if offset < timedelta() else "+"
    ahead = f"{sign}{minutes // 60}{f':{minutes % 60:02}' if minutes % 60 else ''}" if minutes else ""
    return offset, "UTC" if place == "UTC" else f"{place}, UTC{ahead}"


def _time(view: tuple[datetime, datetime], offset: timedelta) -> alt.Scale:
    return alt.Scale(type="utc", domain=[_ms(view[0], offset), _ms(view[1], offset)], nice=False)


def _hours(view: tuple[datetime, datetime], offset: timedelta) -> alt.Axis:
    """Label full local hours; every one, or as many as there is room for."""
    hours = (view[1] - view[0]) / timedelta(hours=1)
    step = next((step for step in (1, 2, 4, 12, 24) if hours / step <= 14), 24 * round(hours / 24 / 14))
    first = _ms(view[0], offset) // (step * 3600_000) + 1
    ticks = [(first + n) * step * 3600_000 for n in range(int(hours / step) + 1)]
    return alt.Axis(
        format="%d %b" if step >= 24 else "%H:%M",
        values=[tick for tick in ticks if tick <= _ms(view[1], offset)],
        labelFlush=False,
    )


def _checked(check: Check, view: tuple[datetime, datetime], offset: timedelta) -> list[alt.Chart]:
    """Mark the instant of the check, where it lies within the view."""
    if not view[0] <= check.checked_at <= view[1]:
        return []
    x = alt.X("from:T", scale=_time(view, offset))
    words = f"checked {check.checked_at + offset:%H:%M}"
    left = check.checked_at - view[0] > (view[1] - view[0]) / 2
    return horizon({"from": _ms(check.checked_at, offset)}, words, x, left=left, y=-11)


def _rows(check: Check, bars: Sequence[dict[str, Any]], view: tuple[datetime, datetime]) -> tuple[list[str], int]:
    """Return the tables to draw, in the order of their numbers, and how many there are; none whose bars all lie elsewhere."""
    first = [_name(r) for r in check.requests] + [_name(c.rival) for c in check.conflicts]
    fitting = [printable(a.label or a.resource_id) for a in check.alternatives or ()]
    every = sorted({bar["table"] for bar in bars} | set(first) | set(fitting), key=_by_number)
    inside = {bar["table"] for bar in bars if _meets(bar["window"], view)}
    shown = [table for table in every if table in inside or table in first or table in fitting]
    matter = sorted(shown, key=lambda table: (table not in first, table not in fitting))[: max(TABLES, len(set(first)))]
    return [table for table in every if table in matter], len(every)


def _meets(window: Window, view: tuple[datetime, datetime]) -> bool:
    return (window.lower is None or window.lower < view[1]) and (window.upper is None or view[0] < window.upper)


def _by_number(table: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", table)]


def _name(allocation: Allocation) -> str:
    return printable(allocation.label or allocation.resource_id or "unknown")


def _title(check: Check) -> str:
    verdict = {"confirmed": "Confirmed", "refused": "Refused"}[check.recorded_verdict]
    if check.conflicts:
        tables = sorted({_name(c.rival) for c in check.conflicts}, key=_by_number)
        rivals = "1 rival" if len(check.conflicts) == 1 else f"{len(check.conflicts)} rivals"
        where = f"table{'' if len(tables) == 1 else 's'} {', '.join(tables)}"
        share = "shares" if len(check.conflicts) == 1 else "share"
        return f"{verdict}: {rivals} on {where} {share} {_longest(check.conflicts)} of the request"
    if not check.requests:
        return f"{verdict}: what was asked for is not in evidence"
    if check.grade is Grade.NONE:
        return f"{verdict}: no snapshot tells what stood in the way"
    return f"{verdict}: none of the {len(check.state)} allocations in its own snapshot stood in the way"


def _longest(conflicts: Sequence[Conflict]) -> str:
    lengths = [c.overlap_s for c in conflicts]
    if any(length is None for length in lengths):
        return "an endless part"
    longest = max(length for length in lengths if length is not None)
    some = "up to " if len(set(lengths)) > 1 else ""
    return f"{some}{longest / 60:g} minutes" if longest >= 60 else f"{some}{longest:g} s"


def _subtitle(check: Check, drawn: int, tables: int) -> str:
    offset, _ = _local(check)
    lower = check.requests[0].window.lower if check.requests else None
    at = check.checked_at.astimezone(local_zone(check.timezone)[0])
    parts = [f"Check {printable(check.check_id)}, run {at:%d %b %H:%M}{f', for {lower + offset:%a %d %b %Y}' if lower else ''}"]
    parts += ["outlined: requested"] if check.requests else []
    parts += ["dark: shared"] if check.conflicts else []
    parts += ["dashed: perhaps gone"] if any(a.source == "perhaps gone" for a in check.state) else []
    parts += [f"{drawn} of {tables} tables"] if drawn < tables else []
    later = any(c.rival.source != "snapshot" for c in check.conflicts)
    parts += ["allocations of its own snapshot" + (", rivals also of other evidence" if later else "")]
    return "; ".join(parts) + "."
