"""What memory adds to a search: the same searches with it and without it.

    python -m benchmarks.memory            # 20 seeds, 25 trials of the agents; 40 seeds of searches that learn
    python -m benchmarks.memory --quick    # 6 seeds, 10 trials; 20 seeds

Agents: the product's pipeline with the embedded chat model on NAS-Bench-201 (`benchmarks.table_agents`), by the setting
`memory`: `full` gives each turn designs near the current one, good ones, and lessons with what came of them, from its
own search; `no_lessons` the designs alone; `off` nothing. All have the same seeds, first cells, turns and trials. What
counts is the test accuracy of the cell that was best on validation.

Across runs: a search that picks one of 4 random designs a turn by a surrogate, with the records of 4 earlier searches
of 25 trials (`past`), against the same without (`alone`). There is no language model in it. The earlier searches were
of the same table, with other seeds: this says what records of the very same problem are worth, not of a similar one.

`holds`: memory does no harm that could be told from chance. That is: for the agents (`full` against `off`) and across
runs (`past` against `alone`), the 95 % confidence interval of the mean difference in test error, paired by seed, does
not lie wholly on the side of the search without memory. It does not say that memory helps: the sentences say whether
that is shown.

The same on a real model is `benchmarks.memory_pruned_lm`. Finished searches are kept one by one below PENJING_CACHE or
the user's cache folder; an interrupted benchmark goes on. Whoever changes what is retrieved raises its number in
`RETRIEVAL`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from agents.chat_errors import ChatModelError
from agents.chat_team import ChatTeam, open_chat_team
from agents.lift import LEAST_SEEDS, Lift, lift
from benchmarks import search_nasbench201
from benchmarks.growing import new_figure, save_figure
from benchmarks.outcome import RESULTS, finish, shared_file
from benchmarks.search_cache import SearchCache
from benchmarks.search_nasbench201 import TABLE
from benchmarks.table_agents import agents_config, total
from benchmarks.table_past import ScreenedSearch
from benchmarks.table_search import Array, Contends, accuracy_of_best, band_of_mean, row_of
from graph.config import MemoryMode
from memory.ledger import Ledger
from tools.errors import InputError
from tools.places import cache_folder
from tools.spaces.nasbench201_table import NASBench201Table

NAME = "memory"
RETRIEVAL: Mapping[MemoryMode, int] = {"full": 2, "no_prompts": 2, "no_lessons": 1, "off": 1}
"""Of what is retrieved and how in each mode; kept searches of another number are not taken for these."""
MODES: tuple[MemoryMode, ...] = ("full", "no_lessons", "off")
"""`no_prompts` is the same as `full` here: every prompt has one wording."""
SHOWN = (10, 25)
EARLIER = 4
PAST, ALONE = "past", "alone"


@dataclass(frozen=True)
class Measured:
    """Of one side: curves of test accuracy [searches, trials]; of agents also ledger and tokens, read and written."""

    curves: Array
    ledger: Ledger | None = None
    tokens: tuple[int, int] | None = None


def agents(team: ChatTeam, trials: int, mode: MemoryMode) -> Contends:
    """The agents with this much memory."""
    found = search_nasbench201.agents(team, trials, mode)
    memory = {"memory": mode, "recall": found.config.recall, "retrieval": RETRIEVAL[mode]}
    return replace(found, kept={**(found.kept or {}), **memory})


def across_runs() -> dict[str, Contends]:
    """Searches that know the records of earlier ones, and those that do not."""
    kept = {"retrieval": 1, "earlier": EARLIER}
    return {PAST: ScreenedSearch(EARLIER, kept=kept), ALONE: ScreenedSearch(0, kept={**kept, "earlier": 0})}


def measure(
    table: NASBench201Table, contenders: Mapping[str, Contends], seeds: int, trials: int, cache: SearchCache
) -> dict[str, Measured]:
    """All searches, seed by seed, so that an interrupted benchmark has equal seeds of all sides."""
    from rich.console import Console
    from rich.progress import track

    searches: dict[str, list[Any]] = {name: [] for name in contenders}
    places = [(seed, name) for seed in range(seeds) for name in contenders]
    for seed, name in track(places, "searches", console=Console(stderr=True)):
        searches[name].append(cache.search(name, contenders[name], trials, seed)[0])
    found = {}
    for name, own in searches.items():
        ledgers = [one.ledger for one in own if one.ledger is not None]
        tokens = [one.tokens for one in own if one.tokens is not None]
        found[name] = Measured(
            np.array([accuracy_of_best(one.history, table) for one in own]),
            total(ledgers) if ledgers else None,
            (sum(read for read, _ in tokens), sum(written for _, written in tokens)) if tokens else None,
        )
    return found


def lift_between(measured: Mapping[str, Measured], name: str, other: str, trials: int) -> Lift:
    """How much lower the test error of the best cell on validation is with `name` than with `other`, by seed."""

    def values(curves: Array) -> dict[int, list[float | None]]:
        # Only the last one counts: the best on validation may have had a better one on test before it.
        return {seed: [*[None] * (trials - 1), 100.0 - row[trials - 1]] for seed, row in enumerate(curves)}

    return lift(values(measured[name].curves), values(measured[other].curves), other, trials)


def sentence(found: Lift, name: str, of: str = "test error", unit: str = "points") -> str:
    """What the comparison shows of memory, for people; `of` is what is the lower the better, in `unit`."""
    numbers = (
        f"95 % confidence {found.low:+.3f} to {found.high:+.3f}; {len(found.seeds)} seeds, {found.trials} trials each"
    )
    side = "below" if found.difference >= 0 else "above"
    told = f"the mean {of} with {name} is {abs(found.difference):.3f} {unit} {side} that with {found.judge}"
    if found.positive:
        return f"Memory helped: {told} ({numbers})."
    if found.negative:
        return f"Memory made the search worse: {told} ({numbers})."
    why = "which chance alone may do" if found.conclusive else f"and fewer than {LEAST_SEEDS} seeds are too few"
    return f"No effect of memory is shown: {told}, {why} ({numbers})."


def report(measured: Mapping[str, Measured], comparisons: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """All figures of one group of searches, plain; lifts after as many trials as are shown."""
    rows: dict[str, Any] = {}
    for name, one in measured.items():
        shown = [trials for trials in SHOWN if trials <= one.curves.shape[1]]
        rows[name] = {
            "searches": len(one.curves),
            "after": {str(trials): row_of(one.curves, trials) for trials in shown},
            **_answers(one),
        }
    lifts = {
        f"{name} over {other}": {
            str(trials): _lift_row(lift_between(measured, name, other, trials), name)
            for trials in SHOWN
            if trials <= measured[name].curves.shape[1]
        }
        for name, other in comparisons
    }
    return {"searches": rows, "lifts": lifts}


def _answers(one: Measured) -> dict[str, Any]:
    if one.ledger is None or one.tokens is None:
        return {}
    read, written = one.tokens
    return {
        "duplicate_rate": round(one.ledger.rates["duplicate"], 3),
        "projected_rate": round(one.ledger.rates["projected"], 3),
        "tokens_read_per_call": round(read / one.ledger.calls, 1),
        "tokens_written_per_call": round(written / one.ledger.calls, 1),
        "ledger": one.ledger.model_dump(),
    }


def _lift_row(found: Lift, name: str) -> dict[str, Any]:
    return {
        "difference": round(found.difference, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
        "seeds": len(found.seeds),
        "positive": found.positive,
        "negative": found.negative,
        "sentence": sentence(found, name),
    }


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether memory does no harm beyond chance, of the agents and across runs, after the most trials shown."""
    decisive = (figures["agents"]["lifts"]["full over off"], figures["across_runs"]["lifts"][f"{PAST} over {ALONE}"])
    return not any(list(rows.values())[-1]["negative"] for rows in decisive)


