"""What a search looks like to a searcher that knows nothing of language models: designs, values, a seed."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from tools.spaces import SearchSpace

Design = TypeVar("Design")
Draft = TypeVar("Draft", bound=BaseModel)


class Tried(NamedTuple, Generic[Design]):
    """A design that the search has tried. `value` is the lower the better.

    None: it failed, or is not measured yet; `running` says that its evaluation is under way.
    """

    number: int
    design: Design
    value: float | None
    running: bool = False


class Standing(Protocol[Design, Draft]):
    """All that a judge may know at its turn: what was tried so far, in its order, and the turn's own seed."""

    @property
    def turn(self) -> int:
        """Number of the turn, from 0."""

    @property
    def space(self) -> SearchSpace[Design, Draft]:
        """Where to search."""

    @property
    def history(self) -> Sequence[Tried[Design]]:
        """Everything that was tried, by whomever."""

    @property
    def seed(self) -> int:
        """The seed of this turn."""


def measured(history: Sequence[Tried[Design]]) -> list[tuple[float, Tried[Design]]]:
    """What has a value, with it, in the order of the trials."""
    return [(tried.value, tried) for tried in history if tried.value is not None]
