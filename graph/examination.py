"""What the checker decides about one draft, in any space: legal and new, back to its author, or projected."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from tools.spaces import SearchSpace

Design = TypeVar("Design")
Draft = TypeVar("Draft", bound=BaseModel)

_MOST_VARIATIONS = 1000


@dataclass(frozen=True)
class Finding(Generic[Design]):
    """What was found: `open` goes back to its author with the problems; all but that and `rejected` have a design."""

    outcome: Literal["open", "valid", "repaired", "projected", "rejected"]
    design: Design | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examiner(Generic[Design, Draft]):
    """The rule of one space.

    Args:
        tried: the words for its author where a design was tried before, by its identity; else None.
        vary: a legal neighbour.
        varied: the note on a design that was varied because it was tried before.
    """

    space: SearchSpace[Design, Draft]
    tried: Callable[[str], str | None]
    vary: Callable[[Design, random.Random], Design]
    varied: str

    def examine(self, draft: Draft, base: Design, attempt: int, last_chance: bool, seed: int) -> Finding[Design]:
        """Illegal or tried before: back in words, or by the last chance the nearest legal design that is new."""
        problems = self.space.problems(draft, base)
        if not problems:
            design = self.space.read(draft, base)
            words = self.tried(self.space.identity(design))
            if words is None:
                return Finding("repaired" if attempt else "valid", design)
            problems = [words]
        if not last_chance:
            return Finding("open", problems=tuple(problems))
        nearest, notes = self.space.project(draft, base)
        new = self._new(nearest, seed)
        if new is None:
            return Finding("rejected", problems=tuple(problems))
        if new is not nearest:
            notes = [*notes, self.varied]
        return Finding("projected", new, tuple(problems), tuple(notes))

    def _new(self, design: Design, seed: int) -> Design | None:
        """`design`, or a legal neighbour that was not tried; None where none was found."""
        rng = random.Random(seed)  # noqa: S311 - a search needs repeatable numbers, not secret ones
        for _ in range(_MOST_VARIATIONS):
            if self.tried(self.space.identity(design)) is None:
                return design
            design = self.vary(design, rng)
        return None
