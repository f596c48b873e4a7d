"""Tidy frame or evidence → Altair chart. Every title states the finding; nothing here reads or writes anything."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import altair as alt
import polars as pl
import vl_convert

from analysis.explain import local_zone, rival_names
from analysis.model import Allocation, Check, Conflict, ForensicsError, Grade, Window

# Safe for colour blindness (after Okabe and Ito); what the charts must tell apart differs in grey print as well.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
HELD = {"booking": "#A9CFE8", "hold": "#F0F0F0", "maintenance": "#8C8C8C", "rival": ORANGE}
# vl-convert ships this face: a picture has the same metrics, and so the same bytes, on every machine.
FONT = "Liberation Sans"
WIDTH = 640
TABLES = 14  # rows of a timeline that are still read at a glance
AROUND = timedelta(hours=8)  # what a timeline shows on either side of the request


def show(how: Literal["still", "interactive"]) -> None:
    """Choose how charts are shown: as a still SVG that every viewer draws, or live in JupyterLab without a network."""
    if how == "interactive":
        alt.renderers.enable("jupyter", offline=True)
    else:
        alt.renderers.enable("svg")


def timeline(check: Check) -> alt.TopLevelMixin:
    """Draw one check: a row per table, the request outlined over the allocations, rivals and the shared part marked.

    Time is the restaurant's, at the offset it has when the request begins. Rivals carry the letters of the explanation.
    Bars are cut at the edge of the picture. Where there are more tables than :data:`TABLES` the requested ones, those of
    rivals and of alternatives come first.
    """
    view, offset, place = _view(check), *_local(check)
    letters = rival_names(len(check.conflicts))
    rivals = {c.rival.allocation_id for c in check.conflicts} - {None}
    held = [
        _bar(a, "booking" if a.kind not in HELD else a.kind, a.window)
        for a in check.state
        if a.resource_type == "table" and a.allocation_id not in rivals and a.booking_id != check.booking_id
    ]
    held += [_bar(c.rival, "rival", c.rival.window, letter) for c, letter in zip(check.conflicts, letters, strict=True)]
    asked = [_bar(request, "request", request.window) for request in check.requests]
    shared = [_bar(c.requested, "shared", c.overlap) for c in check.conflicts]
    rows, tables = _rows(check, held + asked)

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
        .encode(x=x, x2=x2, y=y, color=colour, description="told:N", tooltip=["table:N", "kind:N", "held:N", "booking:N"])
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
    return _titled(alt.layer(*layers), _timeline_title(check), _timeline_subtitle(check, len(rows), tables), height=step)


def svg(chart: alt.TopLevelMixin) -> str:
    """Return a chart as the text of an SVG, the same bytes on every machine."""
    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return drawn


def hit_rate_by_day(by_day: pl.DataFrame) -> alt.TopLevelMixin:
    """Draw the share of lookups that a cache without expiry would have answered, by day; columns of ``by_day``."""
    days = by_day.select(pl.col("day").cast(pl.String).str.to_date(), "lookups", "hits").sort("day")
    if len(days):
        days = days.upsample("day", every="1d").with_columns(pl.col("lookups", "hits").fill_null(0))
    tidy = days.with_columns(
        pl.col("day").cast(pl.Datetime("ms")).dt.epoch("ms"),
        hit_rate=pl.when(pl.col("lookups") > 0).then(pl.col("hits") / pl.col("lookups")),
        rolling=pl.col("hits").rolling_sum(7, min_samples=1) / pl.col("lookups").rolling_sum(7, min_samples=1),
    )
    lookups, hits = int(days["lookups"].sum()), int(days["hits"].sum())
    scale = alt.Scale(type="utc", padding=10)
    bare = alt.X("day:T", title=None, axis=alt.Axis(labels=False, ticks=False), scale=scale)
    dated = alt.X("day:T", title="day (UTC)", axis=alt.Axis(format="%d %b", labelOverlap=True), scale=scale)
    y = alt.Y("hit_rate:Q", title="share of lookups answered", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True))
    base = alt.Chart(tidy).encode(x=bare)
    points = base.mark_circle(color=GREY, opacity=0.55, size=36).encode(y=y)
    line = base.mark_line(color=BLUE, strokeWidth=2.5).encode(y=alt.Y("rolling:Q"))
    name = (
        alt.Chart(tidy.head(1))
        .mark_text(align="left", dx=10, dy=3, color=BLUE, fontWeight="bold")
        .encode(x=bare, y=alt.Y("rolling:Q"), text=alt.value("last 7 days"))
    )
    bars = (
        alt.Chart(tidy)
        .mark_bar(color=GREY, width=max(1.0, 0.7 * WIDTH / max(1, len(tidy))))
        .encode(x=dated, y=alt.Y("lookups:Q", title="lookups a day", axis=alt.Axis(tickCount=3)))
    )
    panels = alt.vconcat(
        alt.layer(points, line, name).properties(width=WIDTH, height=190), bars.properties(width=WIDTH, height=60), spacing=8
    )
    title = f"A cache that never expires would have answered {_share(hits, lookups)} of checks"
    period = f", {days['day'][0]:%d %b} to {days['day'][-1]:%d %b %Y}," if len(days) else ""
    return _titled(
        panels,
        title,
        f"{hits:,} of {lookups:,} checks{period} ask again for what their booking asked before. Inferred: every check was "
        "computed. The first days are too low, as what was asked before them is not in evidence.",
    )


def hit_rate_by_ttl(curve: pl.DataFrame, *, ttl_s: float = 900) -> alt.TopLevelMixin:
    """Draw hits and stale hits over the TTL, as shares of all lookups; columns of ``ttl_curve``, one TTL told in the title.

    Raises ForensicsError when the curve has no point at that TTL.
    """
    found = curve.filter((pl.col("ttl_s") == ttl_s) & (pl.col("policy") == "last_write"))
    if found.is_empty():
        raise ForensicsError(f"the curve has no point at a TTL of {ttl_s:g} s: ask ttl_curve for it")
    told = found.row(0, named=True)
    tidy = curve.filter((pl.col("ttl_s") > 0) & (pl.col("lookups") > 0)).with_columns(
        hit_rate=pl.col("hits") / pl.col("lookups"),
        stale_rate=pl.col("stale_hits") / pl.col("lookups"),
        ttl=pl.col("ttl_s") / 3600,
    )
    x = alt.X(
        "ttl:Q",
        title="TTL (log scale)",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(
            values=[1 / 60, 1 / 12, 0.25, 1, 4, 12, 24, 72, 168, 336, 720],
            labelExpr="datum.value < 0.9 ? round(datum.value * 60) + ' min' : datum.value < 24 ? datum.value + ' h' : "
            "datum.value / 24 + ' d'",
            labelFlush=False,
        ),
    )
    y = alt.Y("hit_rate:Q", title="share of all lookups", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True))
    layers = []
    # The two lines may lie on each other: the wide one below still shows beside the thin one.
    for policy, words, colour, width, dy in (
        ("last_use", "TTL from last use", BLUE, 5, -15),
        ("last_write", "TTL from last write", ORANGE, 2, 13),
    ):
        of_policy = alt.Chart(tidy.filter(pl.col("policy") == policy)).encode(x=x)
        start = alt.Chart(tidy.filter(pl.col("policy") == policy).sort("ttl").head(1)).encode(x=x)
        layers += [
            of_policy.mark_line(color=colour, strokeWidth=width).encode(y=y),
            of_policy.mark_line(color=colour, strokeWidth=width / 2, strokeDash=[4, 3]).encode(y="stale_rate:Q"),
            start.mark_text(align="left", dy=dy, color=colour, fontWeight="bold").encode(y=y, text=alt.value(words)),
        ]
        if policy == "last_write":
            wrong = start.mark_text(align="left", dy=-9, color=GREY, fontWeight="bold")
            layers.append(wrong.encode(y="stale_rate:Q", text=alt.value("answered wrongly")))
    answered = _share(told["hits"], told["lookups"])
    if ttl_s > 0 and len(tidy):
        layers += _horizon({"ttl": ttl_s / 3600}, f"{_duration(ttl_s)}: {answered}", x)
    title = (
        f"A {_duration(ttl_s, '-')} cache would have answered {answered} of checks, "
        f"{_share(told['stale_hits'], told['hits'])} of its answers wrong"
    )
    return _titled(
        alt.layer(*layers),
        title,
        f"{told['hits']:,} of {told['lookups']:,} lookups, {told['stale_hits']:,} of them with a verdict that "
        "no longer held (TTL from last write). Inferred: every check was computed.",
        height=280,
    )


def retention(by_days: pl.DataFrame, *, days: int = 30) -> alt.TopLevelMixin:
    """Draw rows and bytes kept, and the evidence purged before the meal, over the retention; one is told in the title."""
    tidy = by_days.with_columns(megabytes=pl.col("bytes_kept") / 1e6)
    told = tidy.filter(pl.col("days") == days).to_dicts()
    span = max([days, *by_days["days"]])

    def panel(field: str, title: str, colour: str, form: str, *, last: bool = False) -> Any:
        axis = alt.Axis(labelFlush=False) if last else alt.Axis(labels=False, ticks=False)
        scale = alt.Scale(domain=[0, span], nice=False)
        x = alt.X("days:Q", title="retention (days)" if last else None, scale=scale, axis=axis)
        y = alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format=form, tickCount=4), scale=alt.Scale(zero=True))
        line = alt.Chart(tidy).mark_line(color=colour, strokeWidth=2.5).encode(x=x, y=y)
        points = (
            alt.Chart(pl.DataFrame(told, schema=tidy.schema)).mark_circle(color=colour, size=60, opacity=1).encode(x=x, y=y)
        )
        value = f": {told[0][field]:,.{0 if form == ',d' else 1}f} {title}" if told else ""
        horizon = _horizon({"days": days}, f"{days} days{value}", x, left=days > span / 2)
        return alt.layer(line, points, *horizon).properties(width=WIDTH, height=110)

    panels = alt.vconcat(
        panel("rows_kept", "rows kept", BLUE, ",d"),
        panel("megabytes", "MB kept", GREEN, ",.1f"),
        panel("purged_before_meal", "purged before meal", ORANGE, ",d", last=True),
        spacing=12,
    )
    checks = by_days.select(pl.col("rows_kept").max()).item() or 0
    if told:
        row = told[0]
        freed = _share(row["bytes_freed"], row["bytes_freed"] + row["bytes_kept"])
        meals = f"{row['purged_before_meal']:,} check{'' if row['purged_before_meal'] == 1 else 's'}"
        finding = f"Keeping {days} days frees {freed} of the bytes and purges {meals} before the meal"
    else:
        finding = f"Keeping {days} days frees nothing: the {checks:,} checks span less"
    subtitle = f"{checks:,} checks; MB are of snapshot and conflict text; the newest check stands for today."
    return _titled(panels, finding, subtitle)


def _titled(chart: Any, title: str, subtitle: str, *, height: Any = None) -> alt.TopLevelMixin:
    if height is not None:
        chart = chart.properties(width=WIDTH, height=height)
    titled: alt.TopLevelMixin = (
        chart.properties(
            title=alt.TitleParams(_wrap(title, 88), subtitle=_wrap(subtitle, 118), anchor="start", offset=18),
            padding={"left": 8, "top": 8, "right": 18, "bottom": 8},
        )
        .configure(font=FONT, background="white")
        .configure_title(fontSize=15, subtitleFontSize=11.5, subtitleColor=GREY, subtitlePadding=5)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#E6E6E6", labelFontSize=11, titleFontSize=11.5, titleFontWeight="normal")
        .configure_legend(labelFontSize=11, titleFontSize=11.5, titleFontWeight="normal")
    )
    return titled


def _horizon(at: dict[str, float], words: str, x: alt.X, *, left: bool = False, y: float = 2) -> list[alt.Chart]:
    """Mark one value of the x axis by a line that carries its own words."""
    mark = alt.Chart(pl.DataFrame([at | {"words": words}])).encode(x=x)
    align: Literal["left", "right"] = "right" if left else "left"
    return [
        mark.mark_rule(color=GREY, strokeDash=[4, 3]),
        mark.mark_text(align=align, dx=-5 if left else 5, baseline="top", color=GREY, fontWeight="bold").encode(
            y=alt.value(y), text="words:N"
        ),
    ]


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


_BAR: dict[str, Any] = {
    "table": pl.String,
    "kind": pl.String,
    "letter": pl.String,
    "booking": pl.String,
    "held": pl.String,
    "told": pl.String,
    "from": pl.Float64,
    "to": pl.Float64,
    "middle": pl.Float64,
}


def _bar(allocation: Allocation, kind: str, window: Window, letter: str | None = None) -> dict[str, Any]:
    return {
        "table": _name(allocation),
        "kind": kind,
        "letter": letter,
        "booking": _printable(allocation.booking_id or "none"),
        "window": window,
    }


def _cut(bar: dict[str, Any], view: tuple[datetime, datetime], offset: timedelta) -> dict[str, Any]:
    """Cut a bar at the edges of the view, in milliseconds of local time, which no reader's time zone can move."""
    window = bar["window"]
    lower, upper = max(window.lower or view[0], view[0]), min(window.upper or view[1], view[1])
    held = " to ".join("no bound" if at is None else f"{at + offset:%d %b %H:%M}" for at in (window.lower, window.upper))
    return {name: bar[name] for name in ("table", "kind", "letter", "booking")} | {
        "from": _ms(lower, offset),
        "to": _ms(upper, offset),
        "middle": (_ms(lower, offset) + _ms(upper, offset)) / 2,
        "held": held,
        # Without words of ours a reader's program would be told the edges in the time zone of this machine.
        "told": f"{bar['kind']} of table {bar['table']}: {held}",
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
    edge = timedelta(minutes=30)
    return (
        max(min(instants) - edge, min(around) - AROUND),
        min(max(instants) + edge, max(around) + AROUND),
    )


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
    return _horizon({"from": _ms(check.checked_at, offset)}, words, x, left=left, y=-11)


def _rows(check: Check, bars: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """Return the tables to draw, in the order of their numbers, and how many there are."""
    first = [_name(r) for r in check.requests] + [_name(c.rival) for c in check.conflicts]
    fitting = [_printable(a.label or a.resource_id) for a in check.alternatives or ()]
    every = sorted({bar["table"] for bar in bars} | set(first), key=_by_number)
    matter = sorted(every, key=lambda table: (table not in first, table not in fitting))[: max(TABLES, len(set(first)))]
    return [table for table in every if table in matter], len(every)


def _by_number(table: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", table)]


def _name(allocation: Allocation) -> str:
    return _printable(allocation.label or allocation.resource_id or "unknown")


def _printable(text: str) -> str:
    """Replace control characters, which no SVG may hold, by a visible mark."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _timeline_title(check: Check) -> str:
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


def _timeline_subtitle(check: Check, drawn: int, tables: int) -> str:
    offset, _ = _local(check)
    lower = check.requests[0].window.lower if check.requests else None
    parts = [f"Check {_printable(check.check_id)}{f' for {lower + offset:%a %d %b %Y}' if lower else ''}"]
    parts += ["outlined: requested"] if check.requests else []
    parts += ["dark: shared"] if check.conflicts else []
    parts += [f"{drawn} of {tables} tables"] if drawn < tables else []
    later = any(c.rival.source != "snapshot" for c in check.conflicts)
    parts += ["allocations of its own snapshot" + (", rivals also of other evidence" if later else "")]
    return "; ".join(parts) + "."


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _duration(seconds: float, joint: str = " ") -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            count = seconds / size
            return f"{count:g}{joint}{unit}{'s' if count != 1 and joint == ' ' else ''}"
    return f"{seconds:g}{joint}second{'' if joint == '-' else 's'}"
