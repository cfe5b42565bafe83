"""Asking the user before a trial is paid for: what waits, the one way to decide it, and the wait itself.

A decision is a row in the records. Whoever takes it (the terminal of the search, another one, a page) writes it by
`decide`; the search reads it, also where nothing ran when it was taken.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.surrogate import Expectation
from graph.config import SearchConfig
from graph.context import RunContext, SearchContext, workers_of
from graph.events import ApprovalEvent
from graph.folder import Home
from graph.guidance import LONGEST
from graph.nodes.check import examiner_of
from graph.screening import expectation_in_words
from memory.approval_records import Decision
from memory.records import Records
from memory.tables import Approval
from memory.views import TrialView
from tools.architecture import Architecture
from tools.errors import InputError
from tools.spaces import DesignDraft

_POLL_SECONDS = 0.5


class Waiting(BaseModel):
    """A design that waits for its user. `draft` is what can be edited: the design as its author would write it.

    `parent` is the trial that it was made from, `change` what is other than there, or than in the source.
    `forecast` is the saliency of what it cuts, `expected` what the surrogate expects in words, where it knows enough.
    `expected_seconds` is what its evaluation will take, going by those of the run so far.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    trial: int
    turn: int
    stage: str
    proposer: str
    rationale: tuple[str, ...]
    design: str
    draft: DesignDraft
    parent: int | None
    change: tuple[str, ...]
    parameters: int
    file_mb: float
    forecast: float | None
    expected: str
    expected_seconds: float
    asked_at: datetime


def waiting_of(records: Records, config: SearchConfig, run_id: str) -> list[Waiting]:
    """The trials of a run that wait for a decision, by number."""
    approvals = {one.trial: one for one in records.approvals(run_id, waiting=True)}
    if not approvals:
        return []
    context = _context(records, config, run_id)
    seconds = context.expected_evaluation()
    trials = {trial.number: trial for trial in records.trials(run_id)}
    return [_waiting(context, trials, trials[number], one, seconds) for number, one in approvals.items()]


def decide(
    records: Records,
    config: SearchConfig,
    run_id: str,
    number: int,
    decision: Decision,
    design: str | Mapping[str, Any] | DesignDraft | None = None,
    words: str = "",
) -> Approval:
    """Decide what becomes of a trial that waits, for good.

    Args:
        design: for `edit`, as JSON text or plain values; what it does not name stays as proposed.
        words: for `reject`, what goes back to the author.

    Raises:
        InputError: the trial is unknown or waits for nothing any more, the design is illegal or was tried, or there
            are no words.
    """
    trial = records.trial(run_id, number)
    if decision == "reject":
        words = words.strip()
        if not words or len(words) > LONGEST:
            raise InputError(f"Say in 1 to {LONGEST:,} characters why trial {number} is rejected: its author reads it.")
    known = next((one for one in records.approvals(run_id) if one.trial == number), None)
    if decision != "edit" or known is None or known.decision is not None:
        return records.decide_approval(run_id, number, decision, words=words)
    context = _context(records, config, run_id)
    draft = _draft(trial.architecture, {} if design is None else design)
    chosen = context.space.stated(draft, trial.architecture)
    if chosen == trial.architecture:
        return records.decide_approval(run_id, number, "accept")
    finding = examiner_of(context).examine(draft, trial.architecture, 0, False, 0)
    if finding.design is None:
        raise InputError(f"Trial {number} cannot become this design: {' '.join(finding.problems)}")
    notes = _notes(trial.architecture, finding.design)
    return records.decide_approval(run_id, number, "edit", finding.design, notes=notes)


def difference(before: Architecture, after: Architecture) -> tuple[str, ...]:
    """What is other in one design than in another of as many layers: `layers 3-5: ffn 1536 -> 1280`."""
    hidden = (before.hidden_size, after.hidden_size)
    found = [] if hidden[0] == hidden[1] else [f"hidden {hidden[0]} -> {hidden[1]}"]
    start, words = 0, [_layer(*pair) for pair in zip(before.layers, after.layers, strict=True)]
    for place in range(1, len(words) + 1):
        if place < len(words) and words[place] == words[start]:
            continue
        where = f"layer {start}" if place == start + 1 else f"layers {start}-{place - 1}"
        found += [f"{where}: {words[start]}"] if words[start] else []
        start = place
    return tuple(found)


def asks_anybody(context: SearchContext) -> bool:
    """Whether trials of the run may wait for a decision, or have one."""
    return context.config.approve or context.cassette is not None or bool(context.records.approvals(context.run_id))


