"""Bayesian optimisation with a random forest, as in SMAC (Hutter et al. 2011): most expected improvement of a pool."""

import math
import random
from collections.abc import Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from agents.proposers.judge import Candidate, Judge, at_random
from agents.proposers.standing import Design, Draft, Standing, measured

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

Array = npt.NDArray[np.float64]


class ForestSearch(Judge):
    """Learns value from vector with a forest; proposes what its trees, in mean and disagreement, expect most of.

    Values are taken by their ranks, as scores of a normal distribution: designs that failed badly, and are far from all
    others, would else decide where the trees split. The pool holds `pool` random designs and the neighbours of the
    `leaders` best. The first `initial` measured designs are drawn at random.
    """

    name: ClassVar[str] = "forest"

    def __init__(self, initial: int = 5, trees: int = 30, pool: int = 300, leaders: int = 5) -> None:
        self._initial, self._trees, self._pool, self._leaders = initial, trees, pool, leaders

    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        known = measured(situation.history)
        if len(known) < self._initial:
            yield from at_random(situation, rng)
            return
        space = situation.space
        values = normal_scores(np.array([value for value, _ in known]))
        forest = self._fitted(np.stack([space.vector(tried.design) for _, tried in known]), values, rng)
        leaders = sorted(known, key=lambda one: (one[0], one[1].number))[: self._leaders]
        pool = [space.sample(rng) for _ in range(self._pool)]
        for _, tried in leaders:
            pool += space.neighbours(tried.design)
        # Designs of which the forest expects the same are in random order.
        rng.shuffle(pool)
        vectors = np.stack([space.vector(design) for design in pool]).astype(np.float32)
        # The trees' own type, unchecked: checks would take longer than the trees.
        predictions = np.stack([tree.predict(vectors, check_input=False) for tree in forest.estimators_])
        expected = expected_improvement(predictions.mean(axis=0), predictions.std(axis=0), float(values.min()))
        for place in np.argsort(-expected, kind="stable"):
            yield Candidate(pool[place], "most expected improvement by a random forest")

    def _fitted(self, vectors: Array, values: Array, rng: random.Random) -> "RandomForestRegressor":
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            n_estimators=self._trees, max_features=5 / 6, min_samples_split=3, random_state=rng.randrange(2**32)
        )
        forest.fit(vectors, values)
        return forest


def normal_scores(values: Array) -> Array:
    """For each value the quantile of the standard normal distribution at its rank; equal values share one."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(values)
    normal = NormalDist()
    return np.array([normal.inv_cdf(share) for share in shares])[places]


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Mean of max(0, best - value) where value is normal; lower values are better (Jones et al. 1998, eq. 15)."""
    gain = best - mean
    certain = deviation < 1e-12
    scaled = gain / np.where(certain, 1.0, deviation)
    below = 0.5 * (1 + np.vectorize(math.erf)(scaled / math.sqrt(2)))
    density = np.exp(-0.5 * scaled**2) / math.sqrt(2 * math.pi)
    return np.where(certain, np.maximum(gain, 0.0), gain * below + deviation * density)
