"""Lower bounds of distances to many vectors, from a quarter of the coordinates that say the most.

In an orthonormal basis |x - y|^2 is that of some coordinates plus that of the rest, and the latter is at least the
squared difference of the rests' lengths. With the basis of the principal components few vectors have a bound below the
distances that are looked for, and only those are compared with: what is found is what comparing with all finds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Read = Callable[[int, int], "NDArray[np.float32]"]
_SHARE = 4
# The basis is made from so many pieces of so many rows.
_SAMPLES, _SAMPLE = 32, 128
_AT_A_TIME = 1024
_ERROR = 4e-6
_OUTGROWN = 4  # times as many rows as it was made for


class LowerBounds:
    """Of rows [rows, dimensions] the main coordinates and the length of the rest, [rows, 1 + dimensions / 4]."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions, self._kept = dimensions, max(1, dimensions // _SHARE)
        self._made_for = 0
        self._basis = np.zeros((dimensions, self._kept), dtype=np.float32)
        self._sketches = np.zeros((0, self._kept + 1), dtype=np.float32)
        self._count = 0

    def sketches(self, squares: "NDArray[np.float64]", read: Read) -> "NDArray[np.float32]":
        """Those of all vectors there are, which are the ones of before and what was appended since.

        `squares` are their squared lengths, and `read` gives the vectors from one place up to another.
        """
        count = len(squares)
        if count > _OUTGROWN * self._made_for:
            self._basis = self._principal(count, read)
            self._made_for, self._count = count, 0
            # Another thread may be reading those of before.
            self._sketches = self._sketches[:0]
        if count > len(self._sketches):
            grown = np.zeros((count + count // 8, self._kept + 1), dtype=np.float32)
            grown[: self._count] = self._sketches[: self._count]
            self._sketches = grown
        for start in range(self._count, count, _AT_A_TIME):
            stop = min(start + _AT_A_TIME, count)
            self._sketches[start:stop] = self.sketch(read(start, stop), squares[start:stop])
        self._count = max(self._count, count)
        return self._sketches[:count]

    def _principal(self, count: int, read: Read) -> "NDArray[np.float32]":
        """The main directions of some of the vectors."""
        places = range(0, count, max(_SAMPLE, count // _SAMPLES))
        sample = np.concatenate([read(start, min(start + _SAMPLE, count)) for start in places]).astype(np.float64)
        _, directions = np.linalg.eigh(sample.T @ sample)
        return np.ascontiguousarray(directions[:, : -self._kept - 1 : -1], dtype=np.float32)

    def sketch(self, vectors: "NDArray[np.float32]", squares: "NDArray[np.float64]") -> "NDArray[np.float32]":
        """Of vectors [..., dimensions]: |x|^2 + |y|^2 - 2 of the product of two sketches is a lower bound."""
        found = np.empty((*vectors.shape[:-1], self._kept + 1), dtype=np.float32)
        main = vectors @ self._basis
        found[..., :-1] = main
        # Rather too long than too short, whatever single precision makes of it.
        found[..., -1] = np.sqrt(np.maximum(squares - np.vecdot(main, main), 0) + _ERROR * squares)
        return found
