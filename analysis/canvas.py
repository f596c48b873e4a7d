"""What every chart of ours has in common: colours, face, title, and how it is shown or drawn."""

from typing import Any, Literal

import altair as alt
import polars as pl
import vl_convert

# Safe for colour blindness (after Okabe and Ito); what the charts must tell apart differs in grey print as well.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"

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
