"""Exact zero padding: per-layer shapes made equal, so that a stock model class holds them with the same logits.

A padded FFN channel has zero weights into and out of it. A padded query head, alone or in a padded key/value group, has
zero columns in the output projection, so what it attends to does not matter.
"""

import torch

from tools.architecture import LayerShape


def padded_tensor(
    name: str, tensor: torch.Tensor, layer: LayerShape, padded: LayerShape, head_dim: int
) -> torch.Tensor:
    """The tensor `name` of a layer, grown from the shape `layer` to `padded`; others than projections stay as they are.

    Weights are [out, in]; query head h belongs to group h // (query heads / groups).
    """
    kind, part = name.split(".")[-2:]
    dimension = 1 if kind in ("o_proj", "down_proj") else 0
    if part == "bias" and dimension == 1:
        return tensor  # the bias of an output projection is as wide as the stem
    if kind in ("gate_proj", "up_proj", "down_proj"):
        return _grown(tensor, dimension, (layer.intermediate_size,), (padded.intermediate_size,))
    if kind in ("k_proj", "v_proj"):
        return _grown(tensor, dimension, (layer.num_key_value_heads, head_dim), (padded.num_key_value_heads, head_dim))
    if kind in ("q_proj", "o_proj"):
        return _grown(tensor, dimension, _grouped(layer, head_dim), _grouped(padded, head_dim))
    return tensor


def _grouped(layer: LayerShape, head_dim: int) -> tuple[int, int, int]:
    groups = layer.num_key_value_heads
    return groups, layer.num_attention_heads // groups, head_dim


def _grown(tensor: torch.Tensor, dimension: int, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    """`tensor` with one dimension seen as `old` and grown with zeros at the end of each part to `new`."""
    if old == new:
        return tensor
    head, tail = tensor.shape[:dimension], tensor.shape[dimension + 1 :]
    grown = tensor.new_zeros((*head, *new, *tail))
    corner = (slice(None),) * len(head) + tuple(slice(size) for size in old)
    grown[corner] = tensor.reshape(*head, *old, *tail)
    return grown.reshape(*head, -1, *tail)
