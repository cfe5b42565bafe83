"""decide: the current architecture moves on by the stated rule, the next stage is picked, or the search ends."""

from collections.abc import Mapping

from langgraph.runtime import Runtime

from graph.acceptance import accepted
from graph.budget import Refusal
from graph.context import SearchContext
from graph.events import BudgetEvent, HandoverEvent
from graph.room import designs_made, has_room
from graph.rungs import climber, fidelity_due, promote, refused_climb
from graph.state import SearchState, Stage
from memory.retrieval import best, nearest_to_limit
from memory.views import TrialView


async def decide(state: SearchState, runtime: Runtime[SearchContext]) -> SearchState:
    """Pick what comes next from the records and the state alone."""
    context = runtime.context
    trials = context.finished_trials()
    _tell(context, len(trials))
    running = state.get("running", [])
    parent = _next_parent(context, state, trials.by_number)
    update: SearchState = {"ended": [], "parent": parent}
    climbing = None if state["stop"] else climber(context, running)
    # With several rungs what runs may still bring a promotion.
    open_rungs = not state["stop"] and context.config.ladder.top > 0 and (climbing is not None or bool(running))
    if len(trials) >= context.config.trials and not open_rungs:
        # With more budget a promotion for which there was no room is made up for.
        return {**update, "stop": "all trials done", **(_end(refused_climb(context)) if not state["stop"] else {})}
    if state["stop"]:
        return update
    if waiting := state.get("waiting"):
        # While others run there may be room again.
        refusal = None if running else context.spending.refuses_evaluation(_expected(context, waiting))
        if refusal is None or not all(context.records.trial(context.run_id, number).waits_for for number in waiting):
            return {**update, **_end(refusal)}
        # Promotions wait in the records, and what is cheaper goes on.
        update["waiting"] = []
    if parent is None:
        return {**update, "stop": "the first design could not be grown"}
    if climbing is not None and len(running) < context.config.parallel:
        # Before a new design is asked for (ASHA).
        promote(context, climbing, state["turn"])
        return {**update, "waiting": [climbing]}
    barren = state["stage"] == "judge" and bool(state["barren"])
    if open_rungs and running and (barren or len(trials) >= context.config.trials):
        return {**update, "asks": False}
    if barren:
        last = f"there is no further design: {_who(context)} found one"
        return {**update, "stop": last, **_end(refused_climb(context))}
    if (refusal := _no_room(context)) is not None:
        return {**update, "asks": False, **_end(None if running else refusal)}
    made = designs_made(trials, running)
    stage, relief = _next_stage(context, state, made)
    if stage != state["stage"] and (state["barren"] or state["stage"] == "judge"):
        turns, judge = state["barren"], context.config.judge
        context.emit(HandoverEvent(run=context.run_id, stage=stage, turns=turns, judge=judge))
    asks = has_room(context, {**state, "stage": stage}, running, made)
    return {**update, "stage": stage, "relief": relief, "asks": asks}


def _next_stage(context: SearchContext, state: SearchState, trials_made: int) -> tuple[Stage, int]:
    """The stage of the next turn, and how many turns the judge then has.

    A stage without a usable design in `patience` turns hands over to the other one, and that after as many to a judge.
    The judge has `patience` turns; then the agents are asked again. Where these have no share, all turns are its own.
    """
    if not context.config.asks_agents:
        return "judge", 0
    patience, relief = context.config.patience, state.get("relief", 0)
    if relief > 1:
        return "judge", relief - 1
    if state["barren"] >= 2 * patience:
        return "judge", patience
    stage = _stage(context, trials_made)
    if state["barren"] >= patience:
        stage = "knowledge_distillation" if stage == "self_evolution" else "self_evolution"
    return stage, 0


def _who(context: SearchContext) -> str:
    return (
        "neither the agents nor a judge" if context.config.asks_agents else f"not even the judge {context.config.judge}"
    )


def _tell(context: SearchContext, trials_done: int) -> None:
    calls = context.spending.calls()
    spent = context.spending.spent(calls)
    context.emit(
        BudgetEvent(
            run=context.run_id,
            trials_done=trials_done,
            trials=context.config.trials,
            input_tokens=sum(call.input_tokens for call in calls),
            output_tokens=sum(call.output_tokens for call in calls),
            usd=spent.usd,
            evaluation_seconds=spent.evaluation_seconds,
            wall_clock_seconds=spent.wall_clock_seconds,
            caps=context.config.budget,
        )
    )


def _no_room(context: SearchContext) -> Refusal | None:
    """Why a design that is asked for now could not be evaluated.

    While everything came out of the cache, nobody knows that the next evaluation costs anything.
    """
    paid = context.spending.limits_time and context.evaluation_lengths()
    return context.spending.refuses_evaluation(context.expected_evaluation()) if paid else None


def _expected(context: SearchContext, waiting: list[int]) -> float:
    """Seconds of the shortest of the evaluations that had no room."""
    trials = context.records.trials(context.run_id, waiting)
    return min(context.expected_evaluation(fidelity_due(context, trial)) for trial in trials)


def _end(refusal: Refusal | None) -> SearchState:
    return {} if refusal is None else {"stop": str(refusal), "reached": refusal.cap}


def _stage(context: SearchContext, trials_made: int) -> Stage:
    """Self-evolution for the first lambda designs after trial 0, then knowledge distillation."""
    evolution, _ = context.config.stages
    return "self_evolution" if trials_made - 1 < evolution else "knowledge_distillation"


def _next_parent(context: SearchContext, state: SearchState, trials: Mapping[int, TrialView]) -> int | None:
    """The current architecture after what ended last: trial 0 at first, then accepted children of self-evolution."""
    current = state.get("parent")
    for number in state.get("ended", []):
        child = trials.get(number)
        # What a promotion brought moves nothing: its design was accepted, or not, by what all have.
        if child is None or child.loss is None or any(rung.measurement for rung in child.rungs[1:]):
            continue
        if current is None:
            current = number
        elif child.stage == "self_evolution":
            seed = context.turn_seed(context.records.proposal(child.proposal_id).turn)
            parent = trials[current].on_first_rung()
            if accepted(context.config, child.on_first_rung(), parent, trials.values(), seed):
                current = number
    if current is None:
        # Trial 0 failed: any design that was grown can be the first parent.
        leaders = best(trials.values(), 1) or nearest_to_limit(trials.values(), 1)
        current = leaders[0].number if leaders else None
    return current
