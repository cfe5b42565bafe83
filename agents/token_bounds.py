"""The most tokens that a prompt can be, before it is sent and whatever tokenizer reads it.

A token stands for at least one byte of UTF-8, so a text has at most as many tokens as bytes. That is three to five
times too many for English prose. What an earlier call of the same model began with cannot be more than that call was
counted as, so of a prompt that begins like an earlier one only the rest is bounded by its bytes.
"""

import json
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from agents.json_schema import strict_json_schema

Message = tuple[str, str]
"""Role and text."""

# Role, separators and the like of the chat template, for each message.
_PER_MESSAGE = 16
# What providers add to a question of their own accord: instructions for tool calls (some hundred tokens at Anthropic),
# a chat template's own system prompt.
_PER_CALL = 1024


def most_input_tokens(
    messages: Sequence[Message], schema: type[BaseModel], earlier: Iterable[tuple[Sequence[Message], int]] = ()
) -> int:
    """An upper bound on the input tokens of a question.

    Args:
        schema: of the answer; endpoints count its JSON schema as input.
        earlier: messages and counted input tokens of calls of the same model before; those without a count are ignored.
    """
    described = len(json.dumps(strict_json_schema(schema)).encode())
    bounds = [_PER_CALL + described + _bytes(messages)]
    for before, counted in earlier:
        if counted > 0:
            shared = _shared(before, messages)
            # Nothing shared, nothing learnt; but what the provider adds is in every count.
            bounds.append(counted + described + _bytes(messages[shared:]))
    return min(bounds)


def _shared(before: Sequence[Message], messages: Sequence[Message]) -> int:
    """How many messages both begin with."""
    count = 0
    for old, new in zip(before, messages, strict=False):
        if tuple(old) != tuple(new):
            break
        count += 1
    return count


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) + _PER_MESSAGE for _, text in messages)
