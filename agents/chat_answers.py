"""What a chat model answered: as text, and as the JSON object that was asked for where it holds one."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

_LONGEST_SEARCH = 100_000
_MOST_OBJECTS = 100
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)


AnswerFault = Literal["empty", "no JSON", "broken JSON", "cut off", "wrong schema", "refused", "filtered"]
"""Ways in which an answer cannot be used, as the ledger counts them."""


class Reading(NamedTuple):
    """What was read in an answer: its fields where they fit the schema, else the fault and the words for it."""

    parsed: dict[str, Any] | None = None
    error: str | None = None
    fault: AnswerFault | None = None


class Answer(BaseModel):
    """One answer of a chat model; a bad one is recorded here and never raised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw: str
    """The text exactly as answered."""
    parsed: dict[str, Any] | None = None
    """The answer's fields where they fit the schema."""
    error: str | None = None
    """What is wrong with the answer, in words that a chat model can act on."""
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Those of the input tokens that the server had read before."""
    seconds: float = 0.0
    finish_reason: str | None = None
    """Why the model stopped, in the endpoint's own word."""
    faults: tuple[str, ...] = ()
    """What went wrong in this call: attempts that failed, such as "HTTP 429", then the answer's own `AnswerFault`."""


def read_answer(text: str, schema: type[BaseModel], *, cut_off: bool = False) -> Reading:
    """The object that `schema` asks for, or what is wrong, in this order: the whole text, code fences, prose.

    Nothing is coerced: "3" is no integer. The first object that fits counts; of several that do not, the first
    one's faults are told.

    Args:
        cut_off: whether the endpoint said that the answer reached its longest length.
    """
    if not text.strip():
        reason = "it reached its longest length before any text" if cut_off else "it holds no text"
        return Reading(error=f"The answer is empty ({reason}). Answer with one JSON object.", fault="empty")
    misfit: str | None = None
    for candidate in _candidates(text):
        try:
            return Reading(schema.model_validate_json(candidate, strict=True).model_dump(mode="json"))
        except ValidationError as error:
            misfit = misfit or _in_words(error)
    if cut_off:
        words = "The answer was cut off at its longest length before it was complete. Answer more briefly."
        return Reading(error=words, fault="cut off")
    if misfit is not None:
        return Reading(error=misfit, fault="wrong schema")
    if "{" in text:
        words = "The JSON object in the answer is broken or incomplete. Answer with one complete JSON object."
        return Reading(error=words, fault="broken JSON")
    words = "The answer holds no JSON object. Answer with one JSON object and nothing else."
    return Reading(error=words, fault="no JSON")


def _candidates(text: str) -> Iterator[str]:
    """JSON objects in a text, as their own texts."""
    whole = text.strip()
    if _object_length(whole, 0) == len(whole):
        yield whole
        return
    for part in (*(match.group(1) for match in _FENCE.finditer(text)), text):
        part = part[:_LONGEST_SEARCH]
        position = part.find("{")
        for _ in range(_MOST_OBJECTS):
            if position < 0:
                break
            length = _object_length(part, position)
            if length:
                yield part[position : position + length]
            position = part.find("{", position + max(length, 1))


def _object_length(text: str, position: int) -> int:
    """Length of the JSON object that begins at a position, 0 where there is none."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return 0
    return end - position if isinstance(value, dict) else 0


def _in_words(error: ValidationError) -> str:
    """The first few faults, each with the place and the value."""
    faults = []
    for fault in error.errors()[:5]:
        place = ".".join(str(part) for part in fault["loc"])[:80]
        given = "" if fault["type"] == "missing" else f" (you answered {json.dumps(fault['input'], default=str)[:80]})"
        faults.append(f"{place + ': ' if place else ''}{fault['msg']}{given}")
    further = error.error_count() - len(faults)
    return "The answer does not fit: " + "; ".join(faults) + (f"; and {further} more." if further else ".")
