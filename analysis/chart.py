"""Tidy frame or evidence → Altair chart. Every title states the finding; nothing here reads or writes anything."""

from datetime import datetime
from typing import Any, Literal

import altair as alt
import polars as pl

from analysis.model import Allocation, Check, Window

# Dark enough to tell apart in grey print, and safe for colour blindness (Okabe and Ito).
BLUE, ORANGE, GREEN, GREY, LIGHT = "#0072B2", "#D55E00", "#009E73", "#555555", "#C8C8C8"
# vl-convert ships this face: a picture has the same metrics, and so the same bytes, on every machine.
FONT = "Liberation Sans"
WIDTH = 640


def show(how: Literal["still", "interactive"]) -> None:
    """Choose how charts are shown: as a still SVG that every viewer draws, or live in JupyterLab without a network."""
    if how == "interactive":
        alt.renderers.enable("jupyter", offline=True)
    else:
        alt.renderers.enable("svg")


def timeline(check: Check) -> alt.TopLevelMixin:
    """Draw one check: a row per table, the request outlined over the allocations, rivals and the shared part marked.

    Time is UTC. A window without an end is drawn to the edge of the others.
    """
    span = _span(check)
    rivals = {c.rival.allocation_id for c in check.conflicts}
    bars = [_bar(a, span, "rival" if a.allocation_id in rivals else a.kind) for a in check.state if a.resource_type == "table"]
    known = {a.allocation_id for a in check.state}
    bars += [
        _bar(c.rival, span, "rival")
        for c in check.conflicts
        if c.rival.allocation_id not in known or c.rival.source != "snapshot"
    ]
    own = [bar for bar in bars if bar["booking"] != check.booking_id]
    asked = [_bar(request, span, "request") for request in check.requests]
    shared = [_bar(c.requested, span, "shared", c.overlap) for c in check.conflicts]
    schema: dict[str, Any] = {
        "table": pl.String,
        "kind": pl.String,
        "from": pl.Datetime("us"),
        "to": pl.Datetime("us"),
        "booking": pl.String,
    }

    kinds = ["booking", "hold", "maintenance", "rival"]
    y = alt.Y("table:N", title="table", sort=alt.SortField("table"))
    x, x2 = alt.X("from:T", title="time (UTC)", axis=alt.Axis(format="%H:%M")), alt.X2("to:T")
    held = (
        alt.Chart(pl.DataFrame(own, schema=schema))
        .mark_bar(height={"band": 0.7}, stroke="white", strokeWidth=1)
        .encode(
            x=x,
            x2=x2,
            y=y,
            color=alt.Color(
                "kind:N",
                title="held by",
                scale=alt.Scale(domain=kinds, range=[BLUE, LIGHT, GREY, ORANGE]),
                legend=alt.Legend(orient="bottom"),
            ),
            tooltip=["table:N", "kind:N", "from:T", "to:T", "booking:N"],
        )
    )
    overlap = (
        alt.Chart(pl.DataFrame(shared, schema=schema))
        .mark_bar(height={"band": 0.7}, color="black", opacity=0.45)
        .encode(x=x, x2=x2, y=y)
    )
    request = (
        alt.Chart(pl.DataFrame(asked, schema=schema))
        .mark_bar(height={"band": 0.95}, filled=False, stroke="black", strokeWidth=2.5)
        .encode(x=x, x2=x2, y=y)
    )
    chart = alt.layer(held, overlap, request)
    return _titled(chart, _timeline_title(check), _timeline_subtitle(check), height={"step": 26})


