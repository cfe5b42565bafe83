"""survey: measure the source model and the saliency of its groups, once; cached across runs."""

from langgraph.runtime import Runtime

from graph.context import SearchContext
from graph.events import ProgressEvent, StageEvent, SurveyEvent
from graph.state import SearchState
from tools.costs import limits_in_words
from tools.errors import InputError
from tools.requests import Progress, SurveyRequest


async def survey(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Write the run's survey file. Raises InputError for a bad source, corpus or budget."""
    context = runtime.context
    context.emit(StageEvent(run=context.run_id, stage="survey", message="surveying the source model"))
    await take_survey(context)
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


async def take_survey(context: SearchContext) -> None:
    """Have the source surveyed and write down where the survey is."""
    config = context.config
    request = SurveyRequest(
        source=config.source,
        corpus=config.corpus,
        data=config.data,
        recipe=config.recipe,
        seed=config.seed,
        cache=config.cache,
        accuracy=context.accuracy,
    )

    def report(progress: Progress) -> None:
        context.emit(ProgressEvent(run=context.run_id, trial=None, **progress.model_dump()))

    left = context.spending.seconds_left()
    try:
        found = await context.workers.survey(request, report, left)
    except TimeoutError as error:
        raise InputError(
            f"budget.wall_clock_seconds is too little for the survey of the source: it was not done after {left:,.0f} "
            "s. Go on with a higher one, or without: --set budget.wall_clock_seconds=null."
        ) from error
    context.folder.survey.write_text(found.model_dump_json(indent=1))
