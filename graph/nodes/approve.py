"""approve: the user is asked before a trial is paid for, where they want to be; what they reject goes back."""

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from agents.taped_lines import TapedDecision
from graph.approval import ask, asks_anybody
from graph.context import SearchContext
from graph.events import ApprovalEvent
from graph.screening import surrogate_of
from graph.state import SearchState
from memory.tables import Approval


async def approve(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Interrupt the graph while a trial waits for a decision; then evaluate what was accepted or edited.

    The decisions are in the records, so that the value which the graph is resumed with says nothing.
    """
    context, numbers = runtime.context, state["waiting"]
    if not asks_anybody(context):
        return {"sent_back": [], "waiting": numbers}
    waiting = ask(context, numbers)
    if waiting:
        # Runs from the top when it is resumed, and then there is nothing left to wait for.
        interrupt({"trials": waiting})
    decided = {one.trial: one for one in context.records.approvals(context.run_id) if one.trial in numbers}
    for approval in decided.values():
        _take(context, approval)
    rejected = [one.trial for one in decided.values() if one.decision == "reject"]
    trials = context.records.trials(context.run_id, rejected)
    return {
        "sent_back": [trial.proposal_id for trial in trials],
        "waiting": [number for number in numbers if number not in rejected],
    }


def _take(context: SearchContext, approval: Approval) -> None:
    """Tell it, keep it on the cassette, and say what is expected of a design that was edited."""
    trial = context.records.trial(context.run_id, approval.trial)
    if trial.measurement is not None or approval.trial in context.approvals_told:
        return
    context.approvals_told.add(approval.trial)
    proposal = context.records.proposal(trial.proposal_id)
    if context.cassette is not None:
        fields = TapedDecision.model_fields.keys() - {"kind"}
        context.cassette.decided(TapedDecision.model_validate(approval.model_dump(include=fields)))
    if approval.decision == "edit" and trial.forecast is None:
        expected = surrogate_of(context).expect(trial.architecture)
        context.records.update_proposal(
            proposal.id,
            forecast=expected.forecast,
            expected_score=expected.score,
            expected_deviation=expected.deviation,
        )
    context.emit(
        ApprovalEvent(
            run=context.run_id,
            trial=approval.trial,
            design=trial.architecture.describe(),
            decision=approval.decision or "",
            words=approval.words,
        )
    )
