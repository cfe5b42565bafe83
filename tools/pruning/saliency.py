"""The saliency of every minimal parameter group of a model, as arrays; `saliency_meter` says how it is taken."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from tools.architecture import Architecture
from tools.pruning.kept_saliency import KeptSaliency

Array = npt.NDArray[np.float32]
SaliencyOrder = Literal["first", "second", "mixed"]


@dataclass(frozen=True)
class Saliency:
    """Expected rise of the loss (nats per token) if one group is removed, per group.

    kv_group[l]: [num_key_value_heads]; query_head[l]: [num_attention_heads]; ffn[l]: [intermediate_size];
    stem: [hidden_size], summed over the norms that read the channel.
    """

    kv_group: tuple[Array, ...]
    query_head: tuple[Array, ...]
    ffn: tuple[Array, ...]
    stem: Array

    @cached_property
    def kept(self) -> KeptSaliency:
        """What the most salient groups keep together; worked out once, as an event asks twice."""
        return KeptSaliency.of(self.kv_group, self.query_head, self.ffn, self.stem)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        tensors = {"stem": self.stem}
        for name in ("kv_group", "query_head", "ffn"):
            tensors |= {f"{name}.{index}": values for index, values in enumerate(getattr(self, name))}
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path) -> "Saliency":
        """Read what `save` wrote."""
        tensors = load_file(path)
        depth = sum(name.startswith("ffn.") for name in tensors)
        per_layer = {
            name: tuple(tensors[f"{name}.{index}"] for index in range(depth))
            for name in ("kv_group", "query_head", "ffn")
        }
        return cls(stem=tensors["stem"], **per_layer)


def no_saliency(architecture: Architecture) -> Saliency:
    """Zero for every group: where only the shapes matter."""
    layers = architecture.layers
    return Saliency(
        kv_group=tuple(np.zeros(layer.num_key_value_heads, np.float32) for layer in layers),
        query_head=tuple(np.zeros(layer.num_attention_heads, np.float32) for layer in layers),
        ffn=tuple(np.zeros(layer.intermediate_size, np.float32) for layer in layers),
        stem=np.zeros(architecture.hidden_size, np.float32),
    )
