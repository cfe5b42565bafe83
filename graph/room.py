"""Whether there is something to begin while other evaluations are under way: a promotion, or a further design."""

from collections.abc import Collection

from graph.context import SearchContext
from graph.rungs import climber
from graph.state import SearchState
from memory.trial_sequence import TrialSequence


def has_room(context: SearchContext, state: SearchState, running: Collection[int], made: int) -> bool:
    """Whether the `running` trials leave one of the `parallel` places free, and there is a design to be asked for.

    So many are `made`. All but trial 0 are made after it has ended, and none once the search is about to end.
    """
    return _has_place(context, state, running) and made < context.config.trials


def can_begin(context: SearchContext, state: SearchState, running: Collection[int]) -> bool:
    """Whether there is a place, and a trial to promote or a design to be asked for."""
    if not _has_place(context, state, running):
        return False
    made = designs_made(context.finished_trials(), running)
    return made < context.config.trials or climber(context, running) is not None


def designs_made(finished: TrialSequence, running: Collection[int]) -> int:
    """The designs that have a result or will have one; one that was promoted is none besides."""
    done = finished.by_number
    return len(done) + sum(number not in done for number in set(running))


def _has_place(context: SearchContext, state: SearchState, running: Collection[int]) -> bool:
    return not state["stop"] and state["stage"] != "greedy" and len(running) < context.config.parallel
