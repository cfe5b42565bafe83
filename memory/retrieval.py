"""Choosing among the trials of a search: the best, those nearest to a limit, samples."""

import random
from collections.abc import Iterable
from typing import Protocol, TypeVar

from tools.costs import Excess


class Rankable(Protocol):
    """What decides between trials of one run, in any space; see `TrialView`, which is the real one's."""

    @property
    def number(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def score(self) -> float | None: ...
    @property
    def succeeded(self) -> bool: ...
    @property
    def acceptable(self) -> bool: ...
    @property
    def over_limit(self) -> Excess | None: ...
    @property
    def rung(self) -> int: ...


RankableT = TypeVar("RankableT", bound=Rankable)


def best(trials: Iterable[RankableT], k: int) -> list[RankableT]:
    """The `k` trials of lowest loss, lowest first, among those that succeeded within the limits of their run.

    Where the run is after accuracy, those of highest accuracy. Where it measures at several fidelities, those of the
    highest rung come first, for scores of different rungs do not compare; they went up because they were good. Equal
    ones are in order of number.
    """
    return sorted((trial for trial in trials if trial.acceptable), key=rank)[:k]


def nearest_to_limit(trials: Iterable[RankableT], k: int) -> list[RankableT]:
    """The `k` trials that are over their run's limit by the least, the nearest first."""
    over = [(trial.over_limit.by, trial.number, trial) for trial in trials if trial.succeeded and trial.over_limit]
    return [trial for _, _, trial in sorted(over, key=lambda entry: entry[:2])[:k]]


def sample_best(trials: Iterable[RankableT], k: int, size: int, seed: int) -> list[RankableT]:
    """`size` designs drawn at random from the `k` best, lowest loss first (SEKI, arXiv 2502.20422: xi of the top k).

    The draw depends on the seed alone. A design that several trials had counts once: repetition is no pattern.
    While none is within the limits of the run, the draw is from those nearest to them.
    """
    distinct: dict[str, RankableT] = {}
    seen = list(trials)
    for trial in best(seen, k=10**9) or nearest_to_limit(seen, k=10**9):
        distinct.setdefault(trial.identity, trial)
    top = list(distinct.values())[:k]
    drawn = random.Random(seed).sample(range(len(top)), min(size, len(top)))  # noqa: S311
    return [top[place] for place in sorted(drawn)]


def rank(trial: Rankable) -> tuple[int, float, int]:
    """By which the best trials come first."""
    return (-trial.rung, float("inf") if trial.score is None else trial.score, trial.number)
