"""How good the searchers are on NAS-Bench-201, CIFAR-10: test accuracy of the best cell on validation, by trials.

    python -m benchmarks.search_nasbench201            # 50 searches of TPE and forest, 500 of the other judges
    python -m benchmarks.search_nasbench201 --quick    # 20 and 200, and few of the agents
    python -m benchmarks.search_nasbench201 --table my-table.parquet --seeds 30
    python -m benchmarks.search_nasbench201 --agents-seeds 20 --agents-trials 100

Every search sees validation accuracies alone. The judges have 100 trials; no judge tries a cell twice. The table is the
user's own or the shared one (columns: see `tools.spaces.nasbench201_table`). Bands are 95 % confidence bands of the
mean over searches, by bootstrap; spreads are standard deviations of single searches.

`agents` is the product's pipeline with the embedded chat model (`benchmarks.table_agents`). What it is worth beyond its
pipeline, two controls say, which are the same but for the answers: `agents_control` has legal answers drawn at random,
`agents_copy` repeats the design that it is shown, so that all its news is the checker's. `lifts` compares the agents
with both and with random search, by seed, and says it in a sentence; `ledgers` has the rates of their answers.

Reference values were simulated on the same table by an independent program, mean and spread of 500 searches (TPE 30,
forest 20), in which evolution, TPE and forest may try a cell twice. `holds`: after 25 and after 50 trials the mean of
every judge is within the spread of its reference, |mean - reference| <= its standard deviation. This is the spread of a
single search, so a small difference of the methods passes; `standard_errors` says how many standard errors of both
means together the difference is, and a judge that is better than its reference by more than a few is not the same
method. The marks, 93.74 after 25 and 94.10 after 50 trials, are for agents: `at_marks` says who reaches them.

Searches of the agents, of TPE and of the forest are kept one by one below PENJING_CACHE or the user's cache folder, so
that a benchmark that was interrupted goes on. Whoever changes how they search raises `PIPELINE`.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agents.chat_errors import ChatModelError
from agents.chat_team import ChatTeam, open_chat_team
from agents.dialects import DIALECTS
from agents.json_schema import strict_json_schema
from agents.lift import LEAST_SEEDS, Lift, lift
from agents.proposers import JUDGES
from benchmarks.growing import new_figure, save_figure
from benchmarks.outcome import RESULTS, finish, shared_file
from benchmarks.search_cache import SearchCache
from benchmarks.table_agents import TASK, AgentsContender, agents_config, chat_ask, copying_ask, random_ask, total
from benchmarks.table_search import Array, Contender, Contends, accuracy_of_best, band_of_mean, row_of
from graph.config import MemoryMode
from memory.ledger import Ledger
from prompts.library import PromptLibrary
from tools.embedded import embedded_model_file
from tools.errors import InputError
from tools.places import cache_folder
from tools.spaces import NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

NAME = "search_nasbench201"
TABLE = "nas/nasbench201_cifar10.csv.gz"
TRIALS = 100
SHOWN = (10, 25, 50, 100)
DECIDING = (25, 50)
MARKS = {25: 93.74, 50: 94.10}
PIPELINE = 1
"""Of the searchers as they are; kept searches of another number are not taken for theirs."""
_QUICK_ONES = ("random", "evolution", "local")
"""Searches of these take less than a second, those of the others ten or more."""
AGENTS = "agents"
CONTROLS = {"agents_control": random_ask, "agents_copy": copying_ask}
COMPARED = (*CONTROLS, "random")

CONTENDERS: dict[str, Contends] = {
    name: Contender(make, searches_per_seed=10)
    if name in _QUICK_ONES
    else Contender(make, kept={"pipeline": PIPELINE, "packages": [version("scikit-learn"), version("optuna")]})
    for name, make in JUDGES.items()
}

# Mean and standard deviation after so many trials, and the number of searches.
REFERENCE: dict[str, tuple[dict[int, tuple[float, float]], int]] = {
    "random": ({10: (93.05, 0.58), 25: (93.40, 0.42), 50: (93.62, 0.36), 100: (93.80, 0.27)}, 500),
    "evolution": ({10: (93.05, 0.58), 25: (93.61, 0.46), 50: (93.96, 0.34), 100: (94.15, 0.27)}, 500),
    "local": ({10: (92.88, 1.03), 25: (93.74, 0.52), 50: (94.10, 0.33), 100: (94.26, 0.23)}, 500),
    "tpe": ({10: (92.92, 0.65), 25: (93.68, 0.35), 50: (93.98, 0.32), 100: (94.16, 0.27)}, 30),
    "forest": ({10: (93.18, 0.55), 25: (93.70, 0.43), 50: (94.00, 0.42), 100: (94.09, 0.44)}, 20),
}


@dataclass(frozen=True)
class Measured:
    """Of one contender: curves of test accuracy [searches, trials], seconds of one search, the agents' ledger."""

    curves: Array
    seconds: float
    ledger: Ledger | None = None


