"""How good the searchers are on NAS-Bench-201, CIFAR-10: test accuracy of the best cell on validation, by trials.

    python -m benchmarks.search_nasbench201            # 50 searches of TPE and forest, 500 of the others
    python -m benchmarks.search_nasbench201 --quick    # 20 and 200
    python -m benchmarks.search_nasbench201 --table my-table.parquet --seeds 30

Every search has 100 trials and sees validation accuracies alone. No searcher tries a cell twice. The table is the
user's own or the shared one (columns: see `tools.spaces.nasbench201_table`). Bands are 95 % confidence bands of the
mean over searches, by bootstrap; spreads are standard deviations of single searches.

Reference values were simulated on the same table by an independent program, mean and spread of 500 searches (TPE 30,
forest 20), in which evolution, TPE and forest may try a cell twice. `holds`: after 25 and after 50 trials the mean of
every judge is within the spread of its reference, |mean - reference| <= its standard deviation. This is the spread of a
single search, so a small difference of the methods passes; `standard_errors` says how many standard errors of both
means together the difference is, and a judge that is better than its reference by more than a few is not the same
method. The marks, 93.74 after 25 and 94.10 after 50 trials, are for agents: `at_marks` says who reaches them.
"""

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.proposers import JUDGES
from benchmarks.growing import new_figure, save_figure
from benchmarks.outcome import RESULTS, finish, shared_file
from benchmarks.table_search import Array, Contender, accuracy_of_best, band_of_mean, row_of, search
from tools.errors import InputError
from tools.spaces.nasbench201_table import NASBench201Table

NAME = "search_nasbench201"
TABLE = "nas/nasbench201_cifar10.csv.gz"
TRIALS = 100
SHOWN = (10, 25, 50, 100)
DECIDING = (25, 50)
MARKS = {25: 93.74, 50: 94.10}
# Searches of these take a hundredth of a second, those of the others seconds.
_QUICK_ONES = ("random", "evolution", "local")

CONTENDERS: dict[str, Contender] = {
    name: Contender(make, searches_per_seed=10 if name in _QUICK_ONES else 1) for name, make in JUDGES.items()
}

# Mean and standard deviation after so many trials, and the number of searches.
REFERENCE: dict[str, tuple[dict[int, tuple[float, float]], int]] = {
    "random": ({10: (93.05, 0.58), 25: (93.40, 0.42), 50: (93.62, 0.36), 100: (93.80, 0.27)}, 500),
    "evolution": ({10: (93.05, 0.58), 25: (93.61, 0.46), 50: (93.96, 0.34), 100: (94.15, 0.27)}, 500),
    "local": ({10: (92.88, 1.03), 25: (93.74, 0.52), 50: (94.10, 0.33), 100: (94.26, 0.23)}, 500),
    "tpe": ({10: (92.92, 0.65), 25: (93.68, 0.35), 50: (93.98, 0.32), 100: (94.16, 0.27)}, 30),
    "forest": ({10: (93.18, 0.55), 25: (93.70, 0.43), 50: (94.00, 0.42), 100: (94.09, 0.44)}, 20),
}


def measure(
    table: NASBench201Table, contenders: Mapping[str, Contender], seeds: int, trials: int = TRIALS
) -> tuple[dict[str, Array], dict[str, float]]:
    """For each contender the curves of all its searches [searches, trials], and the seconds that one took."""
    from rich.console import Console
    from rich.progress import track

    console, curves, seconds = Console(stderr=True), dict[str, Array](), dict[str, float]()
    for name, contender in contenders.items():
        count, started = seeds * contender.searches_per_seed, time.perf_counter()
        rows = [
            accuracy_of_best(search(contender.make(), table, trials, seed), table)
            for seed in track(range(count), f"{name:10}", console=console)
        ]
        curves[name] = np.array(rows)
        seconds[name] = (time.perf_counter() - started) / count
    return curves, seconds


