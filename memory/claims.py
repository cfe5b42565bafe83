"""What can be tested of a design principle: which width of which layers should be larger or smaller.

A claim is one or several statements, such as "fewer FFN channels in the late layers". How far a design moved in its
direction from another one is a number, so that any two measured designs of one source can bear on it.
`memory.claim_words` reads claims out of free sentences.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture, LayerShape

Quantity = Literal["intermediate_size", "num_key_value_heads", "hidden_size"]
Direction = Literal["more", "fewer"]

LEAST_MOVEMENT = 0.02
"""A design that moved by less, in logarithms of the mean width, did not move: 2 %."""
REST = "rest"
"""All layers besides those that a statement is about."""

_NAMES: dict[Quantity, str] = {
    "intermediate_size": "FFN channels",
    "num_key_value_heads": "key/value heads",
    "hidden_size": "hidden size",
}
_THIRDS = ("early", "middle", "late")


class Statement(BaseModel):
    """One quantity of some layers in one direction.

    Each of `parts` is `all`, `early`, `middle` or `late` (thirds of the depth), or `A-B`, layers with both ends. With
    `than` it is the width relative to that of those parts, `rest` being all other layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantity: Quantity
    direction: Direction
    parts: tuple[str, ...] = ("all",)
    than: tuple[str, ...] = ()

    def movement(self, before: Architecture, after: Architecture) -> float:
        """How far `after` moved from `before` in the stated direction, in logarithms; 0 where a part has no layers."""
        old, new = self._width(before), self._width(after)
        if old is None or new is None:
            return 0.0
        return new - old if self.direction == "more" else old - new

    def in_words(self) -> str:
        """`fewer FFN channels in late layers than in the rest`."""
        if self.quantity == "hidden_size":
            return f"{'larger' if self.direction == 'more' else 'smaller'} hidden size"
        words = f"{self.direction} {_NAMES[self.quantity]} in {_places(self.parts)}"
        return f"{words} than in {_places(self.than)}" if self.than else words

    def _width(self, design: Architecture) -> float | None:
        if self.quantity == "hidden_size":
            return math.log(design.hidden_size)
        depth = len(design.layers)
        own = layers_of(self.parts, depth)
        others = set(range(depth)) - own if self.than == (REST,) else layers_of(self.than, depth) - own
        if not own or (self.than and not others):
            return None
        return self._mean(design.layers, own) - (self._mean(design.layers, others) if self.than else 0.0)

    def _mean(self, layers: Sequence[LayerShape], chosen: set[int]) -> float:
        return math.log(sum(getattr(layers[index], self.quantity) for index in chosen) / len(chosen))


class Claim(BaseModel):
    """Statements that are meant together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statements: tuple[Statement, ...]

    @classmethod
    def of_document(cls, values: dict[str, Any] | None) -> Self | None:
        """A claim as it is recorded; None where nothing can be tested."""
        return None if values is None else cls.model_validate(values)

    def movement(self, before: Architecture, after: Architecture) -> float:
        """How far `after` moved from `before` in all that is claimed, the least of them; negative: against all of it.

        0 where it did not move by `LEAST_MOVEMENT` in each statement, or with some and against others.
        """
        moves = [statement.movement(before, after) for statement in self.statements]
        if all(move >= LEAST_MOVEMENT for move in moves):
            return min(moves)
        return max(moves) if all(move <= -LEAST_MOVEMENT for move in moves) else 0.0

    def in_words(self) -> str:
        """All statements on one line."""
        return "; ".join(statement.in_words() for statement in self.statements)


def layers_of(parts: Sequence[str], depth: int) -> set[int]:
    """The layers of some parts in a network of this depth, those that it has."""
    found: set[int] = set()
    for part in parts:
        if part == "all":
            found.update(range(depth))
        elif part in _THIRDS:
            third = _THIRDS.index(part)
            found.update(range(round(third * depth / 3), round((third + 1) * depth / 3)))
        else:
            first, _, last = part.partition("-")
            found.update(range(int(first), min(int(last), depth - 1) + 1))
    return found


def _places(parts: Sequence[str]) -> str:
    if tuple(parts) == (REST,):
        return "the rest"
    return " and ".join(f"layers {part}" if part[0].isdigit() else f"{part} layers" for part in parts)
