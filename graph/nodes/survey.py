"""survey: measure the source model and the saliency of its groups, once; cached across runs."""

import asyncio

from langgraph.runtime import Runtime

from graph.artifacts import address_of, keep_survey
from graph.context import RunContext, SearchContext
from graph.events import ProgressEvent, StageEvent, SurveyEvent
from graph.state import SearchState
from tools.costs import limits_in_words
from tools.errors import InputError
from tools.requests import Progress, SurveyRequest


async def survey(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Write the run's survey file. Raises InputError for a bad source, corpus or budget."""
    context = runtime.context
    context.emit(StageEvent(run=context.run_id, stage="survey", message="surveying the source model"))
    await take_survey(context, context.spending.seconds_left())
    found, space = context.survey, context.space
    # A budget below the smallest legal design must end here, before any trial is paid for.
    space.designer.greedy()
    context.records.update_run(context.run_id, source_architecture=found.architecture.model_dump(mode="json"))
    context.emit(
        SurveyEvent(
            run=context.run_id,
            parameters=found.measurement.parameters,
            loss=found.measurement.loss or 0.0,
            accuracy=found.measurement.accuracy,
            latency_ms=found.measurement.latency_ms or 0.0,
            compute=found.compute,
            budget=space.most_parameters,
            limits=tuple(limits_in_words(found.architecture, space.settings)),
        )
    )
    return {"turn": 0, "stage": "greedy", "parent": None, "barren": 0, "stop": ""}


async def take_survey(context: RunContext, left: float | None = None) -> None:
    """Have the source surveyed, in no more than `left` seconds, and write down where the survey is."""
    config = context.config
    request = SurveyRequest(
        source=config.source,
        corpus=config.corpus,
        data=config.data,
        recipe=config.recipe,
        seed=config.seed,
        cache=config.cache,
        accuracy=context.accuracy,
        artifacts=address_of(config.artifacts),
        checkpoint_seconds=config.checkpoint_seconds,
    )

    def report(progress: Progress) -> None:
        context.emit(ProgressEvent(run=context.run_id, trial=None, **progress.model_dump()))

    try:
        found = await context.workers.survey(request, report, left)
    except TimeoutError as error:
        raise InputError(
            f"budget.wall_clock_seconds is too little for the survey of the source: it was not done after {left:,.0f} "
            "s. Go on with a higher one, or without: --set budget.wall_clock_seconds=null."
        ) from error
    await asyncio.to_thread(keep_survey, context, found)
    context.folder.path.mkdir(parents=True, exist_ok=True)
    context.folder.survey.write_text(found.model_dump_json(indent=1))