def draw(groups: Mapping[str, Mapping[str, Measured]], path: Path) -> None:
    """A panel for each group: means with their bands over the trials."""
    figure, panels = new_figure(11, 4.6, len(groups))
    for axes, (title, measured) in zip(panels, groups.items(), strict=True):
        for place, (name, one) in enumerate(measured.items()):
            trials = np.arange(1, one.curves.shape[1] + 1)
            low, high = band_of_mean(one.curves)
            axes.plot(trials, one.curves.mean(axis=0), color=f"C{place}", label=f"{name} ({len(one.curves)} searches)")
            axes.fill_between(trials, low, high, color=f"C{place}", alpha=0.2, linewidth=0)
        axes.set_ylim(bottom=90)
        axes.set_xlabel("trials")
        axes.set_ylabel("CIFAR-10 test accuracy of the best on validation, %")
        axes.set_title(title)
        axes.legend(fontsize="small", loc="lower right")
    save_figure(figure, panels, path)


def show(figures: Mapping[str, Any]) -> None:
    """The sentences for people, on stderr."""
    for group in ("agents", "across_runs"):
        for rows in figures[group]["lifts"].values():
            print(list(rows.values())[-1]["sentence"], file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, report. A table that cannot be used ends with its sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{LEAST_SEEDS} seeds of the agents with 10 trials")
    parser.add_argument("--seeds", type=int, help="of the agents; default 20")
    parser.add_argument("--trials", type=int, choices=SHOWN, help="of the agents; default 25")
    parser.add_argument("--table", type=Path, help=f"your table of NAS-Bench-201; default the shared {TABLE}")
    options = parser.parse_args(arguments)
    seeds = options.seeds or (LEAST_SEEDS if options.quick else 20)
    trials = options.trials or (SHOWN[0] if options.quick else SHOWN[-1])
    try:
        table = NASBench201Table.read(options.table or shared_file(TABLE))
        cache = SearchCache(cache_folder() / "benchmarks" / NAME, table)
        past = measure(table, across_runs(), 20 if options.quick else 40, SHOWN[-1], cache)
        with open_chat_team(agents_config(trials).chat_settings()) as team:
            team.check()
            ours = measure(table, {mode: agents(team, trials, mode) for mode in MODES}, seeds, trials, cache)
    except (InputError, ChatModelError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    figures = {
        "agents": report(ours, [("full", "off"), ("no_lessons", "off"), ("full", "no_lessons")]),
        "across_runs": report(past, [(PAST, ALONE)]),
        "trials": trials,
        "modes": list(MODES),
        "settings": list(get_args(MemoryMode)),
    }
    show(figures)
    draw({"agents, by the setting memory": ours, "across runs, no language model": past}, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


if __name__ == "__main__":
    main()
