"""Searchers compared as a picture: the best so far over the trials, its mean over seeds and its spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def draw_curves(
    searches: Mapping[str, Sequence[Sequence[float | None]]], label: str, path: Path, rising: bool = False
) -> None:
    """Write a PNG (or SVG, by the suffix of `path`).

    Args:
        searches: for each searcher the values of its searches, trial by trial, all of one length.
        label: of the values.
        rising: whether higher ones are better.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (name, values) in enumerate(searches.items()):
        if not values:
            continue
        curves = best_so_far(values, rising)
        trials = np.arange(curves.shape[1])
        seeds = f"{len(values)} {'seed' if len(values) == 1 else 'seeds'}"
        colour, agents = f"C{place}", place == 0
        axes.plot(
            trials, curves.mean(axis=0), color=colour, label=f"{name} ({seeds})", linewidth=2.4 if agents else 1.4
        )
        axes.fill_between(trials, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("trial; trial 0 is the saliency-greedy design")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    axes.set_title("Best so far: mean over seeds; bands from the worst seed to the best")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def best_so_far(searches: Sequence[Sequence[float | None]], rising: bool = False) -> Array:
    """For each search and trial the best value until then [searches, trials]; NaN where there is none yet."""
    values = np.array([[np.nan if value is None else value for value in one] for one in searches], dtype=np.float64)
    best = np.fmax if rising else np.fmin
    return best.accumulate(values, axis=1)
