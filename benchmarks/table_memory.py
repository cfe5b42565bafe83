"""What a search on the table remembers of itself, looked up by the product's own functions (`memory.recall`).

Behind them is no vector store: the cells of one search are few, so that each is compared with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from agents.dialects import CellTrial
from agents.dialects.nasbench201 import cell_in_words
from graph.config import SearchConfig
from memory.exact_library import ExactLibrary
from memory.filters import Filter
from memory.library import Past
from memory.recall import Here, recollect
from memory.recollection import NOTHING, Recollection
from tools.spaces import Cell, NASBench201Space

SPACE = NASBench201Space()


def outcome_of(trial: CellTrial, parent: CellTrial | None) -> str:
    """`93.1 %, 0.4 above its parent`."""
    words = f"{trial.accuracy:.1f} %"
    if parent is None:
        return words
    change = trial.accuracy - parent.accuracy
    return f"{words}, {abs(change):.1f} {'below' if change < 0 else 'above'} its parent"


@dataclass
class CellMemory:
    """The cells of one search with the strategies and patterns that led to them."""

    library: ExactLibrary[Cell] = field(default_factory=lambda: ExactLibrary(SPACE.vector))
    _words: dict[str, Sequence[str]] = field(default_factory=dict)

    def remember(self, trial: CellTrial, parent: CellTrial | None, words: Sequence[str]) -> None:
        """Keep a cell, what it was made from, and why."""
        past = Past(
            id=trial.name,
            identity=trial.identity,
            describe=partial(cell_in_words, trial.architecture),
            outcome=outcome_of(trial, parent),
            score=trial.score,
            loss=None,
            change=None if parent is None else trial.score - parent.score,
            unusable=False,
            origin="",
            size=1.0,
            fits=True,
            embed=partial(SPACE.vector, trial.architecture),
        )
        self.library.add(past, words)
        self._words[trial.name] = words

    def recollect(self, parent: CellTrial, config: SearchConfig) -> Recollection:
        """What a turn is given by the settings `memory` and `recall`."""
        if not config.recalls("designs"):
            return NOTHING
        topic = " ".join([*self._words[parent.name], cell_in_words(parent.architecture)])
        here = Here(parent.name, parent.identity, parent.architecture, 1.0, topic)
        return recollect(self.library, here, config.recall, Filter(), config.recalls("lessons"))
