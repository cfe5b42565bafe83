"""The ledger of a search: what became of the answers of its language models, and what went wrong on the way."""

import json
from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from memory.tables import Call, Proposal

DUPLICATE = "it is the same design as trial"
"""How the checker's words for a design that was tried before begin."""
SCREENED = "screened"
"""The outcome of a legal design that was not paid for, since more was expected of another one of its turn."""
EDITED = "edited"
"""The outcome of a legal design that the user changed before it was paid for."""
REJECTED_BY_USER = "the user rejects"
"""How what a user says against a legal design begins."""

_ENDS = ("valid", "repaired", "projected", "edited", "rejected")

TOOL_CALLS = "ToolCalls"
"""The schema of answers that call tools."""


class Ledger(BaseModel):
    """Answers to questions for a design, the turns that they were given in, and faults of all calls, counted.

    `raw` counts every answer; of these `parsed` fit the schema; of these `illegal` broke the rules of the space and
    `duplicate` named a design that was tried before, be it the current one. A turn of the agents ends as `valid` at
    once, as `repaired` by its author, as `projected` to the nearest legal new design, as `edited` by the user, or as
    `rejected`; where it had several designs, as the one of them that was paid for. `screened` counts legal designs,
    also of judges, that were not paid for, since more was expected of another one of their turn. `rejected_by_user`
    counts legal designs, also of judges, that the user did not let be paid for.
    """

    model_config = ConfigDict(frozen=True)

    raw: int = 0
    parsed: int = 0
    illegal: int = 0
    duplicate: int = 0
    turns: int = 0
    valid: int = 0
    repaired: int = 0
    projected: int = 0
    edited: int = 0
    rejected: int = 0
    screened: int = 0
    rejected_by_user: int = 0
    judged: int = 0
    """Turns that a judge took over."""
    calls: int = 0
    tool_calls: int = 0
    """Calls of tools that the agents asked for, also those that could not be made."""
    faults: dict[str, int] = {}
    """What went wrong in calls, by kind: attempts that failed (`HTTP 429`, `timeout`) and answers (`empty`)."""

    @property
    def rates(self) -> dict[str, float]:
        """Parsed, illegal and duplicate answers as shares of all answers, ends of turns as shares of all turns."""
        answers = {name: getattr(self, name) / self.raw for name in ("parsed", "illegal", "duplicate") if self.raw}
        return answers | {name: getattr(self, name) / self.turns for name in _ENDS if self.turns}


def is_rejected_by_user(proposal: Proposal) -> bool:
    """Whether the user did not let this legal design be paid for."""
    return any(words.startswith(REJECTED_BY_USER) for words in proposal.problems)


def is_legal_at_once(proposal: Proposal) -> bool:
    """Whether an answer needed neither repair nor projection, whatever the user made of it."""
    legal = proposal.outcome in ("valid", SCREENED, EDITED) or is_rejected_by_user(proposal)
    return legal and proposal.attempt == 0 and not _of_checker(proposal)


def ledger_of(proposals: Iterable[Proposal], calls: Iterable[Call]) -> Ledger:
    """The ledger of these proposals and calls of one run; a turn whose author still has to answer is in no end."""
    proposals, calls = list(proposals), list(calls)
    # Only what was asked of a language model has a prompt.
    answers = [proposal for proposal in proposals if proposal.prompt_hash is not None]
    repeated = [answer for answer in answers if any(words.startswith(DUPLICATE) for words in answer.problems)]
    faulty = [answer for answer in answers if answer.parsed is not None and _of_checker(answer)]
    ends = Counter(_ends(answers).values())
    return Ledger(
        raw=len(answers),
        parsed=sum(answer.parsed is not None for answer in answers),
        illegal=len(faulty) - len(repeated),
        duplicate=len(repeated),
        turns=len({answer.turn for answer in answers}),
        **{name: ends[name] for name in _ENDS},
        screened=sum(proposal.outcome == SCREENED for proposal in proposals),
        rejected_by_user=sum(map(is_rejected_by_user, proposals)),
        judged=len({proposal.turn for proposal in proposals if proposal.stage == "judge"}),
        calls=len(calls),
        tool_calls=sum(map(_tool_calls, calls)),
        faults=dict(Counter(fault for call in calls for fault in call.faults).most_common()),
    )


def _of_checker(proposal: Proposal) -> list[str]:
    return [words for words in proposal.problems if not words.startswith(REJECTED_BY_USER)]


def _ends(answers: Iterable[Proposal]) -> dict[int, str]:
    """How each turn ended: as the last answer to the question for a design, of several designs as the one in use."""
    last = {(answer.turn, answer.candidate): answer.outcome for answer in answers}
    ends: dict[int, str] = {}
    for (turn, _), outcome in last.items():
        if ends.get(turn) in (None, "rejected", SCREENED):
            ends[turn] = outcome
    return ends


def _tool_calls(call: Call) -> int:
    """How many calls of tools an answer holds; where a model may call some, it may also answer in text."""
    if call.schema_name != TOOL_CALLS:
        return 0
    try:
        value = json.loads(call.answer)
    except ValueError:
        return 0
    calls = value.get("calls") if isinstance(value, dict) else None
    return len(calls) if isinstance(calls, list) else 0
