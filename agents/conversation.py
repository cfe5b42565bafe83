"""How an LLM agent talks: templates in, a recorded answer out. The recording itself is somebody else's."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel

from agents.chat_answers import Answer
from agents.dialects.base import Dialect
from agents.proposers.base import AgentStanding, DesignT, DraftT, Proposed, Rejection, TrialT
from agents.quoting import as_answered
from prompts.library import PromptLibrary, RenderedPrompt


@dataclass(frozen=True)
class Question:
    """One call of a chat model."""

    turn: int
    agent: str
    messages: tuple[tuple[str, str], ...]
    schema: type[BaseModel]
    prompt: RenderedPrompt


Ask = Callable[[Question], Awaitable[Answer]]
"""Asks the chat model and records the call; the same question of the same turn is answered from the record."""


def system_message(prompts: PromptLibrary, dialect: Dialect[DesignT, DraftT, TrialT]) -> tuple[str, str]:
    """The part of every conversation that stays the same during a run."""
    return ("system", dialect.render(prompts, "system", **dialect.about_space()).text)


def proposed_from(
    answer: Answer,
    question: Question,
    dialect: Dialect[DesignT, DraftT, TrialT],
    base: DesignT,
    rationale: tuple[str, ...],
    based_on: tuple[int, ...],
) -> Proposed[DesignT, DraftT]:
    """The proposal in the answer to a question for a design."""
    parsed = answer.parsed
    return Proposed(
        draft=dialect.draft(parsed) if parsed is not None else None,
        base=base,
        rationale=dialect.reasons(parsed, rationale) if parsed is not None else rationale,
        based_on=based_on,
        raw=answer.raw,
        parsed=parsed,
        prompt_hash=question.prompt.hash,
        error=answer.error,
        messages=question.messages,
    )


async def ask_again(
    ask: Ask,
    prompts: PromptLibrary,
    dialect: Dialect[DesignT, DraftT, TrialT],
    situation: AgentStanding[TrialT],
    rejection: Rejection,
    schema: type[BaseModel],
    agent: str,
    base: DesignT,
) -> Proposed[DesignT, DraftT]:
    """Give the checker's words back to the author of an illegal answer, and read the next one."""
    prompt = dialect.render(prompts, "repair", problems=rejection.problems)
    messages = (*rejection.messages, ("assistant", as_answered(rejection.raw)), ("user", prompt.text))
    question = Question(situation.turn, agent, messages, schema, prompt)
    answer = await ask(question)
    return proposed_from(answer, question, dialect, base, rejection.rationale, rejection.based_on)
