"""Pictures as Plotly figures, for the page, the report and notebooks."""

import html
import math
from typing import TYPE_CHECKING, Any, cast

from penjing.figures.picture import COLOURS, Dash, Panel, Picture, Series, x_range
from tools.errors import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SHAPES = {"line": "linear", "steps": "hv", "stairs": "hvh"}
_DASHES: dict[Dash, str] = {"solid": "solid", "dash": "dash", "dot": "dot"}


def plotly_figure(picture: Picture, dark: bool = False) -> "Figure":
    """The picture on a light or a dark ground; the ground itself is left to whoever shows it.

    Points of trials carry their numbers as `customdata`. Raises InputError where Plotly is not installed.
    """
    try:
        from plotly.graph_objects import Figure
    except ModuleNotFoundError as error:
        raise InputError("Plotly is missing: install penjing's ui extra (pip install '.[ui]').") from error

    count = max(1, len(picture.panels))
    layout: dict[str, Any] = {
        "template": "plotly_dark" if dark else "plotly_white",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        "hovermode": "closest",
        "barmode": "overlay",
        "height": 420,
        "annotations": [],
    }
    if count > 1:
        layout["legend"]["y"] = 1.1
    gap = 0.09
    width = (1 - gap * (count - 1)) / count
    traces: list[dict[str, Any]] = []
    shown: set[str] = set()
    for place, panel in enumerate(picture.panels):
        suffix = "" if place == 0 else str(place + 1)
        start = place * (width + gap)
        layout[f"xaxis{suffix}"] = _x_axis(panel) | {"domain": [start, min(1.0, start + width)], "anchor": f"y{suffix}"}
        layout[f"yaxis{suffix}"] = _y_axis(panel) | {"anchor": f"x{suffix}"}
        if count > 1:
            # Beside the axis it would lie on the panel before it where the window is narrow.
            layout[f"yaxis{suffix}"]["title"] = {"text": ""}
            layout["annotations"].append(_heading(panel, start))
        for series in panel.series:
            for trace in _traces(series, dark):
                # One entry in the legend for what is in several panels, which it then hides and shows in all.
                trace |= {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "legendgroup": series.name}
                trace["showlegend"] = series.in_legend and trace["showlegend"] and series.name not in shown
                traces.append(trace)
            shown.add(series.name)
    return cast("Figure", Figure({"data": traces, "layout": layout}))


def _x_axis(panel: Panel) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": html.escape(panel.x_label)}, "zeroline": False}
    if (ends := x_range(panel)) is not None:
        axis |= {"range": list(ends), "tickformat": ",d"} | ({"dtick": 1} if ends[1] - ends[0] <= 14 else {})
    elif len(values := {x for series in panel.series for x in series.x if x}) == 1:
        # Plotly's own range around a single value begins below zero.
        (value,) = values
        axis["range"] = [0.9 * value, 1.1 * value]
    if panel.x_names:
        names = [html.escape(name) for name in panel.x_names]
        axis |= {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names}
    return axis


def _y_axis(panel: Panel) -> dict[str, Any]:
    if panel.bare_y:
        return {"showticklabels": False, "showgrid": False, "zeroline": False, "title": {"text": ""}}
    axis: dict[str, Any] = {"title": {"text": html.escape(panel.y_label)}, "zeroline": False}
    if panel.log_y:
        axis |= {"type": "log", "exponentformat": "power", "dtick": "D1" if _decades(panel) < 1 else 1}
    if panel.whole_y:
        highest = max((y for series in panel.series for y in series.y if y is not None), default=0)
        axis |= {"tickformat": ",d"} | ({"dtick": 1} if highest <= 12 else {})
    if panel.from_zero:
        axis["rangemode"] = "tozero"
    return axis


def _heading(panel: Panel, start: float) -> dict[str, Any]:
    """What the y axis of one of several panels shows, above its left edge."""
    place = {"xref": "paper", "yref": "paper", "x": start, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}
    return {"text": html.escape(panel.y_label), "showarrow": False, "font": {"size": 12}} | place


def _decades(panel: Panel) -> float:
    values = [value for series in panel.series for value in series.y if value]
    return math.log10(max(values) / min(values)) if values else 0.0


def _traces(series: Series, dark: bool) -> list[dict[str, Any]]:
    colour = COLOURS[series.colour][dark]
    if series.kind == "band":
        edge = {"mode": "lines", "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False}
        filled = {"fill": "tonexty", "fillcolor": _clear(colour, series.opacity)}
        common = {"type": "scatter", "x": list(series.x), "name": html.escape(series.name)}
        return [common | edge | {"y": list(series.y)}, common | edge | filled | {"y": list(series.upper)}]
    trace: dict[str, Any] = {
        "name": html.escape(series.name),
        "x": list(series.x),
        "y": list(series.y),
        "opacity": series.opacity,
        "showlegend": True,
    }
    if series.texts:
        trace |= {"hovertext": [_lines(text) for text in series.texts], "hoverinfo": "text"}
    elif None in series.x:
        trace["hoverinfo"] = "skip"
    if series.trials:
        trace["customdata"] = list(series.trials)
    if series.kind == "bars":
        return [trace | {"type": "bar", "marker": {"color": colour}}]
    modes = [] if series.kind == "points" else ["lines"]
    modes += ["markers"] if series.kind == "points" or series.marker else []
    if any(series.labels):
        modes.append("text")
        trace |= {"text": [html.escape(label) for label in series.labels], "textposition": "top right"}
        trace["textfont"] = {"size": 11}
    trace |= {"type": "scatter", "mode": "+".join(modes)}
    if series.kind != "points":
        dash = _DASHES[series.dash]
        trace["line"] = {"color": colour, "width": series.width, "dash": dash, "shape": _SHAPES[series.kind]}
    if series.marker:
        symbol = f"{series.marker}-open" if series.hollow else series.marker
        trace["marker"] = {
            "color": colour,
            "size": series.size,
            "symbol": symbol,
            "line": {"width": 1.5 if series.hollow else 0},
        }
    return [trace]


def _lines(text: str) -> str:
    """Plain text in Plotly's little HTML."""
    return html.escape(text).replace("\n", "<br>")


def _clear(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
