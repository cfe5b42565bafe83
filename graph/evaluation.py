"""One evaluation: a design is grown and measured, and what was paid once is never paid again.

It comes to a row in the records as soon as it ends. The trial gets that row when the graph takes it up, so that all
which a turn reads is the same however long the other evaluations take.
"""

import time

from graph.alone import alone
from graph.budget import BudgetReachedError
from graph.context import RunContext, SearchContext
from graph.events import EvaluationEvent, ProgressEvent
from graph.rungs import fidelity_due
from graph.tracing import OpenSpan
from graph.under_way import Paid
from memory.tables import Evaluation
from memory.trial_sequence import TrialSequence
from memory.views import TrialView
from tools.measurement import Measurement
from tools.requests import Progress, TrialRequest
from tools.trial_folder import count_anew, drop_checkpoint


async def evaluate_trial(context: SearchContext, number: int) -> TrialView:
    """The trial with its measurement, or, where the budget has no room for that, without one."""
    paid = await evaluation_of(context, number)
    return context.records.trial(context.run_id, number) if paid is None else take_up(context, paid)


async def evaluation_of(context: SearchContext, number: int) -> Paid | None:
    """The recorded evaluation of trial `number`; None where the budget has no room for it."""
    trial = context.records.trial(context.run_id, number)
    key = trial.rungs[-1].evaluation_key if trial.rungs else trial.evaluation_key
    if trial.measurement is not None and trial.waits_for is None and key is not None:
        return Paid(trial, key)
    design = {"penjing.design": trial.architecture.describe(), "penjing.parameters": trial.architecture.parameters}
    climbed = {} if trial.waits_for is None else {"penjing.promotion": trial.waits_for.promotion}
    with context.tracing.span("evaluation", "EVALUATOR", {"penjing.trial": number, **design, **climbed}) as span:
        found = await _evaluated(context, trial)
        _trace(context, found, span)
        return None if found is None else Paid(trial, found.key)


def take_up(context: SearchContext, paid: Paid) -> TrialView:
    """Give a trial the evaluation that was paid for it, and tell it. Repeating it is harmless.

    It is that of the rung which the trial was promoted to last, if it was.
    """
    trial, key = paid
    if trial.measurement is None:
        context.records.reuse_evaluation(trial.trial_id, key)
    elif trial.waits_for is not None:
        context.records.finish_promotion(trial.trial_id, trial.waits_for.rung, key)
    finished = context.finished_trials()
    trial = finished.by_number[trial.number]
    _tell(context, trial.on_rung(trial.rungs[-1]) if trial.rungs else trial, finished)
    return trial


async def grow(
    context: RunContext, request: TrialRequest, number: int, most_seconds: float | None = None
) -> Measurement:
    """Have a worker carry out `request`; its progress becomes events. Longer than `most_seconds` is a failure."""

    def report(progress: Progress) -> None:
        context.emit(ProgressEvent(run=context.run_id, trial=number, **progress.model_dump()))

    return await context.workers.trial(request, report, most_seconds)


async def _evaluated(context: SearchContext, trial: TrialView) -> Evaluation | None:
    request = context.trial_request(trial.architecture, fidelity_due(context, trial))
    if (known := _at_hand(context, trial, request)) is not None:
        return known

    def waited() -> None:
        if context.spending.seconds_left() == 0:
            raise context.spending.out_of_time()

    try:
        async with alone(context, trial.number, request.folder, waited):
            # Another search may have paid for it in the meantime.
            return _at_hand(context, trial, request) or await _pay(context, trial, request)
    except BudgetReachedError:
        return None


def _at_hand(context: SearchContext, trial: TrialView, request: TrialRequest) -> Evaluation | None:
    """What the records have: anyone's evaluation, or one that is this trial's alone.

    Where time is limited, none of another home's: it was measured on another machine.
    """
    timed = context.config.max_latency_ms is not None
    return context.records.evaluation(request.key, _own_key(request, trial), timed_here=timed)


