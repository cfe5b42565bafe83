"""Lower bounds of distances to many vectors, from a quarter of the coordinates that say the most.

In an orthonormal basis |x - y|^2 is that of some coordinates plus that of the rest, and the latter is at least the
squared difference of the rests' lengths. With the basis of the principal components few vectors have a bound below the
distances that are looked for, and only those are compared with: what is found is what comparing with all finds.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHARE = 4
_SAMPLED = 4096  # rows that the basis is made from
_OUTGROWN = 4  # times as many rows as it was made for


class LowerBounds:
    """Of rows [rows, dimensions] the main coordinates and the length of the rest, [rows, 1 + dimensions / 4]."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions, self._kept = dimensions, max(1, dimensions // _SHARE)
        self._made_for = 0
        self._basis = np.zeros((dimensions, self._kept), dtype=np.float32)
        self._sketches = np.zeros((0, self._kept + 1), dtype=np.float32)
        self._count = 0

    def sketches(self, vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Those of all of these vectors, which are the ones of before and what was appended since."""
        if len(vectors) > _OUTGROWN * self._made_for:
            sample = vectors[:: max(1, len(vectors) // _SAMPLED)].astype(np.float64)
            _, directions = np.linalg.eigh(sample.T @ sample)
            self._basis = np.ascontiguousarray(directions[:, : -self._kept - 1 : -1], dtype=np.float32)
            self._made_for, self._count = len(vectors), 0
        if len(vectors) > len(self._sketches):
            grown = np.zeros((len(vectors) + len(vectors) // 8, self._kept + 1), dtype=np.float32)
            grown[: self._count] = self._sketches[: self._count]
            self._sketches = grown
        for start in range(self._count, len(vectors), _SAMPLED):
            stop = min(start + _SAMPLED, len(vectors))
            self._sketches[start:stop] = self.sketch(vectors[start:stop])
        self._count = max(self._count, len(vectors))
        return self._sketches[: len(vectors)]

    def sketch(self, vectors: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Of vectors [..., dimensions]: |x|^2 + |y|^2 - 2 of the product of two sketches is a lower bound."""
        main = vectors @ self._basis
        rest = np.square(vectors).sum(axis=-1) - np.square(main).sum(axis=-1)
        return np.concatenate([main, np.sqrt(np.maximum(rest, 0))[..., None]], axis=-1)
