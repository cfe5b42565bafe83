"""Where past designs are looked up, in any search space: what is known of each, and the contract of the look-up."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from memory.filters import Filter

DesignT = TypeVar("DesignT", contravariant=True)


@dataclass(frozen=True)
class Past:
    """A past design as the search that asks may see it.

    `score` and `loss` are None where it failed, and where it was measured otherwise, so that no figure compares. The
    `outcome` in words keeps to that, and says of a design that is no use why: `unusable`. `change` is its score minus
    its parent's in its own run, negative where it was better. `size` is its parameters as a share of its source's;
    `fits` says whether its parameters are within the budget of the search, where the sources are the same. `describe`
    and `embed` make what few are asked for.
    """

    id: str
    identity: str
    describe: Callable[[], str]
    outcome: str
    score: float | None
    loss: float | None
    change: float | None
    unusable: bool
    origin: str
    size: float
    fits: bool
    embed: Callable[[], npt.NDArray[np.floating]]

    @cached_property
    def design(self) -> str:
        """The design in words."""
        return self.describe()

    @cached_property
    def vector(self) -> npt.NDArray[np.floating]:
        """Its shape, relative to its source's."""
        return self.embed()


class Library(Protocol[DesignT]):
    """Past designs of one kind, with the lessons that led to them."""

    def near(self, design: DesignT, k: int, where: Filter) -> Sequence[tuple[str, float]]:
        """Ids and distances of the `k` designs nearest in shape, the nearest first."""

    def worded(self, text: str, k: int, where: Filter) -> Sequence[tuple[str, str, float]]:
        """Ids `DESIGN/LINE`, texts and distances of the `k` lessons nearest in wording, the nearest first."""

    def leading(self, k: int) -> Sequence[str]:
        """Ids of the `k` designs of best score, the best first, of those whose figures compare."""

    def past(self, ids: Iterable[str]) -> dict[str, Past]:
        """What is known of these designs; without those that are not known any more."""
