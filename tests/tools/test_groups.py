"""What groups cost against the architecture's own figures, and which shapes are legal."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.pruning.groups import (
    GroupCost,
    ffn_channel_cost,
    kv_group_cost,
    query_head_cost,
    stem_channel_cost,
)
from tools.pruning.legality import layer_shape, nearest_shape, require_part

SMOLLM_FIXED = FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True)


def smollm(heads: int = 32, intermediate_size: int = 8192, hidden_size: int = 2048) -> Architecture:
    """SmolLM-1.7B, or a part of it with equal layers."""
    layer = LayerShape(num_attention_heads=heads, num_key_value_heads=heads, intermediate_size=intermediate_size)
    return Architecture(fixed=SMOLLM_FIXED, hidden_size=hidden_size, layers=(layer,) * 24)


def test_one_event_of_each_type_frees_what_the_paper_says() -> None:
    """Papers' check values: one event takes one group from each of the 24 layers of SmolLM-1.7B, or a stem channel."""
    source = smollm()
    assert source.parameters == 1_711_376_384
    assert 24 * ffn_channel_cost(source).parameters == 147_456
    assert 24 * kv_group_cost(source, 0).parameters == 12_582_912
    assert stem_channel_cost(source).parameters == 835_633


def test_sizes_of_the_papers_designs() -> None:
    """Shapes read from Fig. A0 have the published sizes."""
    assert f"{smollm(24, 4728, 2048).parameters / 1e9:.4f}" == "1.0999"
    assert f"{smollm(19, 3023, 1222).parameters / 1e6:.0f}" == "469"


SHAPES = st.builds(
    lambda groups, ratio, width: LayerShape(
        num_attention_heads=groups * ratio, num_key_value_heads=groups, intermediate_size=width
    ),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 40),
)
FIXED = st.builds(
    FixedShape,
    model_type=st.just("llama"),
    vocab_size=st.integers(1, 300),
    head_dim=st.integers(1, 8).map(lambda half: 2 * half),
    tie_word_embeddings=st.booleans(),
    qkv_bias=st.booleans(),
    attention_output_bias=st.booleans(),
    mlp_bias=st.booleans(),
    qk_norm=st.booleans(),
)
ARCHITECTURES = st.builds(
    lambda fixed, hidden_size, layers: Architecture(fixed=fixed, hidden_size=hidden_size, layers=tuple(layers)),
    FIXED,
    st.integers(2, 64),
    st.lists(SHAPES, min_size=1, max_size=4),
)


def saved(before: Architecture, after: Architecture, context_length: int, bytes_per_value: int) -> GroupCost:
    """The difference of the architecture's own figures."""
    return GroupCost(
        parameters=before.parameters - after.parameters,
        macs_per_token=before.macs_per_token(context_length) - after.macs_per_token(context_length),
        kv_cache_bytes_per_token=before.kv_cache_bytes_per_token(bytes_per_value)
        - after.kv_cache_bytes_per_token(bytes_per_value),
    )


def with_layer(architecture: Architecture, index: int, heads: Sequence[int], width: int) -> Architecture:
    layers = list(architecture.layers)
    layers[index] = LayerShape(num_attention_heads=heads[0], num_key_value_heads=heads[1], intermediate_size=width)
    return architecture.with_layers(layers)


@given(
    before=ARCHITECTURES,
    data=st.data(),
    context_length=st.integers(0, 2048),
    bytes_per_value=st.sampled_from([1, 2, 4]),
)
def test_costs_are_what_removal_saves(
    before: Architecture, data: st.DataObject, context_length: int, bytes_per_value: int
) -> None:
    index = data.draw(st.integers(0, len(before.layers) - 1))
    shape = before.layers[index]
    queries, groups, width = shape.num_attention_heads, shape.num_key_value_heads, shape.intermediate_size
    ratio = queries // groups
    sizes = (context_length, bytes_per_value)
    if groups > 1:
        after = with_layer(before, index, (queries - ratio, groups - 1), width)
        assert kv_group_cost(before, index, *sizes) == saved(before, after, *sizes)
    if ratio > 1:
        after = with_layer(before, index, (queries - groups, groups), width)
        assert query_head_cost(before, index, context_length) == saved(before, after, *sizes)
    if width > 1:
        after = with_layer(before, index, (queries, groups), width - 1)
        assert ffn_channel_cost(before) == saved(before, after, *sizes)
    after = Architecture(fixed=before.fixed, hidden_size=before.hidden_size - 1, layers=before.layers)
    assert stem_channel_cost(before) == saved(before, after, *sizes)


