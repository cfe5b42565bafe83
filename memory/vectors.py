"""The vector store: past designs by their shape, lessons and prompts by their wording.

It holds nothing that the records do not hold, and can be made again from them (`memory.rebuild`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memory.embeddings import embed_architecture
from memory.vector_collections import CollectionName, Metadata, VectorCollections
from memory.views import TrialView
from tools.architecture import Architecture


class Neighbour(NamedTuple):
    """A past design near to another: `distance` is Euclidean, in widths relative to the source's."""

    id: str
    distance: float
    metadata: dict[str, Any]


class Passage(NamedTuple):
    """A lesson or prompt near to a text: `distance` is 1 - cosine."""

    id: str
    distance: float
    metadata: dict[str, Any]
    text: str


class VectorStore(VectorCollections):
    """Designs, lessons and prompts, in a Chroma folder that this process alone owns (`memory.rebuild.open_vectors`).

    All writes are upserts, so that repeating one is harmless.
    """

    def add_trials(self, trials: Sequence[tuple[str, TrialView, Architecture, Metadata]]) -> None:
        """Put evaluated designs in: id `RUN/NUMBER`, trial, the source's architecture, metadata beside the usual."""
        rows = {id: (trial, reference, metadata) for id, trial, reference, metadata in trials}
        self.upsert(
            "architectures",
            list(rows),
            [_clean({**describe_trial(trial), **metadata}) for trial, _, metadata in rows.values()],
            [trial.architecture.describe() for trial, _, _ in rows.values()],
            [embed_architecture(trial.architecture, reference) for trial, reference, _ in rows.values()],
        )

    def add_lessons(self, lessons: Sequence[tuple[str, str, Metadata]]) -> None:
        """Put lessons in: id, text, metadata."""
        self._add_texts("lessons", lessons)

    def add_prompts(self, prompts: Sequence[tuple[str, str, Metadata]]) -> None:
        """Put prompts in: id, text, metadata."""
        self._add_texts("prompts", prompts)

    def nearest(
        self, architecture: Architecture, reference: Architecture, k: int, where: Mapping[str, Any] | None = None
    ) -> list[Neighbour]:
        """The `k` designs nearest in shape, nearest first; `where` filters by metadata, all of its keys at once."""
        vector = embed_architecture(architecture, reference)
        return [
            Neighbour(id, max(0.0, distance) ** 0.5, metadata)
            for id, distance, metadata, _ in self.search("architectures", k, where, query_embeddings=[vector])
        ]

    def lessons(self, text: str, k: int, where: Mapping[str, Any] | None = None) -> list[Passage]:
        """The `k` lessons nearest in wording, nearest first."""
        return [Passage(*row) for row in self.search("lessons", k, where, query_texts=[text])]

    def prompts(self, text: str, k: int, where: Mapping[str, Any] | None = None) -> list[Passage]:
        """The `k` prompts nearest in wording, nearest first."""
        return [Passage(*row) for row in self.search("prompts", k, where, query_texts=[text])]

    def _add_texts(self, name: CollectionName, entries: Sequence[tuple[str, str, Metadata]]) -> None:
        rows = {id: (text, metadata) for id, text, metadata in entries}
        texts = [text for text, _ in rows.values()]
        self.upsert(name, list(rows), [_clean(metadata) for _, metadata in rows.values()], texts)


def describe_trial(trial: TrialView) -> dict[str, str | int | float | bool | None]:
    """What is kept beside the vector of a design, to filter by and to tell."""
    measured = trial.measurement
    return {
        "run_id": trial.run_id,
        "number": trial.number,
        "stage": trial.stage,
        "proposer": trial.proposer,
        "architecture_hash": trial.architecture.hash,
        "design": trial.architecture.describe(),
        "parameters": trial.architecture.parameters,
        "succeeded": trial.succeeded,
        "loss": trial.loss,
        "fidelity": measured.fidelity if measured else None,
        "failure": measured.failure.kind if measured and measured.failure else None,
    }


def _clean(metadata: Metadata) -> dict[str, str | int | float | bool] | None:
    """Without missing values, which Chroma has no place for, nor has it for no metadata at all but None."""
    return {key: value for key, value in metadata.items() if value is not None} or None
