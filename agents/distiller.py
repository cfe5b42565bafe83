"""The distiller: SEKI's knowledge distillation (arXiv 2502.20422, section 4.2, there also "knowledge inspiration").

Studies a random handful of the best designs, names what they share, and designs a new one.
"""

from dataclasses import replace
from typing import ClassVar, Generic

from agents.conversation import Ask, Question, ask_again, proposed_from, system_message
from agents.dialects.base import Dialect
from agents.proposers.base import AgentStanding, DesignT, DraftT, Proposed, Proposer, TrialT
from agents.quoting import memory_rows
from memory.retrieval import sample_best
from prompts.library import PromptLibrary


class Distiller(Proposer[DesignT, DraftT, AgentStanding[TrialT]], Generic[DesignT, DraftT, TrialT]):
    """Samples `sample_size` (xi) of the `top_k` best designs at random, best first, and learns from them."""

    name: ClassVar[str] = "distiller"

    def __init__(
        self,
        ask: Ask,
        prompts: PromptLibrary,
        dialect: Dialect[DesignT, DraftT, TrialT],
        top_k: int,
        sample_size: int,
    ) -> None:
        self._ask, self._prompts, self._dialect = ask, prompts, dialect
        self._top_k, self._sample_size = top_k, sample_size

    async def ask(self, situation: AgentStanding[TrialT]) -> Proposed[DesignT, DraftT]:
        dialect, schema = self._dialect, self._dialect.inspiration
        if (rejection := situation.rejection) is not None:
            base: DesignT = situation.trial(rejection.based_on[0]).architecture
            return await ask_again(self._ask, self._prompts, dialect, situation, rejection, schema, self.name, base)
        sample = sample_best(situation.trials, self._top_k, self._sample_size, situation.seed)
        if not sample:
            raise ValueError("knowledge distillation needs at least one measured design")
        numbers = tuple(trial.number for trial in sample)
        recollection = situation.recollection.without({trial.name for trial in sample})
        prompt = dialect.render(
            self._prompts,
            "inspiration",
            **dialect.about_sample(sample),
            **dialect.about_running(situation.running),
            **memory_rows(recollection),
            guidance=situation.guidance,
            outlook=situation.outlook,
        )
        messages = (system_message(self._prompts, dialect), ("user", prompt.text))
        question = Question(situation.turn, self.name, messages, schema, prompt)
        answer = await self._ask(question)
        proposed = proposed_from(answer, question, dialect, sample[0].architecture, (), numbers)
        return replace(proposed, shown=recollection)
