"""Activation: weights times the norm of the inputs that they read (Wanda, arXiv 2306.11695, made structural)."""

import torch

from tools.pruning.criteria.contract import LayerwiseCriterion, Statistics, moments


class Activation(LayerwiseCriterion):
    """Sum of |W_ij| ||X_j|| over the input columns j that a group takes from its reader, ||X_j|| per token.

    Wanda-sp in the code of FLAP (arXiv 2312.11983): the reader of an FFN channel is down_proj, of a head o_proj. A
    stem channel, which Wanda-sp does not cut, is summed over its readers in all blocks; the head's inputs are unknown.
    """

    def attention(self, layer: int, statistics: Statistics) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one layer's key/value groups and query heads: the sums of their channels."""
        block = self._blocks[layer]
        columns = _columns(block.o_proj.weight, statistics, f"output.{layer}")
        heads = columns.view(block.num_attention_heads, -1).sum(dim=1)
        return heads.view(block.num_key_value_heads, -1).sum(dim=1), heads

    def ffn(self, layer: int, statistics: Statistics) -> torch.Tensor:
        """Of one layer's FFN channels."""
        return _columns(self._blocks[layer].down_proj.weight, statistics, f"down.{layer}")

    def stem(self, statistics: Statistics) -> torch.Tensor:
        """Of the stem channels."""
        total = torch.zeros(())
        for layer, block in enumerate(self._blocks):
            for linear in (block.q_proj, block.k_proj, block.v_proj):
                total = total + _columns(linear.weight, statistics, f"attention_input.{layer}")
            for linear in (block.gate_proj, block.up_proj):
                total = total + _columns(linear.weight, statistics, f"ffn_input.{layer}")
        return total


def _columns(weight: torch.Tensor, statistics: Statistics, name: str) -> torch.Tensor:
    """sum_i |W_ij| ||X_j|| for every input column j of `weight` [out, in]."""
    norms = moments(statistics, name, weight).diagonal().clamp_min(0.0).sqrt()
    return weight.detach().float().abs().sum(dim=0) * norms