def controls(trials: int) -> dict[str, Contends]:
    """The agents' pipeline without a language model."""
    config = agents_config(trials)
    return {name: AgentsContender(ask_of, config, searches_per_seed=10) for name, ask_of in CONTROLS.items()}


def agents(team: ChatTeam, trials: int, memory: MemoryMode = "off") -> AgentsContender:
    """The agents with these chat models. Kept searches are those without memory, unless `kept` says more."""
    config, dialect = agents_config(trials, memory), DIALECTS["nasbench201"](NASBench201Space(), TASK)
    prompts, model = PromptLibrary(), embedded_model_file()
    kept = {
        "pipeline": PIPELINE,
        "settings": {name: settings.model_dump() for name, settings in config.chat_settings().items()},
        "search": [config.stages, config.top_k, config.sample_size, config.accept, config.repairs, config.patience],
        "prompts": {
            name: prompts.path(name).read_text() for name in prompts.names() if name.startswith(dialect.prefix)
        },
        "schemas": [strict_json_schema(one) for one in (dialect.strategies, dialect.design, dialect.inspiration)],
        "task": TASK,
        "model": [model.name, model.stat().st_size],
        "packages": [version("xllamacpp")],
    }
    return AgentsContender(lambda seed: chat_ask(team, seed), config, kept=kept)


def measure(
    table: NASBench201Table,
    contenders: Mapping[str, Contends],
    seeds: int,
    trials: int = TRIALS,
    cache: SearchCache | None = None,
) -> dict[str, Measured]:
    """All searches of each contender; those that are kept only where there is a cache."""
    from rich.console import Console
    from rich.progress import track

    console, found = Console(stderr=True), dict[str, Measured]()
    cache = cache or SearchCache(None, table)
    for name, contender in contenders.items():
        count = seeds * contender.searches_per_seed
        searches = [
            cache.search(name, contender, trials, seed) for seed in track(range(count), f"{name:14}", console=console)
        ]
        curves = np.array([accuracy_of_best(search.history, table) for search, _ in searches])
        ledgers = [search.ledger for search, _ in searches if search.ledger is not None]
        seconds = sum(seconds for _, seconds in searches) / count
        found[name] = Measured(curves, seconds, total(ledgers) if ledgers else None)
    return found


def lift_of_agents(measured: Mapping[str, Measured], judge: str, trials: int) -> Lift:
    """How much lower the test error of the agents' best cell on validation is after so many trials, by seed."""
    ours, theirs = measured[AGENTS].curves, measured[judge].curves
    count = min(len(ours), len(theirs))

    def values(curves: Array) -> dict[int, list[float | None]]:
        # Only the last one counts: the best on validation may have had a better one on test before it.
        return {seed: [*[None] * (trials - 1), 100.0 - curves[seed, trials - 1]] for seed in range(count)}

    return lift(values(ours), values(theirs), judge, trials)


