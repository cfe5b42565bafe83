"""Sums over minimal parameter groups: from a score for each weight to one value for each group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tools.pruning.blocks import Block, blocks, embedding, head, stem_norms
from tools.pruning.saliency import Saliency

Score = Callable[[torch.Tensor], torch.Tensor]
"""From a Parameter to scores of its elements, in its shape."""


@dataclass(frozen=True)
class GroupValues:
    """One value for each group, as tensors in the shapes of `Saliency`."""

    kv_group: Sequence[torch.Tensor]
    query_head: Sequence[torch.Tensor]
    ffn: Sequence[torch.Tensor]
    stem: torch.Tensor

    def zipped(
        self, other: "GroupValues", combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> "GroupValues":
        """`combine` applied to both sides' values, group by group."""

        def pairs(one: Sequence[torch.Tensor], two: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            return [combine(a, b) for a, b in zip(one, two, strict=True)]

        return GroupValues(
            kv_group=pairs(self.kv_group, other.kv_group),
            query_head=pairs(self.query_head, other.query_head),
            ffn=pairs(self.ffn, other.ffn),
            stem=combine(self.stem, other.stem),
        )

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "GroupValues":
        """`change` applied to every tensor."""
        return self.zipped(self, lambda values, _: change(values))

    def saliency(self) -> Saliency:
        """The same as float32 arrays."""

        def arrays(tensors: Sequence[torch.Tensor]) -> tuple:  # type: ignore[type-arg]
            return tuple(values.float().cpu().numpy() for values in tensors)

        return Saliency(
            kv_group=arrays(self.kv_group),
            query_head=arrays(self.query_head),
            ffn=arrays(self.ffn),
            stem=arrays([self.stem])[0],
        )


@torch.no_grad()
def group_sums(model: nn.Module, score: Score) -> GroupValues:
    """For every group the sum of `score` over all weights that go with it, biases and norm gains too.

    These are the weights that `tools.pruning.groups` counts: a key/value group is its k and v rows and its query heads;
    a query head its q rows and o columns; an FFN channel its gate and up rows and down column; a stem channel its
    columns of the embedding, of the head where that is not tied, and of all readers, its rows of all writers, and its
    norm gains.
    """
    found = blocks(model)
    kv_groups, query_heads, ffn = [], [], []
    stem = sum_but_last(score(embedding(model).weight))
    if head(model).weight is not embedding(model).weight:
        stem = stem + sum_but_last(score(head(model).weight))
    for norm in stem_norms(model):
        stem = stem + score(norm.get_parameter("weight"))
    for block in found:
        rows, columns = {}, {}
        for name, linear in _projections(block).items():
            scores = score(linear.weight)
            rows[name], columns[name] = scores.sum(dim=1), scores.sum(dim=0)
            if linear.bias is not None:
                rows[name] = rows[name] + score(linear.bias)
        heads = (rows["q"] + columns["o"]).view(block.num_attention_heads, -1).sum(dim=1)
        own = (rows["k"] + rows["v"]).view(block.num_key_value_heads, -1).sum(dim=1)
        query_heads.append(heads)
        kv_groups.append(own + heads.view(block.num_key_value_heads, -1).sum(dim=1))
        ffn.append(rows["gate"] + rows["up"] + columns["down"])
        for name in ("q", "k", "v", "gate", "up"):
            stem = stem + columns[name]
        stem = stem + rows["o"] + rows["down"]
    return GroupValues(kv_group=kv_groups, query_head=query_heads, ffn=ffn, stem=stem)


def group_sizes(model: nn.Module) -> GroupValues:
    """The number of parameters in every group."""
    return group_sums(model, torch.ones_like)


def sum_but_last(values: torch.Tensor) -> torch.Tensor:
    """Summed over all dimensions but the last."""
    return values.flatten(0, -2).sum(dim=0)


def _projections(block: Block) -> dict[str, nn.Linear]:
    return {
        "q": block.q_proj,
        "k": block.k_proj,
        "v": block.v_proj,
        "o": block.o_proj,
        "gate": block.gate_proj,
        "up": block.up_proj,
        "down": block.down_proj,
    }
