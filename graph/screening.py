"""What is expected of designs before they are paid for, and which of one turn's designs is paid for."""

from collections.abc import Sequence
from functools import partial

from agents.outlook import Outlook, look_ahead
from agents.proposers import Situation
from agents.surrogate import Expectation, Surrogate
from graph.context import SearchContext
from memory.ledger import DUPLICATE, EDITED, SCREENED
from memory.tables import Proposal
from memory.trial_sequence import TrialSequence
from memory.views import TrialView
from tools.architecture import Architecture
from tools.spaces import DesignDraft

IN_USE = ("valid", "repaired", "projected", EDITED)
"""Outcomes of legal designs that may become trials."""
_NEWEST = 100
TOOL = "tool"
"""The stage of what an agent had trained by a tool, which is no answer of its turn."""


def trials_before(context: SearchContext, turn: int) -> TrialSequence:
    """The trials without those that tools made in this turn, so that all its designs are asked for alike."""
    trials = context.records.trials(context.run_id)
    if TOOL not in trials.stages:
        return trials
    made = {one.id for one in context.records.proposals_made(context.run_id, turn) if one.stage == TOOL}
    return TrialSequence(trial for trial in trials if trial.proposal_id not in made)


def surrogate_of(
    context: SearchContext, trials: Sequence[TrialView] | None = None
) -> Surrogate[Architecture, DesignDraft]:
    """What was measured so far teaches it: in this run (or `trials` of it), and before it in others measured alike."""
    finished = context.finished_trials() if trials is None else trials
    # All were measured on the first rung, and there the next design begins.
    finished = [trial.on_first_rung() for trial in finished]
    own = [trial for trial in finished if trial.score is not None]
    keys = {trial.evaluation_key for trial in own}
    records = [(trial.architecture, trial.score) for trial in own if trial.score is not None]
    records += [(one.architecture, one.score) for one in context.earlier if one.key not in keys]
    return Surrogate(context.space, records, context.space.designer.forecast)


def recorded_surrogate(context: SearchContext) -> Surrogate[Architecture, DesignDraft]:
    """The one whose expectations are recorded with the proposals.

    Where they neither rank designs nor are told to agents, it learns anew only when the trials have grown by a quarter,
    and from the newest ones: what nothing hangs on must not take longer the longer a search is.
    """
    if context.config.asks_agents or context.config.uses_surrogate:
        return surrogate_of(context)
    finished = context.finished_trials()
    step = 2 ** max(0, len(finished).bit_length() - 3)
    count = len(finished) // step * step
    if context.learnt is None or context.learnt[0] != count:
        context.learnt = count, surrogate_of(context, finished[:count][-_NEWEST:])
    return context.learnt[1]


def ranked(expectations: Sequence[Expectation]) -> list[int]:
    """Places of the designs, the one of which most is expected first; of equal ones the one that was asked for first.

    Expected score decides; where the surrogate knows too little, the forecast alone.
    """
    return sorted(range(len(expectations)), key=lambda place: expectations[place].rank)


def choose(context: SearchContext, turn: int) -> tuple[list[Proposal], int | None]:
    """Give the best of a turn's legal designs a trial, and leave the others unpaid.

    What a killed process had chosen stays chosen. Returns all legal proposals as they now are, and the trial's number;
    None where all were tried meanwhile by another turn, or none is legal.
    """
    records = context.records
    answers = [one for one in records.proposals(context.run_id, [turn]) if one.stage != TOOL]
    legal = [one for one in answers if one.outcome in IN_USE]
    trials = records.trials(context.run_id)
    paid = next((one for one in legal if one.id in trials.proposals), None)
    if paid is None:
        order = [legal[place] for place in ranked([_expected(one) for one in legal])]
        paid = next((one for one in order if _design(one).hash not in trials.by_identity), None)
    for place, one in enumerate(legal):
        if paid is None:
            words = f"{DUPLICATE} that another turn just became."
            legal[place] = records.update_proposal(one.id, outcome="rejected", problems=[words])
        elif one is not paid:
            legal[place] = records.update_proposal(one.id, outcome=SCREENED)
    number = None if paid is None else records.add_trial(paid.id, _design(paid)).number
    return legal, number


def outlook_of(context: SearchContext, situation: Situation) -> Outlook | None:
    """What the agents are shown of the surrogate's picture; the same for all designs of a turn."""
    turn, objective = situation.turn, context.config.objective
    if turn not in context.outlooks:
        words = partial(expectation_in_words, objective=objective, after=context.after_first_rung)
        context.outlooks[turn] = look_ahead(
            situation, surrogate_of(context, situation.trials), words, context.turn_seed(turn)
        )
    return context.outlooks[turn]


def expectation_in_words(expected: Expectation, objective: str, after: str = "") -> str:
    """`expected loss 2.6123 +- 0.0100`, and `after` what; empty where the surrogate knows too little."""
    if expected.score is None or expected.deviation is None:
        return ""
    if objective == "loss":
        return f"expected loss {expected.score:.4f} +- {expected.deviation:.4f}{after}"
    return f"expected accuracy {-expected.score:.3f} +- {expected.deviation:.3f}{after}"


def _expected(proposal: Proposal) -> Expectation:
    return Expectation(proposal.forecast, proposal.expected_score, proposal.expected_deviation)


def _design(proposal: Proposal) -> Architecture:
    return Architecture.model_validate(proposal.architecture)
