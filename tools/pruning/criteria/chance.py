"""Chance: the baseline that every criterion has to beat."""

import torch
from torch import nn

from tools.pruning.criteria.contract import Criterion, Statistics
from tools.pruning.criteria.group_values import group_sizes
from tools.pruning.saliency import Saliency


class Chance(Criterion):
    """A number drawn for every group, evenly from 0 to 1, times the parameters that it frees.

    So where groups are ranked by saliency per parameter, those of all kinds are equally likely to go. `seed` decides.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        super().__init__(model)
        self._seed = seed

    def saliency(self, statistics: Statistics) -> Saliency:
        """The saliency of every group; `statistics` are not read."""
        # Drawn on the processor: other devices have other generators.
        generator = torch.Generator().manual_seed(self._seed)
        sizes = group_sizes(self._model)
        return sizes.mapped(lambda size: size.cpu() * torch.rand(len(size), generator=generator)).saliency()
