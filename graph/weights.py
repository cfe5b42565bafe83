"""From a trial to a model directory; weights that were not kept are grown again, which gives the same."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graph.context import RunContext
from graph.events import StageEvent
from graph.nodes.evaluate import grow
from memory.views import TrialView
from tools.errors import InputError
from tools.trial import MODEL_FOLDER, has_weights

if TYPE_CHECKING:
    from tools.export.huggingface import ExportReport

ExportFormat = Literal["hf", "gguf"]


async def export_trial(
    context: RunContext, trial: TrialView, destination: Path, overwrite: bool = False, format: ExportFormat = "hf"
) -> "ExportReport":
    """Write `trial` for `transformers` or as a GGUF file. Raises InputError where that cannot be."""
    if not trial.succeeded:
        raise InputError(f"Trial {trial.number} was not grown, so there is no model to export; choose another trial.")
    request = context.trial_request(trial.architecture)
    if not has_weights(request.folder):
        message = f"weights of trial {trial.number} were not kept: growing it again"
        context.emit(StageEvent(run=context.run_id, stage="export", message=message))
        measurement = await grow(context, request, trial.number)
        if measurement.failure is not None:
            raise InputError(f"Trial {trial.number} could not be grown again: {measurement.failure.message}.")

    def write() -> "ExportReport":
        from tools.export.compact import load_compact

        source = context.survey.source_path
        model = load_compact(source, request.folder / MODEL_FOLDER)
        if format == "gguf":
            from tools.export.gguf import export_gguf

            return export_gguf(model, trial.architecture, source, destination, overwrite=overwrite)
        from tools.export.huggingface import export_huggingface

        return export_huggingface(model, trial.architecture, source, destination, overwrite=overwrite)

    return await asyncio.to_thread(write)
