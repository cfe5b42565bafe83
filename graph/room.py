"""Whether a further design may be asked for while others are still being evaluated."""

from graph.context import SearchContext
from graph.state import SearchState


def has_room(context: SearchContext, state: SearchState, running: int) -> bool:
    """Whether `running` evaluations leave one of the `parallel` places free, and one of the `trials`.

    All other designs are made after trial 0, which has to have ended; and none once the search is about to.
    """
    config = context.config
    if state["stop"] or state["stage"] == "greedy" or running >= config.parallel:
        return False
    return len(context.finished_trials()) + running < config.trials
