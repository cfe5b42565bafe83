"""check: code, not an LLM, says what is legal and new; the rest goes back in words, or is projected."""

from langgraph.runtime import Runtime

from agents.dialects.pruned_lm import draft_of
from graph.context import SearchContext
from graph.events import ProposalEvent
from graph.examination import Examiner
from graph.state import SearchState
from memory.ledger import DUPLICATE
from memory.tables import Proposal
from tools.architecture import Architecture
from tools.spaces import DesignDraft


async def check(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Give every usable proposal a trial; send illegal ones back, or project them when their repairs are used up."""
    context = runtime.context
    # Without budget for a repair every chance is the last.
    repairs = -1 if state["stop"] else context.config.repairs
    sent_back: list[int] = []
    waiting: list[int] = []
    for proposal_id in state["open"]:
        proposal = context.records.proposal(proposal_id)
        number = _decide(context, proposal, last_chance=proposal.attempt >= repairs)
        if number is not None:
            waiting.append(number)
        elif proposal.attempt < repairs:
            sent_back.append(proposal_id)
        _tell(context, context.records.proposal(proposal_id), number)
    # Those of earlier attempts in the same turn stay in the queue until all authors have answered.
    waiting = sorted({*state.get("waiting", []), *waiting})
    barren = state["barren"] if waiting or sent_back or state["stop"] else state["barren"] + 1
    return {"open": [], "sent_back": sent_back, "waiting": waiting, "barren": 0 if waiting else barren}


def _decide(context: SearchContext, proposal: Proposal, last_chance: bool) -> int | None:
    """The number of the trial that the proposal becomes, or None. What was found is recorded with it."""
    assert proposal.id is not None  # noqa: S101 - a stored row has an id
    records, space = context.records, context.space
    if proposal.outcome in ("valid", "repaired", "projected") and proposal.architecture is not None:
        # A killed process had come this far.
        return records.add_trial(proposal.id, Architecture.model_validate(proposal.architecture)).number
    if proposal.parsed is None:
        if last_chance:
            records.update_proposal(proposal.id, outcome="rejected")
        return None
    finding = _examiner(context).examine(
        draft_of(proposal.parsed),
        _base(context, proposal),
        proposal.attempt,
        last_chance,
        context.turn_seed(proposal.turn),
    )
    design, problems = finding.design, list(finding.problems)
    if design is None:
        records.update_proposal(proposal.id, problems=problems, outcome=finding.outcome)
        return None
    records.update_proposal(
        proposal.id,
        problems=problems,
        notes=list(finding.notes),
        outcome=finding.outcome,
        architecture=design.model_dump(mode="json"),
        forecast=space.designer.forecast(design),
    )
    return records.add_trial(proposal.id, design).number


def _examiner(context: SearchContext) -> Examiner[Architecture, DesignDraft]:
    """The rule of this run, which knows what was tried so far."""
    seen = {trial.architecture.hash: trial for trial in context.records.trials(context.run_id)}

    def tried(identity: str) -> str | None:
        if (known := seen.get(identity)) is None:
            return None
        loss = "" if known.loss is None else f" (loss {known.loss:.4f})"
        return f"{DUPLICATE} {known.number}{loss}: change some layers."

    note = "FFN channels moved between layers, since the design was tried before"
    return Examiner(context.space, tried, context.space.vary, note)


def _base(context: SearchContext, proposal: Proposal) -> Architecture:
    """The design that keeps its shape where the draft is silent."""
    if proposal.parent_number is None:
        return context.space.source
    return context.records.trial(context.run_id, proposal.parent_number).architecture


def _tell(context: SearchContext, proposal: Proposal, number: int | None) -> None:
    design = "" if proposal.architecture is None else Architecture.model_validate(proposal.architecture).describe()
    context.emit(
        ProposalEvent(
            run=context.run_id,
            turn=proposal.turn,
            attempt=proposal.attempt,
            stage=proposal.stage,
            proposer=proposal.proposer,
            outcome=proposal.outcome if number is not None or proposal.outcome == "rejected" else "sent back",
            trial=number,
            design=design,
            problems=tuple(proposal.problems),
            rationale=tuple(proposal.rationale),
        )
    )
