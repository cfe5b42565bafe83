"""All routing decisions: predicates on the state, no I/O."""

from typing import Literal

from langgraph.types import Send

from graph.state import EvaluationTask, SearchState


def after_check(state: SearchState) -> Literal["propose", "approve", "decide"]:
    """Back to the authors while repairs are open, else on with the trials, if any."""
    if state["sent_back"]:
        return "propose"
    return "approve" if state["waiting"] else "decide"


def after_approve(state: SearchState) -> list[Send] | Literal["propose", "decide"]:
    """Back to the authors of what the user rejected, else one branch for each trial, else on."""
    if state["sent_back"]:
        return "propose"
    return [Send("evaluate", EvaluationTask(trial=number)) for number in state["waiting"]] or "decide"


def after_decide(state: SearchState) -> Literal["propose", "approve", "finish"]:
    """To the end, to trials that the budget had no room for before, or to the next turn."""
    if state["stop"]:
        return "finish"
    return "approve" if state["waiting"] else "propose"
