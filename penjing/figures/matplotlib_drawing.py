"""Pictures as files, PNG or SVG: matplotlib needs neither a browser nor a window for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penjing.figures.picture import COLOURS, Dash, Kind, Marker, Panel, Picture, Series, x_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS: dict[Marker, str] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "x": "x",
    "star": "*",
}
_DASHES: dict[Dash, str] = {"solid": "-", "dash": "--", "dot": ":"}
_WHERE: dict[Kind, Literal["post", "mid"]] = {"steps": "post", "stairs": "mid"}
_GROUND = ("#ffffff", "#111827")


def save_picture(picture: Picture, path: Path, dark: bool = False) -> None:
    """Write the figure by the suffix of `path`.

    Raises OSError where it cannot be written, ValueError for another suffix and for a picture that is empty.
    """
    # Imported here, as matplotlib takes half a second, and a window is never opened.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if picture.is_empty:
        raise ValueError(f"{picture.name} is empty: {picture.summary}")
    ink, ground = COLOURS["ink"][dark], _GROUND[dark]
    with rc_context(
        {
            "text.color": ink,
            "axes.labelcolor": ink,
            "axes.edgecolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "axes.facecolor": ground,
            "figure.facecolor": ground,
            # Names inside the file are drawn by chance otherwise.
            "svg.hashsalt": picture.name,
        }
    ):
        figure = Figure(figsize=(2.2 + 5.2 * len(picture.panels), 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        legend: dict[str, Any] = {}
        for axes, panel in zip(figure.subplots(1, len(picture.panels), squeeze=False)[0], picture.panels, strict=True):
            _draw(axes, panel, dark)
            handles, labels = axes.get_legend_handles_labels()
            legend |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in legend}
        figure.suptitle(picture.title)
        if legend:
            columns = min(len(legend), 2 + 2 * len(picture.panels))
            figure.legend(
                legend.values(),
                legend.keys(),
                loc="outside lower center",
                ncols=columns,
                fontsize="small",
                frameon=False,
            )
        # Without a date in it, the same picture is the same file.
        dated = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=dated)


def _draw(axes: "Axes", panel: Panel, dark: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    for place, series in enumerate(panel.series):
        _draw_series(axes, series, dark, 2 + place / 100)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(alpha=0.25)
    if panel.log_y:
        axes.set_yscale("log")
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    if panel.bare_y:
        axes.set_yticks([])
    if (ends := x_range(panel)) is not None:
        axes.set_xlim(*ends)
    for axis, whole in ((axes.xaxis, panel.whole_x), (axes.yaxis, panel.whole_y)):
        if whole:
            axis.set_major_locator(MaxNLocator(integer=True))
    if panel.x_names:
        axes.set_xticks(range(len(panel.x_names)), panel.x_names)


def _draw_series(axes: "Axes", series: Series, dark: bool, order: float) -> None:
    from matplotlib.patheffects import withStroke

    colour = COLOURS[series.colour][dark]
    label = series.name if series.in_legend else None
    x, y = ([float("nan") if value is None else value for value in values] for values in (series.x, series.y))
    common: dict[str, Any] = {"color": colour, "label": label, "alpha": series.opacity, "zorder": order}
    marks: dict[str, Any] = {}
    if series.marker:
        marks = {"marker": _MARKERS[series.marker], "markersize": 0.75 * series.size}
        marks |= {"markerfacecolor": "none"} if series.hollow else {}
    if series.kind == "bars":
        axes.bar(x, y, **common)
    elif series.kind == "band":
        upper = [float("nan") if value is None else value for value in series.upper]
        axes.fill_between(x, y, upper, color=colour, alpha=series.opacity, linewidth=0, step="post", zorder=order)
    elif series.kind == "points":
        axes.plot(x, y, linestyle="none", **marks, **common)
    elif series.kind == "line":
        axes.plot(x, y, linestyle=_DASHES[series.dash], linewidth=series.width, **marks, **common)
    else:
        axes.step(
            x, y, where=_WHERE[series.kind], linestyle=_DASHES[series.dash], linewidth=series.width, **marks, **common
        )
    for across, upright, words in zip(x, y, series.labels, strict=bool(series.labels)):
        if words:
            # A halo, since there may be marks behind the words.
            halo = [withStroke(linewidth=2.5, foreground=_GROUND[dark])]
            look: dict[str, Any] = {"textcoords": "offset points", "xytext": (5, 5), "fontsize": "small", "zorder": 5}
            axes.annotate(words, (across, upright), path_effects=halo, **look)
