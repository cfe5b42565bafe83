"""A finished trial as the vector store takes it."""

from collections.abc import Sequence
from typing import NamedTuple

from tools.architecture import Architecture


class IndexedTrial(NamedTuple):
    """A design with what searches narrow by, the `reference` that it was cut from, and the lessons that led to it."""

    run_id: str
    number: int
    source: str
    corpus: str
    fidelity: str
    succeeded: bool
    architecture: Architecture
    reference: Architecture
    rationale: Sequence[str]

    @property
    def name(self) -> str:
        """The trial's name across runs, `RUN/NUMBER`; its id in the vector store. Lessons have `RUN/NUMBER/LINE`."""
        return f"{self.run_id}/{self.number}"