def ask(context: SearchContext, numbers: Sequence[int]) -> list[int]:
    """Ask about those of these trials that nobody was asked about yet; the ones that wait for a decision now.

    Trial 0 is the baseline, which the settings have decided. What is on the cassette is decided as it was then, and a
    replay asks nobody. Without the setting `approve` nothing waits, also what was asked about with it.
    """
    known = {one.trial: one for one in context.records.approvals(context.run_id)}
    trials = {trial.number: trial for trial in context.records.trials(context.run_id, numbers)}
    waiting = []
    for number, trial in sorted(trials.items()):
        if trial.stage == "greedy" or (number in known and known[number].decision is not None):
            continue
        proposal = context.records.proposal(trial.proposal_id)
        place = (proposal.turn, proposal.candidate, proposal.attempt)
        taped = None if context.cassette is None else context.cassette.decision(*place)
        replays = context.cassette is not None and not context.cassette.recording
        asks = context.config.approve and not replays
        if taped is None and number not in known and not asks:
            continue
        turn, candidate, attempt = place
        context.records.ask_approval(
            Approval(
                run_id=context.run_id,
                trial=number,
                turn=turn,
                candidate=candidate,
                attempt=attempt,
                proposed=trial.architecture.model_dump(mode="json"),
            )
        )
        if taped is not None:
            design = None if taped.design is None else Architecture.model_validate(taped.design)
            notes = [] if design is None else _notes(trial.architecture, design)
            context.records.decide_approval(context.run_id, number, taped.decision, design, taped.words, notes)
        elif asks:
            waiting.append(number)
        else:
            context.records.decide_approval(context.run_id, number, "accept", words="approve was switched off")
    return waiting


async def wait_for_decisions(context: SearchContext) -> None:
    """Return when nothing of the run waits any more.

    The wall clock of the budget stands still meanwhile, but for evaluations that are under way.
    """
    records, run_id = context.records, context.run_id
    numbers = [one.trial for one in records.approvals(run_id, waiting=True)]
    for one in waiting_of(records, context.config, run_id):
        context.emit(ApprovalEvent(run=run_id, trial=one.trial, design=one.design, change=one.change))
    with context.tracing.span("approval", "CHAIN", {"penjing.trials": numbers}):
        while await asyncio.to_thread(records.approvals, run_id, True):
            with nullcontext() if context.under_way.busy else context.spending.paused():
                await asyncio.sleep(_POLL_SECONDS)


def _context(records: Records, config: SearchConfig, run_id: str) -> RunContext:
    folder = Home(config.home).run(run_id)
    workers = workers_of(config, folder)
    context = RunContext(run_id=run_id, config=config, records=records, workers=workers, emit=lambda _: None)
    if not context.survey.folder.is_dir():
        raise InputError(f"The survey of run {run_id} left the cache; `penjing resume {run_id}` takes it again.")
    return context


def _waiting(
    context: RunContext, trials: Mapping[int, TrialView], trial: TrialView, approval: Approval, seconds: float
) -> Waiting:
    parent = None if trial.parent_number is None else trials[trial.parent_number]
    before = context.survey.architecture if parent is None else parent.architecture
    expected = Expectation(trial.forecast, trial.expected_score, trial.expected_deviation)
    return Waiting(
        run=trial.run_id,
        trial=trial.number,
        turn=approval.turn,
        stage=trial.stage,
        proposer=trial.proposer,
        rationale=trial.rationale,
        design=trial.architecture.describe(),
        draft=context.space.draft(trial.architecture),
        parent=trial.parent_number,
        change=difference(before, trial.architecture),
        parameters=trial.architecture.parameters,
        file_mb=trial.file_mb,
        forecast=trial.forecast,
        expected=expectation_in_words(expected, context.config.objective, context.after_first_rung),
        expected_seconds=seconds,
        asked_at=approval.asked_at,
    )


def _notes(before: Architecture, after: Architecture) -> list[str]:
    return [f"the user's edit: {words}" for words in difference(before, after)]


def _draft(proposed: Architecture, given: str | Mapping[str, Any] | DesignDraft) -> DesignDraft:
    if isinstance(given, DesignDraft):
        return given
    try:
        values = json.loads(given) if isinstance(given, str) else dict(given)
    except ValueError as error:
        raise InputError(f"The edited design is no JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InputError('The edited design is no JSON object: write {"hidden_size": ..., "spans": [...]}.')
    try:
        return DesignDraft.model_validate({"hidden_size": proposed.hidden_size, "spans": [], **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"The edited design cannot be read: {where}: {first['msg']}.") from error


def _layer(before: Any, after: Any) -> str:
    pairs = (
        ("kv_heads", before.num_key_value_heads, after.num_key_value_heads),
        ("ffn", before.intermediate_size, after.intermediate_size),
    )
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
