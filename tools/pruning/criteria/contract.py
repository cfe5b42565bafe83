"""What every pruning criterion is: from a live model and gathered evidence to the saliency of every minimal group."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn

from tools.pruning.blocks import blocks
from tools.pruning.criteria.group_values import GroupValues
from tools.pruning.saliency import Saliency

Statistics = Mapping[str, torch.Tensor]
"""Moments of layer inputs, as `tools.pruning.input_statistics.InputStatistics.state` names them."""


class Criterion(ABC):
    """How much each minimal parameter group of `model` matters.

    The contract, which one suite of tests holds every criterion to:

    - Larger means keep. All values are finite and not negative, in the shapes of `Saliency`.
    - A group's value stands for the whole group. Groups of different kinds compare after division by the parameters
      that each frees, which is what `tools.pruning.greedy.SaliencyDesigner` does.
    - A key/value group is scored with the query heads that read it, h // (query heads / key/value heads) as in the
      model; a tied embedding counts once.
    - Nothing but the evidence moves the values: the same model, micro-batches, statistics and seed give the same.
    - The model is left as it was, its gradients too.

    Evidence is of two kinds. A criterion that `needs_gradients` is told by `observe` that `.grad` now holds the
    gradients of one micro-batch, and of that one alone; what it takes from each is averaged over all. Between `attach`
    and its end it may follow the passes themselves. One that `needs_statistics` reads the moments of layer inputs that
    are given to `saliency`.
    """

    needs_gradients: ClassVar[bool] = False
    needs_statistics: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._blocks = blocks(model)

    def attach(self) -> Callable[[], None]:
        """The passes of the evidence begin; returns the function to call after the last one."""
        return lambda: None

    def observe(self) -> None:  # noqa: B027 - most criteria take nothing from gradients
        """Take in the gradients of one micro-batch: call after its backward pass, with gradients cleared before it.

        Raises ValueError where a criterion that needs gradients finds none.
        """

    @abstractmethod
    def saliency(self, statistics: Statistics) -> Saliency:
        """The saliency of every group. Raises ValueError where evidence is missing."""


class LayerwiseCriterion(Criterion):
    """A criterion that judges each place of each layer by the inputs there alone.

    So layers can be taken one after another, each by the inputs that it gets behind those that were cut before.
    """

    needs_statistics = True

    @abstractmethod
    def attention(self, layer: int, statistics: Statistics) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one layer's key/value groups [num_key_value_heads] and query heads [num_attention_heads]."""

    @abstractmethod
    def ffn(self, layer: int, statistics: Statistics) -> torch.Tensor:
        """Of one layer's FFN channels [intermediate_size]."""

    @abstractmethod
    def stem(self, statistics: Statistics) -> torch.Tensor:
        """Of the stem channels [hidden_size]."""

    @torch.no_grad()
    def saliency(self, statistics: Statistics) -> Saliency:
        """The saliency of every group. Raises ValueError where `statistics` lack something."""
        attention = [self.attention(layer, statistics) for layer in range(len(self._blocks))]
        return GroupValues(
            kv_group=[groups for groups, _ in attention],
            query_head=[heads for _, heads in attention],
            ffn=[self.ffn(layer, statistics) for layer in range(len(self._blocks))],
            stem=self.stem(statistics),
        ).saliency()


def moments(statistics: Statistics, name: str, weight: torch.Tensor) -> torch.Tensor:
    """One entry of the statistics, in float32 where `weight` is. Raises ValueError where it is missing."""
    if name not in statistics:
        raise ValueError(f"this criterion needs the statistics of layer inputs: there is no {name!r}")
    return statistics[name].to(weight.device, torch.float32)
