"""A comparison as a picture: accuracy on each task, and the average against the number of parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penjing.comparison import Column, Comparison, Row
from tools.errors import InputError
from tools.evaluation.tasks import SEVEN_TASKS, TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAPER = "#9ca3af"
_MEASURES = {"average": "average accuracy, %", "bits_per_byte": "bits per byte"}


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write the figure as PNG or SVG, by the name of `path`.

    One panel has the accuracies of all tasks, one the average (without tasks the bits per byte) against the parameters.
    Raises InputError where there is nothing to draw.
    """
    # Imported here, as matplotlib takes half a second, and a window is never opened.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    own = [row for row in comparison.rows if not row.paper]
    tasks = [one for one in comparison.columns if one.key in TASKS and any(one.key in row.values for row in own)]
    measure = next((name for name in _MEASURES if any(name in row.values for row in own)), None)
    panels = [name for name, there in (("tasks", bool(tasks)), ("size", measure is not None)) if there]
    if not panels:
        raise InputError("There is nothing to draw: the evaluations have neither accuracies nor perplexities.")
    figure = Figure(figsize=(1 + 6 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True))
    colors = {row.name: f"C{index}" for index, row in enumerate(own)}
    if tasks:
        _draw_tasks(axes["tasks"], own, tasks, colors)
    if measure is not None:
        _draw_sizes(axes["size"], [row for row in comparison.rows if measure in row.values], measure, colors)
    figure.savefig(path, dpi=130)


def _draw_tasks(axes: "Axes", rows: Sequence[Row], tasks: Sequence[Column], colors: dict[str, str]) -> None:
    """Bars with standard errors, one colour a model, and what chance gives."""
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        found = [(position, task.key) for position, task in enumerate(tasks) if task.key in row.values]
        places = [position + index * width for position, _ in found]
        heights = [row.values[key] for _, key in found]
        errors = [row.values[f"{key}_stderr"] or 0.0 for _, key in found]
        axes.bar(places, heights, width, yerr=errors, label=row.name, color=colors[row.name], capsize=2)
    for position, task in enumerate(tasks):
        left, chance = position - width / 2, 100 * TASKS[task.key].chance
        axes.hlines(chance, left, left + 0.8, colors="black", linestyles=":")
    axes.set_xticks([position + 0.4 - width / 2 for position in range(len(tasks))], [task.header for task in tasks])
    axes.tick_params("x", rotation=20)
    axes.set_ylabel("accuracy, %; dotted: chance")
    axes.legend(fontsize="small")


def _draw_sizes(axes: "Axes", rows: Sequence[Row], measure: str, colors: dict[str, str]) -> None:
    """A point a model; where its average is of fewer than the seven tasks, its name says of how many."""
    for row in rows:
        color = colors.get(row.name, _PAPER)
        place = (row.values["parameters"] / 1e6, row.values[measure])
        axes.scatter(*place, color=color, marker="x" if row.paper else "o", s=20, zorder=2 if row.paper else 3)
        tasks = row.values.get("average_tasks", len(SEVEN_TASKS))
        part = f" ({tasks} of {len(SEVEN_TASKS)} tasks)" if measure == "average" and tasks < len(SEVEN_TASKS) else ""
        label, size = row.name.removeprefix("paper: ").removesuffix(" tokens") + part, 5 if row.paper else 8
        axes.annotate(label, place, (4, 2), textcoords="offset points", fontsize=size, color=color)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.4g}")
    axes.xaxis.set_minor_formatter("{x:,.4g}")
    axes.tick_params("x", which="both", rotation=45, labelsize="small")
    # Room for the names at the right.
    axes.set_xmargin(0.25)
    axes.set_xlabel("parameters, millions")
    axes.set_ylabel(_MEASURES[measure])
    axes.grid(alpha=0.3)
