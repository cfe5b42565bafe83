"""Finished trials of a search on their way into the vector store: several at once, before it is asked."""

from collections.abc import Collection
from dataclasses import dataclass, field

from memory.indexing import index_prompts, index_trials
from memory.records import Records
from memory.vectors import VectorStore

_MOST_WAITING = 32


@dataclass
class TrialIndex:
    """Puts the trials of run `run_id` and the prompts into the store, late: one at a time takes most of a write each.

    Nothing is lost with a killed process: the next opening of the store puts in what it lacks (`reconcile_vectors`).
    """

    records: Records
    store: VectorStore
    run_id: str
    _waiting: list[int] = field(default_factory=list, repr=False)

    def note(self, numbers: Collection[int]) -> None:
        """These trials are finished, and their records written."""
        self._waiting += numbers
        if len(self._waiting) >= _MOST_WAITING:
            self.write()

    def write(self) -> None:
        """Put in what waits; to be called before the store is asked, and at the end."""
        if not self._waiting:
            return
        numbers, self._waiting = self._waiting, []
        index_trials(self.records, self.store, self.run_id, numbers)
        index_prompts(self.store, self.records.prompts())