SOURCE_LAYER = LayerShape(num_attention_heads=9, num_key_value_heads=3, intermediate_size=96)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((7, 2, 96), "Layer 3: 7 query heads cannot be shared evenly by 2 key/value heads; nearest legal: 6 and 2."),
        ((3, 0, 96), "Layer 3: 3 query heads and 0 key/value heads; at least one of each must stay; nearest legal: 3"),
        ((6, 2, 0), "Layer 3: FFN width 0; at least one channel must stay; nearest legal: 1."),
        ((6, 2, 97), "Layer 3 of the design is larger than the source's: FFN width 97; nearest legal: 96."),
        ((4, 4, 96), "larger than the source's: 4 key/value heads against 3; nearest legal: 3 and 3."),
        ((8, 2, 96), "4 query heads for each key/value head against 3; nearest legal: 6 and 2."),
    ],
)
def test_illegal_numbers_are_refused_with_the_nearest_legal_shape(numbers: tuple[int, int, int], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        layer_shape(3, *numbers, source=SOURCE_LAYER)


def test_legal_numbers_are_taken() -> None:
    shape = LayerShape(num_attention_heads=4, num_key_value_heads=2, intermediate_size=5)
    assert layer_shape(0, 4, 2, 5, source=SOURCE_LAYER) == shape
    assert layer_shape(0, 100, 10, 999).num_attention_heads == 100, "without a source any size is legal"


@given(heads=st.integers(-2, 40), groups=st.integers(-2, 12), width=st.integers(-2, 60), source=st.none() | SHAPES)
def test_the_nearest_shape_is_legal_and_none_is_nearer(
    heads: int, groups: int, width: int, source: LayerShape | None
) -> None:
    nearest = nearest_shape(heads, groups, width, source)
    numbers = (nearest.num_attention_heads, nearest.num_key_value_heads, nearest.intermediate_size)
    assert layer_shape(0, *numbers, source=source) == nearest
    most_groups = 50 if source is None else source.num_key_value_heads
    most_heads = 50 if source is None else source.num_attention_heads // source.num_key_value_heads
    legal_groups = range(1, most_groups + 1)
    assert nearest.num_key_value_heads == min(legal_groups, key=lambda count: abs(count - groups))
    legal_heads = [ratio * nearest.num_key_value_heads for ratio in range(1, most_heads + 1)]
    assert nearest.num_attention_heads == min(legal_heads, key=lambda count: abs(count - heads))


@given(source=ARCHITECTURES, data=st.data())
def test_a_part_of_the_source_is_taken(source: Architecture, data: st.DataObject) -> None:
    layers = []
    for layer in source.layers:
        groups = data.draw(st.integers(1, layer.num_key_value_heads))
        ratio = data.draw(st.integers(1, layer.num_attention_heads // layer.num_key_value_heads))
        width = data.draw(st.integers(1, layer.intermediate_size))
        layers.append(
            LayerShape(num_attention_heads=groups * ratio, num_key_value_heads=groups, intermediate_size=width)
        )
    hidden = data.draw(st.integers(1, source.hidden_size))
    part = Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers))
    require_part(source, part)
    if part != source:
        with pytest.raises(InputError, match="nearest legal"):
            require_part(part, source)


def test_another_network_is_no_part_of_the_source() -> None:
    source = smollm(4, 8, 16)
    shallow = source.with_layers(source.layers[:20])
    with pytest.raises(InputError, match="it has 20 layers, and depth is never pruned; nearest legal: 24"):
        require_part(source, shallow)
    other = Architecture(fixed=SMOLLM_FIXED.model_copy(update={"vocab_size": 9}), hidden_size=16, layers=source.layers)
    with pytest.raises(InputError, match="vocab_size is 9 and cannot change; nearest legal: 49152"):
        require_part(source, other)
    with pytest.raises(InputError, match="hidden size 17 is above the source's; nearest legal: 16"):
        require_part(source, smollm(4, 8, 17))
    with pytest.raises(InputError, match="Layer 1 of the design"):
        require_part(source, with_layer(source, 1, (4, 4), 9))
