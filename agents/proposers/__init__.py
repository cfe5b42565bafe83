"""Who can propose designs: one small contract that LLM agents and every other searcher implement."""

from agents.proposers.base import Proposed, Proposer, Rejection, Situation
from agents.proposers.greedy import GreedyProposer

__all__ = ["GreedyProposer", "Proposed", "Proposer", "Rejection", "Situation"]
