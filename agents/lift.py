"""The lift of the LLM: how much better its searches end than those of a judge, and whether that is more than chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean

import numpy as np

from tools.errors import InputError

Values = Sequence[float | None]
"""What each trial of one search is worth, in their order: the lower the better; None where it failed."""

# With fewer, even a difference that is positive with every seed happens by chance more often than once in twenty times.
LEAST_SEEDS = 6
_LEVEL = 0.95
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Lift:
    """Agents against one judge at equal trials, paired by seed.

    `difference` is the mean over seeds of the judge's best value minus the agents' best, so positive where the agents
    are better; `low` and `high` bound it with 95 % confidence. `left_out` are seeds of which one side alone has a
    search, or a search without any value.
    """

    judge: str
    trials: int
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    agents_best: float
    judge_best: float
    difference: float
    low: float
    high: float

    @property
    def conclusive(self) -> bool:
        """Whether there are seeds enough for the confidence that is claimed."""
        return len(self.seeds) >= LEAST_SEEDS

    @property
    def positive(self) -> bool:
        """Whether the agents are better by more than chance."""
        return self.conclusive and self.low > 0

    @property
    def negative(self) -> bool:
        """Whether the agents are worse by more than chance."""
        return self.conclusive and self.high < 0

    def sentence(self, of: str = "loss", rising: bool = False) -> str:
        """The verdict for people; `of` names the value, `rising` where it was compared with its sign turned."""
        better, worse = ("above", "below") if rising else ("below", "above")
        scale = f"{len(self.seeds)} {'seed' if len(self.seeds) == 1 else 'seeds'}, {self.trials} trials each"
        interval = f"95 % confidence {self.low:+.4f} to {self.high:+.4f}"
        if self.left_out:
            scale += f", {len(self.left_out)} left out"
        if self.positive:
            return (
                f"The LLM helped: its best {of} is {self.difference:.4f} {better} {self.judge}'s ({interval}; {scale})."
            )
        if self.negative:
            return (
                f"The LLM did not help: its best {of} is {-self.difference:.4f} {worse} {self.judge}'s "
                f"({interval}; {scale})."
            )
        side = better if self.difference >= 0 else worse
        told = f"its best {of} is {abs(self.difference):.4f} {side} {self.judge}'s"
        if not self.conclusive:
            return (
                f"No lift of the LLM is shown: {told}, but fewer than {LEAST_SEEDS} seeds are too few to tell it from "
                f"chance ({scale})."
            )
        return f"No lift of the LLM is shown: {told}, which chance alone may do ({interval}; {scale})."


def lift(agents: Mapping[int, Values], judge: Mapping[int, Values], judge_name: str, trials: int | None = None) -> Lift:
    """Compare the searches of both sides, by seed, after `trials` trials: by default as many as all of them have.

    The interval is a percentile bootstrap over the differences of the seeds, its percentiles widened for few of them
    (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 5.3). Raises InputError where no seed can
    be compared, or where a search has fewer trials than asked for.
    """
    shared = sorted(agents.keys() & judge.keys())
    lengths = [len(side[seed]) for seed in shared for side in (agents, judge)]
    if not shared or min(lengths) == 0:
        raise InputError(
            f"No search of the agents has a partner of {judge_name} with the same seed: run both with one."
        )
    count = min(lengths) if trials is None else trials
    if not 1 <= count <= min(lengths):
        raise InputError(
            f"The searches cannot be compared after {count} trials: the shortest has {min(lengths)}; ask for fewer."
        )
    pairs = {seed: (_best(agents[seed][:count]), _best(judge[seed][:count])) for seed in shared}
    found = {seed: (ours, theirs) for seed, (ours, theirs) in pairs.items() if ours is not None and theirs is not None}
    if not found:
        raise InputError(f"No pair of searches of the agents and {judge_name} has a value: nothing can be compared.")
    differences = [theirs - ours for ours, theirs in found.values()]
    low, high = _interval(differences)
    return Lift(
        judge=judge_name,
        trials=count,
        seeds=tuple(found),
        left_out=tuple(sorted((agents.keys() | judge.keys()) - found.keys())),
        agents_best=mean(ours for ours, _ in found.values()),
        judge_best=mean(theirs for _, theirs in found.values()),
        difference=mean(differences),
        low=low,
        high=high,
    )


def _best(values: Values) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    """Bounds of the mean; the value itself where there is one."""
    from scipy import stats  # type: ignore[import-untyped]

    count = len(differences)
    if count == 1:
        return differences[0], differences[0]
    draws = np.random.default_rng(0).integers(0, count, size=(_RESAMPLES, count))
    means = np.array(differences)[draws].mean(axis=1)
    widened = math.sqrt(count / (count - 1)) * float(stats.t.ppf((1 + _LEVEL) / 2, count - 1))
    tail = NormalDist().cdf(-widened)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
