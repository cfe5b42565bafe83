"""A search on the table that learns from earlier ones: designs drawn at random, of which a surrogate picks one a turn.

This is what screening does in the product (`proposals_per_turn`, `past_runs`), without a language model: the surrogate
knows what this search measured, and what earlier ones did.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.proposers import RandomSearch, Tried
from agents.surrogate import Surrogate
from benchmarks.table_search import Searched, TableStanding, turn_seed
from graph.screening import ranked
from tools.spaces import Cell, NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

SPACE = NASBench201Space()
_FAR = 1_000_000
"""Seeds of earlier searches are this far from those of the searches that are compared."""


@dataclass(frozen=True)
class ScreenedSearch:
    """`proposals` designs a turn; the records of `earlier` other searches of `earlier_trials` each are known.

    The earlier ones had the same table, other seeds, and no memory themselves.
    """

    earlier: int
    earlier_trials: int = 25
    proposals: int = 4
    kept: Mapping[str, Any] | None = None
    searches_per_seed: int = 1

    def search(self, table: NASBench201Table, trials: int, seed: int) -> Searched:
        """One search."""
        past: list[Tried[Cell]] = []
        for number in range(self.earlier):
            past += self._search(table, self.earlier_trials, _FAR * (seed + 1) + number, ())
        return Searched(tuple(self._search(table, trials, seed, past)))

    def _search(
        self, table: NASBench201Table, trials: int, seed: int, past: Sequence[Tried[Cell]]
    ) -> list[Tried[Cell]]:
        history: list[Tried[Cell]] = []
        for turn in range(trials):
            cells = [self._drawn(history, turn, seed, place) for place in range(self.proposals)]
            known = [(one.design, one.value) for one in (*past, *history) if one.value is not None]
            cell = cells[ranked(Surrogate(SPACE, known).expect_all(cells))[0]]
            history.append(Tried(turn, cell, 100.0 - table.validation(cell)))
        return history

    def _drawn(self, history: Sequence[Tried[Cell]], turn: int, seed: int, place: int) -> Cell:
        standing = TableStanding(turn, SPACE, tuple(history), turn_seed(seed * self.proposals + place, turn))
        proposed = asyncio.run(RandomSearch().ask(standing))
        assert proposed.draft is not None  # noqa: S101 - a judge's is legal
        return SPACE.read(proposed.draft, proposed.base)
