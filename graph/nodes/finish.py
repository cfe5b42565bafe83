"""finish: the best design is exported, and the run gets its final table."""

import asyncio
from datetime import UTC, datetime

from langgraph.runtime import Runtime

from graph.artifacts import keep_export, keep_weights
from graph.context import SearchContext
from graph.events import FinishedEvent, StageEvent
from graph.report import result_table
from graph.state import SearchState
from graph.weights import export_trial, needed_and_spare
from memory.retrieval import best, nearest_to_limit
from memory.views import TrialView
from tools.errors import InputError
from tools.export.options import ExportOptions


async def finish(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Raises InputError where no design was grown at all, or none within the limits."""
    context = runtime.context
    leaders = best(context.finished_trials(), 1)
    if not leaders and (nearest := nearest_to_limit(context.finished_trials(), 1)):
        raise InputError(_all_over(nearest[0]))
    if not leaders and (reached := state.get("reached")):
        raise InputError(
            f"The budget ended the search before a design was grown ({state['stop']}): go on with more by "
            f"`penjing resume {context.run_id} --set budget.{reached}=MORE`."
        )
    if not leaders:
        failed = context.finished_trials()
        reason = failed[0].measurement.failure if failed and failed[0].measurement else None
        why = f" ({reason.message})" if reason else ""
        raise InputError(f"No design could be grown{why}; see {context.folder.logs}.")
    winner = leaders[0]
    context.emit(StageEvent(run=context.run_id, stage="finish", message="exporting the best model"))
    report = await export_trial(context, winner, context.folder.export, ExportOptions("hf", None, overwrite=True))
    needed, spare = needed_and_spare(context)
    await keep_weights(context, needed, spare, required=True)
    await keep_export(context)
    table = result_table(context.survey, context.finished_trials())
    await asyncio.to_thread(_draw, context, winner.number)
    context.records.update_run(
        context.run_id,
        status="finished",
        message=state["stop"],
        finished_at=datetime.now(UTC),
        result={
            "best": winner.number,
            "table": [row.model_dump() for row in table],
            "export": str(context.folder.export),
            "picture": str(context.folder.picture),
            "exported_parameters": report.file_parameters,
            "budget_reached": state.get("reached") or None,
        },
    )
    context.emit(
        FinishedEvent(
            run=context.run_id,
            best=winner.number,
            loss=winner.loss or 0.0,
            accuracy=winner.accuracy,
            fidelity=winner.fidelity or "" if winner.ladder else "",
            export=str(context.folder.export),
            reason=state["stop"],
        )
    )
    return {}


def _all_over(nearest: TrialView) -> str:
    return (
        f"No trial is within the limits: the nearest, trial {nearest.number}, takes {nearest.over_limit}. Start a "
        f"search with a higher limit (what was measured is not paid for again) or with lower sizes; "
        f"`penjing export {nearest.run_id} {nearest.number} DIR` takes that one all the same."
    )


def _draw(context: SearchContext, number: int) -> None:
    from graph.picture import draw_search

    trials = context.finished_trials()
    draw_search(context.survey.architecture, context.survey.measurement, trials, number, context.folder.picture)
