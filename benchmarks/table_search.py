"""Whole searches on a table: one searcher, one seed, so many trials; what the report sees of them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agents.proposers import Proposed, Standing, Tried
from memory.ledger import Ledger
from tools.spaces import Cell, CellDraft, NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

Array = npt.NDArray[np.float64]
RESAMPLES = 1000


class Searcher(Protocol):
    """Whoever proposes cells: a judge, or agents."""

    async def ask(self, situation: Standing[Cell, CellDraft]) -> Proposed[Cell, CellDraft]:
        """The next cell."""


@dataclass(frozen=True)
class Searched:
    """What one search tried, with the error on validation as the value; of agents also ledger and tokens.

    The `tokens` are those that its calls read and wrote.
    """

    history: Sequence[Tried[Cell]]
    ledger: Ledger | None = None
    tokens: tuple[int, int] | None = None


class Contends(Protocol):
    """One line of the comparison."""

    @property
    def searches_per_seed(self) -> int:
        """Searches for each seed that was asked for."""

    @property
    def kept(self) -> Mapping[str, Any] | None:
        """All that decides a search beside its name, trials, seed and table, where it is kept when it ends."""

    def search(self, table: NASBench201Table, trials: int, seed: int) -> Searched:
        """A whole search."""


@dataclass(frozen=True)
class Contender:
    """A judge: a new searcher for each search."""

    make: Callable[[], Searcher]
    searches_per_seed: int = 1
    kept: Mapping[str, Any] | None = None

    def search(self, table: NASBench201Table, trials: int, seed: int) -> Searched:
        """See `search` below."""
        return Searched(tuple(search(self.make(), table, trials, seed)))


@dataclass(frozen=True)
class TableStanding:
    """A search at one of its turns."""

    turn: int
    space: NASBench201Space
    history: Sequence[Tried[Cell]]
    seed: int


def search(searcher: Searcher, table: NASBench201Table, trials: int, seed: int) -> list[Tried[Cell]]:
    """What `searcher` tries, with the error on validation, in per cent, as the value. The test accuracy stays unseen.

    Raises ValueError where a proposal is illegal.
    """
    return asyncio.run(_search(searcher, table, trials, seed))


async def _search(searcher: Searcher, table: NASBench201Table, trials: int, seed: int) -> list[Tried[Cell]]:
    space, history = NASBench201Space(), list[Tried[Cell]]()
    for turn in range(trials):
        proposed = await searcher.ask(TableStanding(turn, space, tuple(history), turn_seed(seed, turn)))
        if proposed.draft is None or space.problems(proposed.draft, proposed.base):
            raise ValueError(f"turn {turn} of seed {seed}: an illegal cell was proposed: {proposed.draft}")
        cell = space.read(proposed.draft, proposed.base)
        history.append(Tried(turn, cell, 100.0 - table.validation(cell)))
    return history


def turn_seed(seed: int, turn: int) -> int:
    """The seed of one turn of a search, as in the product."""
    return (seed * 100_003 + turn) % 2**31


def accuracy_of_best(history: Sequence[Tried[Cell]], table: NASBench201Table) -> list[float]:
    """After each trial, the test accuracy of the cell that was best on validation until then, the earlier of equals."""
    curve: list[float] = []
    best, value = None, float("inf")
    for tried in history:
        if best is None or (tried.value is not None and tried.value < value):
            best, value = tried, float("inf") if tried.value is None else tried.value
        curve.append(table.test(best.design))
    return curve


def band_of_mean(curves: Array) -> tuple[Array, Array]:
    """95 % confidence band of the mean over searches [searches, trials]: percentiles of a bootstrap over searches."""
    rng = np.random.default_rng(0)
    count = len(curves)
    # How often each search is drawn in each resample.
    draws = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.percentile(draws @ curves / count, [2.5, 97.5], axis=0)
    return low, high


def row_of(curves: Array, trials: int) -> dict[str, Any]:
    """Mean, spread and band after so many trials."""
    values = curves[:, trials - 1]
    low, high = band_of_mean(values[:, None])
    return {
        "mean": round(float(values.mean()), 3),
        "spread": round(float(values.std(ddof=1)), 3),
        "band": [round(float(low[-1]), 3), round(float(high[-1]), 3)],
    }
