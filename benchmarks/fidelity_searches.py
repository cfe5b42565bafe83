"""Searches on a table of measured designs, with a ladder of fidelities and without: nothing is trained here.

A searcher draws designs in a random order and is told the loss at the fidelity that it pays for. Each evaluation costs
the median seconds of its fidelity. What a search has found after so many seconds is the design that it would give then,
and what counts is that design's loss at the highest fidelity, whether or not it paid for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr  # type: ignore[import-untyped]

from graph.promotion import next_promotion

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], float]
_RESAMPLES = 500
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Table:
    """Losses [rungs, designs] from the lowest rung to the highest, what an evaluation on each costs, and forecasts.

    `names` are numbers that designs keep when others are taken out.
    """

    losses: Array
    costs: tuple[float, ...]
    forecasts: Array
    names: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many designs there are."""
        return int(self.losses.shape[1])

    def without(self, design: int) -> "Table":
        """The table with one design less."""
        names = self.names[:design] + self.names[design + 1 :]
        return Table(np.delete(self.losses, design, axis=1), self.costs, np.delete(self.forecasts, design), names)

    def of_rungs(self, rungs: Sequence[int]) -> "Table":
        """What a search on these rungs is told."""
        return Table(self.losses[list(rungs)], tuple(self.costs[rung] for rung in rungs), self.forecasts, self.names)


@dataclass(frozen=True)
class Searcher:
    """How a search goes: `rungs` of the table, eta, and of how many designs of a turn the best forecast is paid for."""

    name: str
    rungs: tuple[int, ...]
    reduction_factor: int = 4
    proposals: int = 1

    def curve(self, table: Table, budgets: Sequence[float], seed: int) -> Array:
        """The true loss of what the search has found at each of `budgets`, which rise; not-a-number before anything."""
        found, place, spent = np.full(len(budgets), np.nan), 0, 0.0
        truth, present = table.losses[-1], float("nan")
        for cost, chosen in self._steps(table.of_rungs(self.rungs), seed):
            spent += cost
            while place < len(budgets) and budgets[place] < spent - 1e-9:
                found[place] = present
                place += 1
            if place == len(budgets):
                break
            present = float(truth[chosen])
        found[place:] = present
        return found

    def _steps(self, table: Table, seed: int) -> Iterator[tuple[float, int]]:
        """What each evaluation costs, and the design that the search would give after it."""
        left = list(range(table.size))
        rung_count = len(table.costs)
        rungs: list[dict[int, float | None]] = [{} for _ in range(rung_count)]
        promoted: list[set[int]] = [set() for _ in range(rung_count)]
        while True:
            up = next_promotion(rungs, promoted, self.reduction_factor)
            if up is not None:
                rung, design = up.rung, up.number
                promoted[rung - 1].add(design)
            elif left:
                # A draw of its own for each design and turn: without one design the others come in the same order.
                draws = np.random.default_rng([seed, table.size - len(left)]).random(table.names[-1] + 1)
                drawn = sorted(left, key=lambda one: float(draws[table.names[one]]))[: self.proposals]
                rung, design = 0, min(drawn, key=lambda one: (float(table.forecasts[one]), one))
                left.remove(design)
            else:
                return
            rungs[rung][design] = float(table.losses[rung, design])
            # As in a search: the best of the highest rung that has any.
            top = next(found for found in reversed(rungs) if found)
            yield table.costs[rung], min(top, key=lambda one: (top[one], one))


def mean_curve(searcher: Searcher, table: Table, budgets: Sequence[float], seeds: int) -> Array:
    """The mean over seeds at each budget."""
    return np.stack([searcher.curve(table, budgets, seed) for seed in range(seeds)]).mean(axis=0)


@dataclass(frozen=True)
class Gain:
    """By how much the loss is lower with the ladder, at each budget, and what it would be between such pools."""

    difference: Array
    low: Array
    high: Array


def gain(ladder: Searcher, plain: Searcher, table: Table, budgets: Sequence[float], seeds: int) -> Gain:
    """The mean over seeds, and its 95 % interval over which designs are in the pool, by the jackknife.

    Seeds alone would say too much: all of them draw from the same designs (Efron and Stein 1981).
    """

    def difference(of: Table) -> Array:
        return mean_curve(plain, of, budgets, seeds) - mean_curve(ladder, of, budgets, seeds)

    whole, count = difference(table), table.size
    parts = np.stack([difference(table.without(design)) for design in range(count)])
    error = np.sqrt((count - 1) / count * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0))
    return Gain(whole, whole - 1.96 * error, whole + 1.96 * error)


def correlations(figures: Mapping[str, Sequence[float]], seed: int = 0) -> dict[str, dict[str, dict[str, object]]]:
    """Spearman's and Kendall's rank correlation between any two rungs, with a 95 % bootstrap interval over designs.

    None where all figures of one are equal.
    """
    names, found = list(figures), dict[str, dict[str, dict[str, object]]]()
    draws = np.random.default_rng(seed)
    count = len(figures[names[0]])
    resamples = draws.integers(0, count, size=(_RESAMPLES, count))
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            pair = np.array([figures[one], figures[other]], dtype=np.float64)
            found.setdefault(one, {})[other] = {
                "spearman": _with_interval(pair, resamples, lambda both: float(spearmanr(*both).statistic)),
                "kendall": _with_interval(pair, resamples, lambda both: float(kendalltau(*both).statistic)),
            }
    return found


def _with_interval(pair: Array, resamples: npt.NDArray[np.int64], statistic: Statistic) -> dict[str, object] | None:
    if any(len(set(row.tolist())) == 1 for row in pair):
        return None
    drawn = [pair[:, rows] for rows in resamples]
    values = [statistic(both) for both in drawn if all(len(set(row.tolist())) > 1 for row in both)]
    low, high = np.quantile(values, _QUANTILES)
    return {"value": round(statistic(pair), 3), "interval": [round(float(low), 3), round(float(high), 3)]}