def hit_rate_by_day(by_day: pl.DataFrame) -> alt.TopLevelMixin:
    """Draw the share of lookups that a cache without expiry would have answered, by day; columns of ``by_day``."""
    lookups, hits = int(by_day["lookups"].sum()), int(by_day["hits"].sum())
    base = alt.Chart(by_day).encode(x=alt.X("day:T", title="day (UTC)", axis=alt.Axis(format="%d %b")))
    y = alt.Y(
        "hit_rate:Q",
        title="lookups answered (share of the day)",
        axis=alt.Axis(format="%"),
        scale=alt.Scale(domain=[0, 1]),
    )
    points = base.mark_circle(color=LIGHT, opacity=1, stroke=GREY, strokeWidth=0.5).encode(
        y=y, size=alt.Size("lookups:Q", title="lookups a day", legend=alt.Legend(orient="bottom"))
    )
    line = (
        base.transform_window(rolling_hits="sum(hits)", rolling_lookups="sum(lookups)", frame=[-6, 0], sort=[{"field": "day"}])
        .transform_calculate(rolling="datum.rolling_hits / datum.rolling_lookups")
        .mark_line(color=BLUE, strokeWidth=2.5)
        .encode(y=alt.Y("rolling:Q"))
    )
    title = f"A cache that never expires would have answered {_share(hits, lookups)} of checks"
    return _titled(
        alt.layer(points, line),
        title,
        f"{hits:,} of {lookups:,} checks ask again for what their booking asked before; inferred, as every check was computed. "
        "Line: last 7 days.",
        height=240,
    )


def hit_rate_by_ttl(curve: pl.DataFrame, *, ttl_s: float = 900) -> alt.TopLevelMixin:
    """Draw hits and stale hits over the TTL, as shares of all lookups; columns of ``ttl_curve``, one TTL told in the title."""
    tidy = curve.with_columns(
        hit_rate=pl.col("hits") / pl.col("lookups"),
        stale_rate=pl.col("stale_hits") / pl.col("lookups"),
        policy=pl.col("policy").replace({"last_use": "TTL from last use", "last_write": "TTL from last write"}),
        ttl=pl.col("ttl_s") / 3600,
    ).filter(pl.col("ttl_s") > 0)
    told = curve.filter((pl.col("ttl_s") == ttl_s) & (pl.col("policy") == "last_write")).row(0, named=True)
    x = alt.X(
        "ttl:Q",
        title="TTL (log scale)",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(
            values=[1 / 60, 1 / 12, 0.25, 1, 4, 12, 24, 72, 168, 336, 720],
            labelExpr="datum.value < 0.9 ? round(datum.value * 60) + ' min' : datum.value < 24 ? datum.value + ' h' : "
            "datum.value / 24 + ' d'",
        ),
    )
    y = alt.Y("hit_rate:Q", title="share of all lookups", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True))
    colour = alt.Color(
        "policy:N",
        title=None,
        scale=alt.Scale(domain=["TTL from last use", "TTL from last write"], range=[BLUE, ORANGE]),
        legend=alt.Legend(orient="bottom"),
    )
    hits = alt.Chart(tidy).mark_line(strokeWidth=2.5, point=True).encode(x=x, y=y, color=colour)
    stale = alt.Chart(tidy).mark_line(strokeWidth=1.5, strokeDash=[4, 3]).encode(x=x, y=alt.Y("stale_rate:Q"), color=colour)
    title = (
        f"A {_duration(ttl_s)} cache would have answered {_share(told['hits'], told['lookups'])} of checks, "
        f"{_share(told['stale_hits'], told['lookups'])} of them wrongly"
    )
    return _titled(
        alt.layer(hits, stale),
        title,
        f"Of {told['lookups']:,} lookups, TTL from the last write. Solid: answered. "
        "Dashed: answered with a verdict that no longer held.",
        height=280,
    )


