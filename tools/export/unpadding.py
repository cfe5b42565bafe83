"""The opposite of exact zero padding: the design inside a model whose layers were grown with zeros to equal widths.

What `tools.export.padding` adds stands at the end of each part and is zero on both sides, so it is found again in the
weights of any file, and taking it away leaves the logits as they are.
"""

from collections.abc import Mapping

import torch

from tools.architecture import Architecture, LayerShape
from tools.export.compact import Tensors

_FFN_ROWS, _FFN_COLUMNS = ("gate_proj", "up_proj"), ("down_proj",)
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def design_within(tensors: Mapping[str, torch.Tensor], architecture: Architecture) -> Architecture:
    """`architecture`, which the tensors have, without the zeros at the end of its layers' widths.

    At least one group, one query head in it and one FFN channel stay in each layer.
    """
    layers = [
        _shape_within(_of_layer(tensors, index), layer, architecture.fixed.head_dim)
        for index, layer in enumerate(architecture.layers)
    ]
    return architecture.with_layers(layers)


def unpadded(tensors: Mapping[str, torch.Tensor], architecture: Architecture, design: Architecture) -> Tensors:
    """The tensors of `design`, which `design_within` found in those of `architecture`."""
    head_dim = architecture.fixed.head_dim
    taken: Tensors = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[1] == "layers":
            index = int(parts[2])
            tensor = _corner(name, tensor, architecture.layers[index], design.layers[index], head_dim)
        taken[name] = tensor
    return taken


def _of_layer(tensors: Mapping[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    """By the last module's name and "weight" or "bias"."""
    prefix = f"model.layers.{index}."
    return {".".join(name.split(".")[-2:]): tensors[name] for name in tensors if name.startswith(prefix)}


def _shape_within(layer: Mapping[str, torch.Tensor], shape: LayerShape, head_dim: int) -> LayerShape:
    channels = _used(layer, _FFN_ROWS, _FFN_COLUMNS, shape.intermediate_size)
    heads = _used(layer, ("q_proj",), ("o_proj",), shape.num_attention_heads)
    groups = shape.num_key_value_heads
    members = heads.reshape(groups, -1)
    used_groups = _used(layer, ("k_proj", "v_proj"), (), groups) | members.any(dim=1)
    left, per_group = _end(used_groups), _end(members.any(dim=0))
    return LayerShape(num_attention_heads=left * per_group, num_key_value_heads=left, intermediate_size=_end(channels))


def _used(
    layer: Mapping[str, torch.Tensor], rows: tuple[str, ...], columns: tuple[str, ...], parts: int
) -> torch.Tensor:
    """For each of `parts` equal runs of the named projections' outputs or inputs, whether any number there is not 0."""
    used = torch.zeros(parts, dtype=torch.bool)
    for name in rows:
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in layer:
                used |= layer[f"{name}.{kind}"].reshape(parts, -1).ne(0).any(dim=1)
    for name in columns:
        used |= layer[f"{name}.weight"].ne(0).any(dim=0).reshape(parts, -1).any(dim=1)
    return used


def _end(used: torch.Tensor) -> int:
    """One more than the last place in use, at least 1."""
    places = used.nonzero()
    return int(places[-1]) + 1 if len(places) else 1


def _corner(name: str, tensor: torch.Tensor, padded: LayerShape, layer: LayerShape, head_dim: int) -> torch.Tensor:
    """The part of a layer's tensor that is no padding; others than projections stay as they are."""
    kind, part = name.split(".")[-2:]
    dimension = 1 if kind in ("o_proj", "down_proj") else 0
    if part == "bias" and dimension == 1:
        return tensor
    if kind in ("gate_proj", "up_proj", "down_proj"):
        return tensor.narrow(dimension, 0, layer.intermediate_size)
    if kind not in _ATTENTION:
        return tensor
    groups, left = padded.num_key_value_heads, layer.num_key_value_heads
    per_group = padded.num_attention_heads // groups if kind in ("q_proj", "o_proj") else 1
    per_group_left = layer.num_attention_heads // left if kind in ("q_proj", "o_proj") else 1
    parted = tensor.unflatten(dimension, (groups, per_group, head_dim))
    corner: torch.Tensor = parted.narrow(dimension, 0, left).narrow(dimension + 1, 0, per_group_left)
    return corner.flatten(dimension, dimension + 2)
