"""What each model accepts: a small table, read from the top, the first row that fits counts."""

import re
from dataclasses import dataclass
from typing import Literal

from tools.embedded import EMBEDDED_NAME

OPENAI_REFUSES = frozenset({"minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties"})
"""Keywords that OpenAI's strict mode answers with status 400 (its guide on structured outputs, "supported schemas")."""


LOCAL_CONTEXT = 4096
"""The context that the local server opens its model with, in tokens."""


@dataclass(frozen=True)
class ModelTraits:
    """How a model is asked."""

    method: Literal["json_schema", "function_calling"] = "json_schema"
    refused_keywords: frozenset[str] = frozenset()
    """JSON schema keywords that must not be sent; answers are checked against them all the same."""
    takes_temperature: bool = True
    calls_tools: bool = True
    context_tokens: int | None = None
    """The longest prompt and answer together, by the maker's model pages; None where that is not known."""


_TABLE: tuple[tuple[str, ModelTraits], ...] = (
    # The embedded model: too small to know when a tool helps, and its chat template has none.
    (re.escape(EMBEDDED_NAME) + "$", ModelTraits(calls_tools=False, context_tokens=LOCAL_CONTEXT)),
    (r"chatgpt-|gpt-5.*chat", ModelTraits(refused_keywords=OPENAI_REFUSES, calls_tools=False, context_tokens=128_000)),
    # Before structured outputs (August 2024): tool calling only.
    (r"gpt-3\.5|gpt-4(-\d{4}|-turbo|-32k|-vision|$)", ModelTraits("function_calling", OPENAI_REFUSES)),
    # Reasoning models fix the temperature themselves.
    (
        r"o\d|gpt-5(?!.*chat)",
        ModelTraits(refused_keywords=OPENAI_REFUSES, takes_temperature=False, context_tokens=200_000),
    ),
    (r"gpt-(?!oss)|ft:gpt-", ModelTraits(refused_keywords=OPENAI_REFUSES, context_tokens=128_000)),
    # llama.cpp, vLLM and their like compile the whole schema into a grammar.
    (r"", ModelTraits()),
)


def model_traits(name: str) -> ModelTraits:
    """The row for a model by its name, without provider; a leading "openai/" as gateways write it is passed over."""
    return next(traits for pattern, traits in _TABLE if re.match(pattern, name.removeprefix("openai/")))
