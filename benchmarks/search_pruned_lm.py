"""Who finds the better small language model: the agents, judges without a language model, or saliency alone.

    python -m benchmarks.search_pruned_lm            # 24 trials, 6 seeds, 12,288 training tokens a trial
    python -m benchmarks.search_pruned_lm --quick    # 8 trials, 3 seeds, 512 training tokens a trial

SmolLM2-135M at 80 % of its parameters, on `modern_mix`. Every search has the same trial 0, the design of saliency
alone, and equal trials, tokens, checker and evaluator. All draw from one table of evaluations: the seed of training and
measuring is fixed, so that equal designs have equal losses, and only the seed of the searchers varies. The agents are
those of `penjing search`, with the embedded chat model unless another one is named.

A search sees the validation loss of its own trials. What counts is the loss of its best design on a held-out part that
neither training nor any search saw. So few tokens say how searchers compare, not how good the models can become.
Finished searches and evaluations are kept in the cache folder; an interrupted benchmark goes on.

`holds`: the agents' mean held-out loss is below that of every judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from agents.lift import Lift, lift
from agents.settings import LOCAL
from benchmarks.growing import Bars, Scale, Scales, job_of, new_figure, options, save_figure
from benchmarks.outcome import RESULTS, finish
from benchmarks.pruned_lm_searches import Plan, Searched, Searches
from graph.judgement import AGENTS, Judgement
from graph.judgement_picture import best_so_far

NAME = "search_pruned_lm"
SHARE = 0.8
GREEDY = "greedy"
SCALES: Scales = {
    ("cpu", True): Scale(tokens=512, batch=1, micro_batch=1, block=256, validation_tokens=1024),
    ("cpu", False): Scale(tokens=12_288, batch=2, micro_batch=1, block=256, validation_tokens=8192),
    ("cuda", True): Scale(tokens=61_440, batch=8, micro_batch=4, block=512, validation_tokens=32_768),
    ("cuda", False): Scale(tokens=491_520, batch=16, micro_batch=4, block=512, validation_tokens=65_536),
}
TRIALS, QUICK_TRIALS = 24, 8
SEEDS, QUICK_SEEDS = 6, 3
HELD_OUT_TOKENS, QUICK_HELD_OUT_TOKENS = 32_768, 4096
# So many tokens of survey for each of training.
_SURVEY = 2


def report(searched: Searched, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, plain."""
    judgement, held_out = searched.judgement, searched.held_out
    methods: dict[str, Any] = {}
    for name in judgement.searchers:
        searches = judgement.of(name)
        losses = [held_out[outcome.run] for outcome in searches]
        curves = best_so_far([outcome.scores for outcome in searches])
        methods[name] = {
            "seeds": len(searches),
            "held_out": _rounded(mean(losses)),
            "spread": _rounded(stdev(losses)) if len(losses) > 1 else None,
            "by_seed": [_rounded(loss) for loss in losses],
            "validation": _rounded(float(curves[:, -1].mean())),
            "validation_by_trials": [_rounded(float(value)) for value in curves.mean(axis=0)],
        }
    first = [outcome.scores[0] for outcome in judgement.outcomes if outcome.scores[0] is not None]
    methods[GREEDY] = {"held_out": _rounded(searched.greedy), "validation": _rounded(mean(first)) if first else None}
    return {
        **facts,
        "methods": methods,
        "below": {
            name: methods[AGENTS]["held_out"] < found["held_out"] for name, found in methods.items() if name != AGENTS
        },
        "lifts": [
            {
                "judge": found.judge,
                "held_out": _rounded(found.difference),
                "interval": [_rounded(found.low), _rounded(found.high)],
                "sentence": found.sentence("held-out loss"),
                "sentence_validation": validation.sentence,
            }
            for found, validation in zip(lifts(searched), judgement.verdicts, strict=True)
        ],
        "ledger": {**searched.ledger.model_dump(), "rates": _rates(searched)},
        "evaluations": len(searched.seconds),
        "seconds_per_evaluation": round(median(searched.seconds), 1) if searched.seconds else None,
    }


