"""The evolver: SEKI's self-evolution (arXiv 2502.20422, section 4.1).

Two linked answers: from the current architecture and its measurements to strategies, from those to a refined design.
"""

from typing import ClassVar

from agents.conversation import Ask, Question, ask_again, band, proposed_from, system_message, trial_row
from agents.proposers.base import Proposed, Proposer, Situation
from agents.quoting import as_answered, note_row
from agents.schemas import AnswerSchemas, StrategiesAnswer
from prompts.library import PromptLibrary


class Evolver(Proposer):
    """Refines `situation.parent`."""

    name: ClassVar[str] = "evolver"

    def __init__(self, ask: Ask, prompts: PromptLibrary, schemas: AnswerSchemas, source: str) -> None:
        self._ask, self._prompts, self._schemas, self._source = ask, prompts, schemas, source

    async def ask(self, situation: Situation) -> Proposed:
        parent = situation.parent
        if parent is None or parent.measurement is None:
            raise ValueError("self-evolution needs a measured parent")
        if situation.rejection is not None:
            schema, base = self._schemas.design, parent.architecture
            return await ask_again(self._ask, self._prompts, situation, situation.rejection, schema, self.name, base)
        first = self._prompts.render(
            "strategies",
            parent={**trial_row(parent), "loss": parent.loss},
            improve="lower the loss" if parent.goal.objective == "loss" else "raise the accuracy",
            limited=band(situation.space)["limited"],
            history=[note_row(note) for note in situation.nearby],
            lessons=[note_row(note) for note in situation.lessons],
        )
        messages: tuple[tuple[str, str], ...] = (
            system_message(self._prompts, situation.space, self._source),
            ("user", first.text),
        )
        strategies = await self._ask(Question(situation.turn, self.name, messages, StrategiesAnswer, first))
        written = tuple(strategies.parsed["strategies"]) if strategies.parsed else ()
        second = self._prompts.render("design", **band(situation.space))
        messages = (*messages, ("assistant", as_answered(strategies.raw)), ("user", second.text))
        question = Question(situation.turn, self.name, messages, self._schemas.design, second)
        answer = await self._ask(question)
        return proposed_from(answer, question, parent.architecture, written, (parent.number,))
