"""evaluate: one branch of the fan-out grows and measures one trial; what was paid once is never paid again."""

from langgraph.runtime import Runtime

from graph.context import RunContext, SearchContext
from graph.events import EvaluationEvent, ProgressEvent
from graph.state import EvaluationTask, SearchState
from memory.retrieval import best
from memory.tables import Evaluation
from memory.views import TrialView
from tools.measurement import Measurement
from tools.requests import Progress, TrialRequest


async def evaluate(state: EvaluationTask, runtime: Runtime[SearchContext]) -> SearchState:
    """Give trial `state["trial"]` its measurement. The record is durable before the graph moves on."""
    context, number = runtime.context, state["trial"]
    trial = context.records.trial(context.run_id, number)
    if trial.measurement is None:
        await _measure(context, trial)
        trial = context.records.trial(context.run_id, number)
    _tell(context, trial)
    return {"evaluated": [number]}


async def _measure(context: SearchContext, trial: TrialView) -> None:
    records = context.records
    request = context.trial_request(trial.architecture)
    known = records.evaluation(request.key)
    cached = known is not None
    if known is None:
        measurement = await grow(context, request, trial.number)
        # A failure may be the machine's: it is this trial's result, but no other run's.
        key = request.key if measurement.succeeded else f"{request.key}/{trial.name}"
        known = records.add_evaluation(
            Evaluation(
                key=key,
                run_id=context.run_id,
                architecture_hash=trial.architecture.hash,
                architecture=trial.architecture.model_dump(mode="json"),
                fidelity=measurement.fidelity,
                status="done" if measurement.succeeded else "failed",
                loss=measurement.loss,
                parameters=measurement.parameters,
                measurement=measurement.model_dump(mode="json"),
            )
        )
    assert known.id is not None  # noqa: S101 - a stored row has an id
    records.finish_trial(trial.trial_id, known.id, cached)


async def grow(context: RunContext, request: TrialRequest, number: int) -> Measurement:
    """Have a worker carry out `request`; its progress becomes events."""

    def report(progress: Progress) -> None:
        context.emit(ProgressEvent(run=context.run_id, trial=number, **progress.model_dump()))

    return await context.workers.trial(request, report)


def _tell(context: SearchContext, trial: TrialView) -> None:
    measurement = trial.measurement
    if measurement is None:
        raise ValueError(f"trial {trial.number} has no measurement after its evaluation")
    leaders = best(context.finished_trials(), 1)
    context.emit(
        EvaluationEvent(
            run=context.run_id,
            trial=trial.number,
            stage=trial.stage,
            parameters=measurement.parameters,
            loss=measurement.loss,
            latency_ms=measurement.latency_ms,
            seconds=measurement.seconds,
            cached=trial.cached,
            failure=measurement.failure.message if measurement.failure else None,
            best_loss=leaders[0].loss if leaders else None,
            accuracy=trial.accuracy,
            best_accuracy=leaders[0].accuracy if leaders else None,
            over_limit=None if trial.over_limit is None else str(trial.over_limit),
        )
    )
