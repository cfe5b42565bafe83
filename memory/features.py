"""What of designs is looked at when patterns are mined: for any search space, few figures with names.

Ordered choices are told as the mean over each part of the space, such as the FFN width of layers 20-29; other ones
by each option, such as an operation on an edge, and by how often it is taken in all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.spaces import SearchSpace

Array = npt.NDArray[np.float64]

_WIDTH = 16
"""Choices of at least so many are widths, told in per cent; those of fewer are counts, told one by one."""
_KINDS = {
    "ffn": ("wider FFN", "narrower FFN", "goes"),
    "kv_heads": ("more key/value heads", "fewer key/value heads", "go"),
    "hidden": ("larger hidden size", "smaller hidden size", "goes"),
}
"""What is said of more of a kind of width, and of less."""


@dataclass(frozen=True)
class Feature:
    """A figure of every design, [designs].

    `more` and `less` say what larger and smaller values mean, with `verb` after them. A step of 1 is told as `unit`;
    with `relative` values are logarithms to the base 1.1. `name` is its id.
    """

    name: str
    more: str
    less: str
    verb: str
    unit: str
    values: Array
    relative: bool = False

    def figure(self, value: float) -> str:
        """A value as people know it."""
        return f"{1.1**value:,.0f}" if self.relative else f"{value:.3g}"


def features_of(
    space: SearchSpace[Any, Any], designs: Sequence[Any], names: Mapping[str, str] | None = None
) -> list[Feature]:
    """The features of some designs of one space, in the order of its parts.

    `names` say parts and options otherwise than the space does, where its agents have other words for them. Raises
    ValueError where the space cannot write a design as codes.
    """
    codes = np.array([space.encode(design) for design in designs])
    words = names or {}
    found: list[Feature] = []
    for part in space.parts:
        for kind, places in part.kinds:
            if space.parameters[places[0]].ordered:
                found.append(_mean(space, codes, part.name, kind, places))
            else:
                found += _options(space, codes, words.get(part.name, part.name), places, words)
    return [*found, *_counts(space, codes, words)]


def _mean(
    space: SearchSpace[Any, Any], codes: npt.NDArray[Any], part: str, kind: str, places: Sequence[int]
) -> Feature:
    options = [np.array(space.parameters[place].options, dtype=np.float64) for place in places]
    means = np.mean([values[codes[:, place]] for values, place in zip(options, places, strict=True)], axis=0)
    more, less, verb = _KINDS.get(kind or part, (f"more {kind or part}", f"less {kind or part}", "goes"))
    where = f" in {part}" if kind else ""
    relative = max(float(values.max()) for values in options) >= _WIDTH
    return Feature(
        name=f"{kind} of {part}" if kind else part,
        more=more + where,
        less=less + where,
        verb=verb,
        unit="per 10 %" if relative else "each",
        values=np.log(means) / np.log(1.1) if relative else means,
        relative=relative,
    )


def _options(
    space: SearchSpace[Any, Any], codes: npt.NDArray[Any], part: str, places: Sequence[int], words: Mapping[str, str]
) -> Iterator[Feature]:
    for code, option in enumerate(space.parameters[places[0]].options):
        name = f"{words.get(str(option), option)} on {part}"
        share = (codes[:, places] == code).mean(axis=1)
        yield Feature(name, name, f"no {name}", "goes", "", share)


def _counts(space: SearchSpace[Any, Any], codes: npt.NDArray[Any], words: Mapping[str, str]) -> Iterator[Feature]:
    """How often each option is taken, where several choices have the same ones."""
    alike: dict[tuple[int | str, ...], list[int]] = {}
    for place, parameter in enumerate(space.parameters):
        if not parameter.ordered:
            alike.setdefault(parameter.options, []).append(place)
    for options, places in alike.items():
        for code, option in enumerate(options if len(places) > 1 else ()):
            name = str(words.get(str(option), option))
            count = (codes[:, places] == code).sum(axis=1).astype(np.float64)
            yield Feature(f"{name} in all", f"more {name}", f"less {name}", "goes", "each", count)
