"""Masking a live model: removed groups become zero on both sides, so that training leaves them at zero.

Zeroing one side of a group leaves a gradient on the other, which revives it. With both sides and the optimiser's
moments at zero every gradient there is exactly zero, and AdamW, weight decay included, keeps it so. Shapes stay, so a
mask is cheap; `surgery.compact` makes the model physically smaller later, with the same logits.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tools.pruning.blocks import Block, blocks, embedding, head, stem_norms
from tools.pruning.selection import CutPlan, Indices, head_channels, removed_from

_GATES: WeakKeyDictionary[nn.Module, RemovableHandle] = WeakKeyDictionary()
"""For each output projection that needs one, the hook that keeps gradients from its dead columns."""


@torch.no_grad()
def mask(
    model: nn.Module,
    plan: CutPlan,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    *,
    alive: CutPlan | None = None,
) -> None:
    """Zero every weight and bias of `model` that `plan` does not keep, and the optimisers' moments of them.

    Attention loses q, k, v rows and o columns, the FFN gate and up rows and down columns, the stem its part of the
    embedding, the output head, all gains, readers' columns and writers' rows. Gains of QK-norm are shared by all heads
    and stay. Norms still divide by the whole hidden size, which `compact` makes up for. Gradients are cleared; no graph
    may be alive, its backward pass would fail. Indices are those of the physical model; masking again changes nothing.
    `alive` is the plan of an earlier mask on this model, whose zeros need not be made again.

    A query head whose key/value head stays still attends, evenly, to values that are not zero, which gives its o
    columns gradients. A hook on the o weight takes these away until the model is cut. A copy of the model, or one that
    is loaded from a file, has no such hook: mask it again.
    """
    eraser = _Eraser(optimizers)
    tokens, output = embedding(model), head(model)
    stem = removed_from(tokens.embedding_dim if alive is None else alive.stem, plan.stem)
    for index, block in enumerate(blocks(model)):
        heads = removed_from(
            block.num_attention_heads if alive is None else alive.query_heads[index], plan.query_heads[index]
        )
        groups = removed_from(
            block.num_key_value_heads if alive is None else alive.kv_groups[index], plan.kv_groups[index]
        )
        channels = removed_from(block.down_proj.in_features if alive is None else alive.ffn[index], plan.ffn[index])
        queries, key_values = head_channels(heads, block.head_dim), head_channels(groups, block.head_dim)
        eraser.rows(block.q_proj, queries)
        eraser.rows(block.k_proj, key_values)
        eraser.rows(block.v_proj, key_values)
        eraser.zero(block.o_proj.weight, 1, queries)
        eraser.rows(block.gate_proj, channels)
        eraser.rows(block.up_proj, channels)
        eraser.zero(block.down_proj.weight, 1, channels)
        for reader in block.stem_readers:
            eraser.zero(reader.weight, 1, stem)
        for writer in block.stem_writers:
            eraser.rows(writer, stem)
        if alive is None or len(heads) or len(groups):
            _set_gate(block, plan.query_heads[index], plan.kv_groups[index])
    for norm in stem_norms(model):
        eraser.zero(norm.get_parameter("weight"), 0, stem)
    eraser.zero(tokens.weight, 1, stem)
    if output.weight is not tokens.weight:
        eraser.zero(output.weight, 1, stem)


def open_gates(model: nn.Module) -> None:
    """Take away the hooks that `mask` left on `model`."""
    for block in blocks(model):
        _open_gate(block)


def moments(
    optimizers: Sequence[torch.optim.Optimizer], parameter: torch.Tensor
) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """The optimiser states that have the shape of `parameter`: the state they are in, their name, the tensor."""
    for optimizer in optimizers:
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                yield state, name, value


class _Eraser:
    """Zeroes parts of a Parameter together with the optimiser states that have its shape."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers

    def rows(self, linear: nn.Linear, gone: Indices) -> None:
        self.zero(linear.weight, 0, gone)
        if linear.bias is not None:
            self.zero(linear.bias, 0, gone)

    def zero(self, parameter: torch.Tensor, dimension: int, gone: Indices) -> None:
        parameter.grad = None
        if len(gone) == 0:
            return
        index = torch.as_tensor(gone, device=parameter.device)
        parameter.index_fill_(dimension, index, 0.0)
        for _, _, value in moments(self._optimizers, parameter):
            value.index_fill_(dimension, index, 0.0)


class _Gate:
    """Takes the gradient [out, in] of a weight away from some columns."""

    def __init__(self, columns: torch.Tensor) -> None:
        self._columns = columns

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.index_fill(1, self._columns, 0.0)


def _set_gate(block: Block, kept_heads: Indices, kept_groups: Indices) -> None:
    """Keep gradients from dead o columns where a value that they read is alive."""
    _open_gate(block)
    weight = block.o_proj.weight
    heads = removed_from(block.num_attention_heads, kept_heads)
    query_heads_per_group = block.num_attention_heads // block.num_key_value_heads
    if len(heads) > query_heads_per_group * (block.num_key_value_heads - len(kept_groups)) and weight.requires_grad:
        gate = _Gate(torch.as_tensor(head_channels(heads, block.head_dim), device=weight.device))
        _GATES[block.o_proj] = weight.register_hook(gate)


def _open_gate(block: Block) -> None:
    handle = _GATES.pop(block.o_proj, None)
    if handle is not None:
        handle.remove()
