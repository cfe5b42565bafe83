"""Taylor criteria: the expected change of the loss, read from gradients (LLM-Pruner, arXiv 2305.11627, section 3.2).

Element-wise, every weight of a group counts with its own magnitude and nothing cancels. Vector-wise, weights that act
together are summed before the magnitude is taken; that is the derivative of a gate on the group's activation.
"""

from collections.abc import Callable

import torch
from torch import nn

from tools.pruning.criteria.contract import Criterion, Statistics
from tools.pruning.criteria.group_values import GroupValues, group_sums
from tools.pruning.saliency import Saliency
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.token_sequence_saliency import TokenSequenceSaliencyMeter


class TaylorElement(Criterion):
    """Sum over all weights of a group of |w g|, or where `mixed` of |w g - w^2 g^2 / 2|; the mean over micro-batches.

    LLM-Pruner's `param_first` and `param_mix`. Three things differ from its code: query heads are summed with the
    key/value head that they read; each micro-batch counts with its own magnitude, where gradients added up first
    would cancel; and all is float32, where squares of small gradients would vanish in half precision.
    """

    needs_gradients = True

    def __init__(self, model: nn.Module, mixed: bool = False) -> None:
        super().__init__(model)
        self._mixed = mixed
        self._total: GroupValues | None = None
        self._count = 0

    def observe(self) -> None:
        """Take in the gradients of one micro-batch. Raises ValueError where there are none."""
        fresh = group_sums(self._model, self._score)
        self._total = fresh if self._total is None else self._total.zipped(fresh, torch.add)
        self._count += 1

    def saliency(self, statistics: Statistics) -> Saliency:
        """The mean over the micro-batches. Raises ValueError before the first; `statistics` are not read."""
        if self._total is None:
            raise ValueError("no micro-batch was observed yet")
        return self._total.mapped(lambda values: values / self._count).saliency()

    def _score(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.grad is None:
            raise ValueError("Taylor criteria need gradients: call observe() after backward()")
        product = weight.float() * weight.grad.float()
        return (product - 0.5 * product.square()).abs() if self._mixed else product.abs()


class Gates(Criterion):
    """What a meter of training reads from gates, each group seen from one side, so that nothing is counted twice.

    `SaliencyMeter` of order "first" is LLM-Pruner's `vectorize`, |sum w g| over the column of a channel; "second" half
    the square of the gate of the whole group, the diagonal of the Fisher information; "mixed" the magnitude of their
    difference. `TokenSequenceSaliencyMeter` squares the gates of tokens and of sequences.
    """

    needs_gradients = True

    def __init__(self, model: nn.Module, meter: SaliencyMeter | TokenSequenceSaliencyMeter) -> None:
        super().__init__(model)
        self._meter = meter

    def attach(self) -> Callable[[], None]:
        """Let the meter follow the passes, if it does."""
        return self._meter.attach()

    def observe(self) -> None:
        """Take in the gradients of one micro-batch. Raises ValueError where there are none."""
        self._meter.observe()
        self._meter.end_step()

    def saliency(self, statistics: Statistics) -> Saliency:
        """The mean over the micro-batches. Raises ValueError before the first; `statistics` are not read."""
        return self._meter.saliency()
