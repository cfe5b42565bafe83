"""What several workers bring, what Ray takes to start, and what the system itself takes of each trial.

    python -m benchmarks.parallel            # 8 trials each way, and 2,000 that do nothing
    python -m benchmarks.parallel --quick    # 4 each way, and 200

The source is a random model of SmolLM2-135M's depth, the searcher draws designs at random. `trials_per_hour`: with one
subprocess, with two, and with two places of Ray, where an evaluation uses one core; counted after trial 0, which runs
alone. A search on Ray begins with the seconds of `ray`.

`overhead`: a search whose evaluations end as soon as they begin, so that what is left is the system: proposing,
checking, records, checkpoints, spans, memory. `mean_ms` is of the clock, `cpu_ms` of the cores. `by_tenth` are the
means of ten parts of the search, which would rise if a trial took longer the more there are; `memory_mb` is this
process after each. `load` is that of the machine (mean number of running processes) before and after: figures hold for
one that has nothing else to do.

`holds`: two workers make at least 1.8 times as many trials as one; a trial takes at most 50 ms of the system; memory
after the last trial is at most 5 % above that after the first tenth.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before torch is there: one core for each evaluation.
os.environ["OMP_NUM_THREADS"] = "1"

import psutil
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.growing import new_figure, save_figure
from benchmarks.outcome import RESULTS, finish
from benchmarks.parallel_searches import idle_search, ray_start, real_search

NAME = "parallel"
SPEEDUP, OVERHEAD_MS, GROWTH = 1.8, 50.0, 1.05
PARTS = 10
STEPS = 60
WAYS: dict[str, dict[str, Any]] = {
    "processes:1": {"workers": "processes:1", "parallel": 1},
    "processes:2": {"workers": "processes:2", "parallel": 2},
    "ray": {"workers": "ray", "parallel": 2},
}


def throughput(folder: Path, trials: int, bars: Progress) -> dict[str, float]:
    """Trials per hour by way."""
    found = {}
    for name, places in WAYS.items():
        bar = bars.add_task(f"{trials} trials, {name}", total=trials + 1)
        home = f"home-{name.replace(':', '-')}"
        rate = real_search(
            folder, home, trials + 1, STEPS, lambda done, bar=bar: bars.update(bar, completed=done), **places
        )
        found[name] = round(rate, 1)
    return found


def overhead(folder: Path, trials: int, bars: Progress) -> dict[str, Any]:
    """Time and memory of trials whose evaluations do nothing."""
    bar = bars.add_task(f"{trials:,} trials that do nothing", total=trials)
    found = idle_search(folder, trials, lambda done: bars.update(bar, completed=done))
    ends = [round(part * (trials - 1) / PARTS) for part in range(PARTS + 1)]

    def means(seconds: list[float]) -> list[float]:
        pairs = itertools.pairwise(ends)
        return [round(1000 * (seconds[end] - seconds[start]) / (end - start), 1) for start, end in pairs]

    clock, cpu = found["seconds"], found["cpu_seconds"]
    return {
        "trials": trials,
        "mean_ms": round(1000 * clock[-1] / (trials - 1), 1),
        "cpu_ms": round(1000 * cpu[-1] / (trials - 1), 1),
        "by_tenth": {"ms": means(clock), "cpu_ms": means(cpu)},
        "memory_mb": [round(found["memory_mb"][end], 1) for end in ends[1:]],
    }


def holds(figures: dict[str, Any]) -> bool:
    """Whether the marks are met."""
    memory = figures["overhead"]["memory_mb"]
    return bool(
        figures["speedup"] >= SPEEDUP
        and figures["overhead"]["mean_ms"] <= OVERHEAD_MS
        and memory[-1] <= GROWTH * memory[0]
    )


def draw(figures: dict[str, Any], path: Path) -> None:
    """Trials per hour by way; overhead and memory over the trials."""
    figure, panels = new_figure(13, 4.2, columns=3)
    rates, idle = figures["trials_per_hour"], figures["overhead"]
    panels[0].bar(list(rates), list(rates.values()))
    panels[0].axhline(SPEEDUP * rates["processes:1"], color="black", linestyle=":", label=f"{SPEEDUP} x one worker")
    panels[0].set_title("trials per hour, one core each", fontsize="small")
    done = [idle["trials"] * (part + 1) / PARTS for part in range(PARTS)]
    panels[1].plot(done, idle["by_tenth"]["ms"], marker="o", label="clock")
    panels[1].plot(done, idle["by_tenth"]["cpu_ms"], marker="o", linestyle="--", label="cores")
    panels[1].axhline(OVERHEAD_MS, color="black", linestyle=":", label="mark")
    panels[1].set_title("the system's own time of a trial, ms", fontsize="small")
    panels[2].plot(done, idle["memory_mb"], marker="o", label="this process")
    panels[2].axhline(GROWTH * idle["memory_mb"][0], color="black", linestyle=":", label="mark")
    panels[2].set_title("memory, MB", fontsize="small")
    panels[2].set_ylim(bottom=0)
    for axes in panels[1:]:
        axes.set_xlabel("trials done")
        axes.set_ylim(bottom=0)
    for axes in panels:
        axes.legend(fontsize="x-small")
    save_figure(figure, panels, path)


def show(figures: dict[str, Any]) -> None:
    """The table for people, on stderr."""
    table = Table(box=SIMPLE, pad_edge=False, show_header=False)
    for name, rate in figures["trials_per_hour"].items():
        table.add_row(f"{name}, trials per hour", f"{rate:,.0f}")
    idle, ray = figures["overhead"], figures["ray"]
    table.add_row("two workers against one", f"{figures['speedup']:.2f} x")
    table.add_row("Ray: start, first task, next one, s", ", ".join(f"{ray[name]:.1f}" for name in list(ray)[:3]))
    table.add_row("Ray: memory, MB", f"{ray['memory_mb']:,.0f}")
    table.add_row("the system's own time of a trial, ms", f"{idle['mean_ms']:.0f} ({idle['cpu_ms']:.0f} of the cores)")
    table.add_row("memory after a tenth and at the end, MB", f"{idle['memory_mb'][0]:.0f}, {idle['memory_mb'][-1]:.0f}")
    table.add_row("load before and after", ", ".join(f"{load:.1f}" for load in figures["load"]))
    Console(stderr=True).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, measure, draw, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 trials each way, and 200 that do nothing")
    parser.add_argument("--trials", type=int, help="trials each way")
    parser.add_argument("--idle", type=int, help="trials that do nothing")
    options = parser.parse_args(arguments)
    trials = options.trials or (4 if options.quick else 8)
    idle = options.idle or (200 if options.quick else 2000)
    before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="penjing-parallel-") as folder,
        Progress(console=Console(stderr=True)) as bars,
    ):
        # First, while this process is as large as a search is.
        figures: dict[str, Any] = {"overhead": overhead(Path(folder) / "idle", idle, bars)}
        rates = throughput(Path(folder) / "real", trials, bars)
        figures["trials_per_hour"] = rates
        figures["speedup"] = round(rates["processes:2"] / rates["processes:1"], 3)
        figures["ray"] = {name: round(value, 2) for name, value in ray_start().items()}
    figures |= {"trials_each": trials, "cores": psutil.cpu_count(), "load": [round(before, 2), os.getloadavg()[0]]}
    show(figures)
    draw(figures, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


if __name__ == "__main__":
    main()
