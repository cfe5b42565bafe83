"""FLAP: how much a channel's input fluctuates, and a bias that stands in for the rest (arXiv 2312.11983).

A channel whose input hardly changes can be replaced by its mean: W_j x_j becomes the constant W_j E[x_j], which a bias
on the reader holds. What that leaves out is the fluctuation Var(x_j) ||W_:j||^2 ("WIFV").
"""

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from tools.architecture import Architecture
from tools.errors import InputError
from tools.pruning.blocks import blocks
from tools.pruning.criteria.contract import Criterion, Statistics, moments
from tools.pruning.criteria.group_values import GroupValues, group_sizes
from tools.pruning.saliency import Saliency
from tools.pruning.selection import CutPlan, Indices, head_channels


class Fluctuation(Criterion):
    """FLAP's score for its adaptive search over the whole network ("AL-AM" in its code).

    Scores of the channels of one layer and kind are standardised, to mean 0 and deviation 1; those of o_proj are
    squared first, as its code does; a head's score is the mean over its channels. All are raised by one number so that
    none is negative, and multiplied by the parameters that a group frees: ranked by saliency per parameter, the order
    is that of FLAP's scores. Stem channels, which FLAP does not cut, count the same over their readers in all blocks,
    with uncentred moments.
    """

    needs_statistics = True

    @torch.no_grad()
    def saliency(self, statistics: Statistics) -> Saliency:
        """The saliency of every group. Raises ValueError where `statistics` lack something."""
        kv_groups, query_heads, ffn = [], [], []
        stem = torch.zeros(())
        for layer, block in enumerate(self._blocks):
            output = _centred(block.o_proj.weight, statistics, "output", layer).square()
            heads = _standardised(output).view(block.num_attention_heads, -1).mean(dim=1)
            query_heads.append(heads)
            kv_groups.append(heads.view(block.num_key_value_heads, -1).mean(dim=1))
            ffn.append(_standardised(_centred(block.down_proj.weight, statistics, "down", layer)))
            sites = {
                f"attention_input.{layer}": (block.q_proj, block.k_proj, block.v_proj),
                f"ffn_input.{layer}": (block.gate_proj, block.up_proj),
            }
            for name, readers in sites.items():
                norms = torch.stack([linear.weight.float().square().sum(dim=0) for linear in readers]).sum(dim=0)
                found = _standardised(moments(statistics, name, norms).diagonal() * norms)
                stem = stem + found / (2 * len(self._blocks))
        scores = GroupValues(kv_group=kv_groups, query_head=query_heads, ffn=ffn, stem=stem)
        lowest = min(float(values.min()) for values in (*kv_groups, *query_heads, *ffn, stem))
        return scores.zipped(group_sizes(self._model), lambda score, size: (score - lowest) * size).saliency()


def _centred(weight: torch.Tensor, statistics: Statistics, place: str, layer: int) -> torch.Tensor:
    """Var(x_j) ||W_:j||^2 for every input column j of `weight` [out, in]."""
    squares = moments(statistics, f"{place}.{layer}", weight).diagonal()
    variance = squares - moments(statistics, f"{place}_mean.{layer}", weight).square()
    return variance.clamp_min(0.0) * weight.float().square().sum(dim=0)


def _standardised(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean()) / values.std(correction=0).clamp_min(1e-30)


def give_biases(model: PreTrainedModel, source: Architecture) -> Architecture:
    """Give every projection of a Llama model a bias of zeros, which changes no logit; returns its new architecture.

    Raises InputError for other families: their classes have no biases on the output projections.
    """
    if source.fixed.model_type != "llama":
        raise InputError(
            f"FLAP's bias compensation needs biases on o_proj and down_proj, which models of type "
            f"{source.fixed.model_type!r} cannot hold: take a Llama model or another method, like wanda-sp-repaired."
        )
    for block in blocks(model):
        for linear in (*block.stem_readers, *block.stem_writers):
            if linear.bias is None:
                linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
    model.config.attention_bias = model.config.mlp_bias = True
    flags = {"qkv_bias": True, "attention_output_bias": True, "mlp_bias": True}
    fixed = source.fixed.model_copy(update=flags)
    return Architecture(fixed=fixed, hidden_size=source.hidden_size, layers=source.layers)


@torch.no_grad()
def compensate(model: nn.Module, plan: CutPlan, statistics: Mapping[str, torch.Tensor]) -> None:
    """Put the mean of what `plan` removes from o_proj and down_proj into their biases; call before the cut itself.

    The model must have these biases; `statistics` is the `state()` of `InputStatistics`.
    """
    for index, block in enumerate(blocks(model)):
        head_columns = head_channels(plan.query_heads[index], block.head_dim)
        _take_over_mean(block.o_proj, head_columns, moments(statistics, f"output_mean.{index}", block.o_proj.weight))
        _take_over_mean(
            block.down_proj, plan.ffn[index], moments(statistics, f"down_mean.{index}", block.down_proj.weight)
        )


def _take_over_mean(linear: nn.Linear, keep: Indices, mean: torch.Tensor) -> None:
    gone = mean.clone()
    gone[torch.as_tensor(keep, device=mean.device)] = 0.0
    linear.bias.add_((linear.weight.float() @ gone).to(linear.bias.dtype))
