"""What came of each version of each template: how often its answers were legal, how often its designs were better."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from memory.ledger import SCREENED
from memory.outcomes import change_of_score
from memory.records import Records

LEGAL = ("valid", SCREENED)
"""Outcomes of first answers that needed neither repair nor projection."""


class PromptOutcome(BaseModel):
    """One version of a template over some runs, with the counts behind each rate.

    `designs` were measured at the fidelity of their parents, and `better` of them are better; `legal` of `answers` were
    legal at once. A turn counts for every template that was asked in it, for each version once.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    hash: str
    runs: int = 0
    calls: int = 0
    answers: int = 0
    legal: int = 0
    designs: int = 0
    better: int = 0
    tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def improvement_rate(self) -> float | None:
        """Share of the designs that are better than their parents."""
        return self.better / self.designs if self.designs else None

    @property
    def validity(self) -> float | None:
        """Share of the first answers that were legal."""
        return self.legal / self.answers if self.answers else None


def prompt_outcomes(records: Records, run_ids: Iterable[str]) -> list[PromptOutcome]:
    """One row for each version that was used, by name, the most used first."""
    found: dict[str, PromptOutcome] = {}
    for run_id in run_ids:
        for row in _of_run(records, run_id):
            found[row.hash] = _added(found[row.hash], row) if row.hash in found else row
    return sorted(found.values(), key=lambda row: (row.name, -row.calls, row.hash))


def _of_run(records: Records, run_id: str) -> Iterable[PromptOutcome]:
    names = {prompt.hash: prompt.name for prompt in records.prompts()}
    trials = {trial.number: trial for trial in records.trials(run_id)}
    by_proposal = {trial.proposal_id: trial for trial in trials.values()}
    proposals, calls = records.proposals(run_id), records.calls(run_id)
    for hash in sorted({call.prompt_hash for call in calls if call.prompt_hash is not None}):
        own = [call for call in calls if call.prompt_hash == hash]
        places = {(call.turn, call.candidate) for call in own}
        answered = [one for one in proposals if (one.turn, one.candidate) in places and one.stage != "tool"]
        first = [one for one in answered if one.attempt == 0]
        changes = []
        for proposal in answered:
            trial = by_proposal.get(proposal.id)
            parent = None if trial is None or trial.parent_number is None else trials.get(trial.parent_number)
            change = None if trial is None else change_of_score(trial, parent)
            if change is not None:
                changes.append(change)
        costs = [call.cost_usd for call in own]
        known = [cost for cost in costs if cost is not None]
        yield PromptOutcome(
            name=names.get(hash, "?"),
            hash=hash,
            runs=1,
            calls=len(own),
            answers=len(first),
            legal=sum(one.outcome in LEGAL for one in first),
            designs=len(changes),
            better=sum(change < 0 for change in changes),
            tokens=sum(call.input_tokens + call.output_tokens for call in own),
            cost_usd=sum(known) if len(known) == len(costs) else None,
        )


def _added(one: PromptOutcome, other: PromptOutcome) -> PromptOutcome:
    names = ("runs", "calls", "answers", "legal", "designs", "better", "tokens")
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    known = one.cost_usd is not None and other.cost_usd is not None
    cost = (one.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None
    return one.model_copy(update={**sums, "cost_usd": cost})
