"""Runs side by side: what each found by itself, and which is ahead after equal trials and after equal tokens."""

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from graph.prompt_outcomes import cost_of
from memory.ledger import is_legal_at_once
from memory.outcomes import change_of_score
from memory.records import Records
from memory.tables import Call, Proposal, Run
from memory.trial_records import measured_alike
from memory.views import TrialView
from tools.errors import InputError


class BestTrial(BaseModel):
    """A design that is the best of some."""

    model_config = ConfigDict(frozen=True)

    trial: int
    value: float
    """Its loss, or its accuracy where the run is after that."""


class RunFigures(BaseModel):
    """What a run did by itself, after the fork where runs share their beginning.

    `better` of `designs` are better than their parents, `legal` of `answers` were legal at once. `best` is of its own
    trials, `best_at_equal_trials` of the first ones, `best_at_equal_tokens` of those that took no more tokens than the
    run with the fewest. `prompts` has the versions of each template that it was asked with.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    name: str
    branch_of: str | None
    branch_at: int | None
    first_turn: int
    trials: int
    best: BestTrial | None
    best_at_equal_trials: BestTrial | None
    best_at_equal_tokens: BestTrial | None
    answers: int
    legal: int
    designs: int
    better: int
    tokens: int
    usd: float | None
    evaluation_seconds: float
    prompts: dict[str, list[str]]


class Difference(BaseModel):
    """A run against the first one: its value less the other's, None where one has no design."""

    model_config = ConfigDict(frozen=True)

    run: str
    at_equal_trials: float | None
    at_equal_tokens: float | None


class RunComparison(BaseModel):
    """Several runs. `notes` say what keeps their figures from being compared; then there are no differences."""

    model_config = ConfigDict(frozen=True)

    objective: str
    equal_trials: int
    equal_tokens: int
    runs: tuple[RunFigures, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def compare_runs(records: Records, names: Sequence[str]) -> RunComparison:
    """Compare runs; a branch and the run that it goes on from by what each did after the fork.

    Raises InputError where one of the names is no run, or fewer than two runs are meant.
    """
    runs = list({run.id: run for run in map(records.run, names)}.values())
    if len(runs) < 2:
        raise InputError("A comparison needs two runs: penjing compare RUN RUN.")
    sides = [_Side(records, run, _fork(run, runs)) for run in runs]
    notes = _notes(runs)
    trials, tokens = min(len(side.trials) for side in sides), min(side.tokens for side in sides)
    figures = tuple(side.figures(trials, tokens) for side in sides)
    return RunComparison(
        objective=sides[0].objective,
        equal_trials=trials,
        equal_tokens=tokens,
        runs=figures,
        differences=() if _apart(runs) else tuple(_difference(one, figures[0]) for one in figures[1:]),
        notes=notes,
    )


class _Side:
    """One run, with what it did from turn `first` on."""

    def __init__(self, records: Records, run: Run, first: int) -> None:
        self.run, self.first = run, first
        self.objective = str(run.config.get("objective", "loss"))
        self._proposals = {one.id: one for one in records.proposals(run.id)}
        # On the first rung all trials of both runs compare.
        self._all = {trial.number: trial.on_first_rung() for trial in records.trials(run.id)}
        self._calls = [call for call in records.calls(run.id) if call.turn >= first]
        self._names = {prompt.hash: prompt.name for prompt in records.prompts()}
        # What was there before the fork is no design of its own; neither is the baseline, where there is no fork.
        own = [one for one in self._all.values() if self._turn(one) >= max(first, 1)]
        self.trials = [one for one in own if one.measurement is not None]
        self._seconds = sum(float(one.measurement.get("seconds", 0.0)) for one in records.evaluations(run.id))
        if first > run.first_turn:
            before = [one for one in self._all.values() if self._turn(one) < first]
            rungs = [rung for trial in before for rung in trial.rungs or (trial,) if not rung.cached]
            self._seconds -= sum(one.measurement.seconds for one in rungs if one.measurement is not None)

    @property
    def tokens(self) -> int:
        return _tokens(self._calls)

    def figures(self, trials: int, tokens: int) -> RunFigures:
        changes = [self._change(trial) for trial in self.trials]
        known = [change for change in changes if change is not None]
        asked = [one for one in self._proposals.values() if one.turn >= self.first and one.prompt_hash is not None]
        first = [one for one in asked if one.attempt == 0]
        within = [trial for trial in self.trials if self._tokens_until(trial) <= tokens]
        return RunFigures(
            run=self.run.id,
            name=self.run.name,
            branch_of=self.run.branch_of,
            branch_at=self.run.branch_at,
            first_turn=self.first,
            trials=len(self.trials),
            best=_best(self.trials),
            best_at_equal_trials=_best(self.trials[:trials]),
            best_at_equal_tokens=_best(within),
            answers=len(first),
            legal=sum(map(is_legal_at_once, first)),
            designs=len(known),
            better=sum(change < 0 for change in known),
            tokens=self.tokens,
            usd=cost_of(self._calls),
            evaluation_seconds=max(0.0, self._seconds),
            prompts=self._versions(),
        )

    def _versions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for hash in sorted({call.prompt_hash for call in self._calls if call.prompt_hash is not None}):
            found.setdefault(self._names.get(hash, "?"), []).append(hash)
        return dict(sorted(found.items()))

    def _proposal(self, trial: TrialView) -> Proposal:
        return self._proposals[trial.proposal_id]

    def _turn(self, trial: TrialView) -> int:
        return self._proposal(trial).turn

    def _change(self, trial: TrialView) -> float | None:
        return change_of_score(trial, None if trial.parent_number is None else self._all.get(trial.parent_number))

    def _tokens_until(self, trial: TrialView) -> int:
        return _tokens(call for call in self._calls if call.turn <= self._turn(trial))


def _fork(run: Run, runs: Sequence[Run]) -> int:
    """From which turn on a run counts: after the last fork at which one of the others left it, or it left another."""
    left = [other.first_turn for other in runs if other.branch_of == run.id]
    return max([run.first_turn, *left])


def _tokens(calls: Iterable[Call]) -> int:
    return sum(call.input_tokens + call.output_tokens for call in calls)


def _best(trials: Sequence[TrialView]) -> BestTrial | None:
    known = [(trial.score, trial.number) for trial in trials if trial.acceptable and trial.score is not None]
    if not known:
        return None
    score, number = min(known)
    return BestTrial(trial=number, value=abs(score))


def _difference(one: RunFigures, first: RunFigures) -> Difference:
    def less(mine: BestTrial | None, other: BestTrial | None) -> float | None:
        return None if mine is None or other is None else mine.value - other.value

    return Difference(
        run=one.run,
        at_equal_trials=less(one.best_at_equal_trials, first.best_at_equal_trials),
        at_equal_tokens=less(one.best_at_equal_tokens, first.best_at_equal_tokens),
    )


def _apart(runs: Sequence[Run]) -> list[str]:
    """The runs whose figures are not measured as those of the first one."""
    first = runs[0]

    def alike(one: Run) -> bool:
        return (one.source, one.corpus) == (first.source, first.corpus) and measured_alike(one, first)

    def aim(one: Run) -> str:
        return str(one.config.get("objective", "loss"))

    return [one.id for one in runs[1:] if not alike(one) or aim(one) != aim(first)]


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    found = [
        f"{one} has another source, corpus, data, recipe or objective than {runs[0].id}: their values do not compare."
        for one in _apart(runs)
    ]
    if len({run.config.get("seed") for run in runs}) > 1:
        found.append("The runs have different seeds, which also makes a difference.")
    return (*found, "One search each: a small difference may be chance.")
