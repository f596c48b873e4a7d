"""Tidy frame → Altair chart. Every title states the finding; nothing here reads or writes anything."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import altair as alt
import polars as pl

from analysis.canvas import BLUE, GREY, ORANGE, WIDTH, horizon, titled
from analysis.model import ForensicsError
from analysis.phrases import counted, printable


def hit_rate_by_day(by_day: pl.DataFrame, *, ttl_s: float = math.inf) -> alt.TopLevelMixin:
    """Draw the hit rate by day with its bounds and volume; the rows of ``hit_rate_by(…, "day", ttl_s)``."""
    days = by_day.select(pl.col("label").str.to_date().alias("day"), "lookups", "hits", "hit_rate_low", "hit_rate_high").sort(
        "day"
    )
    if len(days):
        days = days.upsample("day", every="1d").with_columns(pl.col("lookups", "hits").fill_null(0))
    tidy = days.with_columns(
        pl.col("day").cast(pl.Datetime("ms")).dt.epoch("ms"),
        hit_rate=pl.when(pl.col("lookups") > 0).then(pl.col("hits") / pl.col("lookups")),
        rolling=pl.col("hits").rolling_sum(7, min_samples=1) / pl.col("lookups").rolling_sum(7, min_samples=1),
    )
    tidy = tidy.with_columns(pl.col("hit_rate_high").clip(upper_bound=_top(tidy["hit_rate"])))
    lookups, hits = int(days["lookups"].sum()), int(days["hits"].sum())
    scale = alt.Scale(type="utc", padding=10)
    bare = alt.X("day:T", title=None, axis=alt.Axis(labels=False, ticks=False), scale=scale)
    dated = alt.X("day:T", title="day (UTC)", axis=alt.Axis(format="%d %b", labelOverlap=True), scale=scale)
    y = alt.Y("hit_rate:Q", title="share of lookups answered", axis=alt.Axis(format="%"), scale=_rates(tidy["hit_rate"]))
    base = alt.Chart(tidy).encode(x=bare)
    bounds = base.mark_rule(color=GREY, opacity=0.5, strokeWidth=2).encode(y=alt.Y("hit_rate_low:Q"), y2="hit_rate_high:Q")
    points = base.mark_circle(color=GREY, opacity=0.55, size=36).encode(y=y)
    line = base.mark_line(color=BLUE, strokeWidth=2.5).encode(y=alt.Y("rolling:Q"))
    name = (
        alt.Chart(tidy[len(tidy) // 2 :].head(1))
        .mark_text(dy=-24, color=BLUE, fontWeight="bold")
        .encode(x=bare, y=alt.Y("rolling:Q"), text=alt.value("last 7 days"))
    )
    bars = (
        alt.Chart(tidy)
        .mark_bar(color=GREY, width=max(1.0, 0.7 * WIDTH / max(1, len(tidy))))
        .encode(x=dated, y=alt.Y("lookups:Q", title="lookups a day", axis=alt.Axis(tickCount=3)))
    )
    panels = alt.vconcat(
        alt.layer(bounds, points, line, name).properties(width=WIDTH, height=190),
        bars.properties(width=WIDTH, height=60),
        spacing=8,
    )
    period = f", {days['day'][0]:%d %b} to {days['day'][-1]:%d %b %Y}" if len(days) else ""
    return titled(
        panels,
        f"{_cache(ttl_s)} would have answered {_share(hits, lookups)} of checks",
        f"{hits:,} of {lookups:,} lookups{period}. Inferred: every check was computed. A bar through a point: what the time "
        "before the first check could have changed. The first and the last day are not whole.",
    )


def outcomes_by(frame: pl.DataFrame, what: str, *, ttl_s: float = math.inf) -> alt.TopLevelMixin:
    """Draw how the lookups of each group come out, as shares of the group; rows of ``hit_rate_by``."""
    told = {
        "retries answered": pl.col("retry_hits"),
        "re-checks answered": pl.col("hits") - pl.col("retry_hits"),
        "expired": pl.col("expired_misses"),
        "first check of a booking": pl.col("first_checks"),
        "other request": pl.col("cold_misses"),
        "error": pl.col("errors"),
    }
    colours = [BLUE, "#8CC4E8", ORANGE, "#D9D9D9", "#A6A6A6", "black"]
    # What draws an SVG ends the process over a control character.
    name = pl.Series([printable(label) for label in frame["label"]], dtype=pl.String)
    frame = frame.with_columns(name=name, label=pl.format("{}  ({})", name, "lookups"))
    tidy = frame.select("label", "lookups", **told).unpivot(
        index=["label", "lookups"], variable_name="outcome", value_name="count"
    )
    order = pl.DataFrame({"outcome": list(told), "place": range(len(told))})
    tidy = tidy.join(order, on="outcome").with_columns(share=pl.col("count") / pl.col("lookups"))
    y = alt.Y("label:N", title=what, sort=frame["label"].to_list(), axis=alt.Axis(labelLimit=180))
    bars = (
        alt.Chart(tidy)
        .mark_bar()
        .encode(
            x=alt.X(
                "share:Q",
                title="share of the group's lookups",
                stack="zero",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=y,
            color=alt.Color(
                "outcome:N",
                scale=alt.Scale(domain=list(told), range=colours),
                legend=alt.Legend(orient="bottom", title=None, columns=3),
            ),
            order="place:O",
            tooltip=["label:N", "outcome:N", "count:Q", "lookups:Q"],
        )
    )
    lookups, hits = int(frame["lookups"].sum()), int(frame["hits"].sum())
    missed = {column: int(frame[column].sum()) for column in _MISSED}
    most = max(missed, key=lambda name: missed[name])
    finding = f"{_MISSED[most]} are {_share(missed[most], lookups - hits)} of what {_cache(ttl_s, 'a')} misses"
    # What a group of a few lookups answers is chance.
    large = frame.filter(pl.col("lookups") * 20 >= lookups).sort(pl.col("hits") / pl.col("lookups"), descending=True)
    beside = ""
    if hits and len(large) > 1:
        finding += f"; most answered: {large['name'][0]}, {_share(large['hits'][0], large['lookups'][0])}"
        beside = " Most answered: of the groups with a twentieth of the lookups or more."
    return titled(
        bars,
        finding,
        f"{lookups:,} lookups, in brackets those of each group; {hits:,} answered. Inferred: every check was computed.{beside}",
        height={"step": 24},
    )


_MISSED = {
    "first_checks": "First checks of a booking",
    "cold_misses": "Other requests of a known booking",
    "expired_misses": "Answers that had expired",
    "errors": "Checks that failed without a verdict",
}


def ages(by_age: pl.DataFrame) -> alt.TopLevelMixin:
    """Draw how old the answers of a cache without expiry would have been, those that no longer held apart."""
    edges = by_age["up_to_s"].to_list()
    labels = [f"over {_duration(edges[n - 1])}" if edge is None else f"up to {_duration(edge)}" for n, edge in enumerate(edges)]
    tidy = by_age.with_columns(label=pl.Series(labels)).unpivot(
        on=["safe_hits", "stale_hits"], index="label", variable_name="kind", value_name="hits"
    )
    kinds = {"safe_hits": "still holds", "stale_hits": "no longer holds"}
    tidy = tidy.with_columns(pl.col("kind").replace(kinds))
    x = alt.X("label:N", title="age of the answer", sort=labels, axis=alt.Axis(labelAngle=-35))
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(kinds.values()), range=["#A9CFE8", ORANGE]),
        legend=alt.Legend(orient="top", title="the answer"),
    )
    bars = (
        alt.Chart(tidy)
        .mark_bar()
        .encode(x=x, y=alt.Y("hits:Q", title="hits"), color=colour, tooltip=["label:N", "kind:N", "hits:Q"])
    )
    tops = by_age.select(hits=pl.col("safe_hits") + pl.col("stale_hits"), words="stale_hits", label=pl.Series(labels))
    wrong = (
        alt.Chart(tops.filter(pl.col("words") > 0))
        .mark_text(dy=-6, color=ORANGE, fontWeight="bold")
        .encode(x=x, y="hits:Q", text="words:Q")
    )
    safe, stale = int(by_age["safe_hits"].sum()), int(by_age["stale_hits"].sum())
    half = tops.with_columns(until=pl.col("hits").cum_sum()).filter(pl.col("until") * 2 >= safe + stale).row(0, named=True)
    if half["label"].startswith("up to"):
        come, when = half["until"], f"{half['label'].replace('up to', 'within')} of the answer"
    else:
        come, when = half["hits"], f"{half['label'].replace('over', 'more than')} after the answer"
    return titled(
        alt.layer(bars, wrong),
        f"{_share(come, safe + stale)} of the repeats come {when}, and {_share(stale, safe + stale)} get a wrong one"
        if safe + stale
        else "Nothing is asked twice",
        f"{safe + stale:,} repeats of a request, by the age of the first answer (cache without expiry); above each bar "
        "the answers that the check itself then contradicted.",
        height=200,
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
        hit_rate_low=pl.col("hits_low") / pl.col("lookups"),
        hit_rate_high=pl.col("hits_high") / pl.col("lookups"),
        stale_rate=pl.col("stale_hits") / pl.col("lookups"),
        ttl=pl.col("ttl_s") / 3600,
    )
    # Beyond the frame a bound is not drawn: cut off, it would look like one.
    shown = tidy.filter((pl.col("policy") == "last_write") & (pl.col("hit_rate_high") <= _top(tidy["hit_rate"])))
    past = tidy.filter((pl.col("policy") == "last_write") & (pl.col("hit_rate_high") > _top(tidy["hit_rate"])))["ttl_s"].min()
    beyond = "" if past is None else f"; from {_duration(float(str(past)))} on more than the axis shows"
    x = alt.X(
        "ttl:Q",
        title="TTL (log scale)",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(
            values=[1 / 3600, 1 / 360, 1 / 60, 1 / 12, 0.25, 1, 4, 12, 24, 72, 168, 336, 720],
            labelExpr="datum.value < 0.01 ? round(datum.value * 3600) + ' s' : "
            "datum.value < 0.9 ? round(datum.value * 60) + ' min' : datum.value < 24 ? datum.value + ' h' : "
            "datum.value / 24 + ' d'",
            labelFlush=False,
        ),
    )
    y = alt.Y("hit_rate:Q", title="share of all lookups", axis=alt.Axis(format="%"), scale=_rates(tidy["hit_rate"]))
    layers = []
    # The two lines may lie on each other: the wide one below still shows beside the thin one.
    for policy, words, colour, width, dy in (
        ("last_use", "TTL from last use", BLUE, 5, -15),
        ("last_write", "TTL from last write", ORANGE, 2, 22),
    ):
        of_policy = alt.Chart(tidy.filter(pl.col("policy") == policy)).encode(x=x)
        if policy == "last_write":
            bounds = alt.Chart(shown).encode(x=x)
            layers.append(bounds.mark_area(color=ORANGE, opacity=0.15).encode(y="hit_rate_low:Q", y2="hit_rate_high:Q"))
        end = alt.Chart(tidy.filter(pl.col("policy") == policy).sort("ttl").tail(1)).encode(x=x)
        layers += [
            of_policy.mark_line(color=colour, strokeWidth=width).encode(y=y),
            of_policy.mark_line(color=colour, strokeWidth=width / 2, strokeDash=[4, 3]).encode(y="stale_rate:Q"),
            end.mark_text(align="right", dy=dy, color=colour, fontWeight="bold").encode(y=y, text=alt.value(words)),
        ]
        if policy == "last_write":
            wrong = end.mark_text(align="right", dy=-9, color=GREY, fontWeight="bold")
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
        "no longer held (TTL from last write). Inferred: every check was computed. Shaded: what the time before the "
        f"first check could have changed{beyond}.",
        height=280,
    )


def growth(by_day: pl.DataFrame, outlook: Mapping[str, Any]) -> alt.TopLevelMixin:
    """Draw the text of the evidence that each day added; the rows of ``growth(…, "day")`` and their ``outlook``."""
    days = by_day.select(
        pl.col("label").str.to_date().alias("day"),
        "checks",
        megabytes=(pl.col("snapshot_bytes") + pl.col("conflict_bytes")) / 1e6,
    ).sort("day")
    tidy = days.with_columns(pl.col("day").cast(pl.Datetime("ms")).dt.epoch("ms"))
    bars = (
        alt.Chart(tidy)
        .mark_bar(color=BLUE, width=max(1.0, 0.7 * WIDTH / max(1, len(tidy))))
        .encode(
            x=alt.X(
                "day:T",
                title="day (UTC)",
                axis=alt.Axis(format="%d %b", labelOverlap=True),
                scale=alt.Scale(type="utc", padding=10),
            ),
            y=alt.Y("megabytes:Q", title="MB of evidence text", axis=alt.Axis(tickCount=4)),
            tooltip=["checks:Q", "megabytes:Q"],
        )
    )
    checks, mean = int(days["checks"].sum()), outlook["bytes_a_day"]
    between = f", {outlook['low'] / 1e6:,.2f} to {outlook['high'] / 1e6:,.2f} by the week" if outlook["low"] is not None else ""
    return titled(
        bars,
        "No whole day of evidence: how fast it grows is not known"
        if mean is None
        else f"The evidence grows by {mean / 1e6:,.2f} MB of text a day{between}",
        f"{checks:,} checks on {len(days)} days; snapshot and conflict text. The first and the last day are not whole, and not "
        "in the mean.",
        height=150,
    )


def retention(by_days: pl.DataFrame, *, days: int = 30, knee: int | None = None) -> alt.TopLevelMixin:
    """Draw over the retention what it frees and what it loses, as shares; one retention is told in the title.

    Rows of ``retention_by_days``; ``knee`` is a retention to mark.
    """
    rows = pl.col("rows_kept") + pl.col("rows_freed")
    lines = {
        "space freed": (pl.col("bytes_freed") / (pl.col("bytes_freed") + pl.col("bytes_kept")), BLUE, 5.0, 1),
        "explanations lost": (pl.col("explanations_lost") / rows, "black", 1.5, -1),
        "gone before the meal": (pl.col("purged_before_meal") / pl.col("meals"), ORANGE, 3.0, 1),
    }
    tidy = by_days.select("days", **{name: share for name, (share, *_) in lines.items()})
    span = max([days, 1, *by_days["days"]])
    x = alt.X(
        "days:Q", title="retention (days)", scale=alt.Scale(domain=[0, span], nice=False), axis=alt.Axis(labelFlush=False)
    )
    layers: list[Any] = []
    for name, (_, colour, width, side) in lines.items():
        y = alt.Y(f"{name}:Q", title="share of what is kept without a retention", axis=alt.Axis(format="%"))
        layers.append(alt.Chart(tidy).mark_line(color=colour, strokeWidth=width).encode(x=x, y=y))
        # Where the lines have parted from the left edge and from each other.
        label = alt.Chart(tidy.filter(pl.col("days") == span * 2 // 5)).encode(x=x, y=y, text=alt.value(name))
        align: Literal["left", "right"] = "left" if side > 0 else "right"
        layers.append(label.mark_text(align=align, dx=8 * side, dy=-8 * side, color=colour, fontWeight="bold"))
    if knee is not None:
        layers += horizon({"days": knee}, f"knee: {knee} days", x, left=knee > span / 2, y=20)
    layers += horizon({"days": days}, f"{days} days", x, left=days > span / 2)
    told = by_days.filter(pl.col("days") == days).to_dicts()
    checks, meals = (by_days.select(of.max()).item() or 0 for of in (rows, pl.col("meals")))
    if told:
        row = told[0]
        freed = _share(row["bytes_freed"], row["bytes_freed"] + row["bytes_kept"])
        gone = counted(row["purged_before_meal"], "checks")
        finding = (
            f"Keeping {days} days frees {freed} of the space and loses {row['explanations_lost']:,} explanations; "
            f"{gone} would go before the meal"
        )
    else:
        finding = f"Keeping {days} days frees nothing: the evidence spans less"
    as_of = f"; today is {by_days['as_of'][0]:%d %b %Y}, the newest check" if len(by_days) else ""
    subtitle = (
        f"{checks:,} checks{as_of}. Space is snapshot and conflict text. Gone before the meal is counted over the "
        f"{meals:,} checks of a known meal, as if the retention had always been in force."
    )
    return titled(alt.layer(*layers), finding, subtitle, height=280)


def _rates(rates: pl.Series) -> alt.Scale:
    """Leave room above the rates for what is written there."""
    return alt.Scale(domain=[0, _top(rates)])


def _top(rates: pl.Series) -> float:
    """Return where the axis of rates ends, and so do bounds: a clipped mark would be drawn another way each time."""
    top = rates.max()
    return min(1.0, 1.4 * top) if isinstance(top, float) and top > 0 else 1.0


def _cache(ttl_s: float, article: str = "A") -> str:
    return f"{article} cache that never expires" if ttl_s == math.inf else f"{article} {_duration(ttl_s, '-')} cache"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _duration(seconds: float, joint: str = " ") -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            count = seconds / size
            return f"{count:g}{joint}{unit}{'s' if count != 1 and joint == ' ' else ''}"
    return f"{seconds:g}{joint}second{'' if joint == '-' else 's'}"
