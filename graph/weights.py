"""From a trial to a model directory; weights that were not kept are grown again, which gives the same."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from graph.alone import alone
from graph.artifacts import fetch_weights
from graph.context import RunContext
from graph.evaluation import grow
from graph.events import StageEvent
from graph.nodes.survey import take_survey
from graph.rungs import fidelity_of
from memory.views import TrialView
from tools.errors import InputError
from tools.export.directories import require_free
from tools.export.options import ExportOptions
from tools.requests import TrialRequest
from tools.survey_folder import beginning_is_whole
from tools.trial_folder import MODEL_FOLDER, has_weights

if TYPE_CHECKING:
    from tools.export.report import ExportReport


def needed_and_spare(context: RunContext) -> tuple[list[str], list[str]]:
    """Evaluations whose weights are kept, those of trial 0 and the best `keep_models` trials; and those that may go.

    What another run paid for is in neither. Of a trial that was promoted the weights of its highest rung are kept.
    """
    trials = context.finished_trials()
    kept = {trial.number for trial in trials.best(context.config.keep_models)} | {0}
    needed = {trials.by_number[number].evaluation_key for number in kept if number in trials.by_number}
    paid = [key for keys in trials.each(_paid) for key in keys]
    return sorted(key for key in needed if key), [key for key in dict.fromkeys(paid) if key not in needed]


def _paid(trial: TrialView) -> list[str]:
    """Keys of the evaluations that its run paid for."""
    return [one.evaluation_key for one in trial.rungs or (trial,) if one.evaluation_key and not one.cached]


async def export_trial(
    context: RunContext, trial: TrialView, destination: Path, options: ExportOptions
) -> "ExportReport":
    """Write `trial` as `options` say, with its model card. Raises InputError where that cannot be."""
    if not trial.succeeded:
        raise InputError(f"Trial {trial.number} was not grown, so there is no model to export; choose another trial.")
    require_free(destination, options)
    request = context.trial_request(trial.architecture, fidelity_of(trial))
    if not has_weights(request.folder):
        async with alone(context, trial.number, request.folder):
            await _bring_weights(context, trial, request)

    def write() -> "ExportReport":
        from graph.card import card_of_trial
        from tools.export.compact import load_compact
        from tools.export.writing import export_model

        source, card = context.survey.source_path, card_of_trial(context, trial)
        model = load_compact(source, request.folder / MODEL_FOLDER)
        return export_model(model, trial.architecture, source, destination, options, card)

    return await asyncio.to_thread(write)


async def _bring_weights(context: RunContext, trial: TrialView, request: TrialRequest) -> None:
    """Have the weights in the folder of the evaluation, where another process has not brought them meanwhile."""
    if not has_weights(request.folder):
        await fetch_weights(context, request.folder)
    if has_weights(request.folder):
        return
    if not beginning_is_whole(context.survey):
        await take_survey(context)
        context.__dict__.pop("survey", None)
    message = f"weights of trial {trial.number} were not kept: growing it again"
    context.emit(StageEvent(run=context.run_id, stage="export", message=message))
    measurement = await grow(context, request, trial.number)
    if measurement.failure is not None:
        raise InputError(f"Trial {trial.number} could not be grown again: {measurement.failure.message}.")
