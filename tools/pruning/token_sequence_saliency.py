"""Saliency from the gates of tokens, and for attention from those of whole sequences too: the larger of the two.

Both are diagonal Fisher informations, means for each token of the text in the same unit, and equal where the gates g_t
of a sequence's T tokens do not hang together:

    of tokens       1/2 mean_t g_t^2
    of sequences    1/2 mean_s (sum_t g_t)^2 / T        the Fisher information with sequences as samples

An FFN channel fires for single tokens, and tokens give hundreds of times more samples. A head does the same for a whole
text: its gates add up over the tokens, which the square of each alone does not see, and a key/value group that looks
cheap by tokens is dear on text of another kind (`python -m benchmarks.one_shot_pruning`: all types against FFN only).
"""

from dataclasses import replace

import numpy as np
import torch

from tools.pruning.saliency import Array, Saliency
from tools.pruning.selection import CutPlan
from tools.pruning.token_saliency import TokenSaliencyMeter

_SEQUENCE = "sequence."
_ATTENTION = ("kv_group", "query_head")


class TokenSequenceSaliencyMeter(TokenSaliencyMeter):
    """As `TokenSaliencyMeter`; where attention is not read whole, some whole sequences are, one at least."""

    _length = 0

    def saliency(self) -> Saliency:
        """The means over all that was seen by all ranks. Raises ValueError before the first."""
        means = self._means()

        def larger(name: str) -> tuple[Array, ...]:
            names = [f"{name}.{index}" for index in range(len(self._blocks))]
            return tuple(np.maximum(means[one], means[_SEQUENCE + one]) for one in names)

        return replace(self._saliency_of(means), kv_group=larger("kv_group"), query_head=larger("query_head"))

    def keep(self, plan: CutPlan) -> None:
        """Follow the model through a cut: the groups that stay keep their history."""
        super().keep(plan)
        for index in range(len(self._blocks)):
            self._select(f"{_SEQUENCE}kv_group.{index}", plan.kv_groups[index])
            self._select(f"{_SEQUENCE}query_head.{index}", plan.query_heads[index])

    def start_from(self, saliency: Saliency, micro_batches: int) -> None:
        """Begin with what `micro_batches` earlier ones gave, as if tokens and sequences had said the same."""
        super().start_from(saliency, micro_batches)
        for index in range(len(self._blocks)):
            for name in _ATTENTION:
                self._sums[f"{_SEQUENCE}{name}.{index}"] = self._sums[f"{name}.{index}"].clone()

    def _some_of_attention(self, values_bti: torch.Tensor, stride: int) -> torch.Tensor:
        self._length = values_bti.shape[-2]
        return values_bti[::stride].flatten(0, -2)

    def _add_of_attention(self, name: str, gates: torch.Tensor) -> None:
        self._add(name, gates)
        self._add(_SEQUENCE + name, gates.view(-1, self._length, gates.shape[1]).sum(dim=1) / self._length**0.5)
