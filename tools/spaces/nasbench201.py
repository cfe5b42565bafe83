"""The cells of NAS-Bench-201 (Dong and Yang, arXiv 2001.00326): 6 edges, 5 operations, 15,625 designs.

Four nodes; each edge from an earlier to a later node carries one operation. What a cell is worth stands in a table
(`tools.spaces.nasbench201_table`), so a whole search takes seconds: it judges searchers, not models.
"""

import difflib
import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import ClassVar, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict

from tools.spaces.base import Parameter, SearchSpace

Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""Node and the earlier node that the edge comes from, in the order of the official strings."""

_TERM = re.compile(r"([a-z0-9_]+)~(\d)")


class Cell(BaseModel):
    """One operation for each of `EDGES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: tuple[Operation, Operation, Operation, Operation, Operation, Operation]

    @classmethod
    def from_string(cls, text: str) -> "Cell":
        """The cell of an official string like `|none~0|+|none~0|none~1|+|none~0|none~1|none~2|`.

        Raises ValueError for any other text.
        """
        found = _TERM.findall(text)
        if [name for name, _ in found if name not in OPERATIONS] or len(found) != len(EDGES):
            raise ValueError(f"{text!r} is no cell of NAS-Bench-201")
        cell = cls(operations=tuple(name for name, _ in found))
        if cell.string != text:
            raise ValueError(f"{text!r} is no cell of NAS-Bench-201")
        return cell

    @cached_property
    def string(self) -> str:
        """The official string."""
        nodes = [
            "".join(f"|{name}~{source}" for name, (target, source) in self._edges() if target == node) + "|"
            for node in (1, 2, 3)
        ]
        return "+".join(nodes)

    @cached_property
    def hash(self) -> str:
        """Canonical identity, 16 hexadecimal digits; cells that compute the same stay apart, as in the table."""
        return hashlib.sha256(self.string.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line: `1<-0 nor_conv_3x3, 2<-0 none, ...`."""
        return ", ".join(f"{target}<-{source} {name}" for name, (target, source) in self._edges())

    def _edges(self) -> Iterator[tuple[Operation, tuple[int, int]]]:
        return zip(self.operations, EDGES, strict=True)


class CellDraft(BaseModel):
    """A cell as an agent writes it: the names of six operations, in the order of `EDGES`; None: as in the base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: tuple[str | None, ...]


class NASBench201Space(SearchSpace[Cell, CellDraft]):
    """All 15,625 cells; every one is legal."""

    name: ClassVar[str] = "nasbench201"

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(Parameter(_edge(index), OPERATIONS, ordered=False) for index in range(len(EDGES)))

    def sample(self, rng: random.Random) -> Cell:
        return self.decode([rng.randrange(len(OPERATIONS)) for _ in EDGES])

    def mutate(self, design: Cell, rng: random.Random) -> Cell:
        """Another operation on one edge, as regularised evolution does on this benchmark."""
        index = rng.randrange(len(EDGES))
        others = [name for name in OPERATIONS if name != design.operations[index]]
        return _with(design, index, rng.choice(others))

    def neighbours(self, design: Cell) -> list[Cell]:
        """The 24 cells that differ on one edge."""
        return [
            _with(design, index, name)
            for index in range(len(EDGES))
            for name in OPERATIONS
            if name != design.operations[index]
        ]

    def encode(self, design: Cell) -> tuple[int, ...]:
        return tuple(OPERATIONS.index(name) for name in design.operations)

    def decode(self, codes: Sequence[int]) -> Cell:
        return _cell(tuple(OPERATIONS[code] for code in codes))

    def identity(self, design: Cell) -> str:
        return design.hash

    def describe(self, design: Cell) -> str:
        return design.describe()

    def draft(self, design: Cell) -> CellDraft:
        return CellDraft(operations=design.operations)

    def problems(self, draft: CellDraft, base: Cell) -> list[str]:
        if len(draft.operations) != len(EDGES):
            edges = ", ".join(_edge(index) for index in range(len(EDGES)))
            return [f"it names {len(draft.operations)} operations: name {len(EDGES)}, for the edges {edges}."]
        return [
            f"edge {_edge(index)}: {name!r} is no operation: use one of {', '.join(OPERATIONS)}."
            for index, name in enumerate(draft.operations)
            if name is not None and name not in OPERATIONS
        ]

    def read(self, draft: CellDraft, base: Cell) -> Cell:
        names = [_named(name, old) for name, old in zip(draft.operations, base.operations, strict=True)]
        return _cell(tuple(cast(Operation, name) for name in names))

    def project(self, draft: CellDraft, base: Cell) -> tuple[Cell, list[str]]:
        """Names that are nearly right are corrected; where that fails or a name is missing, `base` keeps its own."""
        names = [_named(name, old) for name, old in zip(draft.operations, base.operations, strict=False)]
        notes = list[str]()
        if len(draft.operations) > len(EDGES):
            notes.append(f"only the first {len(EDGES)} of {len(draft.operations)} operations were taken")
        for index, name in enumerate(names):
            if name not in OPERATIONS:
                names[index] = _nearest(name) or base.operations[index]
                notes.append(f"edge {_edge(index)}: {name!r} became {names[index]}")
        for index in range(len(names), len(EDGES)):
            names.append(base.operations[index])
            notes.append(f"edge {_edge(index)} kept {names[index]}")
        return _cell(tuple(cast(Operation, name) for name in names)), notes

    def designs(self) -> Iterator[Cell]:
        return (_cell(operations) for operations in itertools.product(OPERATIONS, repeat=len(EDGES)))


def _edge(index: int) -> str:
    target, source = EDGES[index]
    return f"{target}<-{source}"


def _named(name: str | None, old: Operation) -> str:
    return old if name is None else name


def _nearest(name: str) -> Operation | None:
    found = difflib.get_close_matches(name.strip().lower(), OPERATIONS, n=1)
    return cast(Operation, found[0]) if found else None


def _with(cell: Cell, index: int, name: Operation) -> Cell:
    return _cell((*cell.operations[:index], name, *cell.operations[index + 1 :]))


@cache
def _cell(operations: tuple[Operation, ...]) -> Cell:
    # Searchers ask for the same few by the ten thousand, and each keeps its string and hash.
    return Cell.model_validate({"operations": operations})
