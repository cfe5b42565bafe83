"""Tools in an agent's hands: it may call some before its answer, at most so many in a turn.

A conversation stays a list of roles and texts, so that it is recorded and replayed like any other. Two roles are added:
`calls`, whose text is a `ToolCalls`, and `tool`, whose text is a `ToolResult`; `agents.chat_messages` turns both into
what endpoints take.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ValidationError

from agents.chat_answers import Answer, read_answer
from agents.conversation import Ask, Question
from agents.quoting import as_answered
from prompts.library import PromptLibrary

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

Messages = tuple[tuple[str, str], ...]
Fault = Literal["unknown tool", "bad tool arguments", "too many tool calls"]

_NO_CALLS_LEFT = "No calls left: answer now."
LONGEST_RESULT = 2000
"""In characters, and bytes: results are ASCII."""


class ToolCall(BaseModel):
    """One call: `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolCalls(BaseModel):
    """What a model answers when it calls tools."""

    calls: list[ToolCall]


class ToolResult(BaseModel):
    """What came of the call of that id."""

    id: str
    content: str


@dataclass(frozen=True)
class ToolQuestion(Question):
    """A call of a chat model that may be answered by calls of `tools`, `left` of them at most."""

    tools: "tuple[BaseTool, ...]" = ()
    left: int = 0


def faults_of(calls: Sequence[ToolCall], tools: "Sequence[BaseTool]", left: int) -> list[Fault]:
    """What is wrong with calls, in their order, as the ledger counts it."""
    named = {tool.name: tool for tool in tools}
    found: list[Fault] = []
    for place, call in enumerate(calls):
        if place >= left:
            found.append("too many tool calls")
        elif call.name not in named:
            found.append("unknown tool")
        elif _misfit(named[call.name], call) is not None:
            found.append("bad tool arguments")
    return found


def described_bytes(tools: "Sequence[BaseTool]") -> int:
    """Bytes of what endpoints are told of tools: no fewer than its tokens."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return sum(len(json.dumps(convert_to_openai_tool(tool)).encode()) for tool in tools)


async def ask_with_tools(
    ask: Ask,
    prompts: PromptLibrary,
    question: Question,
    tools: "tuple[BaseTool, ...]",
    most: int,
    recorded: Callable[[Messages], list[str]],
) -> Answer:
    """The answer to `question`, before which its author may call tools, `most` at most.

    A call that cannot be made counts too, so that there is an end. Results that were `recorded` after a conversation
    are not worked out again: a tool may have trained a model.
    """
    offer = prompts.render("tools", calls=most)
    messages: Messages = (*question.messages, ("user", offer.text))
    left = most
    while left > 0:
        asked = ToolQuestion(question.turn, question.agent, messages, ToolCalls, offer, tools=tools, left=left)
        step = await ask(asked)
        if step.parsed is None:
            reading = read_answer(step.raw, question.schema)
            if reading.parsed is not None:
                return step.model_copy(update={"parsed": reading.parsed})
            messages = (*messages, ("assistant", as_answered(step.raw)))
            break
        calls = [ToolCall.model_validate(call) for call in step.parsed["calls"]]
        messages = (*messages, ("calls", step.raw))
        results = recorded(messages)
        for place in range(len(results), len(calls)):
            content = await _result(tools, calls[place]) if place < left else _NO_CALLS_LEFT
            results.append(ToolResult(id=calls[place].id, content=content).model_dump_json())
        messages = (*messages, *(("tool", result) for result in results))
        left = max(0, left - len(calls))
    last = prompts.render("answer_now", left=left)
    messages = (*messages, ("user", last.text))
    return await ask(Question(question.turn, question.agent, messages, question.schema, question.prompt))


async def _result(tools: "Sequence[BaseTool]", call: ToolCall) -> str:
    named = {tool.name: tool for tool in tools}
    tool = named.get(call.name)
    if tool is None:
        return f"There is no such tool; the tools are: {', '.join(named)}."
    if (words := _misfit(tool, call)) is not None:
        return words
    result = str(await tool.ainvoke(_arguments(tool, call).model_dump()))
    return result if len(result) <= LONGEST_RESULT else f"{result[: LONGEST_RESULT - 12]} (shortened)"


def _misfit(tool: "BaseTool", call: ToolCall) -> str | None:
    """What is wrong with the arguments of a call, in words."""
    try:
        _arguments(tool, call)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:80]
        return f"The arguments do not fit: {place + ': ' if place else ''}{first['msg'][:200]}."
    return None


def _arguments(tool: "BaseTool", call: ToolCall) -> BaseModel:
    schema = tool.args_schema
    assert isinstance(schema, type) and issubclass(schema, BaseModel)  # noqa: S101 - all of ours are made so
    return schema.model_validate_json(call.arguments or "{}", strict=True)
