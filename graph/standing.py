"""What a search's losses can tell apart: trials are measured on the same validation blocks, so compared block by block.

The best of many trials is partly the luckiest one. A user who knows which others are not told apart from it may choose
among them by size or speed.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from memory.outcomes import compared
from memory.retrieval import best
from memory.views import TrialView


class Rival(BaseModel):
    """A trial that is not told apart from the best: its loss less the best's, nats per token, with standard error."""

    model_config = ConfigDict(frozen=True)

    trial: int
    difference: float
    error: float


def rivals_of_best(trials: Sequence[TrialView]) -> list[Rival]:
    """Those within two standard errors of the best, the nearest first; none where accuracy decides."""
    leaders = best(trials, 1)
    if not leaders or leaders[0].goal.objective != "loss":
        return []
    found = []
    for trial in trials:
        if not trial.acceptable or trial.identity == leaders[0].identity:
            continue
        difference = compared(trial, leaders[0])
        if difference is not None and difference.error is not None and difference.is_within_error:
            found.append(Rival(trial=trial.number, difference=difference.mean, error=difference.error))
    return sorted(found, key=lambda rival: (rival.difference, rival.trial))
