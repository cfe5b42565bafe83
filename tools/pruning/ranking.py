"""The rankings that training can prune by: gates of its own gradients, or criteria for comparison."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from tools.pruning.criteria import Criterion, make_criterion
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.saliency import Saliency
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.selection import CutPlan
from tools.pruning.token_saliency import TokenSaliencyMeter
from tools.pruning.token_sequence_saliency import TokenSequenceSaliencyMeter
from tools.settings import Recipe


class Ranking(Protocol):
    """What training tells a ranking, and what the pruner asks of it. `SaliencyMeter` is the model of the contract."""

    @property
    def samples_tokens(self) -> bool:
        """Whether it may be attached sparsely, and in some steps only."""
        ...

    def attach(self, sparsely: bool = False) -> Callable[[], None]:
        """Start reading, all or a part that stands for more; returns the function that stops it."""
        ...

    def observe(self, loss_scale: float = 1.0) -> None:
        """A micro-batch's backward pass is done; gradients of one step add up."""
        ...

    def end_step(self) -> None:
        """Gradients have been cleared."""
        ...

    def saliency(self) -> Saliency:
        """The saliency of every physical group as of now; larger means keep."""
        ...

    def start_from(self, saliency: Saliency, micro_batches: int) -> None:
        """Begin with what earlier micro-batches gave."""
        ...

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a physical cut."""
        ...

    def totals(self) -> dict[str, torch.Tensor]:
        """State for a checkpoint."""
        ...

    def restore(self, totals: dict[str, torch.Tensor]) -> None:
        """Go on from `totals`."""
        ...


def make_ranking(recipe: Recipe, model: nn.Module, statistics: InputStatistics, seed: int) -> Ranking:
    """The ranking that `recipe.saliency` names, for `model`."""
    match recipe.saliency:
        case "token":
            return TokenSaliencyMeter(model, recipe.saliency_decay, recipe.moment_tokens)
        case "token_sequence":
            return TokenSequenceSaliencyMeter(model, recipe.saliency_decay, recipe.moment_tokens)
        case "first" | "second" | "mixed":
            return SaliencyMeter(model, recipe.saliency, recipe.saliency_decay)
        case name:
            return CriterionRanking(make_criterion(name, model, seed), statistics)


class CriterionRanking:
    """A criterion that looks at weights and input moments as they are when it is asked."""

    def __init__(self, criterion: Criterion, statistics: InputStatistics) -> None:
        self._criterion, self._statistics = criterion, statistics

    @property
    def samples_tokens(self) -> bool:
        """It looks at no tokens of its own."""
        return False

    def attach(self, sparsely: bool = False) -> Callable[[], None]:
        """Nothing to read."""
        return lambda: None

    def observe(self, loss_scale: float = 1.0) -> None:
        """Gradients say nothing to it."""

    def end_step(self) -> None:
        """Nor do steps."""

    def saliency(self) -> Saliency:
        """What the criterion says of the model as it is."""
        return self._criterion.saliency(self._statistics.means())

    def start_from(self, saliency: Saliency, micro_batches: int) -> None:
        """It looks anew each time."""

    def keep(self, plan: CutPlan) -> None:
        """It looks anew each time."""

    def totals(self) -> dict[str, torch.Tensor]:
        """It has no state."""
        return {}

    def restore(self, totals: dict[str, torch.Tensor]) -> None:
        """It has no state."""
