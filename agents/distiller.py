"""The distiller: SEKI's knowledge distillation (arXiv 2502.20422, section 4.2, there also "knowledge inspiration").

Studies a random handful of the best designs, names what they share, and designs a new one.
"""

from typing import ClassVar

from agents.conversation import Ask, Question, ask_again, band, proposed_from, system_message, trial_row
from agents.proposers.base import Proposed, Proposer, Situation
from agents.quoting import note_row
from agents.schemas import AnswerSchemas
from memory.retrieval import sample_best
from prompts.library import PromptLibrary


class Distiller(Proposer):
    """Samples `sample_size` (xi) of the `top_k` best designs at random, best first, and learns from them."""

    name: ClassVar[str] = "distiller"

    def __init__(
        self, ask: Ask, prompts: PromptLibrary, schemas: AnswerSchemas, source: str, top_k: int, sample_size: int
    ) -> None:
        self._ask, self._prompts, self._schemas, self._source = ask, prompts, schemas, source
        self._top_k, self._sample_size = top_k, sample_size

    async def ask(self, situation: Situation) -> Proposed:
        if situation.rejection is not None:
            schema, base = self._schemas.inspiration, situation.trial(situation.rejection.based_on[0]).architecture
            return await ask_again(self._ask, self._prompts, situation, situation.rejection, schema, self.name, base)
        sample = sample_best(situation.trials, self._top_k, self._sample_size, situation.seed)
        if not sample:
            raise ValueError("knowledge distillation needs at least one measured design")
        numbers = tuple(trial.number for trial in sample)
        shown = {trial.name for trial in sample}
        prompt = self._prompts.render(
            "inspiration",
            sample=[trial_row(trial) for trial in sample],
            history=[note_row(note) for note in situation.nearby if note.id not in shown],
            lessons=[note_row(note) for note in situation.lessons],
            **band(situation.space),
        )
        messages = (system_message(self._prompts, situation.space, self._source), ("user", prompt.text))
        question = Question(situation.turn, self.name, messages, self._schemas.inspiration, prompt)
        answer = await self._ask(question)
        return proposed_from(answer, question, sample[0].architecture, (), numbers)
