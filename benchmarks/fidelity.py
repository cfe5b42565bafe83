"""What a cheap measurement says of a dear one, and whether climbing a ladder of fidelities finds more at equal cost.

    python -m benchmarks.fidelity            # 24 designs: 2,048 tokens of short training, 8,192 of long training
    python -m benchmarks.fidelity --quick    # 6 designs, 512 and 2,048 tokens

SmolLM2-135M at 80 % of its parameters, on `modern_mix`: a pool of designs of equal size (the saliency-greedy one,
mutants of it, near and far, and random ones), each measured by one-shot repair, after short and after long training.
First come the rank correlations between these and the saliency forecast, with 95 % bootstrap intervals over the
designs; also without the random ones, which are so much worse that any figure tells them apart. Then searches over that
table, with no further training: designs are drawn in random order, and either all go straight to long
training, or they climb by the rule of `penjing search` (ASHA, graph/promotion.py). A search has found, after so many
seconds, the design that it would give then; what counts is the loss of that design after long training. An evaluation
costs the median seconds of its fidelity. The interval of the difference is over which designs are in the pool
(jackknife).

Figures of so few tokens say how fidelities rank designs, not how good these become. What is measured is kept in the
cache folder, and an interrupted call goes on.

`holds`: at the cost of long training for a quarter of the pool, the ladder's mean result is no worse.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.fidelity_pool import FORECAST, LADDER, RANDOM, RUNGS, Pool, Row
from benchmarks.fidelity_searches import Array, Gain, Searcher, Table, correlations, gain, mean_curve
from benchmarks.growing import Bars, Scale, Scales, job_of, new_figure, options, save_figure
from benchmarks.outcome import RESULTS, finish, report_name
from tools.fidelity import fidelity_in_words

NAME = "fidelity"
SHARE = 0.8
SCALES: Scales = {
    ("cpu", True): Scale(tokens=512, batch=1, micro_batch=1, block=256, validation_tokens=1024),
    ("cpu", False): Scale(tokens=2048, batch=1, micro_batch=1, block=256, validation_tokens=4096),
    ("cuda", True): Scale(tokens=61_440, batch=8, micro_batch=4, block=512, validation_tokens=32_768),
    ("cuda", False): Scale(tokens=122_880, batch=8, micro_batch=4, block=512, validation_tokens=65_536),
}
DESIGNS, QUICK_DESIGNS = 24, 6
SEEDS = 200
# So many steps of survey for each of short training.
_SURVEY = 2
PLAIN, CLIMBS = "long training only", "ladder"
SEARCHERS = (
    Searcher(PLAIN, (2,)),
    Searcher(CLIMBS, (0, 1, 2)),
    Searcher("ladder, 1 in 3 goes up", (0, 1, 2), 3),
    Searcher("ladder, 1 in 2 goes up", (0, 1, 2), 2),
    Searcher("ladder from short training", (1, 2)),
    Searcher("short training only", (1,)),
    Searcher("one-shot repair only", (0,)),
    Searcher("long training, best forecast of 4", (2,), proposals=4),
    Searcher("ladder, best forecast of 4", (0, 1, 2), proposals=4),
)


def table_of(rows: Sequence[Row]) -> Table:
    """What the searches draw from; an evaluation costs the median of its fidelity, so that noise decides nothing."""
    losses = np.array([[row.losses[rung] for row in rows] for rung in LADDER], dtype=np.float64)
    costs = tuple(median(row.seconds[rung] for row in rows) for rung in LADDER)
    forecasts = np.array([row.losses[FORECAST] for row in rows], dtype=np.float64)
    return Table(losses, costs, forecasts, tuple(range(len(rows))))


def budgets_of(table: Table) -> list[float]:
    """Seconds of one long training, of one and a half, and so on to half of the pool; a quarter is among them."""
    counts = np.arange(2, max(table.size, 4) + 1) / 2
    return [float(table.costs[-1] * count) for count in counts]


def mark_of(table: Table) -> int:
    """The place among the budgets at which the verdict is given: long training for a quarter of the pool."""
    return max(0, 2 * round(table.size / 4) - 2)


def report(rows: Sequence[Row], facts: Mapping[str, Any], seeds: int = SEEDS) -> dict[str, Any]:
    """All figures, plain."""
    table = table_of(rows)
    budgets, mark = budgets_of(table), mark_of(table)
    figures = {rung: [row.losses[rung] for row in rows] for rung in RUNGS}
    near = {rung: [row.losses[rung] for row in rows if row.origin != RANDOM] for rung in RUNGS}
    plain = SEARCHERS[0]
    return {
        **facts,
        "seconds": {rung: round(cost, 1) for rung, cost in zip(LADDER, table.costs, strict=True)},
        "rows": [
            {"origin": row.origin, "parameters": row.parameters, **{r: round(row.losses[r], 4) for r in RUNGS}}
            for row in rows
        ],
        "correlations": correlations(figures),
        "correlations_without_random": correlations(near) if len(near[RUNGS[0]]) > 1 else {},
        "seeds": seeds,
        "budget_seconds": round(budgets[mark], 1),
        "budget_evaluations": round(budgets[mark] / table.costs[-1], 1),
        "best_of_the_pool": round(float(table.losses[-1].min()), 4),
        "budgets": [round(budget, 1) for budget in budgets],
        "searchers": {
            one.name: _row(
                mean_curve(one, table, budgets, seeds),
                None if one is plain else gain(one, plain, table, budgets, seeds),
                mark,
            )
            for one in SEARCHERS
        },
    }


def _row(curve: Array, found: Gain | None, mark: int) -> dict[str, Any]:
    row: dict[str, Any] = {"loss": round(float(curve[mark]), 4), "by_budget": [round(float(loss), 4) for loss in curve]}
    if found is not None:
        ends = (found.low[mark], found.high[mark])
        row["lower_by"] = round(float(found.difference[mark]), 4)
        row["interval"] = [round(float(end), 4) for end in ends]
    return row


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether the ladder is at least as good as long training alone at equal cost."""
    return bool(figures["searchers"][CLIMBS]["lower_by"] >= 0)


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Left Spearman's correlations between rungs, right what searches find against what they spend."""
    figure, (ranks, curves) = new_figure(12, 4.8, 2)
    words = ["forecast", *(fidelity_in_words(rung) for rung in LADDER)]
    grid = np.eye(len(RUNGS))
    for one, others in figures["correlations"].items():
        for other, found in others.items():
            places = RUNGS.index(one), RUNGS.index(other)
            value = found["spearman"]
            grid[places] = grid[places[::-1]] = np.nan if value is None else value["value"]
    ranks.imshow(grid, vmin=-1, vmax=1, cmap="RdBu")
    for (row, column), value in np.ndenumerate(grid):
        ranks.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    ranks.set_xticks(range(len(words)), words, rotation=20, fontsize="small")
    ranks.set_yticks(range(len(words)), words, fontsize="small")
    ranks.set_title(f"Spearman's rank correlation, {figures['designs']} designs")
    for place, name in enumerate((PLAIN, CLIMBS, "long training, best forecast of 4", "ladder, best forecast of 4")):
        curves.plot(figures["budgets"], figures["searchers"][name]["by_budget"], color=f"C{place}", label=name)
    curves.axvline(figures["budget_seconds"], color="#6b7280", linestyle=":", label="the verdict's budget")
    curves.axhline(figures["best_of_the_pool"], color="#6b7280", linestyle="--", label="best of the pool")
    curves.set_xlabel("seconds of evaluation")
    curves.set_ylabel("loss of the design found, after long training, nats")
    curves.set_title(f"mean over {figures['seeds']} orders")
    curves.legend(fontsize="small")
    save_figure(figure, (curves,), path)


