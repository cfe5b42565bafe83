"""Whether there is something to begin while other evaluations are under way: a promotion, or a further design."""

from collections.abc import Collection

from graph.context import SearchContext
from graph.rungs import climber
from graph.state import SearchState


def has_room(context: SearchContext, state: SearchState, running: Collection[int]) -> bool:
    """Whether the `running` trials leave one of the `parallel` places free, and there is a design to be asked for.

    All other designs are made after trial 0, which has to have ended; and none once the search is about to.
    """
    return _has_place(context, state, running) and designs_made(context, running) < context.config.trials


def can_begin(context: SearchContext, state: SearchState, running: Collection[int]) -> bool:
    """Whether there is a place, and a trial to promote or a design to be asked for."""
    if not _has_place(context, state, running):
        return False
    return designs_made(context, running) < context.config.trials or climber(context, running) is not None


def designs_made(context: SearchContext, running: Collection[int]) -> int:
    """The designs that have a result or will have one; one that was promoted is none besides."""
    done = context.finished_trials().by_number
    return len(done) + sum(number not in done for number in set(running))


def _has_place(context: SearchContext, state: SearchState, running: Collection[int]) -> bool:
    return not state["stop"] and state["stage"] != "greedy" and len(running) < context.config.parallel