def retention(by_days: pl.DataFrame, *, days: int = 30) -> alt.TopLevelMixin:
    """Draw rows and bytes kept, and the evidence purged before the meal, over the retention; one is told in the title."""
    told = by_days.filter(pl.col("days") == days)
    tidy = by_days.with_columns(megabytes=pl.col("bytes_kept") / 1e6)
    x = alt.X("days:Q", title="retention (days)")
    mark = alt.Chart(pl.DataFrame({"days": [days], "label": [f"{days} days"]}))
    rule = mark.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x=x)
    label = mark.mark_text(align="left", dx=4, dy=-4, baseline="top", color=GREY, font=FONT).encode(
        x=x, y=alt.value(4), text="label:N"
    )

    def panel(field: str, title: str, colour: str, form: str) -> Any:
        line = (
            alt.Chart(tidy)
            .mark_line(color=colour, strokeWidth=2.5)
            .encode(x=x, y=alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format=form)))
        )
        return alt.layer(line, rule, label).properties(width=WIDTH, height=110)

    panels = alt.vconcat(
        panel("rows_kept", "rows kept", BLUE, ",d"),
        panel("megabytes", "text kept (MB)", GREEN, ",.1f"),
        panel("purged_before_meal", "purged before the meal", ORANGE, ",d"),
    )
    if told.is_empty():
        finding = f"The evidence spans less than {days} days"
    else:
        row = told.row(0, named=True)
        freed = _share(row["bytes_freed"], row["bytes_freed"] + row["bytes_kept"])
        finding = (
            f"Keeping {days} days frees {freed} of the bytes and purges {row['purged_before_meal']:,} checks before their meal"
        )
    checks = by_days.select(pl.col("rows_kept").max()).item() or 0
    subtitle = f"{checks:,} checks; bytes are snapshot and conflict text; the newest check stands for today."
    return _titled(panels, finding, subtitle)


def _titled(chart: Any, title: str, subtitle: str, *, height: Any = None) -> alt.TopLevelMixin:
    if height is not None:
        chart = chart.properties(width=WIDTH, height=height)
    titled: alt.TopLevelMixin = (
        chart.properties(title=alt.TitleParams(_wrap(title, 78), subtitle=_wrap(subtitle, 105), anchor="start", offset=12))
        .configure(font=FONT, background="white")
        .configure_title(fontSize=15, subtitleFontSize=11.5, subtitleColor=GREY)
        .configure_view(stroke=None)
        .configure_axis(gridColor="#E6E6E6", labelFontSize=11, titleFontSize=11.5, titleFontWeight="normal")
    )
    return titled


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _span(check: Check) -> tuple[datetime, datetime]:
    windows = [a.window for a in (*check.state, *check.requests)] + [c.rival.window for c in check.conflicts]
    instants = [instant for w in windows for instant in (w.lower, w.upper) if instant is not None]
    return (min(instants), max(instants)) if instants else (check.checked_at, check.checked_at)


def _bar(allocation: Allocation, span: tuple[datetime, datetime], kind: str, window: Window | None = None) -> dict[str, Any]:
    window = window or allocation.window
    return {
        "table": allocation.label or allocation.resource_id,
        "kind": kind,
        # Altair reads naive instants as they stand; ours are UTC and must not be moved to the reader's zone.
        "from": (window.lower or span[0]).replace(tzinfo=None),
        "to": (window.upper or span[1]).replace(tzinfo=None),
        "booking": allocation.booking_id,
    }


def _timeline_title(check: Check) -> str:
    verdict = {"confirmed": "Confirmed", "refused": "Refused"}[check.recorded_verdict]
    if not check.conflicts:
        return f"{verdict}: nothing in the check's own snapshot overlaps the request"
    tables = sorted({c.rival.label or str(c.rival.resource_id) for c in check.conflicts})
    count = len(check.conflicts)
    rivals = "1 rival" if count == 1 else f"{count} rivals"
    return f"{verdict}: {rivals} on table {', '.join(tables)} overlap{'s' if count == 1 else ''} the request"


def _timeline_subtitle(check: Check) -> str:
    day = check.requests[0].window.lower if check.requests else None
    return (
        f"Check {check.check_id}{f' for {day:%d %b %Y}' if day else ''}; outlined: requested; dark: shared time; "
        "as the check's own snapshot has it."
    )


def _share(part: float, whole: float) -> str:
    if not whole:
        return "none"
    return f"{100 * part / whole:.1f} %"


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:g}-{unit}"
    return f"{seconds:g}-second"
