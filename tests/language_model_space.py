"""A small space of pruned language models with a random saliency, for tests of spaces and of searchers."""

from typing import Any

import numpy as np

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.pruning.saliency import Saliency
from tools.settings import SpaceSettings
from tools.spaces import PrunedLMSpace


def language_model(**settings: Any) -> PrunedLMSpace:
    """Three unlike layers, whose widths are no multiples of the step; sizes from 50 to 80 % of the source."""
    layers = [(4, 92), (4, 100), (2, 60)]
    source = Architecture(
        fixed=FixedShape(model_type="llama", vocab_size=100, head_dim=4, tie_word_embeddings=True, qkv_bias=True),
        hidden_size=64,
        layers=tuple(
            LayerShape(num_attention_heads=2 * groups, num_key_value_heads=groups, intermediate_size=width)
            for groups, width in (layers if not settings.get("uniform") else [layers[0]] * 3)
        ),
    )
    rng = np.random.default_rng(0)

    def values(width: int) -> Any:
        return rng.lognormal(size=width).astype(np.float32)

    saliency = Saliency(
        kv_group=tuple(values(layer.num_key_value_heads) for layer in source.layers),
        query_head=tuple(values(layer.num_attention_heads) for layer in source.layers),
        ffn=tuple(values(layer.intermediate_size) for layer in source.layers),
        stem=values(source.hidden_size),
    )
    size = source.parameters
    band = {"max_parameters": size * 8 // 10, "min_parameters": size * 5 // 10}
    space = SpaceSettings(**{"ffn_multiple": 8, "hidden_multiple": 8, **band, **settings})
    return PrunedLMSpace(source, saliency, space)
