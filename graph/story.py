"""The story of one design: where it comes from, what was said for it, what was expected, measured and learnt."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from graph.trace import TracedCall
from memory.outcomes import describe_outcome
from memory.records import Records
from memory.tables import Call, Proposal
from memory.views import RungView, TrialView
from tools.architecture import Architecture


class Ancestor(BaseModel):
    """The design that it was made from."""

    model_config = ConfigDict(frozen=True)

    number: int
    design: str
    loss: float | None
    measured_after: str = ""
    """At which fidelity, where the run has several: `after short training`."""


class Rung(BaseModel):
    """What it measured at one fidelity, and how it came there: `promoted to short training: 1st of 3`."""

    model_config = ConfigDict(frozen=True)

    fidelity: str
    promotion: str
    loss: float | None
    failure: str


class Attempt(BaseModel):
    """One answer of its author, and what the checker said of it."""

    model_config = ConfigDict(frozen=True)

    attempt: int
    outcome: str
    raw: str
    rationale: list[str]
    problems: list[str]
    notes: list[str]


class Story(BaseModel):
    """All that is recorded of a trial. `conversation` has the calls in order; each repeats what was said before it.

    `rungs` are empty where its run measures at one fidelity.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    trial: int
    turn: int
    stage: str
    proposer: str
    design: str
    parameters: int
    source_parameters: int | None
    based_on: list[Ancestor]
    retrieved: list[dict[str, Any]]
    conversation: list[TracedCall]
    attempts: list[Attempt]
    others: list[str]
    forecast: float | None
    expected_score: float | None
    expected_deviation: float | None
    measurement: dict[str, Any] | None
    rungs: list[Rung]
    outcome: str
    patterns: list[str]
    children: list[int]


def story_of(records: Records, run_id: str, number: int) -> Story:
    """The story of a trial. Raises InputError where the run has none of this number."""
    return _Told(records, run_id).story(records.trial(run_id, number))


def stories_of(records: Records, run_id: str) -> list[Story]:
    """The stories of all trials of a run, by number."""
    told = _Told(records, run_id)
    return [told.story(trial) for trial in told.trials.values()]


class _Told:
    """What a run recorded, read once: its trials by number, its proposals and calls by turn."""

    def __init__(self, records: Records, run_id: str) -> None:
        self.trials = {one.number: one for one in records.trials(run_id)}
        source = records.run(run_id).source_architecture
        self._source = None if source is None else Architecture.model_validate(source).parameters
        self._proposals: dict[int, list[Proposal]] = {}
        self._calls: dict[tuple[int, int], list[Call]] = {}
        self._children: dict[int, list[int]] = {}
        self._turns: dict[int, int] = {}
        for proposal in records.proposals(run_id):
            self._proposals.setdefault(proposal.turn, []).append(proposal)
            self._turns[proposal.id] = proposal.turn
        for call in records.calls(run_id):
            self._calls.setdefault((call.turn, call.candidate), []).append(call)
        for trial in self.trials.values():
            if trial.parent_number is not None:
                self._children.setdefault(trial.parent_number, []).append(trial.number)

    def story(self, trial: TrialView) -> Story:
        """The story of a trial of the run."""
        proposals = self._proposals[self._turns[trial.proposal_id]]
        own = next(one for one in proposals if one.id == trial.proposal_id)
        place = (own.candidate, own.proposer)
        return _story(
            trial,
            own,
            self.trials,
            self._source,
            attempts=[one for one in proposals if (one.candidate, one.proposer) == place],
            beside=[one for one in proposals if one.candidate != own.candidate],
            calls=self._calls.get((own.turn, own.candidate), []),
            children=self._children.get(trial.number, []),
        )


def _story(
    trial: TrialView,
    own: Proposal,
    trials: Mapping[int, TrialView],
    source_parameters: int | None,
    attempts: Sequence[Proposal],
    beside: Sequence[Proposal],
    calls: Sequence[Call],
    children: list[int],
) -> Story:
    parent = None if trial.parent_number is None else trials.get(trial.parent_number)
    return Story(
        run=trial.run_id,
        trial=trial.number,
        turn=own.turn,
        stage=trial.stage,
        proposer=trial.proposer,
        design=trial.architecture.describe(),
        parameters=trial.architecture.parameters,
        source_parameters=source_parameters,
        based_on=[_ancestor(trials[one]) for one in own.based_on if one in trials],
        retrieved=own.retrieved,
        conversation=[TracedCall.of(call) for call in calls],
        attempts=[_attempt(one) for one in attempts],
        others=[f"{one.outcome}: {' '.join(one.problems or one.rationale)}" for one in beside],
        forecast=trial.forecast,
        expected_score=trial.expected_score,
        expected_deviation=trial.expected_deviation,
        measurement=None if trial.measurement is None else trial.measurement.model_dump(mode="json"),
        rungs=[_rung(rung) for rung in trial.rungs],
        outcome=describe_outcome(trial, parent) + (", from the records" if trial.cached else ""),
        patterns=list(trial.rationale) if trial.stage == "knowledge_distillation" else [],
        children=children,
    )


def _ancestor(trial: TrialView) -> Ancestor:
    return Ancestor(
        number=trial.number,
        design=trial.architecture.describe(),
        loss=trial.loss,
        measured_after=trial.measured_after,
    )


def _rung(rung: RungView) -> Rung:
    found = rung.measurement
    failure = "" if found is None or found.failure is None else found.failure.message
    loss = None if found is None else found.loss
    return Rung(fidelity=rung.fidelity, promotion=rung.promotion, loss=loss, failure=failure)


def _attempt(proposal: Proposal) -> Attempt:
    return Attempt(
        attempt=proposal.attempt,
        outcome=proposal.outcome,
        raw=proposal.raw,
        rationale=proposal.rationale,
        problems=proposal.problems,
        notes=proposal.notes,
    )
