"""The words for cells of NAS-Bench-201, short ones: the embedded chat model has 135M parameters.

SEKI searched this space itself (arXiv 2502.20422, section 5.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.dialects.base import Dialect
from tools.costs import Excess
from tools.spaces import Cell, CellDraft, NASBench201Space
from tools.spaces.nasbench201 import EDGES, Operation

Word = Literal["none", "skip", "conv1x1", "conv3x3", "pool3x3"]
# Half as many tokens as the official names.
_WORDS: dict[Operation, Word] = {
    "none": "none",
    "skip_connect": "skip",
    "nor_conv_1x1": "conv1x1",
    "nor_conv_3x3": "conv3x3",
    "avg_pool_3x3": "pool3x3",
}
_OPERATIONS = {word: operation for operation, word in _WORDS.items()}
_MEANINGS: dict[Word, str] = {
    "none": "cuts the edge",
    "skip": "passes its input on",
    "conv1x1": "learnt convolution, 1x1",
    "conv3x3": "learnt convolution, 3x3",
    "pool3x3": "average of 3x3 neighbours",
}

_Sentence = Annotated[str, Field(min_length=8, max_length=80)]
_Words = Annotated[list[Word], Field(min_length=len(EDGES), max_length=len(EDGES), description="one for each edge")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StrategiesAnswer(_Answer):
    """The first half of self-evolution."""

    strategies: list[_Sentence] = Field(min_length=1, max_length=2, description="which operations to change, and why")


class DesignAnswer(_Answer):
    """The second half of self-evolution."""

    strategies_applied: list[_Sentence] = Field(
        min_length=1, max_length=1, description="the strategy that this cell applies"
    )
    operations: _Words


class InspirationAnswer(_Answer):
    """The answer of knowledge distillation."""

    patterns: list[_Sentence] = Field(min_length=1, max_length=1, description="what the good cells share")
    operations: _Words


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
            "edges": [f"{source}->{target}" for target, source in EDGES],
            "operations": [{"name": name, "meaning": meaning} for name, meaning in _MEANINGS.items()],
        }

    def about_parent(self, parent: CellTrial) -> dict[str, Any]:
        return {"parent": _row(parent)}

    def about_sample(self, sample: Sequence[CellTrial]) -> dict[str, Any]:
        return {"sample": [_row(trial) for trial in sample]}

    def limits(self) -> dict[str, Any]:
        return {}

    def fields(self, design: Cell) -> dict[str, Any]:
        return {"operations": [_WORDS[name] for name in design.operations]}

    def draft(self, parsed: dict[str, Any]) -> CellDraft:
        return CellDraft(operations=tuple(_OPERATIONS.get(name, name) for name in parsed["operations"]))


def _row(trial: CellTrial) -> dict[str, Any]:
    """A trial as the templates show it."""
    words = ", ".join(f'"{_WORDS[name]}"' for name in trial.architecture.operations)
    return {"number": trial.number, "design": f"[{words}]", "accuracy": f"{trial.accuracy:.2f}"}
