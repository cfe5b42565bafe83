"""Questions to the chat model: answered from the records where they were asked before, within the budget, recorded."""

import asyncio
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from agents.chat_answers import Answer, read_answer
from agents.conversation import Question
from agents.patience import ask_patiently
from agents.settings import ChatSettings
from agents.token_bounds import most_input_tokens
from agents.tool_use import Messages, ToolCalls, ToolQuestion, ask_with_tools, described_bytes, faults_of
from graph.budget import CUT_OFF
from graph.events import StageEvent
from graph.traced_calls import answered, asked
from graph.tracing import OpenSpan
from memory.tables import Call

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from graph.context import SearchContext


async def ask(
    context: "SearchContext", question: Question, candidate: int = 0, tools: "tuple[BaseTool, ...]" = ()
) -> Answer:
    """As `_ask`; before a question for a design is answered, `tools` may be called, `tool_calls` times at most."""
    asks = partial(_ask, context, candidate=candidate)
    if not tools or question.schema is context.dialect.strategies:
        return await asks(question)
    recorded = partial(_results, context, question.turn, candidate)
    return await ask_with_tools(asks, context.prompts, question, tools, context.config.tool_calls, recorded)


def _results(context: "SearchContext", turn: int, candidate: int, messages: Messages) -> list[str]:
    """The results of tools that the recorded calls of this design have after `messages`."""
    begun = [{"role": role, "content": text} for role, text in messages]
    for call in context.records.calls(context.run_id):
        if (call.turn, call.candidate) == (turn, candidate) and call.messages[: len(begun)] == begun:
            rest = call.messages[len(begun) :]
            found = [part["content"] for part in takewhile(lambda part: part["role"] == "tool", rest)]
            if found:
                return found
    return []


async def _ask(context: "SearchContext", question: Question, candidate: int) -> Answer:
    """Ask the chat model, or the cassette, and record the call.

    What was asked before for this design of this turn is answered from the records. Raises BudgetReachedError where the
    call might cost more than is left of the budget, before it is made.
    """
    messages = [{"role": role, "content": text} for role, text in question.messages]
    schema = question.schema.__name__
    calls = [call for call in context.records.calls(context.run_id) if call.error != CUT_OFF]
    for call in calls:
        place = (call.turn, call.candidate) == (question.turn, candidate)
        if place and call.messages == messages and call.schema_name == schema:
            return _answer_of(call, question)
    settings = context.config.chat_settings()[question.agent]
    settings = settings.model_copy(update={"seed": context.turn_seed(question.turn, candidate)})
    spending, longest = context.spending, settings.max_tokens
    most = most_input_tokens(question.messages, question.schema, _counted(context, calls, settings.chat_model))
    most += described_bytes(question.tools) if isinstance(question, ToolQuestion) else 0
    seconds = spending.allow_call(question.agent, most, longest)
    context.records.add_prompt(question.prompt.hash, question.prompt.name, question.prompt.template)
    with context.tracing.span(f"chat {settings.chat_model}", "LLM", asked(question, settings, candidate)) as span:
        return await _recorded(context, question, candidate, settings, (most, seconds), span)


async def _recorded(
    context: "SearchContext",
    question: Question,
    candidate: int,
    settings: ChatSettings,
    bounds: tuple[int, float | None],
    span: OpenSpan,
) -> Answer:
    """The answer, recorded. `bounds` are the most input tokens that the question can have, and the seconds left."""
    (most, seconds), longest, spending = bounds, settings.max_tokens, context.spending
    answer, temperature = await _answer(context, question, candidate, settings, seconds)
    if not answer.input_tokens:
        # Given up, or from a server that counts nothing: the most that it can have been is counted.
        written = longest if answer.error == CUT_OFF else min(longest, len(answer.raw.encode("utf-8", "replace")))
        answer = answer.model_copy(update={"input_tokens": most, "output_tokens": written})
    cost = spending.usd(question.agent, answer.input_tokens, answer.output_tokens, answer.cached_tokens)
    call = context.records.add_call(
        Call(
            run_id=context.run_id,
            turn=question.turn,
            candidate=candidate,
            agent=question.agent,
            prompt_hash=question.prompt.hash,
            model=answer.model,
            messages=[{"role": role, "content": text} for role, text in question.messages],
            answer=answer.raw,
            schema_name=question.schema.__name__,
            temperature=temperature,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            cost_usd=cost,
            seconds=answer.seconds,
            error=answer.error,
            faults=list(answer.faults),
        )
    )
    span.say(answered(answer, cost, call.id))
    if answer.error == CUT_OFF:
        raise spending.out_of_time()
    return answer


async def _answer(
    context: "SearchContext", question: Question, candidate: int, settings: ChatSettings, seconds: float | None
) -> tuple[Answer, float]:
    """The answer and its temperature; or that it was given up after `seconds`: then nobody says what it has cost."""

    def tell(words: str) -> None:
        context.emit(StageEvent(run=context.run_id, stage="chat", message=words))

    once = partial(_ask_model, context, question, candidate)
    asks = partial(ask_patiently, once, settings.outage_seconds, tell)
    try:
        async with asyncio.timeout(seconds):
            if context.cassette is not None:
                return await context.cassette.ask(question, settings, asks, candidate)
            return await asks(), settings.temperature
    except TimeoutError:
        # The endpoint's own timeouts come as ChatModelError.
        answer = Answer(
            raw="", error=CUT_OFF, model=settings.chat_model, seconds=seconds or 0.0, faults=("out of time",)
        )
        return answer, settings.temperature


async def _ask_model(context: "SearchContext", question: Question, candidate: int) -> Answer:
    if context.chat is None:
        raise ValueError("this search was opened without a chat model")
    metadata = {"run": context.run_id, "turn": question.turn, "prompt_hash": question.prompt.hash}
    model, seed = context.chat.model(question.agent), context.turn_seed(question.turn, candidate)
    if not isinstance(question, ToolQuestion):
        return await model.aask(question.messages, question.schema, seed=seed, metadata=metadata)
    answer = await model.acall(question, seed=seed, metadata=metadata)
    calls = [] if answer.parsed is None else ToolCalls.model_validate(answer.parsed).calls
    faults = faults_of(calls, question.tools, question.left)
    return answer.model_copy(update={"faults": (*answer.faults, *faults)})


def _counted(context: "SearchContext", calls: list[Call], chat_model: str) -> list[tuple[list[tuple[str, str]], int]]:
    """Messages and input tokens of the calls that agents with this chat model made."""
    agents = {agent for agent, own in context.config.chat_settings().items() if own.chat_model == chat_model}
    return [
        ([(part["role"], part["content"]) for part in call.messages], call.input_tokens)
        for call in calls
        if call.agent in agents
    ]


def _answer_of(call: Call, question: Question) -> Answer:
    # The fault that was found at first: that an answer was cut off or refused is not seen in its text.
    parsed = None if call.error else read_answer(call.answer, question.schema).parsed
    return Answer(
        raw=call.answer,
        parsed=parsed,
        error=call.error,
        model=call.model,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        seconds=call.seconds,
    )