def _lift_row(found: Lift) -> dict[str, Any]:
    return {
        "difference": round(found.difference, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
        "seeds": len(found.seeds),
        "positive": found.positive,
        "sentence": found.sentence("cell's test error in %"),
    }


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


def report(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """All figures, plain."""
    found: dict[str, Any] = {}
    for name, one in measured.items():
        rows: dict[str, Any] = {}
        for trials in SHOWN:
            if trials <= one.curves.shape[1]:
                row = row_of(one.curves, trials)
                rows[str(trials)] = row | compared(name, row, len(one.curves), trials)
        found[name] = {"searches": len(one.curves), "seconds_per_search": round(one.seconds, 3), "after": rows}
    figures: dict[str, Any] = {
        "searchers": found,
        "trials": TRIALS,
        "marks": {str(trials): mark for trials, mark in MARKS.items()},
        "at_marks": {
            str(trials): [
                name for name, one in found.items() if one["after"].get(str(trials), {"mean": 0.0})["mean"] >= mark
            ]
            for trials, mark in MARKS.items()
        },
    }
    if AGENTS in measured:
        shown = [trials for trials in SHOWN if trials <= measured[AGENTS].curves.shape[1]]
        figures["lifts"] = {
            str(trials): {judge: _lift_row(lift_of_agents(measured, judge, trials)) for judge in COMPARED}
            for trials in shown
        }
    figures["ledgers"] = {
        name: {**one.ledger.model_dump(), "rates": {key: round(rate, 3) for key, rate in one.ledger.rates.items()}}
        for name, one in measured.items()
        if one.ledger is not None
    }
    return figures


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether the mean of every judge is within the spread of its reference where that decides."""
    searchers = figures["searchers"]
    return all(
        searchers[name]["after"][str(trials)]["within_spread"] is True for name in REFERENCE for trials in DECIDING
    )


def draw(measured: Mapping[str, Measured], path: Path) -> None:
    """Means with their bands, the references as points, the marks as stars."""
    figure, (axes,) = new_figure(8, 5)
    for place, (name, values) in enumerate((name, one.curves) for name, one in measured.items()):
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
    console = Console(stderr=True)
    console.print(table)
    for rows in list(figures.get("lifts", {}).values())[-1:]:
        for row in rows.values():
            console.print(row["sentence"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, report. A table that cannot be used ends with its sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 seeds instead of 50; of the agents 6, with 10 trials")
    parser.add_argument("--seeds", type=_several, help="searches of TPE and forest; ten times as many of the others")
    parser.add_argument("--agents-seeds", type=_several, help="searches of the agents; default 20")
    parser.add_argument(
        "--agents-trials", type=int, choices=SHOWN, help=f"trials of the agents' searches; default {TRIALS}"
    )
    parser.add_argument("--table", type=Path, help=f"your table of NAS-Bench-201; default the shared {TABLE}")
    options = parser.parse_args(arguments)
    seeds = options.seeds or (20 if options.quick else 50)
    agents_seeds = options.agents_seeds or (LEAST_SEEDS if options.quick else 20)
    trials = options.agents_trials or (SHOWN[0] if options.quick else TRIALS)
    try:
        table = NASBench201Table.read(options.table or shared_file(TABLE))
        cache = SearchCache(cache_folder() / "benchmarks" / NAME, table)
        with open_chat_team(agents_config(trials).chat_settings()) as team:
            team.check()
            ours = measure(table, {AGENTS: agents(team, trials)}, agents_seeds, trials, cache)
        measured = measure(table, CONTENDERS, seeds, TRIALS, cache)
        measured |= ours | measure(table, controls(trials), agents_seeds, trials)
    except (InputError, ChatModelError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    figures = report(measured)
    show(figures)
    draw(measured, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


def _several(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("a spread needs two seeds at least")
    return value


if __name__ == "__main__":
    main()
