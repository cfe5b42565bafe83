"""Which design is measured again at a higher fidelity: asynchronous successive halving, ASHA. No I/O.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), Algorithm 2, `get_job`: from
the highest rung downwards, the best of a rung that is in its upper 1/eta and was not promoted yet goes up. Where there
is none, a new design begins on rung 0. Nothing waits for a rung to be full, so that it serves one design at a time as
well as many at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Promoted:
    """A trial that goes up to `rung`: below it had place `rank`, from 1, among `rivals`, itself included."""

    number: int
    rung: int
    rank: int
    rivals: int


def next_promotion(
    rungs: Sequence[Mapping[int, float | None]],
    promoted: Sequence[Collection[int]],
    reduction_factor: int,
    closed: Collection[int] = (),
) -> Promoted | None:
    """The trial that goes up next, None where a new design is to begin on rung 0.

    Args:
        rungs: for each rung, from the lowest, the scores of the trials that were measured on it by their numbers, the
            lower the better. None is one that failed or is over a limit: it counts, and is never promoted.
        promoted: for each rung the trials that went up from it already, whether or not they have a result there.
        reduction_factor: eta; one of so many goes up. Of equal scores the earlier trial is the better.
        closed: rungs that none goes up to now, for want of budget.
    """
    for rung in reversed(range(len(rungs) - 1)):
        if rung + 1 in closed:
            continue
        measured = rungs[rung]
        order = sorted((score, number) for number, score in measured.items() if score is not None)
        for place, (_, number) in enumerate(order[: len(measured) // reduction_factor], 1):
            if number not in promoted[rung]:
                return Promoted(number, rung + 1, place, len(measured))
    return None
