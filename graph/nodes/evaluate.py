"""evaluate: trials are given to workers, and what came of those whose evaluation ended is taken up."""

from collections.abc import Iterable

from langgraph.runtime import Runtime

from graph.context import SearchContext
from graph.evaluation import evaluation_of, take_up
from graph.room import can_begin
from graph.rungs import rungs_due, rungs_known
from graph.state import SearchState


async def evaluate(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Start what waits; go on at once where a further design may be asked for meanwhile, else when one has ended.

    A trial is given its result here. Where the budget has no room for it, it waits on, and `decide` says what comes of
    that.
    """
    context = runtime.context
    numbers = sorted({*state.get("running", []), *state["waiting"]})
    start(context, numbers)
    ended: list[int] = []
    waiting: list[int] = []
    for number in await _ended(context, state, numbers):
        paid = context.under_way.take(number)
        if paid is None:
            waiting.append(number)
        else:
            ended.append(take_up(context, paid).number)
    running = [number for number in numbers if number not in {*ended, *waiting}]
    return {"waiting": waiting, "running": running, "ended": ended, "evaluated": ended}


def start(context: SearchContext, numbers: Iterable[int]) -> None:
    """Give to a worker each of these trials that none has: they are new, or a killed process had them."""
    for number in numbers:
        if number not in context.under_way:
            context.under_way.start(number, evaluation_of(context, number))


async def _ended(context: SearchContext, state: SearchState, numbers: list[int]) -> list[int]:
    """The trials that are taken up now, in the order in which they count."""
    under_way, turn = context.under_way, state["turn"]
    # With one at a time there is no order that could be another one.
    cassette = context.cassette if context.config.parallel > 1 else None
    rungs = {} if cassette is None else rungs_due(context, numbers)
    taped = [] if cassette is None else cassette.ended(turn, rungs_known(context, state.get("evaluated", []), rungs))
    if again := [number for number in taped if number in numbers]:
        await under_way.wait(again, len(again))
        return again
    # What nothing was added to has nothing to be begun beside it: `decide` has just said so.
    asks = bool(state["waiting"]) and can_begin(context, state, numbers)
    if asks and cassette is not None and not cassette.recording:
        # Others had not ended yet as it was recorded.
        return []
    await under_way.wait(numbers, 0 if asks else min(1, len(numbers)))
    found = under_way.ended(numbers)
    if found and cassette is not None:
        cassette.have_ended(turn, [(number, rungs[number]) for number in found])
    return found
