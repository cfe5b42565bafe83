"""From a trial to a model directory; weights that were not kept are grown again, which gives the same."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from graph.context import RunContext
from graph.events import StageEvent
from graph.nodes.evaluate import grow
from memory.views import TrialView
from tools.errors import InputError
from tools.trial import MODEL_FOLDER, has_weights

if TYPE_CHECKING:
    from tools.export.huggingface import ExportReport


async def export_trial(
    context: RunContext, trial: TrialView, destination: Path, overwrite: bool = False
) -> "ExportReport":
    """Write `trial` as a directory that `transformers` opens. Raises InputError where that cannot be."""
    if not trial.succeeded:
        raise InputError(f"Trial {trial.number} was not grown, so there is no model to export; choose another trial.")
    request = context.trial_request(trial.architecture)
    if not has_weights(request.folder):
        message = f"weights of trial {trial.number} were not kept: growing it again"
        context.emit(StageEvent(run=context.run_id, stage="export", message=message))
        measurement = await grow(context, request, trial.number)
        if measurement.failure is not None:
            raise InputError(f"Trial {trial.number} could not be grown again: {measurement.failure.message}.")
    folder = request.folder / MODEL_FOLDER
    return await asyncio.to_thread(_export, context, trial, folder, destination, overwrite)


def _export(context: RunContext, trial: TrialView, folder: Path, destination: Path, overwrite: bool) -> "ExportReport":
    from tools.export.compact import load_compact
    from tools.export.huggingface import export_huggingface

    source = context.survey.source_path
    model = load_compact(source, folder)
    return export_huggingface(model, trial.architecture, source, destination, overwrite=overwrite)
