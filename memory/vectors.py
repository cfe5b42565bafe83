"""The vector store: past designs by their shape, lessons and prompts by their wording.

It holds nothing that the records do not hold, and can be made again from them (`memory.rebuild`).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memory.conditions import Where
from memory.embedding_server import EmbeddingError
from memory.embeddings import embed_architecture
from memory.indexed_trial import IndexedTrial
from memory.open_collections import CollectionName, Metadata
from memory.vector_collections import VectorCollections
from memory.vector_rows import Row
from tools.architecture import Architecture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DESIGNS: tuple[tuple[CollectionName, bool], ...] = (("architectures", True), ("failures", False))
_TEXT = "text"
_INCOMPLETE = "incomplete"


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
    """Designs, lessons and prompts, in a Chroma that `memory.rebuild.open_vectors` opens.

    All writes are upserts, so that repeating one is harmless. Conditions: see `memory.conditions`. Where texts cannot
    be embedded, `on_trouble` is told why, if it is there: nothing is written or found then, and the next opening puts
    in what is missing. Without it `EmbeddingError` is raised.
    """

    on_trouble: Callable[[str], None] | None = None

    def add_trials(self, trials: Sequence[IndexedTrial]) -> None:
        """Put finished trials in: their lessons, and then their designs, those that failed apart from the others."""
        # A design that is there has its lessons there, also after a kill in the middle.
        self.add_lessons(
            [
                (f"{trial.name}/{line}", text, {"run_id": trial.run_id, "source": trial.source, "corpus": trial.corpus})
                for trial in trials
                for line, text in enumerate(trial.rationale)
            ]
        )
        for name, succeeded in _DESIGNS:
            rows = {trial.name: trial for trial in trials if trial.succeeded == succeeded}
            if rows:
                self.upsert(
                    name,
                    list(rows),
                    np.stack([embed_architecture(trial.architecture, trial.reference) for trial in rows.values()]),
                    [_described(trial) for trial in rows.values()],
                )

    def add_lessons(self, lessons: Sequence[tuple[str, str, Metadata]]) -> None:
        """Put lessons in: id, text, metadata."""
        self._add_texts("lessons", lessons)

    def add_prompts(self, prompts: Sequence[tuple[str, str, Metadata]]) -> None:
        """Put prompts in: id, text, metadata. The id of a prompt is the hash of its text: what is there stays."""
        present = self.ids("prompts", [id for id, _, _ in prompts])
        self._add_texts("prompts", [prompt for prompt in prompts if prompt[0] not in present])

    def nearest(
        self, architecture: Architecture, reference: Architecture, k: int, where: Where | None = None
    ) -> list[Neighbour]:
        """The `k` designs nearest in shape, nearest first, that meet the conditions.

        With the condition `succeeded` only those that did, or only those that failed, which is as quick.
        """
        conditions = dict(where or {})
        wanted = conditions.pop("succeeded", None)
        vector = embed_architecture(architecture, reference)
        rows: list[Row] = []
        for name, succeeded in _DESIGNS:
            if wanted in (None, succeeded):
                rows += self.search(name, k, conditions, vector)
        rows.sort(key=lambda row: row.distance)
        return [Neighbour(row.id, max(0.0, row.distance) ** 0.5, row.metadata) for row in rows[:k]]

    def lessons(self, text: str, k: int, where: Where | None = None) -> list[Passage]:
        """The `k` lessons nearest in wording, nearest first, that meet the conditions."""
        return self._passages("lessons", text, k, where)

    def prompts(self, text: str, k: int, where: Where | None = None) -> list[Passage]:
        """The `k` prompts nearest in wording, nearest first, that meet the conditions."""
        return self._passages("prompts", text, k, where)

    def _add_texts(self, name: CollectionName, entries: Sequence[tuple[str, str, Metadata]]) -> None:
        rows = {id: (text, metadata) for id, text, metadata in entries}
        if not rows:
            return
        vectors = self._embedded([text for text, _ in rows.values()])
        if vectors is None:
            # No record has such a prompt: the next opening looks for all that is missing.
            self.upsert("prompts", [_INCOMPLETE], np.ones((1, self.embedding.dimensions)), [{_TEXT: ""}])
        else:
            self.upsert(name, list(rows), vectors, [{**metadata, _TEXT: text} for text, metadata in rows.values()])

    def _passages(self, name: CollectionName, text: str, k: int, where: Where | None) -> list[Passage]:
        vectors = self._embedded([text])
        found = [] if vectors is None else self.search(name, k, where, vectors[0])
        return [
            Passage(id, distance, {key: value for key, value in metadata.items() if key != _TEXT}, metadata[_TEXT])
            for id, distance, metadata in found
        ]

    def _embedded(self, texts: Sequence[str]) -> "NDArray[np.float32] | None":
        try:
            return self.embedding.embed(texts)
        except EmbeddingError as error:
            if self.on_trouble is None:
                raise
            self.on_trouble(str(error))
            return None


def _described(trial: IndexedTrial) -> dict[str, str | int | float | bool | None]:
    """What searches narrow designs by; all else that is told of them is in the records."""
    return {
        "run_id": trial.run_id,
        "source": trial.source,
        "corpus": trial.corpus,
        "fidelity": trial.fidelity,
        "parameters": trial.architecture.parameters,
        "architecture_hash": trial.architecture.hash,
    }