def compared(name: str, row: Mapping[str, Any], searches: int, trials: int) -> dict[str, Any]:
    """`row` beside its reference, where there is one."""
    if name not in REFERENCE or trials not in REFERENCE[name][0]:
        return {}
    (mean, spread), count = REFERENCE[name][0][trials], REFERENCE[name][1]
    difference = row["mean"] - mean
    error = math.hypot(spread / math.sqrt(count), row["spread"] / math.sqrt(searches))
    return {
        "reference": [mean, spread],
        "difference": round(difference, 3),
        "within_spread": abs(difference) <= spread,
        "standard_errors": round(difference / error, 1) if error else None,
    }


def report(curves: Mapping[str, Array], seconds: Mapping[str, float]) -> dict[str, Any]:
    """All figures, plain."""
    found: dict[str, Any] = {}
    for name, values in curves.items():
        rows: dict[str, Any] = {}
        for trials in SHOWN:
            row = row_of(values, trials)
            rows[str(trials)] = row | compared(name, row, len(values), trials)
        found[name] = {"searches": len(values), "seconds_per_search": round(seconds[name], 3), "after": rows}
    return {
        "searchers": found,
        "trials": TRIALS,
        "marks": {str(trials): mark for trials, mark in MARKS.items()},
        "at_marks": {
            str(trials): [name for name in found if found[name]["after"][str(trials)]["mean"] >= mark]
            for trials, mark in MARKS.items()
        },
    }


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether the mean of every judge is within the spread of its reference where that decides."""
    searchers = figures["searchers"]
    return all(
        searchers[name]["after"][str(trials)]["within_spread"] is True for name in REFERENCE for trials in DECIDING
    )


def draw(curves: Mapping[str, Array], path: Path) -> None:
    """Means with their bands, the references as points, the marks as stars."""
    figure, (axes,) = new_figure(8, 5)
    for place, (name, values) in enumerate(curves.items()):
        trials = np.arange(1, values.shape[1] + 1)
        low, high = band_of_mean(values)
        colour = f"C{place}"
        axes.plot(trials, values.mean(axis=0), color=colour, label=f"{name} ({len(values)} searches)")
        axes.fill_between(trials, low, high, color=colour, alpha=0.25, linewidth=0)
        for count, (mean, _) in REFERENCE.get(name, ({}, 0))[0].items():
            axes.plot(count, mean, marker="o", color=colour, markerfacecolor="none", linestyle="none")
    axes.plot(
        *zip(*MARKS.items(), strict=True), marker="*", color="black", markersize=10, linestyle="none", label="marks"
    )
    axes.plot([], [], marker="o", color="black", markerfacecolor="none", linestyle="none", label="reference values")
    axes.set_xlim(5, TRIALS)
    axes.set_ylim(92.5, 94.5)
    axes.set_xlabel("trials")
    axes.set_ylabel("CIFAR-10 test accuracy of the best on validation, %")
    axes.set_title("NAS-Bench-201: mean of searches with 95 % confidence bands")
    axes.legend(fontsize="small", loc="lower right")
    save_figure(figure, [axes], path)


def show(figures: Mapping[str, Any]) -> None:
    """The table for people, on stderr."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("searcher", "searches", *(f"after {trials}" for trials in SHOWN)):
        table.add_column(name, justify="left" if name == "searcher" else "right", no_wrap=True)
    for name, found in figures["searchers"].items():
        cells = [f"{row['mean']:.2f}±{row['spread']:.2f}" for row in found["after"].values()]
        table.add_row(name, str(found["searches"]), *cells)
    Console(stderr=True).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, report. A table that cannot be used ends with its sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 seeds instead of 50")
    parser.add_argument("--seeds", type=_several, help="searches of TPE and forest; ten times as many of the others")
    parser.add_argument("--table", type=Path, help=f"your table of NAS-Bench-201; default the shared {TABLE}")
    options = parser.parse_args(arguments)
    try:
        table = NASBench201Table.read(options.table or shared_file(TABLE))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    curves, seconds = measure(table, CONTENDERS, options.seeds or (20 if options.quick else 50))
    figures = report(curves, seconds)
    show(figures)
    draw(curves, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


def _several(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("a spread needs two seeds at least")
    return value


if __name__ == "__main__":
    main()
