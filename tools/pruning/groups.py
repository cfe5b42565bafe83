"""Minimal parameter groups: the smallest coupled sets of weights whose removal leaves a valid transformer; their costs.

EfficientLLM (arXiv 2502.06663), Fig. 2, three pruning types: I attention, II feed-forward channel, III stem channel.
"""

from dataclasses import dataclass
from typing import Literal

from tools.architecture import Architecture, LayerShape

PruningType = Literal["attention", "ffn", "stem"]
PRUNING_TYPES: tuple[PruningType, ...] = ("attention", "ffn", "stem")


@dataclass(frozen=True)
class GroupCost:
    """What the removal of a group saves: the difference of the same figures of `Architecture` before and after."""

    parameters: int
    macs_per_token: int
    kv_cache_bytes_per_token: int


def kv_group_cost(
    architecture: Architecture, layer: int, context_length: int = 0, bytes_per_value: int = 2
) -> GroupCost:
    """One KV group of `layer` (type I): a key/value head with all query heads that read it.

    MACs are those of its weights, and of attending to `context_length` earlier tokens.
    """
    fixed, hidden_size = architecture.fixed, architecture.hidden_size
    query_heads = query_heads_per_group(architecture.layers[layer])
    weights = 2 * (query_heads + 1) * fixed.head_dim * hidden_size
    return GroupCost(
        parameters=weights + (query_heads + 2) * fixed.head_dim * fixed.qkv_bias,
        macs_per_token=weights + 2 * query_heads * fixed.head_dim * context_length,
        kv_cache_bytes_per_token=2 * fixed.head_dim * bytes_per_value,
    )


def query_head_cost(architecture: Architecture, layer: int, context_length: int = 0) -> GroupCost:
    """One query head from every KV group of `layer` (type I): its q rows and o columns; keys and values stay.

    MACs are those of its weights, and of attending to `context_length` earlier tokens.
    """
    fixed = architecture.fixed
    width = architecture.layers[layer].num_key_value_heads * fixed.head_dim
    weights = 2 * width * architecture.hidden_size
    return GroupCost(
        parameters=weights + width * fixed.qkv_bias,
        macs_per_token=weights + 2 * width * context_length,
        kv_cache_bytes_per_token=0,
    )


def ffn_channel_cost(architecture: Architecture) -> GroupCost:
    """One feed-forward channel (type II) of any layer: its gate and up rows and its down column."""
    weights = 3 * architecture.hidden_size
    return GroupCost(
        parameters=weights + 2 * architecture.fixed.mlp_bias, macs_per_token=weights, kv_cache_bytes_per_token=0
    )


def stem_channel_cost(architecture: Architecture) -> GroupCost:
    """One stem channel (type III) of the network: embedding and head columns, its part of every block and norm."""
    fixed = architecture.fixed
    weights = 0
    for shape in architecture.layers:
        heads = 2 * (shape.num_attention_heads + shape.num_key_value_heads)
        weights += heads * fixed.head_dim + 3 * shape.intermediate_size
    tables = fixed.vocab_size * (1 if fixed.tie_word_embeddings else 2)
    beside_weights = len(architecture.layers) * (2 + fixed.attention_output_bias + fixed.mlp_bias) + 1
    return GroupCost(
        parameters=tables + weights + beside_weights,
        # The embedding is looked up; only the output head multiplies.
        macs_per_token=fixed.vocab_size + weights,
        kv_cache_bytes_per_token=0,
    )


def kv_group_parameters(architecture: Architecture, layer: int) -> int:
    """Parameters of one KV group of `layer`."""
    return kv_group_cost(architecture, layer).parameters


def ffn_channel_parameters(architecture: Architecture) -> int:
    """Parameters of one feed-forward channel."""
    return ffn_channel_cost(architecture).parameters


def stem_channel_parameters(architecture: Architecture) -> int:
    """Parameters of one stem channel."""
    return stem_channel_cost(architecture).parameters


def query_heads_per_group(shape: LayerShape) -> int:
    """How many query heads read each key/value head of a layer."""
    return shape.num_attention_heads // shape.num_key_value_heads
