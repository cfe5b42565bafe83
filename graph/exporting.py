"""Exports asked for after a run: one trial as a model directory or a file."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from graph.artifacts import find_survey
from graph.config import SearchConfig
from graph.context import RunContext, workers_of
from graph.events import AnyEvent
from graph.folder import Home
from graph.weights import export_trial
from memory.records import Records
from memory.views import TrialView
from tools.errors import InputError
from tools.export.options import ExportOptions

if TYPE_CHECKING:
    from tools.export.report import ExportReport


async def export_recorded(
    config: SearchConfig,
    records: Records,
    trial: TrialView,
    destination: Path,
    options: ExportOptions,
    emit: Callable[[AnyEvent], None],
) -> "ExportReport":
    """Write `trial` as `options` say. Raises InputError, see `SearchSession.export`."""
    folder = Home(config.home).run(trial.run_id)
    with closing(workers_of(config, folder)) as workers:
        context = RunContext(run_id=trial.run_id, config=config, records=records, workers=workers, emit=emit)
        if not await asyncio.to_thread(find_survey, config, trial.run_id):
            raise InputError(f"Run {trial.run_id} has no survey here; `penjing resume {trial.run_id}` goes on.")
        return await export_trial(context, trial, destination, options)
