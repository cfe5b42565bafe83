"""How sure a difference of two losses is that were measured on the same blocks, and whether one block makes it.

Blocks differ much more among each other than two models do on one of them, so each is compared with itself. One block
can make a whole difference: where a pruned model no longer finds its attention sink at the first token of a text
(Sun et al., "Massive Activations in Large Language Models", arXiv 2402.17762), it fails on that text alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ERRORS = 2.0
"""Differences below so many standard errors are not told apart from none: 1 in 20 of equal models differs by more."""
_FEWEST_BLOCKS, _FAR = 16, 8.0


@dataclass(frozen=True)
class PairedDifference:
    """One model's loss less another's on the same blocks, in nats per token.

    `mean`: over all blocks. `error`: standard error of that mean, None for one block. `outlier`: number of the block
    that is far from all others, None where there is none; `mean_without`: the mean without it.
    """

    mean: float
    error: float | None
    outlier: int | None
    mean_without: float | None

    @property
    def is_within_error(self) -> bool:
        """Whether equal models would often differ by as much; False where there is no error to compare with."""
        return self.error is not None and abs(self.mean) < ERRORS * self.error


def paired_difference(losses: Sequence[float], others: Sequence[float]) -> PairedDifference | None:
    """`losses` less `others`, block by block; None where they are not finite, or not of the same blocks.

    An outlier is 8 standard deviations of all other blocks away from their mean, and is looked for among 16 or more.
    """
    if not losses or len(losses) != len(others):
        return None
    differences = np.asarray(losses, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    if not np.isfinite(differences).all():
        return None
    count = len(differences)
    farthest = int(np.abs(differences - np.median(differences)).argmax())
    mean = float(differences.mean())
    if count == 1:
        return PairedDifference(mean, None, None, None)
    rest = np.delete(differences, farthest)
    away = abs(float(differences[farthest] - rest.mean()))
    is_far = count >= _FEWEST_BLOCKS and away > _FAR * float(rest.std(ddof=1))
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    return PairedDifference(mean, error, farthest if is_far else None, float(rest.mean()) if is_far else None)
