"""From what the chat libraries return to an `Answer`."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from agents.chat_answers import Answer, Reading, read_answer
from agents.tool_use import ToolCall, ToolCalls, ToolResult
from memory.values import storable

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from openai.types.chat import ChatCompletion

_FILTERED = "The answer was withheld by the endpoint's content filter. Word it differently."


def answer_of_message(
    message: "BaseMessage", schema: type[BaseModel], model: str, started: float, failed: Sequence[str] = ()
) -> Answer:
    """The answer in a LangChain message: the arguments of a tool call where there is one, else the text.

    Args:
        started: `time.monotonic()` when the question was sent.
        failed: the attempts before the one that was answered.
    """
    calls = getattr(message, "tool_calls", [])
    broken_calls = getattr(message, "invalid_tool_calls", [])
    if calls:
        text = json.dumps(calls[0]["args"])
    elif broken_calls:
        text = broken_calls[0]["args"] or ""
    else:
        text = str(message.text)
    usage = getattr(message, "usage_metadata", None) or {}
    return _answer(
        text,
        schema,
        model,
        started,
        # OpenAI, Anthropic and Google in turn.
        finish=message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason"),
        refusal=message.additional_kwargs.get("refusal"),
        tokens=(
            usage.get("input_tokens", 0),
            usage.get("output_tokens", 0),
            usage.get("input_token_details", {}).get("cache_read", 0) or 0,
        ),
        failed=failed,
    )


def calls_of_message(
    message: "BaseMessage", model: str, started: float, failed: Sequence[str] = (), left: int = 0
) -> Answer:
    """The calls of tools in a LangChain message as a `ToolCalls`; where it has none, its text as it is.

    The ids are our own, since those of servers differ from one time to the next.

    Args:
        left: calls that are left in the turn: it falls from one message to the next, so that no id comes twice.
        model, started, failed: as for `answer_of_message`.
    """
    asked = [(call["name"], json.dumps(call["args"])) for call in getattr(message, "tool_calls", [])]
    asked += [(call["name"] or "", call["args"] or "") for call in getattr(message, "invalid_tool_calls", [])]
    if not asked:
        answer = answer_of_message(message, ToolCalls, model, started, failed)
        return answer.model_copy(update={"parsed": None, "error": None, "faults": tuple(failed)})
    # Nine letters and digits: some servers take no other ids.
    calls = [
        ToolCall(id=f"call{left:02}{place:03}", name=name, arguments=text) for place, (name, text) in enumerate(asked)
    ]
    text = storable(ToolCalls(calls=calls).model_dump_json())
    answer = answer_of_message(message, ToolCalls, model, started, failed)
    parsed = read_answer(text, ToolCalls).parsed
    return answer.model_copy(update={"raw": text, "parsed": parsed, "error": None, "faults": tuple(failed)})


def as_messages(messages: Sequence[tuple[str, str]]) -> "list[tuple[str, str] | BaseMessage]":
    """A conversation as LangChain takes it: tool calls and their results become its own messages."""
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.messages.tool import invalid_tool_call, tool_call

    found: list[tuple[str, str] | BaseMessage] = []
    for role, text in messages:
        if role == "calls":
            calls, valid, invalid = ToolCalls.model_validate_json(text).calls, [], []
            for call in calls:
                arguments = _object(call.arguments)
                if arguments is None:
                    invalid.append(invalid_tool_call(name=call.name, args=call.arguments, id=call.id, error=None))
                else:
                    valid.append(tool_call(name=call.name, args=arguments, id=call.id))
            found.append(AIMessage("", tool_calls=valid, invalid_tool_calls=invalid))
        elif role == "tool":
            result = ToolResult.model_validate_json(text)
            found.append(ToolMessage(result.content, tool_call_id=result.id))
        else:
            found.append((role, text))
    return found


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def answer_of_completion(
    completion: "ChatCompletion", schema: type[BaseModel], model: str, started: float, failed: Sequence[str] = ()
) -> Answer:
    """The answer in openai's own type, which comes with its errors about cut off and filtered answers."""
    choice, usage = completion.choices[0], completion.usage
    details = usage.prompt_tokens_details if usage is not None else None
    return _answer(
        choice.message.content or "",
        schema,
        model,
        started,
        finish=choice.finish_reason,
        refusal=choice.message.refusal,
        tokens=(
            usage.prompt_tokens if usage is not None else 0,
            usage.completion_tokens if usage is not None else 0,
            (details.cached_tokens or 0) if details is not None else 0,
        ),
        failed=failed,
    )


def _answer(
    text: str,
    schema: type[BaseModel],
    model: str,
    started: float,
    *,
    finish: str | None,
    refusal: str | None,
    tokens: tuple[int, int, int],
    failed: Sequence[str],
) -> Answer:
    # As the records can hold it: prompts are made from them, and a recorded call must be found again.
    text = storable(text)
    read = read_answer(text, schema, cut_off=(finish or "").lower() in ("length", "max_tokens"))
    if read.parsed is None and refusal:
        refusal = storable(refusal)
        text, read = text or refusal, Reading(error=f"The model refused to answer: {refusal}", fault="refused")
    elif read.parsed is None and finish == "content_filter":
        read = Reading(error=_FILTERED, fault="filtered")
    return Answer(
        raw=text,
        parsed=read.parsed,
        error=read.error,
        model=model,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cached_tokens=tokens[2],
        seconds=time.monotonic() - started,
        finish_reason=finish,
        faults=(*failed, *([read.fault] if read.fault else [])),
    )
