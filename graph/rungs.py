"""The rungs of a search as the records have them, and which trial climbs next."""

from collections.abc import Collection, Mapping, Sequence

from graph.budget import Refusal
from graph.context import SearchContext
from graph.events import PromotionEvent
from graph.promotion import Promoted, next_promotion
from memory.tables import Promotion
from memory.views import RungView, TrialView
from tools.fidelity import FIDELITIES, Fidelity


def climber(context: SearchContext, running: Collection[int]) -> int | None:
    """The trial that is to be measured on a higher rung next; None where a new design is to begin on the first one.

    A trial that was promoted and that nobody measures comes before all others: its process was killed, or the budget
    had no room for it then. One for which there is none now is passed over.
    """
    if context.config.ladder.top == 0:
        return None
    trials = context.finished_trials()
    for trial in trials:
        if trial.waits_for and trial.number not in running and _refusal(context, trial.waits_for.rung) is None:
            return trial.number
    found = _next(context, trials)
    return None if found is None else found.number


def refused_climb(context: SearchContext) -> Refusal | None:
    """Why the budget has no room for a promotion that is due; None where none is due, or it has."""
    trials = context.finished_trials()
    due = [trial.waits_for.rung for trial in trials if trial.waits_for]
    found = _next(context, trials, also_closed=True)
    due += [] if found is None else [found.rung]
    return next((refusal for rung in due if (refusal := _refusal(context, rung)) is not None), None)


def promote(context: SearchContext, number: int, turn: int) -> None:
    """Record that this trial, which is the `climber`, goes up, and tell it; one that is on its way stays so."""
    trials = context.finished_trials()
    trial = next(one for one in trials if one.number == number)
    if trial.waits_for is not None:
        return
    found = _next(context, trials)
    if found is None or found.number != number:
        raise ValueError(f"trial {number} is not the next to be promoted")
    fidelities = context.config.ladder.fidelities
    context.records.add_promotion(
        Promotion(
            run_id=context.run_id,
            trial_id=trial.trial_id,
            turn=turn,
            rung=found.rung,
            fidelity=fidelities[found.rung],
            rank=found.rank,
            rivals=found.rivals,
        )
    )
    context.emit(
        PromotionEvent(
            run=context.run_id,
            trial=number,
            below=fidelities[found.rung - 1],
            fidelity=fidelities[found.rung],
            rank=found.rank,
            rivals=found.rivals,
        )
    )


def fidelity_due(context: SearchContext, trial: TrialView) -> Fidelity:
    """At which fidelity the trial is measured next, or was last."""
    waits = trial.waits_for
    rung = waits.rung if waits is not None else max(0, len(trial.rungs) - 1)
    return context.config.ladder.fidelities[rung]


def rungs_due(context: SearchContext, numbers: Collection[int]) -> dict[int, int]:
    """The rung on which each of these trials, which are under way, is measured."""
    trials = context.records.trials(context.run_id, numbers)
    # A killed process may have written a result down that its graph does not know of.
    return {trial.number: max(0, len(trial.rungs) - 1) for trial in trials}


def rungs_known(context: SearchContext, evaluated: Collection[int], due: Mapping[int, int]) -> set[tuple[int, int]]:
    """What the graph knows to have ended: the `evaluated` trials with each rung below the one that is `due`."""
    trials = context.records.trials(context.run_id, evaluated)
    return {(trial.number, rung) for trial in trials for rung in range(due.get(trial.number, max(1, len(trial.rungs))))}


def fidelity_of(trial: TrialView) -> Fidelity | None:
    """That of its figures; None where it has none at a fidelity of a ladder."""
    return next((one for one in FIDELITIES if one == trial.fidelity), None)


def _refusal(context: SearchContext, rung: int) -> Refusal | None:
    """Why the budget has no room for an evaluation on this rung, if it has none."""
    return context.spending.refuses_evaluation(context.expected_evaluation(context.config.ladder.fidelities[rung]))


def _closed(context: SearchContext) -> list[int]:
    """The rungs for which the budget has no room.

    While everything came out of the cache, nobody knows that the next evaluation costs anything.
    """
    if not (context.spending.limits_time and context.evaluation_lengths()):
        return []
    return [rung for rung in range(1, context.config.ladder.top + 1) if _refusal(context, rung) is not None]


def _next(context: SearchContext, trials: Sequence[TrialView], also_closed: bool = False) -> Promoted | None:
    ladder = context.config.ladder
    rungs: list[dict[int, float | None]] = [{} for _ in ladder.fidelities]
    promoted: list[set[int]] = [set() for _ in ladder.fidelities]
    for trial in trials:
        for rung in trial.rungs:
            if rung.rung:
                promoted[rung.rung - 1].add(trial.number)
            if rung.measurement is not None:
                rungs[rung.rung][trial.number] = _score(trial, rung)
    return next_promotion(rungs, promoted, ladder.reduction_factor, () if also_closed else _closed(context))


def _score(trial: TrialView, rung: RungView) -> float | None:
    """None where it failed there or was over a limit, so that it cannot go up."""
    there = trial.on_rung(rung)
    return there.score if there.acceptable else None
