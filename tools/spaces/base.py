"""The contract of a search space: what may be varied, what is legal, and how a searcher moves in it."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

Design = TypeVar("Design")
Draft = TypeVar("Draft", bound=BaseModel)
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One choice that a design makes among at least one of `options`; `ordered` where neighbouring ones are alike."""

    name: str
    options: tuple[int | str, ...]
    ordered: bool

    @property
    def dimensions(self) -> int:
        """Places that it has in a vector."""
        return 1 if self.ordered else len(self.options)


@dataclass(frozen=True)
class Part:
    """What of a design is told together: for each kind of width, or other choice, the places of its parameters.

    `kinds` pairs the name of a kind, empty where `name` says it all, with places in `SearchSpace.parameters`, whose
    options are the same or nearly so.
    """

    name: str
    kinds: tuple[tuple[str, tuple[int, ...]], ...]


class SearchSpace(ABC, Generic[Design, Draft]):
    """All legal designs of one kind, and the moves between them.

    A *design* is immutable, hashable and compared by value. A *draft* is a design as an agent writes it, legal or not.
    A space measures nothing: what a design is worth is somebody else's matter.

    Contract, tested for every space by `tests/tools/space_contract.py`:

    - Legal is a design whose draft has no problems. `sample`, `mutate`, `neighbours`, `decode` and `project` give legal
      designs only. Where the rules of a space leave no legal design near, they give the nearest that there is.
    - All chance comes from the `random.Random` that is handed in: equal states of it give equal designs, in every
      process. Nothing keeps state between calls.
    - `encode` and `decode` are inverse on legal designs, and `decode` takes every list of codes in range.
    - `read(draft(design), base)` is `design`, whatever the legal `base`.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def parameters(self) -> Sequence[Parameter]:
        """What a design chooses, always in the same order: for searchers that learn a model of the space."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Design:
        """A design drawn at random. Chance alone decides, so that random search is an honest control."""

    @abstractmethod
    def mutate(self, design: Design, rng: random.Random) -> Design:
        """Another design that shares most with `design`; `design` itself only where the space has no other."""

    @abstractmethod
    def neighbours(self, design: Design) -> list[Design]:
        """The designs one smallest step away, each once, without `design`, always in the same order."""

    @abstractmethod
    def encode(self, design: Design) -> tuple[int, ...]:
        """For each of `parameters`, the index of the option that `design` takes."""

    @abstractmethod
    def decode(self, codes: Sequence[int]) -> Design:
        """The design that takes these options, brought to the nearest legal one."""

    @abstractmethod
    def identity(self, design: Design) -> str:
        """Canonical hash: equal for equal designs in every process, different for different ones."""

    @abstractmethod
    def describe(self, design: Design) -> str:
        """The design in words, on one line, for people and prompts."""

    @abstractmethod
    def draft(self, design: Design) -> Draft:
        """The draft that says exactly `design`."""

    @abstractmethod
    def problems(self, draft: Draft, base: Design) -> list[str]:
        """What is illegal about `draft`, in sentences for its author; empty where it is legal."""

    @abstractmethod
    def read(self, draft: Draft, base: Design) -> Design:
        """The design that a draft without problems says; where the draft is silent, `base` speaks."""

    @abstractmethod
    def project(self, draft: Draft, base: Design) -> tuple[Design, list[str]]:
        """The nearest legal design, and a note for each thing that was changed."""

    @property
    def parts(self) -> Sequence[Part]:
        """All parameters, in few parts that can be told in a line each; by default each parameter is one."""
        return [Part(parameter.name, (("", (place,)),)) for place, parameter in enumerate(self.parameters)]

    def designs(self) -> Iterator[Design] | None:
        """Every legal design once, where they are few enough to be counted, else None."""
        return None

    def vector(self, design: Design) -> Vector:
        """`design` as numbers from 0 to 1, float64 [dimensions]: an ordered choice is its place, another is one-hot."""
        values: list[float] = []
        for parameter, code in zip(self.parameters, self.encode(design), strict=True):
            if parameter.ordered:
                values.append(code / max(1, len(parameter.options) - 1))
            else:
                values += [float(code == option) for option in range(len(parameter.options))]
        return np.array(values)
