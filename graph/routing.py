"""All routing decisions: predicates on the state, no I/O."""

from typing import Literal

from langgraph.types import Send

from graph.state import EvaluationTask, SearchState


def after_check(state: SearchState) -> list[Send] | Literal["propose", "decide"]:
    """Back to the authors while repairs are open, else one branch for each trial, else on."""
    if state["sent_back"]:
        return "propose"
    if state["waiting"]:
        return [Send("evaluate", EvaluationTask(trial=number)) for number in state["waiting"]]
    return "decide"


def after_decide(state: SearchState) -> Literal["propose", "finish"]:
    """To the next turn, or to the end."""
    return "finish" if state["stop"] else "propose"
