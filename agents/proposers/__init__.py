"""Who can propose designs: one small contract that LLM agents and every other searcher implement."""

import difflib
from collections.abc import Callable

from agents.proposers.base import Proposed, Proposer, Rejection, Situation
from agents.proposers.forest import ForestSearch
from agents.proposers.greedy import GreedyProposer
from agents.proposers.judge import Judge
from agents.proposers.local_search import LocalSearch
from agents.proposers.random_search import RandomSearch
from agents.proposers.regularised_evolution import RegularisedEvolution
from agents.proposers.standing import Standing, Tried
from agents.proposers.tpe import TreeParzen

# A new judge is one file and one entry here; tests/agents/test_judges.py then asks for its contract.
JUDGES: dict[str, Callable[[], Judge]] = {
    judge.name: judge for judge in (RandomSearch, RegularisedEvolution, LocalSearch, TreeParzen, ForestSearch)
}


def known_judge(name: str) -> str:
    """The name of a judge as it is. Raises ValueError, with the names that there are, where it is none."""
    if name not in JUDGES:
        near = difflib.get_close_matches(name.lower(), JUDGES, n=2, cutoff=0.4)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"there is no judge {name!r}, only {', '.join(JUDGES)}{hint}")
    return name


__all__ = [
    "JUDGES",
    "ForestSearch",
    "GreedyProposer",
    "Judge",
    "LocalSearch",
    "Proposed",
    "Proposer",
    "RandomSearch",
    "RegularisedEvolution",
    "Rejection",
    "Situation",
    "Standing",
    "TreeParzen",
    "Tried",
    "known_judge",
]
