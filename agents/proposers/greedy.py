"""EfficientLLM's saliency-driven design as a proposer: trial 0 of every search, and the baseline it has to beat."""

from typing import ClassVar

from agents.proposers.base import Proposed, Proposer, Situation
from tools.spaces import DesignDraft


class GreedyProposer(Proposer):
    """Cuts the least salient groups until the budget is met (arXiv 2502.06663, Fig. 2)."""

    name: ClassVar[str] = "saliency_greedy"

    async def ask(self, situation: Situation) -> Proposed:
        space = situation.space
        return Proposed(
            draft=DesignDraft.of(space.designer.greedy()),
            base=space.source,
            rationale=("cut the groups of least saliency per parameter until the budget is met",),
        )