def lifts(searched: Searched) -> list[Lift]:
    """The lift of the agents over each judge in held-out loss of the best design."""
    judgement = searched.judgement

    def side(name: str) -> dict[int, Sequence[float | None]]:
        return {outcome.seed: [searched.held_out[outcome.run]] for outcome in judgement.of(name)}

    judges = [name for name in judgement.searchers if name != AGENTS]
    return [replace(lift(side(AGENTS), side(name), name), trials=judgement.trials) for name in judges]


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether the agents' mean is below that of every judge."""
    return all(below for name, below in figures["below"].items() if name != GREEDY)


def draw(judgement: Judgement, figures: Mapping[str, Any], path: Path) -> None:
    """Left the best so far on validation over the trials, right the held-out losses of the best designs."""
    figure, (curves, points) = new_figure(11, 4.6, 2)
    methods = figures["methods"]
    for place, name in enumerate(judgement.searchers):
        colour, width = f"C{place}", 2.4 if name == AGENTS else 1.3
        values = best_so_far([outcome.scores for outcome in judgement.of(name)])
        trials = range(values.shape[1])
        curves.plot(trials, values.mean(axis=0), color=colour, linewidth=width, label=name)
        curves.fill_between(trials, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.1, linewidth=0)
        losses = methods[name]["by_seed"]
        points.scatter([place] * len(losses), losses, color=colour, s=18)
        points.hlines(methods[name]["held_out"], place - 0.3, place + 0.3, color=colour, linewidth=width)
    points.axhline(methods[GREEDY]["held_out"], color="#6b7280", linestyle="--", label="greedy, trial 0")
    points.set_xticks(range(len(judgement.searchers)), judgement.searchers, rotation=20)
    points.set_ylabel("held-out loss of the best, nats per token")
    points.set_title("one point a seed, lines: means")
    curves.set_xlabel("trial; trial 0 is the saliency-greedy design")
    curves.set_ylabel("best validation loss so far, nats per token")
    curves.set_title("mean over seeds, bands from worst to best")
    for panel in (curves, points):
        panel.legend(fontsize="small")
    save_figure(figure, (curves, points), path)


def table(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """For people: one row a method, the best first."""
    rows = sorted(figures["methods"].items(), key=lambda item: item[1]["held_out"])
    return ["method", "seeds", "held-out loss", "spread", "validation loss"], [
        [
            name,
            str(found.get("seeds", "-")),
            f"{found['held_out']:.4f}",
            "-" if found.get("spread") is None else f"{found['spread']:.4f}",
            "-" if found["validation"] is None else f"{found['validation']:.4f}",
        ]
        for name, found in rows
    ]


def measure(searches: Searches) -> tuple[dict[str, Any], Searched]:
    """Run all searches; the figures, and what they are made of."""
    with Bars(len(searches.tournament.entries)) as bars:
        searched = searches.run(bars)
        figures = report(searched, searches.facts())
        bars.table(*table(figures))
    return figures, searched


def plan_of(scale: Scale, trials: int, seeds: int, held_out_tokens: int) -> Plan:
    """The steps of an evaluation follow from the tokens that a trial is trained on."""
    steps = max(1, scale.tokens // scale.step_tokens)
    return Plan(trials, seeds, _SURVEY * steps, steps, held_out_tokens)


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, help=f"of each searcher, default {SEEDS}, quick {QUICK_SEEDS}")
    parser.add_argument("--trials", type=int, help=f"of each search, default {TRIALS}, quick {QUICK_TRIALS}")
    parser.add_argument("--chat-model", default=LOCAL, help="of the agents; default the embedded one")
    arguments = parser.parse_args()
    quick, job = arguments.quick, job_of(NAME, arguments, SCALES)
    plan = plan_of(
        job.scale,
        arguments.trials or (QUICK_TRIALS if quick else TRIALS),
        arguments.seeds or (QUICK_SEEDS if quick else SEEDS),
        QUICK_HELD_OUT_TOKENS if quick else HELD_OUT_TOKENS,
    )
    figures, searched = measure(Searches(job, plan, SHARE, arguments.chat_model))
    draw(searched.judgement, figures, RESULTS / f"{NAME}.png")
    finish(NAME, holds(figures), figures)


def _rates(searched: Searched) -> dict[str, float]:
    return {name: round(rate, 3) for name, rate in searched.ledger.rates.items()}


def _rounded(value: float) -> float:
    return round(value, 4)


if __name__ == "__main__":
    main()
