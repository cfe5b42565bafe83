"""What came of each version of each template: how often its answers were legal, how often its designs were better."""

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from memory.ledger import is_legal_at_once
from memory.records import Records
from memory.tables import Call, Proposal


class PromptOutcome(BaseModel):
    """One version of a template over some runs, with the counts behind each rate.

    `designs` were grown as their parents were, and `better` of them are better, which one that failed is not;
    `legal` of `answers` were legal at once. A turn counts for every template that was asked in it, for each version
    once; what a branch has from the run that it goes on from counts there alone.
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
    names = {prompt.hash: prompt.name for prompt in records.prompts()}
    runs: dict[str, int] = {}
    calls: dict[str, list[Call]] = {}
    first: dict[str, list[Proposal]] = {}
    chosen = list(run_ids)
    for run_id in chosen:
        own: dict[str, list[Call]] = {}
        begin = records.run(run_id).first_turn
        for call in records.calls(run_id):
            if call.prompt_hash is not None and call.turn >= begin:
                own.setdefault(call.prompt_hash, []).append(call)
        answers = [one for one in records.proposals(run_id) if one.attempt == 0 and one.stage != "tool"]
        for hash, asked in own.items():
            places = {(call.turn, call.candidate) for call in asked}
            runs[hash] = runs.get(hash, 0) + 1
            calls.setdefault(hash, []).extend(asked)
            first.setdefault(hash, []).extend(one for one in answers if (one.turn, one.candidate) in places)
    designs = records.wording_designs(list(calls), chosen)
    found = [
        PromptOutcome(
            name=names.get(hash, "?"),
            hash=hash,
            runs=runs[hash],
            calls=len(asked),
            answers=len(first[hash]),
            legal=sum(map(is_legal_at_once, first[hash])),
            designs=designs[hash][0],
            better=designs[hash][1],
            tokens=sum(call.input_tokens + call.output_tokens for call in asked),
            cost_usd=cost_of(asked),
        )
        for hash, asked in calls.items()
    ]
    return sorted(found, key=lambda row: (row.name, -row.calls, row.hash))


def cost_of(calls: Sequence[Call]) -> float | None:
    """What these calls cost together; None where the price of one is not known."""
    costs = [call.cost_usd for call in calls]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
