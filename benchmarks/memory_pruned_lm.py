"""What memory adds to the agents' search for a pruned language model: the same searches with it and without it.

    python -m benchmarks.memory_pruned_lm            # 24 trials, 6 seeds; most of it from benchmarks.search_pruned_lm
    python -m benchmarks.memory_pruned_lm --quick    # 8 trials, 3 seeds

The searches are those of the agents in `benchmarks.search_pruned_lm`, in the same home: with `memory` at `full` they
are the very same runs, and those with `off` draw from the same evaluations. Every search remembers itself alone. What
counts is the held-out loss of the best design.

`holds`: memory does no harm that could be told from chance: the 95 % confidence interval of the mean difference in
held-out loss, paired by seed, does not lie wholly on the side of the searches without memory. With fewer than 6 seeds
nothing can be told, and it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from agents.lift import Lift, lift
from agents.settings import LOCAL
from benchmarks.growing import Bars, Job, job_of, new_figure, options, save_figure
from benchmarks.memory import sentence
from benchmarks.outcome import RESULTS, finish
from benchmarks.pruned_lm_searches import Plan, Searched, Searches
from benchmarks.search_pruned_lm import (
    HELD_OUT_TOKENS,
    QUICK_HELD_OUT_TOKENS,
    QUICK_SEEDS,
    QUICK_TRIALS,
    SCALES,
    SEEDS,
    SHARE,
    TRIALS,
    plan_of,
)
from benchmarks.search_pruned_lm import NAME as HOME
from graph.config import MemoryMode
from graph.judgement import AGENTS
from graph.judgement_picture import best_so_far
from tools.settings import WidthSettings

NAME = "memory_pruned_lm"
MODES: tuple[MemoryMode, ...] = ("full", "off")


def searches_of(
    job: Job, plan: Plan, chat_model: str, space: WidthSettings | None = None
) -> dict[MemoryMode, Searches]:
    """The agents' searches with each mode of memory."""
    return {mode: Searches(job, plan, SHARE, chat_model, ("random",), space, mode) for mode in MODES}


def measure(sides: Mapping[MemoryMode, Searches]) -> dict[MemoryMode, Searched]:
    """Run what is missing."""
    with Bars(sum(len(side.entries(AGENTS)) for side in sides.values())) as bars:
        return {mode: side.run(bars, AGENTS) for mode, side in sides.items()}


def lift_of_memory(found: Mapping[MemoryMode, Searched]) -> Lift:
    """How much lower the held-out loss of the best design is with memory, by seed."""

    def side(mode: MemoryMode) -> dict[int, Sequence[float | None]]:
        searched = found[mode]
        return {outcome.seed: [searched.held_out[outcome.run]] for outcome in searched.judgement.of(AGENTS)}

    return replace(lift(side("full"), side("off"), "off"), trials=found["full"].judgement.trials)


def report(found: Mapping[MemoryMode, Searched], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, plain."""
    memory = lift_of_memory(found)
    return {
        **facts,
        "modes": {mode: _row(searched) for mode, searched in found.items()},
        "greedy": round(found["full"].greedy, 4),
        "lift": {
            "difference": round(memory.difference, 4),
            "interval": [round(memory.low, 4), round(memory.high, 4)],
            "seeds": len(memory.seeds),
            "positive": memory.positive,
            "negative": memory.negative,
            "sentence": sentence(memory, "full", "held-out loss", "nats"),
        },
    }


def _row(searched: Searched) -> dict[str, Any]:
    outcomes = searched.judgement.of(AGENTS)
    losses = [searched.held_out[outcome.run] for outcome in outcomes]
    curve = best_so_far([outcome.scores for outcome in outcomes]).mean(axis=0)
    return {
        "seeds": len(outcomes),
        "held_out": round(mean(losses), 4),
        "by_seed": [round(loss, 4) for loss in losses],
        "validation_by_trials": [round(float(value), 4) for value in curve],
        "duplicate_rate": round(searched.ledger.rates.get("duplicate", 0.0), 3),
        "ledger": searched.ledger.model_dump(),
    }


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether memory does no harm beyond chance."""
    return not figures["lift"]["negative"]


def draw(found: Mapping[MemoryMode, Searched], path: Any) -> None:
    """The best validation loss so far over the trials, the mean over seeds."""
    figure, (axes,) = new_figure(7, 4.6)
    for place, (mode, searched) in enumerate(found.items()):
        curves = best_so_far([outcome.scores for outcome in searched.judgement.of(AGENTS)])
        axes.plot(range(curves.shape[1]), curves.mean(axis=0), color=f"C{place}", label=f"memory {mode}")
        axes.fill_between(range(curves.shape[1]), curves.min(axis=0), curves.max(axis=0), color=f"C{place}", alpha=0.15)
    axes.set_xlabel("trial; trial 0 is the saliency-greedy design")
    axes.set_ylabel("best validation loss so far, nats per token")
    axes.set_title("mean over seeds, bands from worst to best")
    axes.legend(fontsize="small")
    save_figure(figure, [axes], path)


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__, cached=False)
    parser.add_argument("--seeds", type=int, help=f"of each mode, default {SEEDS}, quick {QUICK_SEEDS}")
    parser.add_argument("--trials", type=int, help=f"of each search, default {TRIALS}, quick {QUICK_TRIALS}")
    parser.add_argument("--chat-model", default=LOCAL, help="of the agents; default the embedded one")
    arguments = parser.parse_args()
    quick, job = arguments.quick, job_of(HOME, arguments, SCALES)
    plan = plan_of(
        job.scale,
        arguments.trials or (QUICK_TRIALS if quick else TRIALS),
        arguments.seeds or (QUICK_SEEDS if quick else SEEDS),
        QUICK_HELD_OUT_TOKENS if quick else HELD_OUT_TOKENS,
    )
    sides = searches_of(job, plan, arguments.chat_model)
    found = measure(sides)
    figures = report(found, sides["full"].facts())
    draw(found, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


if __name__ == "__main__":
    main()
