"""Random search: the control that every other searcher has to beat."""

import random
from collections.abc import Iterator
from typing import ClassVar

from agents.proposers.judge import Candidate, Judge, at_random
from agents.proposers.standing import Design, Draft, Standing


class RandomSearch(Judge):
    """Legal designs drawn at random."""

    name: ClassVar[str] = "random"

    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        return at_random(situation, rng)
