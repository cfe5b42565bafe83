"""What designs cost beside their parameters, the limits on it in words, and designs that are shrunk to keep them."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.test_designer import SOURCES, UNITS, network, random_saliency, shape
from tools.architecture import Architecture
from tools.costs import (
    Excess,
    costs_in_words,
    file_excess,
    file_mb,
    latency_excess,
    limits_in_words,
    memory_excess,
    memory_mb,
    most_parameters,
)
from tools.errors import InputError
from tools.export.quantisation import MIXES, predicted_file
from tools.pruning.greedy import SaliencyDesigner
from tools.settings import FileFormat, GoalSettings, SpaceSettings
from tools.spaces import DesignDraft, PrunedLMSpace

FORMATS = st.sampled_from(get_args(FileFormat))
SOURCE = network(256, *[shape(3, 2, 512)] * 3)


def test_every_gguf_file_that_can_be_written_can_be_limited() -> None:
    assert set(get_args(FileFormat)) == set(MIXES)


@given(source=SOURCES, name=FORMATS, context=st.integers(0, 4096))
def test_memory_is_the_file_and_the_cache(source: Architecture, name: FileFormat, context: int) -> None:
    assert file_mb(source, name) == predicted_file(source, name).bytes / 1e6
    cache = sum(2 * 2 * layer.num_key_value_heads * source.fixed.head_dim for layer in source.layers)
    assert memory_mb(source, name, context) - file_mb(source, name) == pytest.approx(context * cache / 1e6)


def test_the_words_say_by_how_much() -> None:
    goal = GoalSettings(max_file_mb=0.5, max_memory_mb=1.0, max_latency_ms=2.5, memory_context=64)
    assert latency_excess(2.5, goal) is None and latency_excess(None, goal) is None
    assert latency_excess(100.0, GoalSettings()) is None
    excess = latency_excess(12.5, goal)
    assert excess is not None and str(excess) == "12.5 ms per token, 10.0 above max_latency_ms 2.5"
    assert (
        str(Excess(limit="max_file_mb", most=60, found=60.0123, unit="MB")) == "60.012 MB, 0.012 above max_file_mb 60"
    )
    too_large = file_excess(SOURCE, goal)
    assert too_large is not None and too_large.by == pytest.approx(file_mb(SOURCE, "f16") - 0.5)
    assert len(limits_in_words(SOURCE, goal)) == len(costs_in_words(SOURCE, 12.5, goal)) == 3
    assert costs_in_words(SOURCE, 1.25, goal)[2] == "1.25 ms per token"
    assert limits_in_words(SOURCE, GoalSettings()) == costs_in_words(SOURCE, 12.5, GoalSettings()) == []


@settings(max_examples=40, deadline=None)
@given(
    source=SOURCES,
    name=FORMATS,
    shares=st.tuples(*[st.floats(0.3, 1.0)] * 3),
    unit=st.sampled_from(UNITS),
    context=st.sampled_from([0, 1000]),
    seed=st.integers(0, 99),
)
def test_the_greedy_design_keeps_every_limit_or_says_the_smallest_value(
    source: Architecture, name: FileFormat, shares: tuple[float, ...], unit: str, context: int, seed: int
) -> None:
    space = SpaceSettings(
        max_parameters=round(shares[0] * source.parameters),
        max_file_mb=shares[1] * file_mb(source, name),
        max_memory_mb=shares[2] * memory_mb(source, name, context),
        file_format=name,
        memory_context=context,
        attention_unit=unit,
        ffn_multiple=1,
        hidden_multiple=4,
    )
    designer = SaliencyDesigner(source, random_saliency(source, seed), space)
    try:
        design = designer.greedy()
    except InputError as error:
        layers = [
            shape(
                *(
                    (1, old.num_attention_heads // old.num_key_value_heads)
                    if unit == "kv_group"
                    else (old.num_key_value_heads, 1)
                ),
                1,
            )
            for old in source.layers
        ]
        hidden = source.hidden_size if source.hidden_size <= 4 else 4
        smallest = network(hidden, *layers)
        broken = [excess for excess in (file_excess(smallest, space), memory_excess(smallest, space)) if excess]
        large = smallest.parameters > space.max_parameters
        assert large or broken
        assert f"{smallest.parameters:,} parameters" in str(error) if large else str(broken[0]) in str(error)
    else:
        assert design.parameters <= space.max_parameters
        assert file_excess(design, space) is None and memory_excess(design, space) is None
        assert design.parameters <= most_parameters(source, space)


def test_where_the_cache_is_the_memory_heads_go_first() -> None:
    """Saliency per parameter would cut all FFN channels before the cache is small enough."""
    context = 100_000
    limit = file_mb(SOURCE, "f16") + 0.5 * context * SOURCE.kv_cache_bytes_per_token() / 1e6
    space = SpaceSettings(
        max_parameters=SOURCE.parameters, max_memory_mb=limit, memory_context=context, hidden_multiple=256
    )
    design = SaliencyDesigner(SOURCE, random_saliency(SOURCE, 1), space).greedy()
    assert memory_excess(design, space) is None
    assert sum(layer.num_key_value_heads for layer in design.layers) == 4, "of 9, half of which fit"
    assert all(layer.intermediate_size == 512 for layer in design.layers)


def test_what_is_too_large_is_told_to_its_author_and_projected() -> None:
    limit = 0.8 * file_mb(SOURCE, "q4_k_m")
    space = PrunedLMSpace(
        SOURCE,
        random_saliency(SOURCE, 2),
        SpaceSettings(max_parameters=SOURCE.parameters - 1, max_file_mb=limit, file_format="q4_k_m"),
    )
    draft = DesignDraft.of(SOURCE).model_copy(update={"hidden_size": 256})
    problems = space.problems(draft, SOURCE)
    assert any("MB as q4_k_m" in problem and "above max_file_mb" in problem for problem in problems)
    design, notes = space.project(draft, SOURCE)
    assert notes and file_excess(design, space.settings) is None
    assert space.problems(DesignDraft.of(design), SOURCE) == []


@pytest.mark.parametrize("limited", [True, False])
def test_what_is_too_small_is_filled_up_to_the_limit(limited: bool) -> None:
    size, limit = SOURCE.parameters, 0.8 * file_mb(SOURCE, "f16")
    space = SpaceSettings(max_parameters=size - 1, min_parameters=size // 2, max_file_mb=limit if limited else None)
    found = PrunedLMSpace(SOURCE, random_saliency(SOURCE, 2), space)
    tiny = DesignDraft.of(network(256, *[shape(1, 2, 64)] * 3))
    design, notes = found.project(tiny, SOURCE)
    assert any("given back" in note for note in notes) and found.problems(DesignDraft.of(design), SOURCE) == []
    if limited:
        assert 0.9 * limit < file_mb(design, "f16") <= limit
    else:
        assert 0.9 * size < design.parameters < size


def test_what_is_given_back_keeps_the_limits() -> None:
    limit = 0.9 * file_mb(SOURCE, "f16")
    settings_ = SpaceSettings(
        max_parameters=SOURCE.parameters, min_parameters=SOURCE.parameters, max_file_mb=limit, ffn_multiple=32
    )
    designer = SaliencyDesigner(SOURCE, random_saliency(SOURCE, 3), settings_)
    small = network(256, *[shape(1, 2, 64)] * 3)
    grown = designer.grow(small)
    assert small.parameters < grown.parameters and file_excess(grown, settings_) is None
    smallest_step = 32 * 3 * 256 * 2 / 1e6
    assert file_mb(grown, "f16") > limit - max(smallest_step, 0.2)
