"""All routing decisions: predicates on the state, no I/O.

They are coroutines since LangGraph hands plain functions to another thread.
"""

from typing import Literal

from graph.state import SearchState


async def after_check(state: SearchState) -> Literal["propose", "approve", "decide"]:
    """Back to the authors while repairs are open, else on with the trials, if any."""
    if state["sent_back"]:
        return "propose"
    return "approve" if state["waiting"] else "decide"


async def after_approve(state: SearchState) -> Literal["propose", "evaluate", "decide"]:
    """Back to the authors of what the user rejected, else on with the trials, if any are left."""
    if state["sent_back"]:
        return "propose"
    return "evaluate" if state["waiting"] else "decide"


async def after_decide(state: SearchState) -> Literal["propose", "approve", "evaluate", "finish"]:
    """To the end; to trials that the budget had no room for before; to the next turn; or to those under way."""
    if state["stop"]:
        return "evaluate" if state.get("running") else "finish"
    if state["waiting"]:
        return "approve"
    return "propose" if state["asks"] else "evaluate"
