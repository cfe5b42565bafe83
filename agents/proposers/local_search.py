"""Local search (White et al., arXiv 2005.02960): take the first neighbour that is better; start anew where none is."""

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

from agents.proposers.judge import Candidate, Judge, at_random
from agents.proposers.standing import Design, Draft, Standing, Tried
from tools.spaces import SearchSpace


class LocalSearch(Judge):
    """Tries the neighbours of the current design in random order.

    Which design is the current one follows from the history: each that is better takes its place, and after a design
    all of whose neighbours were tried the next one does, whatever it is worth.
    """

    name: ClassVar[str] = "local"

    def candidates(self, situation: Standing[Design, Draft], rng: random.Random) -> Iterator[Candidate[Design]]:
        space = situation.space
        current, untried = _walk(space, situation.history)
        if current is not None:
            rng.shuffle(untried)
            for design in untried:
                yield Candidate(design, f"a neighbour of trial {current.number}", (current.number,))
        yield from at_random(situation, rng)


def _walk(
    space: SearchSpace[Design, Draft], history: Sequence[Tried[Design]]
) -> tuple[Tried[Design] | None, list[Design]]:
    """The current design of the search after `history`, and those of its neighbours that were not tried."""
    current: Tried[Design] | None = None
    value = float("inf")
    seen: set[str] = set()
    untried: dict[str, Design] = {}
    for tried in history:
        identity = space.identity(tried.design)
        # A local optimum is left once all around it was tried.
        stuck = current is None or not untried
        seen.add(identity)
        untried.pop(identity, None)
        if tried.value is not None and (stuck or tried.value < value):
            current, value = tried, tried.value
            around = {space.identity(other): other for other in space.neighbours(tried.design)}
            untried = {name: other for name, other in around.items() if name not in seen}
    return current, list(untried.values())
