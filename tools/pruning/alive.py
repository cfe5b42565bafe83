"""Bookkeeping between cuts of a masked model: which of its physical groups are still alive."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tools.architecture import Architecture
from tools.pruning.saliency import Saliency
from tools.pruning.selection import CutPlan, Indices

_Array = TypeVar("_Array", npt.NDArray[np.int64], npt.NDArray[np.float32])


def everything(architecture: Architecture) -> CutPlan:
    """The plan that keeps all of `architecture`."""
    layers = architecture.layers
    return CutPlan(
        stem=np.arange(architecture.hidden_size),
        kv_groups=tuple(np.arange(layer.num_key_value_heads) for layer in layers),
        query_heads=tuple(np.arange(layer.num_attention_heads) for layer in layers),
        ffn=tuple(np.arange(layer.intermediate_size) for layer in layers),
    )


def compose(alive: CutPlan, plan: CutPlan) -> CutPlan:
    """`plan`, whose indices count alive groups only, in physical indices."""
    return CutPlan(
        stem=alive.stem[plan.stem],
        kv_groups=_each(alive.kv_groups, plan.kv_groups),
        query_heads=_each(alive.query_heads, plan.query_heads),
        ffn=_each(alive.ffn, plan.ffn),
    )


def of_alive(saliency: Saliency, alive: CutPlan) -> Saliency:
    """The saliency of alive groups only, in their order."""
    return Saliency(
        stem=saliency.stem[alive.stem],
        kv_group=_each(saliency.kv_group, alive.kv_groups),
        query_head=_each(saliency.query_head, alive.query_heads),
        ffn=_each(saliency.ffn, alive.ffn),
    )


def _each(values: tuple[_Array, ...], indices: tuple[Indices, ...]) -> tuple[_Array, ...]:
    return tuple(value[index] for value, index in zip(values, indices, strict=True))