def _own_key(request: TrialRequest, trial: TrialView) -> str:
    """Of a result that is this trial's, but no other one's."""
    return f"{request.key}/{trial.name}"


async def _pay(context: SearchContext, trial: TrialView, request: TrialRequest) -> Evaluation | None:
    """The recorded evaluation; None where the budget cut it off, which says nothing of the design."""
    records, run_id = context.records, context.run_id
    trials = records.trials(run_id) if context.spending.limits_time else ()
    waiting = sum(view.measurement is None and not view.is_rejected for view in trials)
    to_come = context.config.trials - sum(view.measurement is not None for view in trials)
    # Also those that are asked for while this one runs have their share.
    waiting = max(waiting, min(context.config.parallel, to_come))
    async with (
        context.workers.place(),
        # Expected once there is a place: what ended meanwhile says how long it takes.
        context.spending.evaluation(trial.number, _expected(context, request), waiting) as most,
    ):
        begun = context.folder.begun / request.folder.name
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.touch()
        started = time.monotonic()
        measurement = await grow(context, request, trial.number, most)
        seconds = time.monotonic() - started
        key, limit = request.key, request.recipe.time_limit_seconds
        failure = measurement.failure
        cut_off = failure is not None and failure.kind == "time_limit" and most is not None and most < limit
        if cut_off:
            # Paid for all the same: recorded, but not as the trial's result. With more budget it is gone on with.
            count_anew(request.folder)
            key = f"{key}/{trial.name}/cut off {len(records.evaluations(run_id))}"
        elif failure is not None or (context.config.max_latency_ms is not None and records.evaluation(key) is not None):
            # A failure may be the machine's. Or there is one already, whose times do not hold here.
            key = _own_key(request, trial)
        if not cut_off:
            if failure is not None:
                drop_checkpoint(request.folder)
            begun.unlink(missing_ok=True)
        if failure is not None and not measurement.seconds:
            measurement = measurement.model_copy(update={"seconds": seconds})
        evaluation = records.add_evaluation(
            Evaluation(
                key=key,
                run_id=run_id,
                architecture_hash=trial.architecture.hash,
                architecture=trial.architecture.model_dump(mode="json"),
                fidelity=measurement.fidelity,
                status="done" if measurement.succeeded else "failed",
                loss=measurement.loss,
                parameters=measurement.parameters,
                measurement=measurement.model_dump(mode="json"),
            )
        )
    return None if cut_off else evaluation


def _expected(context: SearchContext, request: TrialRequest) -> float:
    return context.expected_evaluation(request.fidelity) if context.spending.limits_time else 0.0


def _trace(context: SearchContext, evaluation: Evaluation | None, span: OpenSpan) -> None:
    if evaluation is None:
        span.fail("the budget has no room for it")
        return
    found = Measurement.model_validate(evaluation.measurement)
    if found.failure is not None:
        span.fail(found.failure.message)
    span.say(
        {
            "penjing.fidelity": found.fidelity,
            "penjing.loss": found.loss,
            "penjing.accuracy": found.accuracy,
            "penjing.latency_ms": found.latency_ms,
            "penjing.training_steps": len(found.training_losses),
            "penjing.first_training_loss": found.training_losses[0] if found.training_losses else None,
            "penjing.last_training_loss": found.training_losses[-1] if found.training_losses else None,
            "penjing.drop_events": len(found.drops),
            "penjing.tokens": found.tokens,
            "penjing.cached": evaluation.run_id != context.run_id,
            "penjing.evaluation": evaluation.key,
        }
    )


def _tell(context: SearchContext, trial: TrialView, finished: TrialSequence) -> None:
    measurement = trial.measurement
    if measurement is None:
        raise ValueError(f"trial {trial.number} has no measurement after its evaluation")
    leaders = finished.best(1)
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
            fidelity=measurement.fidelity if trial.ladder else "",
            rung=trial.rung,
            best_fidelity=leaders[0].fidelity or "" if leaders and trial.ladder else "",
        )
    )
