"""Cutting a live model: weights and optimiser moments become physically smaller, Parameters keep their identity.

No graph may be alive while it happens: drop losses and outputs first. An old graph expects gradients of the old shapes,
and as long as it lives, the next backward pass through the same Parameters fails.
"""

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from tools.pruning.blocks import blocks, embedding, head, stem_norms
from tools.pruning.masking import moments, open_gates
from tools.pruning.selection import CutPlan, Indices, head_channels

_GRADIENT_POWERS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}
"""With which power of the gradient the moments of SGD, Adam and AMSGrad go."""


@torch.no_grad()
def cut(model: nn.Module, plan: CutPlan, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
    """Reduce `model` to what `plan` keeps, and every optimiser state of a parameter's shape with it.

    Parameters stay the same objects, so param groups, tied weights and `requires_grad` stay as they are; scalars of the
    optimisers, such as `step`, stay too. Gradients are cleared. Weights that are kept do not change: for stem channels
    the norms then divide by the smaller hidden size, for which `second_order.repair` makes up in the mean, and
    `compact`, after a mask, exactly. Raises ValueError, before anything is changed, where an optimiser's state has
    neither a parameter's shape nor is a scalar (factored moments): it could not follow.
    """
    _require_sliceable(optimizers)
    open_gates(model)
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


@torch.no_grad()
def compact(model: nn.Module, plan: CutPlan, optimizers: Sequence[torch.optim.Optimizer] = ()) -> None:
    """Reduce `model`, masked by the same `plan`, without changing what it computes; otherwise like `cut`.

    RMSNorm divides by sqrt(sum of squares / d + epsilon). With d' of d channels left, all gains are multiplied by
    sqrt(d / d') and epsilon, also the config's `rms_norm_eps`, by d / d'. The config has one epsilon for all norms, so
    QK-norm gets the new one too, and the q and k weights before it, whose scale it divides out, the factor of the
    gains. Moments of rescaled weights are rescaled as their gradients are.
    """
    ratio = embedding(model).embedding_dim / len(plan.stem)
    cut(model, plan, optimizers)
    if ratio == 1.0:
        return
    factor = math.sqrt(ratio)
    surgeon = _Surgeon(optimizers)
    for norm in stem_norms(model):
        surgeon.scale(norm.get_parameter("weight"), factor)
    for linear in _normed_projections(model):
        surgeon.scale(linear.weight, factor)
        if linear.bias is not None:
            surgeon.scale(linear.bias, factor)
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            epsilon = cast(float, module.variance_epsilon) * ratio
            setattr(module, "variance_epsilon", epsilon)  # noqa: B010 - nn.Module's stub allows only modules
    config = cast(PreTrainedModel, model).config
    config.rms_norm_eps = config.rms_norm_eps * ratio


def _normed_projections(model: nn.Module) -> Iterator[nn.Linear]:
    """The projections whose outputs go through QK-norm."""
    for block in blocks(model):
        if hasattr(block.attention, "q_norm"):
            yield from (block.q_proj, block.k_proj)


def _require_sliceable(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape != parameter.shape:
                    raise ValueError(
                        f"the state {name} of {type(optimizer).__name__} has shape {tuple(value.shape)}, "
                        f"not its parameter's {tuple(parameter.shape)}, and cannot be cut with it"
                    )


class _Surgeon:
    """Changes one Parameter together with the optimiser states that have its shape."""

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
        parameter.grad = None
        if len(keep) == parameter.shape[dimension]:
            return
        index = torch.as_tensor(keep, device=parameter.device)
        # Before the parameter has its new shape, as the states are found by the old one.
        for state, name, value in list(moments(self._optimizers, parameter)):
            state[name] = value.index_select(dimension, index).contiguous()
        parameter.data = parameter.data.index_select(dimension, index).contiguous()

    def scale(self, parameter: torch.Tensor, factor: float) -> None:
        """Multiply by `factor`; gradients become as much smaller."""
        parameter.mul_(factor)
        for _, name, value in moments(self._optimizers, parameter):
            value.mul_(factor ** -_GRADIENT_POWERS.get(name, 0))
