"""The contract of everything that proposes designs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from memory.retrieval import RetrievedDesign, RetrievedLesson
from memory.views import TrialView
from tools.architecture import Architecture
from tools.spaces import DesignDraft, PrunedLMSpace


@dataclass(frozen=True)
class Rejection:
    """A proposal that the checker sent back: the conversation so far, the answer, and what was wrong with it."""

    messages: tuple[tuple[str, str], ...]
    raw: str
    problems: tuple[str, ...]
    rationale: tuple[str, ...]
    based_on: tuple[int, ...]


@dataclass(frozen=True)
class Situation:
    """All that a proposer may know at its turn.

    `trials` are the finished ones of this run in their order; `parent` is the current architecture of self-evolution;
    `nearby` and `lessons` were retrieved from memory for this turn; `seed` is this turn's own.
    """

    turn: int
    space: PrunedLMSpace
    trials: tuple[TrialView, ...]
    parent: TrialView | None
    seed: int
    nearby: tuple[RetrievedDesign, ...] = ()
    lessons: tuple[RetrievedLesson, ...] = ()
    rejection: Rejection | None = None

    def trial(self, number: int) -> TrialView:
        """The trial of that number."""
        return next(trial for trial in self.trials if trial.number == number)


@dataclass(frozen=True)
class Proposed:
    """One proposal, legal or not. `draft` is None where the answer could not be read; `error` then says why.

    Layers that the draft does not name keep their shape in `base`. `based_on` lists the trials that were studied.
    """

    draft: DesignDraft | None
    base: Architecture
    rationale: tuple[str, ...] = ()
    based_on: tuple[int, ...] = ()
    raw: str = ""
    parsed: dict[str, Any] | None = None
    prompt_hash: str | None = None
    error: str | None = None
    # Only for language models: what to repeat when the checker sends the answer back.
    messages: tuple[tuple[str, str], ...] = field(default=())


class Proposer(ABC):
    """Contract: `ask` is called once for each turn, and again with a `rejection` while its answer is illegal.

    A proposer keeps no state between turns: everything is in the situation, so that a resumed search goes on exactly
    as one that was never stopped. Equal situations and seeds give equal proposals.
    """

    name: ClassVar[str]

    @abstractmethod
    async def ask(self, situation: Situation) -> Proposed:
        """The next design. Raises ChatModelError where a language model's endpoint fails."""
