"""Choosing good entries that are unlike each other."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WEIGHT_OF_RELEVANCE = 0.5
"""Lambda of maximal marginal relevance: 1 takes the most relevant ones, 0 those that are least alike."""


def diverse(
    relevance: Sequence[float], vectors: npt.ArrayLike, k: int, weight: float = WEIGHT_OF_RELEVANCE
) -> list[int]:
    """Places of `k` entries by maximal marginal relevance (Carbonell and Goldstein 1998), in the order of choice.

    Each next one has the highest `weight * relevance - (1 - weight) * likeness` to the most alike one before it.
    Relevances are brought to 0 to 1 over all entries, and likeness is 1 minus the Euclidean distance as a share of the
    largest one. The first is the most relevant one; of equals the earlier.

    Args:
        relevance: the higher the better.
        vectors: a row for each entry [entries, dimensions].
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if not len(relevance) or k < 1:
        return []
    worth = _to_unit(np.asarray(relevance, dtype=np.float64))
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    likeness = 1 - distances / (distances.max() or 1.0)
    chosen = [int(np.argmax(worth))]
    while len(chosen) < min(k, len(worth)):
        gains = weight * worth - (1 - weight) * likeness[:, chosen].max(axis=1)
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
    return chosen


def _to_unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spread = values.max() - values.min()
    unit: npt.NDArray[np.float64] = (values - values.min()) / spread if spread else np.ones_like(values)
    return unit
