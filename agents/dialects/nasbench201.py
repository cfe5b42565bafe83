"""The words for cells of NAS-Bench-201, short ones: the embedded chat model has 135M parameters.

SEKI searched this space itself (arXiv 2502.20422, section 5.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.dialects.base import Dialect
from tools.costs import Excess
from tools.spaces import Cell, CellDraft, NASBench201Space
from tools.spaces.nasbench201 import EDGES, Operation

Word = Literal["none", "skip", "conv1", "conv3", "pool"]
# A third of the tokens of the official names.
_WORDS: dict[Operation, Word] = {
    "none": "none",
    "skip_connect": "skip",
    "nor_conv_1x1": "conv1",
    "nor_conv_3x3": "conv3",
    "avg_pool_3x3": "pool",
}
_OPERATIONS = {word: operation for operation, word in _WORDS.items()}
_MEANINGS: dict[Word, str] = {
    "none": "cuts the edge",
    "skip": "passes its input on",
    "conv1": "1x1 convolution",
    "conv3": "3x3 convolution",
    "pool": "3x3 average pooling",
}

_Sentence = Annotated[str, Field(min_length=8, max_length=48)]
_EDGES = tuple(f"{source}{target}" for target, source in EDGES)

CHANGES = tuple(f"{edge} {word}" for edge in _EDGES for word in _MEANINGS)
"""All that an answer can change: the nodes that an edge goes from and to, and its new operation."""
MOST_CHANGES = 3

_Change = Enum("_Change", {change: change for change in CHANGES}, type=str)  # type: ignore[misc]
_Changes = Annotated[list[_Change], Field(min_length=1, max_length=MOST_CHANGES, description="edge and operation")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StrategiesAnswer(_Answer):
    """The first half of self-evolution."""

    strategies: list[_Sentence] = Field(min_length=1, max_length=2, description="what to change, and why")


class DesignAnswer(_Answer):
    """The second half of self-evolution."""

    strategies_applied: list[Literal[1, 2]] = Field(
        min_length=1, max_length=2, description="numbers of the strategies that these changes apply"
    )
    changes: _Changes


class InspirationAnswer(_Answer):
    """The answer of knowledge distillation."""

    patterns: list[_Sentence] = Field(min_length=1, max_length=1, description="what the good cells share")
    changes: _Changes


@dataclass(frozen=True)
class CellTrial:
    """A cell that was tried, with its validation accuracy in per cent. It cannot fail and has no limits."""

    number: int
    architecture: Cell
    accuracy: float
    stage: str = ""
    succeeded: ClassVar[bool] = True
    acceptable: ClassVar[bool] = True
    over_limit: ClassVar[Excess | None] = None
    rung: ClassVar[int] = 0

    @property
    def name(self) -> str:
        """Its name in its search."""
        return f"trial {self.number}"

    @property
    def identity(self) -> str:
        """Canonical hash of its cell."""
        return self.architecture.hash

    @property
    def score(self) -> float:
        """The error in per cent, the lower the better."""
        return 100.0 - self.accuracy


class NASBench201Dialect(Dialect[Cell, CellDraft, CellTrial]):
    """`task` is what the network is for, such as "CIFAR-10"."""

    prefix = "nasbench201_"
    strategies = StrategiesAnswer
    design = DesignAnswer
    inspiration = InspirationAnswer

    def __init__(self, space: NASBench201Space, task: str) -> None:
        self._task = task

    def about_space(self) -> dict[str, Any]:
        return {
            "task": self._task,
            "edges": _EDGES,
            "operations": [{"name": name, "meaning": meaning} for name, meaning in _MEANINGS.items()],
        }

    def about_parent(self, parent: CellTrial) -> dict[str, Any]:
        return {"parent": _row(parent)}

    def about_sample(self, sample: Sequence[CellTrial]) -> dict[str, Any]:
        return {"sample": [_row(trial) for trial in sample]}

    def limits(self) -> dict[str, Any]:
        return {}

    def reasons(self, parsed: dict[str, Any], written: tuple[str, ...]) -> tuple[str, ...]:
        """Strategies are applied by their numbers."""
        if "patterns" in parsed:
            return tuple(parsed["patterns"])
        numbers = sorted(set(parsed.get("strategies_applied", ())))
        return tuple(written[number - 1] for number in numbers if number <= len(written)) or written

    def fields(self, design: Cell, base: Cell) -> dict[str, Any]:
        pairs = zip(_EDGES, design.operations, base.operations, strict=True)
        return {"changes": [f"{edge} {_WORDS[new]}" for edge, new, old in pairs if new != old]}

    def draft(self, parsed: dict[str, Any]) -> CellDraft:
        """Of two changes of one edge the later one counts."""
        if "operations" in parsed:
            return CellDraft.model_validate(parsed)
        words = dict(change.split() for change in parsed["changes"])
        return CellDraft(operations=tuple(_OPERATIONS[words[edge]] if edge in words else None for edge in _EDGES))


def _row(trial: CellTrial) -> dict[str, Any]:
    """A trial as the templates show it."""
    return {"number": trial.number, "design": cell_in_words(trial.architecture), "accuracy": f"{trial.accuracy:.1f}"}


def cell_in_words(cell: Cell) -> str:
    """A cell as the agents are shown it: the operations of its edges."""
    return " ".join(_WORDS[name] for name in cell.operations)
