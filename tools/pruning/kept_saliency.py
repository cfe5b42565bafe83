"""How much saliency the most salient groups of each layer keep together: what every size of a design is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float32]
_Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KeptSaliency:
    """Entry k of `kv_group[l]`, `ffn[l]` and `stem` is the saliency of the k most salient groups.

    Entry [g, r] of `attention[l]` is what the g most salient KV groups keep with the r most salient query heads of
    each. A group with all its heads counts with its own saliency, which need not be the sum of theirs.
    """

    kv_group: tuple[_Sums, ...]
    attention: tuple[_Sums, ...]
    ffn: tuple[_Sums, ...]
    stem: _Sums

    @classmethod
    def of(
        cls, kv_group: Sequence[_Array], query_head: Sequence[_Array], ffn: Sequence[_Array], stem: _Array
    ) -> "KeptSaliency":
        """Of all groups of a model, as `Saliency` has them."""
        return cls(
            kv_group=tuple(_cumulative(values) for values in kv_group),
            attention=tuple(_attention(*values) for values in zip(kv_group, query_head, strict=True)),
            ffn=tuple(_cumulative(values) for values in ffn),
            stem=_cumulative(stem),
        )


def _cumulative(values: _Array) -> _Sums:
    """Along the last axis."""
    kept = np.cumsum(np.sort(values.astype(np.float64), axis=-1)[..., ::-1], axis=-1)
    nothing = np.zeros((*values.shape[:-1], 1))
    entries: _Sums = np.concatenate([nothing, kept], axis=-1)
    return entries


def _attention(kv_group: _Array, query_head: _Array) -> _Sums:
    order = np.argsort(-kv_group, kind="stable")
    heads = _cumulative(query_head.reshape(len(kv_group), -1)[order])
    lost = np.cumsum(heads[:, -1:] - heads, axis=0)
    nothing = np.zeros((1, lost.shape[1]))
    entries: _Sums = _cumulative(kv_group)[:, None] - np.concatenate([nothing, lost])
    return entries
