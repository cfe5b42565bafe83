"""The state that LangGraph checkpoints: ids and small plain values only. Everything else is in the records."""

from typing import Annotated, Literal, TypedDict

Stage = Literal["greedy", "self_evolution", "knowledge_distillation", "judge"]


def union(left: list[int], right: list[int]) -> list[int]:
    """Set union, so that a node that is run again adds nothing twice."""
    return sorted({*left, *right})


class SearchState(TypedDict, total=False):
    """Where a search stands.

    turn: number of the next turn; a turn asks for one design. parent: trial number of the current architecture.
    open: proposals to check. sent_back: proposals whose authors must answer again. waiting: trials to evaluate.
    running: trials that were given to workers. ended: of those, the ones whose result was taken up last, in that order.
    evaluated: all trials with a result. asks: whether a further design may be asked for while others run.
    barren: turns in a row without a usable design. relief: turns that the judge has still, where the agents had none.
    stop: why it ends, or empty. reached: the cap of the budget that ends it, or empty.
    """

    turn: int
    stage: Stage
    parent: int | None
    open: list[int]
    sent_back: list[int]
    waiting: list[int]
    running: list[int]
    ended: list[int]
    evaluated: Annotated[list[int], union]
    asks: bool
    barren: int
    relief: int
    stop: str
    reached: str
