"""remember: patterns are noted and tested, the vector store learns, weights that no longer matter leave the disk."""

import shutil

from langgraph.runtime import Runtime

from graph.context import SearchContext
from graph.events import PatternEvent
from graph.state import SearchState
from memory.pattern_book import note_patterns
from memory.rebuild import index_prompts, index_trials
from memory.retrieval import best
from tools.trial import MODEL_FOLDER


async def remember(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """The records have everything already; the vectors can be made again from them."""
    context, ended = runtime.context, state["ended"]
    index_trials(context.records, context.vectors, context.run_id, ended)
    index_prompts(context.vectors, context.records.prompts())
    _note_patterns(context, ended)
    _drop_weights(context)
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


def _drop_weights(context: SearchContext) -> None:
    """Keep the weights of trial 0 and the best `keep_models` trials; never touch what another run paid for."""
    trials = context.finished_trials()
    kept = {trial.number for trial in best(trials, context.config.keep_models)} | {0}
    needed = {trial.evaluation_key for trial in trials if trial.number in kept}
    for trial in trials:
        if trial.evaluation_key is not None and trial.evaluation_key not in needed and not trial.cached:
            folder = context.home.evaluation(trial.evaluation_key) / MODEL_FOLDER
            shutil.rmtree(folder, ignore_errors=True)
