"""A library in memory, of any search space: what is near is found by comparing with everything."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from memory.embeddings import embed_texts
from memory.filters import Filter
from memory.library import Past

Design = TypeVar("Design")


class ExactLibrary(Generic[Design]):
    """Designs of one search, with the lessons that led to them; `vector` gives the shape of a design.

    Of a filter it knows `succeeded` and `unlike`: all else is the same for the designs of one search.
    """

    def __init__(self, vector: Callable[[Design], npt.NDArray[np.floating]]) -> None:
        self._vector = vector
        self._designs: dict[str, Past] = {}
        self._lessons: list[tuple[str, str]] = []

    def add(self, past: Past, lessons: Sequence[str]) -> None:
        """Keep a design, and what its proposer wrote."""
        self._designs[past.id] = past
        self._lessons += [(f"{past.id}/{line}", text) for line, text in enumerate(lessons)]

    def near(self, design: Design, k: int, where: Filter) -> Sequence[tuple[str, float]]:
        """By Euclidean distance of the shapes; of equal ones the earlier first."""
        here = self._vector(design)
        admitted = [past for past in self._designs.values() if _admits(where, past)]
        found = [(past.id, float(np.linalg.norm(past.vector - here))) for past in admitted]
        return sorted(found, key=lambda entry: entry[1])[:k]

    def worded(self, text: str, k: int, where: Filter) -> Sequence[tuple[str, str, float]]:
        """By the cosine of the text embedding; of equal ones the earlier first."""
        if not self._lessons:
            return []
        vectors = embed_texts([text, *(words for _, words in self._lessons)])
        distances = 1 - vectors[1:] @ vectors[0]
        found = [(id, words, float(far)) for (id, words), far in zip(self._lessons, distances, strict=True)]
        return sorted(found, key=lambda entry: entry[2])[:k]

    def leading(self, k: int) -> Sequence[str]:
        """By score; of equal ones the earlier first."""
        scored = [(past.score, past.id) for past in self._designs.values() if past.score is not None]
        return [id for _, id in sorted(scored, key=lambda entry: entry[0])[:k]]

    def past(self, ids: Iterable[str]) -> dict[str, Past]:
        """As they were added."""
        return {id: self._designs[id] for id in ids if id in self._designs}


def _admits(where: Filter, past: Past) -> bool:
    return past.identity != where.unlike and where.succeeded in (None, past.score is not None)
