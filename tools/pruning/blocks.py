"""Typed access to the modules of a live Llama-family model (Llama, Mistral, Qwen2, Qwen3 share their names)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import nn


@dataclass(frozen=True)
class Block:
    """One transformer block: its projections ([out, in] weights) and its two norms."""

    attention: nn.Module
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    o_proj: nn.Linear
    gate_proj: nn.Linear
    up_proj: nn.Linear
    down_proj: nn.Linear
    attention_norm: nn.Module
    ffn_norm: nn.Module

    @property
    def head_dim(self) -> int:
        return cast(int, self.attention.head_dim)

    @property
    def num_attention_heads(self) -> int:
        return self.q_proj.out_features // self.head_dim

    @property
    def num_key_value_heads(self) -> int:
        return self.k_proj.out_features // self.head_dim

    def set_query_heads_per_group(self, count: int) -> None:
        """Tell the attention module how many query heads read one key/value head."""
        setattr(self.attention, "num_key_value_groups", count)  # noqa: B010 - nn.Module's stub allows only modules

    @property
    def stem_readers(self) -> tuple[nn.Linear, ...]:
        """Projections whose inputs are stem channels."""
        return (self.q_proj, self.k_proj, self.v_proj, self.gate_proj, self.up_proj)

    @property
    def stem_writers(self) -> tuple[nn.Linear, ...]:
        """Projections whose outputs are added to the stem."""
        return (self.o_proj, self.down_proj)


def blocks(model: nn.Module) -> list[Block]:
    """The transformer blocks of `model`, first to last."""
    # Plain attributes: an event asks six times, and looking each up by its path takes twice as long.
    return [
        Block(
            attention=layer.self_attn,
            q_proj=layer.self_attn.q_proj,
            k_proj=layer.self_attn.k_proj,
            v_proj=layer.self_attn.v_proj,
            o_proj=layer.self_attn.o_proj,
            gate_proj=layer.mlp.gate_proj,
            up_proj=layer.mlp.up_proj,
            down_proj=layer.mlp.down_proj,
            attention_norm=layer.input_layernorm,
            ffn_norm=layer.post_attention_layernorm,
        )
        for layer in cast(Any, model.get_submodule("model.layers"))
    ]


def embedding(model: nn.Module) -> nn.Embedding:
    """The token embedding."""
    return cast(nn.Embedding, model.get_submodule("model.embed_tokens"))


def head(model: nn.Module) -> nn.Linear:
    """The output head; its weight is the embedding's Parameter where the two are tied."""
    return cast(nn.Linear, model.get_submodule("lm_head"))


def stem_norms(model: nn.Module) -> Iterator[nn.Module]:
    """Every RMSNorm over stem channels, in the order of the forward pass: two a block, then the final one."""
    for block in blocks(model):
        yield block.attention_norm
        yield block.ffn_norm
    yield model.get_submodule("model.norm")