def tables(figures: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """For people: the correlations with the highest rung, and the searchers, the best first."""
    top = []
    for rung in RUNGS[:-1]:
        row = [rung]
        for name in ("correlations", "correlations_without_random"):
            both = figures[name].get(rung, {}).get(RUNGS[-1], {})
            row += [_told(both.get(kind)) for kind in ("spearman", "kendall")]
        top.append(row)
    searchers = sorted(figures["searchers"].items(), key=lambda item: item[1]["loss"])
    found = []
    for name, row in searchers:
        low, high = row.get("interval", (0.0, 0.0))
        lower = f"{row['lower_by']:+.4f}" if "lower_by" in row else "-"
        found.append([name, f"{row['loss']:.4f}", lower, f"{low:+.4f} to {high:+.4f}" if "interval" in row else "-"])
    return [
        (["rank correlation with long training", "Spearman", "Kendall", "without random: Spearman", "Kendall"], top),
        ([f"after {figures['budget_seconds']:,.0f} s", "loss", "lower by", "95 %"], found),
    ]


def _told(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['value']:.2f} ({low:.2f} to {high:.2f})"


def measure(pool: Pool, seeds: int = SEEDS) -> dict[str, Any]:
    """Measure what is missing of the pool; the figures."""
    with Bars(pool.parts) as bars:
        figures = report(pool.rows(bars), pool.facts(), seeds)
        for header, rows in tables(figures):
            bars.table(header, rows)
    return figures


def main() -> None:
    """Measure, draw, report."""
    parser = options(__doc__)
    parser.add_argument("--designs", type=int, help=f"in the pool, default {DESIGNS}, quick {QUICK_DESIGNS}")
    arguments = parser.parse_args()
    job = job_of(NAME, arguments, SCALES)
    steps = max(1, job.scale.tokens // job.scale.step_tokens)
    count = arguments.designs or (QUICK_DESIGNS if arguments.quick else DESIGNS)
    figures = measure(Pool(job, count, SHARE, _SURVEY * steps, steps))
    draw(figures, RESULTS / f"{report_name(NAME)}.png")
    finish(NAME, holds(figures), figures)


if __name__ == "__main__":
    main()
