"""Magnitude: the sum of the squared weights of a group (LLM-Pruner's L2 importance with grouping "sum")."""

from tools.pruning.criteria.contract import Criterion, Statistics
from tools.pruning.criteria.group_values import group_sums
from tools.pruning.saliency import Saliency


class Magnitude(Criterion):
    """Sum of w^2 over all weights of a group, its rows and its columns. It needs no data."""

    def saliency(self, statistics: Statistics) -> Saliency:
        """The saliency of every group; `statistics` are not read."""
        return group_sums(self._model, lambda weight: weight.float().square()).saliency()
