"""Tidy frame → Altair chart. Every title states the finding; nothing here reads or writes anything."""

from typing import Any, Literal

import altair as alt
import polars as pl
import vl_convert

from analysis.model import ForensicsError

# Safe for colour blindness (after Okabe and Ito); what the charts must tell apart differs in grey print as well.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
# vl-convert ships this face: a picture has the same metrics, and so the same bytes, on every machine.
FONT = "Liberation Sans"
WIDTH = 640


def show(how: Literal["still", "interactive"]) -> None:
    """Choose how charts are shown: as a still SVG that every viewer draws, or live in JupyterLab without a network."""
    if how == "interactive":
        alt.renderers.enable("jupyter", offline=True)
    else:
        alt.renderers.enable("svg")


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
    return titled(
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
        layers += horizon({"ttl": ttl_s / 3600}, f"{_duration(ttl_s)}: {answered}", x)
    title = (
        f"A {_duration(ttl_s, '-')} cache would have answered {answered} of checks, "
        f"{_share(told['stale_hits'], told['hits'])} of its answers wrong"
    )
    return titled(
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
        marked = horizon({"days": days}, f"{days} days{value}", x, left=days > span / 2)
        return alt.layer(line, points, *marked).properties(width=WIDTH, height=110)

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
    return titled(panels, finding, subtitle)


def titled(chart: Any, title: str, subtitle: str, *, height: Any = None) -> alt.TopLevelMixin:
    """Dress a chart as every chart of ours: the finding as its title, below it what it rests on."""
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


def horizon(at: dict[str, float], words: str, x: alt.X, *, left: bool = False, y: float = 2) -> list[alt.Chart]:
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


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _duration(seconds: float, joint: str = " ") -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            count = seconds / size
            return f"{count:g}{joint}{unit}{'s' if count != 1 and joint == ' ' else ''}"
    return f"{seconds:g}{joint}second{'' if joint == '-' else 's'}"
