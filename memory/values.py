"""What the records can hold: text that every database takes, and strict JSON."""

import json
import math
from typing import Any

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def storable(value: Any) -> Any:
    """Text that UTF-8 can hold: a chat model's JSON may decode to lone surrogates, and PostgreSQL takes no NUL."""
    if isinstance(value, str):
        if value.isascii() and "\x00" not in value:
            return value
        return value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {storable(key): item if _is_plain(item) else storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if _is_plain(item) else storable(item) for item in value]
    return value


def _is_plain(value: Any) -> bool:
    """Whether a dictionary or list has nothing to replace, found out at the speed of the JSON encoder."""
    if not isinstance(value, dict | list):
        return False
    try:
        return _is_clean(json.dumps(value))
    except (TypeError, ValueError):
        return False


def _is_clean(text: str) -> bool:
    """Whether JSON in ASCII has no NUL, and no surrogates, be they those of pairs."""
    return "\\u0000" not in text and "\\ud" not in text


class Written(str):
    """JSON text on its way into a JSON column."""

    __slots__ = ()


def written(value: Any) -> Written:
    """JSON of a value as `storable` has it, written once for all the columns that it goes into."""
    text = to_json(value)
    return Written(text if _is_clean(text) else to_json(storable(value)))


def to_json(value: Any) -> str:
    """Strict JSON: not-a-number and infinities, which PostgreSQL refuses, become strings that pydantic reads back."""
    if isinstance(value, Written):
        return str(value)
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_spell_out(value))


def _spell_out(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: _spell_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_out(item) for item in value]
    return value
