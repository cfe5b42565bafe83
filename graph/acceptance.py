"""When a child of self-evolution becomes the current architecture: the three rules of the setting `accept`."""

import math
import random
from collections.abc import Iterable
from typing import Protocol

from graph.config import SearchConfig
from memory.retrieval import Rankable


class Staged(Rankable, Protocol):
    """A trial of any space that knows the stage that it was proposed in."""

    @property
    def stage(self) -> str: ...


def accepted(config: SearchConfig, child: Staged, parent: Staged, trials: Iterable[Staged], seed: int) -> bool:
    """Whether `child` takes the place of `parent`.

    Except by `always`, a child over a limit of the run is never accepted, and one within the limits replaces a parent
    over them. By `annealed` a worse child is accepted by chance (Metropolis et al. 1953, Kirkpatrick et al. 1983).

    Args:
        trials: of the run, from which follows how far self-evolution has come.
        seed: of the child's turn, so that a resumed search decides as one that was never stopped.
    """
    if config.accept == "always":
        return True
    if child.score is None or not child.acceptable:
        return False
    if parent.score is None or not parent.acceptable or child.score <= parent.score:
        return True
    if config.accept == "not_worse":
        return False
    earlier = sum(trial.stage == "self_evolution" and trial.number < child.number for trial in trials)
    # A seed of its own: the turn's is what the checker varies designs by.
    draw = random.Random(f"accept {seed}").random()  # noqa: S311 - a search needs repeatable numbers, not secret ones
    return draw < acceptance(child.score - parent.score, temperature(config, earlier))


def temperature(config: SearchConfig, earlier: int) -> float:
    """Of a child with so many children of self-evolution before it: falls linearly, to 0 after the last turn."""
    turns, _ = config.stages
    return config.annealing_temperature * max(0.0, 1 - earlier / turns) if turns else 0.0


def acceptance(worse_by: float, temperature: float) -> float:
    """Probability to accept what is worse by so much, above 0, in the unit of the temperature."""
    return math.exp(-worse_by / temperature) if temperature > 0 else 0.0
