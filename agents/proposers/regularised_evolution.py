"""Regularised evolution (Real et al., arXiv 1802.01548, algorithm 1): the youngest compete, the oldest die."""

import itertools
import random
from collections.abc import Iterator
from typing import ClassVar

from agents.proposers.judge import Candidate, Judge, at_random
from agents.proposers.standing import Design, Draft, Standing, measured

# Where so many mutations of the parent were all tried before, mutations of mutations follow.
_MOST_MUTATIONS = 50


class RegularisedEvolution(Judge):
    """Mutates the best of a sample of the population, which is the last `population` measured designs.

    The queue of the algorithm, where each child replaces the oldest member, holds just these; so nothing needs to be
    kept between turns. Until it is full, designs are drawn at random.
    """

    name: ClassVar[str] = "evolution"

    def __init__(self, population: int = 10, sample: int = 5) -> None:
        self._population, self._sample = population, sample

    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        population = measured(situation.history)[-self._population :]
        if len(population) < self._population:
            yield from at_random(situation, rng)
            return
        # With replacement, as in the algorithm; of equal values the younger wins.
        drawn = [rng.randrange(len(population)) for _ in range(self._sample)]
        parent = min((population[place] for place in drawn), key=lambda one: (one[0], -one[1].number))[1]
        mutant = parent.design
        for count in itertools.count():
            mutant = situation.space.mutate(parent.design if count < _MOST_MUTATIONS else mutant, rng)
            yield Candidate(mutant, f"a mutation of trial {parent.number}", (parent.number,))
