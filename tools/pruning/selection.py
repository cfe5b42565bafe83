"""Which groups stay when a model is cut to a target architecture: the most salient ones, in their old order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.architecture import Architecture
from tools.pruning.groups import query_heads_per_group
from tools.pruning.legality import require_part
from tools.pruning.saliency import Array, Saliency

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CutPlan:
    """Indices that stay, ascending: stem channels, and per layer KV groups, query heads and FFN channels."""

    stem: Indices
    kv_groups: tuple[Indices, ...]
    query_heads: tuple[Indices, ...]
    ffn: tuple[Indices, ...]


def plan_cut(current: Architecture, target: Architecture, saliency: Saliency) -> CutPlan:
    """The cut from `current` to `target` that keeps the most salient groups.

    Fewer query heads per KV group are taken as the same number from every group that stays, which grouped-query
    attention needs; which ones is each group's own ranking. Raises InputError where `target` is no part of `current`.
    """
    require_part(current, target)
    kv_groups, query_heads, ffn = [], [], []
    for index, (old, new) in enumerate(zip(current.layers, target.layers, strict=True)):
        groups = most_salient(saliency.kv_group[index], new.num_key_value_heads)
        old_ratio = query_heads_per_group(old)
        new_ratio = query_heads_per_group(new)
        heads = saliency.query_head[index].reshape(old.num_key_value_heads, old_ratio)
        kept_heads = [group * old_ratio + most_salient(heads[group], new_ratio) for group in groups]
        kv_groups.append(groups)
        query_heads.append(np.concatenate(kept_heads))
        ffn.append(most_salient(saliency.ffn[index], new.intermediate_size))
    stem = most_salient(saliency.stem, target.hidden_size)
    return CutPlan(stem=stem, kv_groups=tuple(kv_groups), query_heads=tuple(query_heads), ffn=tuple(ffn))


def most_salient(values: Array, count: int) -> Indices:
    """Ascending indices of the `count` largest values; equal values keep the lower index."""
    if count == len(values):
        return np.arange(count)
    order = np.argsort(-values, kind="stable")[:count]
    return np.sort(order).astype(np.int64)


def removed_from(before: int | Indices, kept: Indices) -> Indices:
    """What of `before` (a width, or ascending indices) is not among `kept`, a part of it; ascending."""
    # Most layers lose nothing in an event.
    if len(kept) == (before if isinstance(before, int) else len(before)):
        return np.zeros(0, dtype=np.int64)
    indices = np.arange(before) if isinstance(before, int) else before
    gone = np.ones(len(indices), dtype=bool)
    gone[np.searchsorted(indices, kept)] = False
    return indices[gone].astype(np.int64)


def head_channels(heads: Indices, head_dim: int) -> Indices:
    """Rows (of q, k, v) or columns (of o) that belong to `heads`: [len(heads) * head_dim]."""
    channels = heads[:, None] * head_dim + np.arange(head_dim)[None, :]
    return channels.reshape(-1).astype(np.int64)
