"""The evolver: SEKI's self-evolution (arXiv 2502.20422, section 4.1).

Two linked answers: from the current architecture and its measurements to strategies, from those to a refined design.
"""

from dataclasses import replace
from typing import ClassVar, Generic

from agents.conversation import Ask, Question, ask_again, proposed_from, system_message
from agents.dialects.base import Dialect
from agents.proposers.base import AgentStanding, DesignT, DraftT, Proposed, Proposer, TrialT
from agents.quoting import as_answered, memory_rows
from prompts.library import PromptLibrary


class Evolver(Proposer[DesignT, DraftT, AgentStanding[TrialT]], Generic[DesignT, DraftT, TrialT]):
    """Refines `situation.parent`, in the space of the dialect."""

    name: ClassVar[str] = "evolver"

    def __init__(self, ask: Ask, prompts: PromptLibrary, dialect: Dialect[DesignT, DraftT, TrialT]) -> None:
        self._ask, self._prompts, self._dialect = ask, prompts, dialect

    async def ask(self, situation: AgentStanding[TrialT]) -> Proposed[DesignT, DraftT]:
        parent, dialect = situation.parent, self._dialect
        if parent is None or not parent.succeeded:
            raise ValueError("self-evolution needs a measured parent")
        base: DesignT = parent.architecture
        if (rejection := situation.rejection) is not None:
            schema = dialect.design
            return await ask_again(self._ask, self._prompts, dialect, situation, rejection, schema, self.name, base)
        first = dialect.render(
            self._prompts,
            "strategies",
            **dialect.about_parent(parent),
            **dialect.about_running(situation.running),
            **memory_rows(situation.recollection),
            guidance=situation.guidance,
            outlook=situation.outlook,
        )
        messages: tuple[tuple[str, str], ...] = (system_message(self._prompts, dialect), ("user", first.text))
        strategies = await self._ask(Question(situation.turn, self.name, messages, dialect.strategies, first))
        written = tuple(strategies.parsed["strategies"]) if strategies.parsed else ()
        second = dialect.render(self._prompts, "design", **dialect.limits())
        messages = (*messages, ("assistant", as_answered(strategies.raw)), ("user", second.text))
        question = Question(situation.turn, self.name, messages, dialect.design, second)
        answer = await self._ask(question)
        proposed = proposed_from(answer, question, dialect, base, written, (parent.number,))
        return replace(proposed, shown=situation.recollection)
