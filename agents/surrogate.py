"""The surrogate: what a design is likely to be worth, learnt from those that were measured, before it is paid for."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.proposers.standing import Design, Draft
from tools.architecture import Architecture
from tools.spaces import SearchSpace

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

Array = npt.NDArray[np.float64]

FEWEST_RECORDS = 4
"""With fewer measured designs nothing is learnt, and the saliency forecast alone ranks."""

# Shares of the values' variance and, for lengths, distances: two designs are at 1 to 3, as the features are scaled.
TRENDS = (0.1, 1.0, 10.0)
LENGTHS = (1.0, 2.0, 4.0)
NOISES = (1e-3, 1e-2, 1e-1)
_OFFSET = 0.1
_JITTER = 1e-10


class Hyperparameters(NamedTuple):
    """Of the process: shares of the values' variance, and a length."""

    trend: float
    length: float
    noise: float

    def kernel(self) -> Any:
        """As scikit-learn has it."""
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

        trend = ConstantKernel(self.trend / 2) * DotProduct(sigma_0=_OFFSET)
        return trend + ConstantKernel(0.5) * RBF(self.length) + WhiteKernel(self.noise)


@dataclass(frozen=True)
class Earlier:
    """A design of the real space that an earlier run measured: its score, and the key of that evaluation."""

    architecture: Architecture
    score: float
    key: str


@dataclass(frozen=True)
class Expectation:
    """What is known of a design before it is paid for; the lower all of it the better, but for the deviation.

    `forecast` is the summed saliency of what it cuts, where its space has one. `score` is what the surrogate expects to
    be measured, in the unit of its records, give or take `deviation`, one standard deviation; None where it knows
    too little.
    """

    forecast: float | None = None
    score: float | None = None
    deviation: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """What designs are ranked by before they are paid for, the lowest first: expected score, else forecast."""
        first = 0.0 if self.score is None else self.score
        return first, 0.0 if self.forecast is None else self.forecast


class Surrogate(Generic[Design, Draft]):
    """A Gaussian process over one space: a linear trend in every choice and in the forecast, and smooth deviations.

    The strengths of the two, the length and the noise are those of a small grid under which the records are most
    likely. There is no chance in it: equal records give equal expectations.

    Args:
        records: measured designs with their values, the lower the better. Those that the space cannot write as codes
            (they come from another step of widths) are left out.
        forecast: a figure of the same direction that needs no measurement, where the space has one.
    """

    def __init__(
        self,
        space: SearchSpace[Design, Draft],
        records: Iterable[tuple[Design, float]],
        forecast: Callable[[Design], float] | None = None,
    ) -> None:
        self._space, self._forecast = space, forecast
        rows, values = list[Array](), list[float]()
        for design, value in records:
            try:
                rows.append(self._row(design))
            except ValueError:
                continue
            values.append(value)
        self.records = len(values)
        self._process: GaussianProcessRegressor | None = None
        if self.records >= FEWEST_RECORDS:
            self._learn(np.stack(rows), np.array(values))

    @property
    def knows(self) -> bool:
        """Whether there were records enough to expect anything."""
        return self._process is not None

    def expect(self, design: Design) -> Expectation:
        """What is expected of one design."""
        return self.expect_all([design])[0]

    def expect_all(self, designs: Sequence[Design]) -> list[Expectation]:
        """What is expected of each of some designs of the space."""
        forecasts = [None if self._forecast is None else self._forecast(design) for design in designs]
        if self._process is None or not designs:
            return [Expectation(forecast) for forecast in forecasts]
        rows = np.stack([self._row(design) for design in designs])
        means, deviations = self._process.predict(self._scaled(rows), return_std=True)
        return [
            Expectation(forecast, float(self._mean + self._spread * mean), float(self._spread * deviation))
            for forecast, mean, deviation in zip(forecasts, means, deviations, strict=True)
        ]

    def _row(self, design: Design) -> Array:
        """The design's choices, and last its forecast."""
        forecast = [] if self._forecast is None else [self._forecast(design)]
        return np.concatenate([self._space.vector(design), forecast])

    def _learn(self, rows: Array, values: Array) -> None:
        self._centre, choices = rows.mean(axis=0), rows.shape[1] - (self._forecast is not None)
        squares = ((rows - self._centre) ** 2).mean(axis=0)
        # All choices together, and the forecast, each spread by 1: the one weighs as much as the other.
        spreads = np.full(rows.shape[1], np.sqrt(squares[:choices].sum()))
        spreads[choices:] = np.sqrt(squares[choices:])
        self._scale = np.where(spreads > 0, spreads, 1.0)
        self._mean, self._spread = float(values.mean()), float(values.std())
        scaled = self._scaled(rows)
        targets = (values - self._mean) / (self._spread or 1.0)
        self._process = _fitted(most_likely(scaled, targets), scaled, targets)

    def _scaled(self, rows: Array) -> Array:
        scaled: Array = (rows - self._centre) / self._scale
        return scaled


def most_likely(rows: Array, targets: Array) -> Hyperparameters:
    """The point of the grid under which the targets are most likely; of equal ones the first.

    Hyperparameters that are searched for by gradients would hang on the last bits of the machine. What all points share
    is computed once, where scikit-learn would compute it for each.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve  # type: ignore[import-untyped]
    from scipy.spatial.distance import pdist, squareform  # type: ignore[import-untyped]

    products, squares = _OFFSET**2 + rows @ rows.T, squareform(pdist(rows, "sqeuclidean"))

    def likelihood(point: Hyperparameters) -> float:
        covariance = point.trend / 2 * products + 0.5 * np.exp(-squares / (2 * point.length**2))
        covariance[np.diag_indices_from(covariance)] += point.noise + _JITTER
        try:
            factor = cho_factor(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return -np.inf
        fit = float(targets @ cho_solve(factor, targets, check_finite=False))
        return -0.5 * fit - float(np.log(np.diag(factor[0])).sum())

    return max(itertools.starmap(Hyperparameters, itertools.product(TRENDS, LENGTHS, NOISES)), key=likelihood)


def _fitted(point: Hyperparameters, rows: Array, targets: Array) -> "GaussianProcessRegressor":
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(point.kernel(), alpha=_JITTER, optimizer=None).fit(rows, targets)
