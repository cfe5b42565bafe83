"""The Pareto front of vectors: which of them no other one beats."""

import math
from collections.abc import Sequence


def pareto_front(vectors: Sequence[Sequence[float]]) -> list[int]:
    """Indices, rising, of the vectors that no other one dominates; lower is better in every entry.

    a dominates b where a is lower in at least one entry and higher in none. Equal vectors do not dominate each other:
    either all of them are on the front or none.

    Raises ValueError where lengths differ or an entry is not a number.
    """
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("all vectors must be of one length")
    if any(math.isnan(entry) for vector in vectors for entry in vector):
        raise ValueError("not-a-number cannot be compared")
    return [index for index, vector in enumerate(vectors) if not any(_dominates(other, vector) for other in vectors)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)
