"""The contract of everything that proposes designs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol

from pydantic import BaseModel
from typing_extensions import TypeVar

from agents.proposers.standing import Tried
from memory.recollection import NOTHING, Recollection
from memory.retrieval import Rankable
from memory.trial_sequence import TrialSequence
from memory.views import TrialView
from tools.architecture import Architecture
from tools.spaces import DesignDraft, PrunedLMSpace

if TYPE_CHECKING:
    from agents.outlook import Outlook

# Without parameters a proposal is one of the real space; judges and agents propose in any.
DesignT = TypeVar("DesignT", default=Architecture)
DraftT = TypeVar("DraftT", bound=BaseModel, default=DesignDraft)
TrialT = TypeVar("TrialT", bound="AgentTrial[Any]", default=TrialView)
SituationT = TypeVar("SituationT", contravariant=True, default="Situation")
_DesignT = TypeVar("_DesignT", covariant=True)
_TrialT = TypeVar("_TrialT", covariant=True)


@dataclass(frozen=True)
class Rejection:
    """A proposal that the checker sent back: the conversation so far, the answer, and what was wrong with it."""

    messages: tuple[tuple[str, str], ...]
    raw: str
    problems: tuple[str, ...]
    rationale: tuple[str, ...]
    based_on: tuple[int, ...]


class AgentTrial(Rankable, Protocol[_DesignT]):
    """A design that was tried, as the agents need it in any space; `TrialView` is the real one's."""

    @property
    def name(self) -> str:
        """Across runs."""

    @property
    def architecture(self) -> _DesignT:
        """The design."""


class AgentStanding(Protocol[_TrialT]):
    """A search as an agent sees it at its turn, in any space; see `Situation`, which is the real one's."""

    @property
    def turn(self) -> int:
        """Number of the turn."""

    @property
    def seed(self) -> int:
        """The turn's own."""

    @property
    def trials(self) -> Sequence[_TrialT]:
        """The finished ones of this run in their order."""

    @property
    def parent(self) -> _TrialT | None:
        """The current architecture of self-evolution."""

    @property
    def recollection(self) -> Recollection:
        """What memory gave for this turn."""

    @property
    def guidance(self) -> str:
        """What the user wants the agents to know, in free words."""

    @property
    def running(self) -> Sequence[_TrialT]:
        """The trials whose evaluation is under way."""

    @property
    def outlook(self) -> "Outlook | None":
        """What a classical searcher expects, where agents are shown it."""

    @property
    def rejection(self) -> Rejection | None:
        """What the checker sent back."""

    def trial(self, number: int) -> _TrialT:
        """The trial of that number."""


@dataclass(frozen=True)
class Situation:
    """All that a proposer may know at its turn; a `Standing` and an `AgentStanding` of the real space.

    `trials` are those of this run in their order, and `running` those of them whose evaluation is under way; `parent`
    is the current architecture of self-evolution; `recollection` is what memory gave for this turn; `seed` is this
    turn's own; `guidance` is the user's; `outlook` is what a classical searcher expects, where the agents are shown it.
    """

    turn: int
    space: PrunedLMSpace
    trials: tuple[TrialView, ...]
    parent: TrialView | None
    seed: int
    recollection: Recollection = NOTHING
    guidance: str = ""
    outlook: "Outlook | None" = None
    rejection: Rejection | None = None
    running: tuple[TrialView, ...] = ()

    @cached_property
    def history(self) -> tuple[Tried[Architecture], ...]:
        """The trials as judges see them: a design above a measured limit of the run counts as failed.

        They are told what was measured on the first rung, where all are and where what they propose begins.
        """
        trials = self.trials if isinstance(self.trials, TrialSequence) else TrialSequence(self.trials)
        tried = list(trials.each(_tried))
        # One that was promoted is under way, and yet has what they are told.
        running = {trial.number for trial in self.running if trial.measurement is None}
        for place in [place for place, one in enumerate(tried) if one.number in running] if running else ():
            tried[place] = tried[place]._replace(running=True)
        return tuple(tried)

    def trial(self, number: int) -> TrialView:
        """The trial of that number."""
        return next(trial for trial in self.trials if trial.number == number)


def _tried(trial: TrialView) -> Tried[Architecture]:
    trial = trial.on_first_rung()
    return Tried(trial.number, trial.architecture, trial.score if trial.acceptable else None)


@dataclass(frozen=True)
class Proposed(Generic[DesignT, DraftT]):
    """One proposal, legal or not. `draft` is None where the answer could not be read; `error` then says why.

    What the draft does not name stays as in `base`. `based_on` lists the trials that were studied, `shown` what of
    memory stood in the prompt.
    """

    draft: DraftT | None
    base: DesignT
    rationale: tuple[str, ...] = ()
    based_on: tuple[int, ...] = ()
    raw: str = ""
    parsed: dict[str, Any] | None = None
    prompt_hash: str | None = None
    error: str | None = None
    shown: Recollection = NOTHING
    # Only for language models: what to repeat when the checker sends the answer back.
    messages: tuple[tuple[str, str], ...] = field(default=())


class Proposer(ABC, Generic[DesignT, DraftT, SituationT]):
    """Contract: `ask` is called once for each turn, and again with a `rejection` while its answer is illegal.

    A proposer keeps no state between turns: everything is in the situation, so that a resumed search goes on exactly
    as one that was never stopped. Equal situations and seeds give equal proposals.
    """

    name: ClassVar[str]

    @abstractmethod
    async def ask(self, situation: SituationT) -> Proposed[DesignT, DraftT]:
        """The next design. Raises ChatModelError where a language model's endpoint fails."""
