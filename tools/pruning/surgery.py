"""Cutting a live model: weights and optimiser moments become physically smaller, Parameters keep their identity.

No graph may be alive while it happens: drop losses and outputs first, since an old graph expects the old shapes.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tools.pruning.blocks import blocks, embedding, head, stem_norms
from tools.pruning.selection import CutPlan, Indices, head_channels


@torch.no_grad()
def cut(model: nn.Module, plan: CutPlan, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
    """Reduce `model` to what `plan` keeps, and every optimiser state of the same shape with it. Gradients are cleared.

    A masked model gives the same logits as the cut one for attention and FFN groups; for stem channels up to the
    RMSNorm factor that `second_order.repair` or `mask_gain` accounts for.
    """
    surgeon = _Surgeon(optimizers)
    for index, block in enumerate(blocks(model)):
        query_rows = head_channels(plan.query_heads[index], block.head_dim)
        key_value_rows = head_channels(plan.kv_groups[index], block.head_dim)
        ratio = len(plan.query_heads[index]) // len(plan.kv_groups[index])
        surgeon.rows(block.q_proj, query_rows)
        surgeon.rows(block.k_proj, key_value_rows)
        surgeon.rows(block.v_proj, key_value_rows)
        surgeon.columns(block.o_proj, query_rows)
        block.set_query_heads_per_group(ratio)
        surgeon.rows(block.gate_proj, plan.ffn[index])
        surgeon.rows(block.up_proj, plan.ffn[index])
        surgeon.columns(block.down_proj, plan.ffn[index])
        for reader in block.stem_readers:
            surgeon.columns(reader, plan.stem)
        for writer in block.stem_writers:
            surgeon.rows(writer, plan.stem)
    for norm in stem_norms(model):
        surgeon.slice(norm.get_parameter("weight"), 0, plan.stem)
    tokens, output = embedding(model), head(model)
    surgeon.slice(tokens.weight, 1, plan.stem)
    tokens.embedding_dim = len(plan.stem)
    if output.weight is not tokens.weight:
        surgeon.slice(output.weight, 1, plan.stem)
    output.in_features = len(plan.stem)
    # Left as it was, transformers would still report the source's widths for the cut model.
    cast(PreTrainedModel, model).config.hidden_size = len(plan.stem)


class _Surgeon:
    """Slices one Parameter together with the optimiser states that have its shape."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers

    def rows(self, linear: nn.Linear, keep: Indices) -> None:
        self.slice(linear.weight, 0, keep)
        if linear.bias is not None:
            self.slice(linear.bias, 0, keep)
        linear.out_features = len(keep)

    def columns(self, linear: nn.Linear, keep: Indices) -> None:
        self.slice(linear.weight, 1, keep)
        linear.in_features = len(keep)

    def slice(self, parameter: torch.Tensor, dimension: int, keep: Indices) -> None:
        if len(keep) == parameter.shape[dimension]:
            parameter.grad = None
            return
        index = torch.as_tensor(keep, device=parameter.device)
        old_shape = parameter.shape
        parameter.grad = None
        parameter.data = parameter.data.index_select(dimension, index).contiguous()
        for optimizer in self._optimizers:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == old_shape:
                    state[name] = value.index_select(dimension, index).contiguous()
