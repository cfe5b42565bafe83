"""A row of vectors that was found."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """What was found: its distance as Chroma has it (squared where it is Euclidean, 1 - cosine else), its metadata."""

    id: str
    distance: float
    metadata: dict[str, Any]
