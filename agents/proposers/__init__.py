"""Who can propose designs: one small contract that LLM agents and every other searcher implement."""

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
]
