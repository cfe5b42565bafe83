"""remember: patterns are noted and tested, the vector store learns, weights that no longer matter leave the disk."""

import shutil

from langgraph.runtime import Runtime

from graph.artifacts import keep_weights
from graph.context import SearchContext
from graph.events import PatternEvent
from graph.state import SearchState
from graph.weights import needed_and_spare
from memory.pattern_book import note_patterns
from tools.trial_folder import MODEL_FOLDER


async def remember(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """The records have everything already; the vectors can be made again from them."""
    context, ended = runtime.context, state["ended"]
    context.index.note(ended)
    _note_patterns(context, ended)
    needed, spare = needed_and_spare(context)
    # What is gone from here takes no time any more.
    for key in [key for key in spare if key not in context.dropped]:
        shutil.rmtree(context.home.evaluation(key) / MODEL_FOLDER, ignore_errors=True)
        context.dropped.add(key)
    await keep_weights(context, needed, spare)
    return {}


def _note_patterns(context: SearchContext, numbers: list[int]) -> None:
    """What agents named as patterns, and what the trials of this turn say of those that there are."""
    for changed in note_patterns(context.records, context.run_id, numbers):
        context.emit(
            PatternEvent(
                run=context.run_id,
                text=changed.text,
                claim=changed.claim,
                support=changed.support,
                contradiction=changed.contradiction,
                state=changed.state,
            )
        )
