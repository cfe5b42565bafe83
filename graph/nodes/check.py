"""check: code, not an LLM, says what is legal and new; the rest goes back in words, or is projected.

Of the legal designs of one turn the one of which most is expected is paid for.
"""

from collections import Counter
from itertools import groupby

from langgraph.runtime import Runtime

from agents.dialects.pruned_lm import draft_of
from agents.surrogate import Expectation, Surrogate
from graph.context import RunContext, SearchContext
from graph.events import ProposalEvent
from graph.examination import Examiner
from graph.screening import IN_USE, TOOL, choose, expectation_in_words, recorded_surrogate
from graph.state import SearchState
from memory.ledger import DUPLICATE, SCREENED, is_rejected_by_user
from memory.tables import Proposal
from tools.architecture import Architecture
from tools.spaces import DesignDraft


async def check(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Send illegal proposals back, or project them when their repairs are used up; the best of a turn gets a trial."""
    context = runtime.context
    # Without budget for a repair every chance is the last.
    repairs = -1 if state["stop"] else context.config.repairs
    surrogate = recorded_surrogate(context)
    opened = [context.records.proposal(proposal_id) for proposal_id in state["open"]]
    # What the user rejects was legal: it takes no chance of its author's.
    later = {one.turn for one in opened if one.attempt}
    asked_again = Counter(
        (one.turn, one.candidate)
        for one in (context.records.proposals(context.run_id, later) if later else ())
        if one.stage != TOOL and is_rejected_by_user(one)
    )
    sent_back: list[int] = []
    waiting: list[int] = []
    # All designs of a turn come after one another.
    for turn, proposals in groupby(opened, key=lambda one: one.turn):
        illegal = []
        for proposal in proposals:
            attempt = proposal.attempt - asked_again[proposal.turn, proposal.candidate]
            if not _decide(context, surrogate, proposal, attempt, last_chance=attempt >= repairs):
                illegal.append(proposal)
                _tell(context, context.records.proposal(proposal.id), None)
        again = [
            proposal.id
            for proposal in illegal
            if proposal.attempt - asked_again[proposal.turn, proposal.candidate] < repairs
        ]
        sent_back += again
        if not again:
            legal, number = choose(context, turn)
            waiting += [] if number is None else [number]
            for proposal in legal:
                _tell(context, proposal, number if proposal.outcome in IN_USE else None)
    # Those of earlier attempts in the same turn stay in the queue until all authors have answered.
    waiting = sorted({*state.get("waiting", []), *waiting})
    barren = state["barren"] if waiting or sent_back or state["stop"] else state["barren"] + 1
    return {"open": [], "sent_back": sent_back, "waiting": waiting, "barren": 0 if waiting else barren}


def _decide(
    context: SearchContext,
    surrogate: Surrogate[Architecture, DesignDraft],
    proposal: Proposal,
    attempt: int,
    last_chance: bool,
) -> bool:
    """Whether the proposal has a legal design that is new. What was found and what is expected is recorded with it."""
    records = context.records
    if proposal.outcome in (*IN_USE, SCREENED):
        # A killed process had come this far.
        return True
    if is_rejected_by_user(proposal):
        # Its author could not be asked again.
        return False
    if proposal.parsed is None:
        if last_chance:
            records.update_proposal(proposal.id, outcome="rejected")
        return False
    finding = examiner_of(context).examine(
        draft_of(proposal.parsed),
        _base(context, proposal),
        attempt,
        last_chance,
        context.turn_seed(proposal.turn, proposal.candidate),
    )
    design, problems = finding.design, list(finding.problems)
    if design is None:
        records.update_proposal(proposal.id, problems=problems, outcome=finding.outcome)
        return False
    expected = surrogate.expect(design)
    records.update_proposal(
        proposal.id,
        problems=problems,
        notes=list(finding.notes),
        outcome=finding.outcome,
        architecture=design.model_dump(mode="json"),
        forecast=expected.forecast,
        expected_score=expected.score,
        expected_deviation=expected.deviation,
    )
    return True


def examiner_of(context: RunContext) -> Examiner[Architecture, DesignDraft]:
    """The rule of this run, which knows what was tried so far."""
    seen = context.records.trials(context.run_id).by_identity

    def tried(identity: str) -> str | None:
        if (known := seen.get(identity)) is None:
            return None
        loss = (
            ""
            if known.loss is None
            else f" (loss {known.loss:.4f}{f' {known.measured_after}' if known.ladder else ''})"
        )
        loss = ", which the user rejected" if known.is_rejected else loss
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
            outcome="sent back" if proposal.outcome in ("open", "unparsed") else proposal.outcome,
            trial=number,
            design=design,
            expected=expectation_in_words(
                Expectation(proposal.forecast, proposal.expected_score, proposal.expected_deviation),
                context.config.objective,
                context.after_first_rung,
            ),
            problems=tuple(proposal.problems),
            rationale=tuple(proposal.rationale),
        )
    )
