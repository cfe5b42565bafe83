"""A judge: a searcher without a language model, in any space. What the agents are compared with."""

import random
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic

from agents.proposers.base import Proposed, Proposer
from agents.proposers.standing import Design, Draft, Standing

_MOST_CANDIDATES = 200


@dataclass(frozen=True)
class Candidate(Generic[Design]):
    """A design that a judge would propose, why, and the numbers of the trials that it comes from."""

    design: Design
    reason: str
    based_on: tuple[int, ...] = ()


class Judge(Proposer):
    """Contract, tested for every judge by `tests/agents/proposer_contract.py`, beside that of every proposer:

    - It works in any space, from an empty history on, with trials of other proposers and failed ones in it.
    - All it proposes is legal, and nothing that was tried before while the space has anything else. Where its own
      candidates were all tried, a random design takes their place.
    """

    def prepare(self) -> None:
        """See that all is there that the searcher needs, before anything is paid for. Raises InputError."""

    async def ask(self, situation: Standing[Design, Draft]) -> Proposed[Design, Draft]:
        """The first of the candidates that was not tried yet."""
        rng = random.Random(situation.seed)  # noqa: S311 - a search needs repeatable numbers, not secret ones
        chosen = self._first_new(situation, rng)
        return Proposed(
            draft=situation.space.draft(chosen.design),
            base=chosen.design,
            rationale=(chosen.reason,),
            based_on=chosen.based_on,
        )

    @abstractmethod
    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        """Designs to propose, the preferred one first; at least one, and there may be no end of them."""

    def _first_new(self, situation: Standing[Design, Draft], rng: random.Random) -> Candidate[Design]:
        space = situation.space
        seen = {space.identity(tried.design) for tried in situation.history}
        own = islice(self.candidates(situation, rng), _MOST_CANDIDATES)
        first = next(own)
        for candidate in chain([first], own, _substitutes(situation, rng)):
            if space.identity(candidate.design) not in seen:
                return candidate
        return first


def at_random(situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
    """Random designs without end."""
    while True:
        yield Candidate(situation.space.sample(rng), "a design drawn at random")


def _substitutes(situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
    """Random designs, then, in a space that can be counted, every one there is."""
    yield from islice(at_random(situation, rng), _MOST_CANDIDATES)
    for design in situation.space.designs() or ():
        yield Candidate(design, "one of the last designs that were not tried")
