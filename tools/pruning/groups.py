"""Minimal parameter groups: the smallest coupled sets of weights whose removal leaves a valid transformer.

EfficientLLM (arXiv 2502.06663), Fig. 2, three pruning types: I attention, II feed-forward channel, III stem channel.
"""

from typing import Literal

from tools.architecture import Architecture

PruningType = Literal["attention", "ffn", "stem"]
PRUNING_TYPES: tuple[PruningType, ...] = ("attention", "ffn", "stem")


def kv_group_parameters(architecture: Architecture, layer: int) -> int:
    """Parameters of one KV group of `layer` (type I): a key/value head with all query heads that read it."""
    shape, fixed = architecture.layers[layer], architecture.fixed
    query_heads = shape.num_attention_heads // shape.num_key_value_heads
    weights = 2 * (query_heads + 1) * fixed.head_dim * architecture.hidden_size
    return weights + (query_heads + 2) * fixed.head_dim * fixed.qkv_bias


def ffn_channel_parameters(architecture: Architecture) -> int:
    """Parameters of one feed-forward channel (type II): its gate and up rows and its down column."""
    return 3 * architecture.hidden_size + 2 * architecture.fixed.mlp_bias


def stem_channel_parameters(architecture: Architecture) -> int:
    """Parameters of one stem channel (type III): embedding and head columns, its part of every block and norm."""
    fixed = architecture.fixed
    total = fixed.vocab_size * (1 if fixed.tie_word_embeddings else 2) + 1
    for shape in architecture.layers:
        heads = 2 * (shape.num_attention_heads + shape.num_key_value_heads)
        total += heads * fixed.head_dim + 3 * shape.intermediate_size + 2
        total += fixed.attention_output_bias + fixed.mlp_bias
    return total
