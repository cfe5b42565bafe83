"""Counts as people write them: 115M, 1.1B, 200k."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmb]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def parse_size(value: Any) -> Any:
    """A count from `115M`, `1.1B`, `900k` or plain digits; other values pass through."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip().replace("_", "").replace(",", ""))
    if match is None:
        raise ValueError("a size is written like 115M, 1.1B or 900000")
    return round(float(match[1]) * _FACTORS[match[2].lower()])


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1)]
