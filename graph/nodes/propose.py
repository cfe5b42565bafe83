"""propose: ask whoever's stage it is for designs, or again for those that the checker sent back."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

from langgraph.runtime import Runtime

from agents.proposers import Proposed, Rejection, Situation
from graph.agent_tools import agent_tools
from graph.budget import CUT_OFF, BudgetReachedError
from graph.context import SearchContext
from graph.events import StageEvent
from graph.guidance import guidance_of
from graph.recalling import recollect
from graph.screening import TOOL, outlook_of, trials_before
from graph.state import SearchState, Stage
from graph.tracing import OpenSpan
from memory.recollection import NOTHING
from memory.tables import Proposal

_WORDS = {
    "greedy": "cutting by saliency",
    "self_evolution": "self-evolution: writing strategies and a refined design",
    "knowledge_distillation": "knowledge distillation: mining the best designs",
    "judge": "a judge: a searcher without a language model",
}


async def propose(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Record `proposals_per_turn` proposals for the next turn, or a further one for each that was sent back.

    A proposal that a killed process had recorded is not asked for again. Where the budget has no room for a question,
    the search ends after what there is; a proposal that was sent back is then left to the checker as it is.
    """
    context, stage = runtime.context, state["stage"]
    sent_back = state.get("sent_back", [])
    turn = context.records.proposal(sent_back[0]).turn if sent_back else state["turn"]
    own = context.stage_of(stage, turn)
    context.emit(StageEvent(run=context.run_id, stage=own, message=_WORDS[own]))
    opened: list[int] = []
    if sent_back:
        end = SearchState()
        for proposal_id in sent_back:
            try:
                opened.append(await _again(context, state, proposal_id))
            except BudgetReachedError as error:
                opened.append(proposal_id)
                end = _end(error)
        return {"open": opened, **end}
    for candidate in range(1 if stage == "greedy" else context.config.proposals_per_turn):
        try:
            opened.append(await _new(context, own, state, turn, candidate))
        except BudgetReachedError as error:
            # A turn that has a design is over; one that has none is asked again when there is more.
            return {"open": opened, "turn": turn + (candidate > 0), **_end(error)}
    return {"open": opened, "turn": turn + 1}


def _end(error: BudgetReachedError) -> SearchState:
    return {"stop": str(error.refusal), "reached": error.refusal.cap}


async def _new(context: SearchContext, stage: Stage, state: SearchState, turn: int, candidate: int) -> int:
    known = _recorded(context, turn, 0, candidate)
    if known is not None:
        return known
    for event in context.prompt_news.since(context.prompts, context.run_id):
        context.emit(event)
    with _span(context, stage, turn, 0, candidate):
        situation = _situation(context, stage, state, turn, candidate, None)
        if context.config.show_picture and stage in ("self_evolution", "knowledge_distillation"):
            situation = replace(situation, outlook=outlook_of(context, situation))
        tools = agent_tools(context, stage, situation, candidate)
        proposed = await context.proposer(stage, candidate, tools).ask(situation)
        return _record(context, stage, turn, 0, candidate, proposed)


async def _again(context: SearchContext, state: SearchState, proposal_id: int) -> int:
    before = context.records.proposal(proposal_id)
    turn, candidate = before.turn, before.candidate
    known = _recorded(context, turn, before.attempt + 1, candidate)
    if known is not None:
        return known
    rejection = Rejection(
        messages=_conversation(context, before),
        raw=before.raw,
        problems=tuple(before.problems),
        rationale=tuple(before.rationale),
        based_on=tuple(before.based_on),
    )
    stage = cast(Stage, before.stage)
    with _span(context, stage, turn, before.attempt + 1, candidate):
        situation = _situation(context, stage, state, turn, candidate, rejection)
        proposed = await context.proposer(stage, candidate).ask(situation)
        # The conversation goes on, and with it what stands in its first prompt.
        return _record(context, stage, turn, before.attempt + 1, candidate, proposed, before.retrieved)


def _conversation(context: SearchContext, before: Proposal) -> tuple[tuple[str, str], ...]:
    """What was asked for `before`; empty where no chat model was.

    A process that was killed may have asked for the next attempt already, so that the last call need not be this one:
    it has the prompt of its attempt, and a repair goes on with the attempt before it by an answer and the words for it.
    """
    calls = [
        call
        for call in context.records.calls(context.run_id)
        if (call.turn, call.candidate) == (before.turn, before.candidate) and call.error != CUT_OFF
    ]
    attempts = [
        made
        for made in context.records.proposals(context.run_id, [before.turn])
        if made.stage != TOOL and made.candidate == before.candidate and made.attempt <= before.attempt
    ]
    begun: list[dict[str, Any]] = []
    for made in attempts:
        asked = [
            call.messages
            for call in calls
            if call.prompt_hash == made.prompt_hash and (made.attempt == 0 or call.messages[:-2] == begun)
        ]
        begun = asked[-1] if asked else begun
    return tuple((message["role"], message["content"]) for message in begun)


def _span(
    context: SearchContext, stage: Stage, turn: int, attempt: int, candidate: int
) -> AbstractContextManager[OpenSpan]:
    name = context.proposer(stage).name
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        "penjing.stage": stage,
        "penjing.turn": turn,
        "penjing.attempt": attempt,
        "penjing.candidate": candidate,
    }
    return context.tracing.span(f"invoke_agent {name}", "AGENT", attributes)


def _recorded(context: SearchContext, turn: int, attempt: int, candidate: int) -> int | None:
    for made in context.records.proposals_made(context.run_id, turn):
        if made.stage != TOOL and (made.attempt, made.candidate) == (attempt, candidate):
            return made.id
    return None


def _situation(
    context: SearchContext, stage: Stage, state: SearchState, turn: int, candidate: int, rejection: Rejection | None
) -> Situation:
    trials = trials_before(context, turn)
    number = state.get("parent")
    parent = None if number is None else trials.by_number[number]
    # The conversation that a repair goes on with has it already.
    recollection = NOTHING if rejection is not None else recollect(context, stage, turn, parent)
    return Situation(
        turn=turn,
        space=context.space,
        trials=trials,
        parent=parent,
        seed=context.turn_seed(turn, candidate),
        recollection=recollection,
        guidance="" if rejection is not None else guidance_of(context, stage, turn),
        running=tuple(trials.by_number[number] for number in state.get("running", []) if number in trials.by_number),
        rejection=rejection,
    )


def _record(
    context: SearchContext,
    stage: Stage,
    turn: int,
    attempt: int,
    candidate: int,
    proposed: Proposed,
    retrieved: Sequence[dict[str, Any]] | None = None,
) -> int:
    parsed = proposed.parsed
    if parsed is None and proposed.draft is not None:
        parsed = proposed.draft.model_dump(mode="json")
    row = context.records.add_proposal(
        Proposal(
            run_id=context.run_id,
            turn=turn,
            attempt=attempt,
            candidate=candidate,
            stage=stage,
            proposer=context.proposer(stage).name,
            parent_number=proposed.based_on[0] if proposed.based_on else None,
            based_on=list(proposed.based_on),
            prompt_hash=proposed.prompt_hash,
            raw=proposed.raw,
            parsed=parsed,
            rationale=list(proposed.rationale),
            problems=[proposed.error] if proposed.error else [],
            outcome="unparsed" if parsed is None else "open",
            retrieved=proposed.shown.listed() if retrieved is None else list(retrieved),
        )
    )
    assert row.id is not None  # noqa: S101 - a stored row has an id
    return row.id
