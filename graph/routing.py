"""All routing decisions: predicates on the state, no I/O."""

from typing import Literal

from langgraph.types import Send

from graph.state import EvaluationTask, SearchState


def after_check(state: SearchState) -> list[Send] | Literal["propose", "decide"]:
    """Back to the authors while repairs are open, else one branch for each trial, else on."""
    if state["sent_back"]:
        return "propose"
    return _branches(state) or "decide"


def after_decide(state: SearchState) -> list[Send] | Literal["propose", "finish"]:
    """To the end, to trials that the budget had no room for before, or to the next turn."""
    if state["stop"]:
        return "finish"
    return _branches(state) or "propose"


def _branches(state: SearchState) -> list[Send]:
    return [Send("evaluate", EvaluationTask(trial=number)) for number in state["waiting"]]
