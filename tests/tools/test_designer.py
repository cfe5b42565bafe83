"""The saliency-greedy design: against a naive search, in both units of attention, from sources already pruned."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pruning.greedy import SaliencyDesigner
from tools.pruning.groups import PRUNING_TYPES, PruningType
from tools.pruning.saliency import Saliency
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.settings import SpaceSettings
from tools.sources import load_model
from tools.spaces import DesignDraft, PrunedLMSpace

FIXED = FixedShape(model_type="llama", vocab_size=20, head_dim=4, tie_word_embeddings=True, qkv_bias=True)
UNITS = ("kv_group", "query_head")
ONE_BY_ONE = {"ffn_multiple": 1, "hidden_multiple": 1}


def shape(groups: int, per_group: int, width: int) -> LayerShape:
    return LayerShape(num_attention_heads=groups * per_group, num_key_value_heads=groups, intermediate_size=width)


def network(hidden_size: int, *layers: LayerShape) -> Architecture:
    return Architecture(fixed=FIXED, hidden_size=hidden_size, layers=layers)


def random_saliency(architecture: Architecture, seed: int) -> Saliency:
    """Of the scale that makes all three types compete for what they free; groups are no sums of their heads."""
    rng = np.random.default_rng(seed)

    def values(width: int, scale: float) -> np.ndarray:
        return (scale * rng.lognormal(size=width)).astype(np.float32)

    return Saliency(
        kv_group=tuple(values(layer.num_key_value_heads, 3) for layer in architecture.layers),
        query_head=tuple(values(layer.num_attention_heads, 1) for layer in architecture.layers),
        ffn=tuple(values(layer.intermediate_size, 1) for layer in architecture.layers),
        stem=values(architecture.hidden_size, 4),
    )


def removed_saliency(source: Architecture, design: Architecture, saliency: Saliency) -> float:
    """Of all that the real cut takes away: whole KV groups, query heads of groups that stay, channels."""
    plan = plan_cut(source, design, saliency)
    total = saliency.stem.sum(dtype=float) - saliency.stem[plan.stem].sum(dtype=float)
    for index, layer in enumerate(source.layers):
        total += np.delete(saliency.ffn[index], plan.ffn[index]).sum(dtype=float)
        total += np.delete(saliency.kv_group[index], plan.kv_groups[index]).sum(dtype=float)
        ratio = layer.num_attention_heads // layer.num_key_value_heads
        for head in set(range(layer.num_attention_heads)) - set(plan.query_heads[index]):
            if head // ratio in plan.kv_groups[index]:
                total += float(saliency.query_head[index][head])
    return float(total)


def kept_saliency(source: Architecture, design: Architecture, saliency: Saliency) -> Saliency:
    """Saliency of the groups that stay, as the meter keeps it through a cut."""
    plan = plan_cut(source, design, saliency)

    def kept(values: tuple[np.ndarray, ...], indices: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return tuple(one[where] for one, where in zip(values, indices, strict=True))

    return Saliency(
        kv_group=kept(saliency.kv_group, plan.kv_groups),
        query_head=kept(saliency.query_head, plan.query_heads),
        ffn=kept(saliency.ffn, plan.ffn),
        stem=saliency.stem[plan.stem],
    )


def smaller_neighbours(design: Architecture, space: SpaceSettings) -> Iterator[tuple[PruningType, Architecture]]:
    """Every design one step below, by the plain rules."""

    def below(width: int, multiple: int) -> int:
        return max(lower for lower in range(0, width, multiple))

    hidden = below(design.hidden_size, space.hidden_multiple)
    if hidden:
        yield "stem", Architecture(fixed=design.fixed, hidden_size=hidden, layers=design.layers)
    everywhere = range(len(design.layers))
    for places in [everywhere] if space.uniform else [[index] for index in everywhere]:
        heads, widths = list(design.layers), list(design.layers)
        for index in places:
            old = design.layers[index]
            groups, ratio = old.num_key_value_heads, old.num_attention_heads // old.num_key_value_heads
            taken = (1, 0) if space.attention_unit == "kv_group" else (0, 1)
            if groups > taken[0] and ratio > taken[1]:
                heads[index] = shape(groups - taken[0], ratio - taken[1], old.intermediate_size)
            width = below(old.intermediate_size, space.ffn_multiple)
            if width:
                widths[index] = shape(groups, ratio, width)
        if all(heads[index] != design.layers[index] for index in places):
            yield "attention", design.with_layers(heads)
        if all(widths[index] != design.layers[index] for index in places):
            yield "ffn", design.with_layers(widths)


SOURCES = st.builds(
    lambda hidden, layers: network(hidden, *layers),
    st.integers(4, 24),
    st.lists(st.builds(shape, st.integers(1, 3), st.integers(1, 3), st.integers(3, 30)), min_size=1, max_size=3),
)
SPACES = st.builds(
    SpaceSettings,
    max_parameters=st.just(1),
    ffn_multiple=st.sampled_from([1, 4]),
    hidden_multiple=st.sampled_from([1, 8]),
    uniform=st.booleans(),
    attention_unit=st.sampled_from(UNITS),
)


@given(source=SOURCES, data=st.data(), seed=st.integers(0, 99))
def test_the_forecast_is_the_saliency_of_what_the_cut_takes(
    source: Architecture, data: st.DataObject, seed: int
) -> None:
    layers = []
    for layer in source.layers:
        groups = data.draw(st.integers(1, layer.num_key_value_heads))
        ratio = data.draw(st.integers(1, layer.num_attention_heads // layer.num_key_value_heads))
        layers.append(shape(groups, ratio, data.draw(st.integers(1, layer.intermediate_size))))
    design = network(data.draw(st.integers(1, source.hidden_size)), *layers)
    saliency = random_saliency(source, seed)
    designer = SaliencyDesigner(source, saliency, SpaceSettings(max_parameters=1))
    assert designer.forecast(design) == pytest.approx(removed_saliency(source, design, saliency), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(source=SOURCES, space=SPACES, share=st.floats(0.3, 1.0), seed=st.integers(0, 99))
def test_shrinking_is_a_naive_greedy_search(
    source: Architecture, space: SpaceSettings, share: float, seed: int
) -> None:
    """Each time all neighbours are tried, with the real saliency and the real parameters of what they take."""
    space = space.model_copy(update={"max_parameters": max(1, int(share * source.parameters))})
    saliency = random_saliency(source, seed)
    expected: Architecture | None = source
    while expected is not None and expected.parameters > space.max_parameters:
        here, size = removed_saliency(source, expected, saliency), expected.parameters
        ranked = [
            ((removed_saliency(source, design, saliency) - here) / (size - design.parameters), design)
            for _, design in smaller_neighbours(expected, space)
        ]
        expected = min(ranked, key=lambda pair: pair[0])[1] if ranked else None
    designer = SaliencyDesigner(source, saliency, space)
    if expected is None:
        with pytest.raises(InputError, match="smallest legal design"):
            designer.greedy()
    else:
        assert designer.greedy() == expected


@settings(max_examples=60, deadline=None)
@given(source=SOURCES, space=SPACES, seed=st.integers(0, 99))
def test_one_event_takes_the_type_whose_least_salient_group_is_lowest(
    source: Architecture, space: SpaceSettings, seed: int
) -> None:
    """Down to the last step, and each event is what `least_salient` has said of it."""
    saliency = random_saliency(source, seed)
    designer, design = SaliencyDesigner(source, saliency, space), source
    while found := list(smaller_neighbours(design, space)):
        here = removed_saliency(source, design, saliency)
        lowest: dict[PruningType, float | None] = dict.fromkeys(PRUNING_TYPES)
        for name, smaller in found:
            rise = removed_saliency(source, smaller, saliency) - here
            each = rise / (design.parameters - smaller.parameters)
            best = lowest[name]
            lowest[name] = each if best is None else min(best, each)
        told = designer.least_salient(design)
        assert told == {name: value if value is None else pytest.approx(value) for name, value in lowest.items()}
        after = designer.next_step(design)
        (taken,) = [name for name, smaller in found if smaller == after]
        assert told[taken] == min(value for value in told.values() if value is not None)
        design = after
    assert set(designer.least_salient(design).values()) == {None}
    with pytest.raises(InputError, match="Nothing is left to prune"):
        designer.next_step(design)


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_a_designer_made_anew_at_every_event_takes_the_same_way(unit: str, uniform: bool) -> None:
    """Continuous dropping: the source is the model as it is now, its saliency that of the groups it still has."""
    source = network(32, *[shape(4, 3, 40)] * 3)
    saliency = random_saliency(source, 5)
    space = SpaceSettings(max_parameters=source.parameters // 2, uniform=uniform, attention_unit=unit, **ONE_BY_ONE)
    current, left = source, saliency
    while current.parameters > space.max_parameters:
        smaller = SaliencyDesigner(current, left, space).next_step(current)
        current, left = smaller, kept_saliency(current, smaller, left)
    assert current == SaliencyDesigner(source, saliency, space).greedy()
    assert current.is_homogeneous or not uniform
    first, last = source.layers[0], current.layers[0]
    shrunk = (
        last.num_attention_heads < first.num_attention_heads,
        last.num_key_value_heads < first.num_key_value_heads,
    )
    if uniform:
        assert shrunk == (True, unit == "kv_group"), "attention takes part, in its own unit"


@settings(max_examples=40, deadline=None)
@given(source=SOURCES, space=SPACES, events=st.integers(1, 40), seed=st.integers(0, 99))
def test_what_was_cut_grows_back(source: Architecture, space: SpaceSettings, events: int, seed: int) -> None:
    """Also to widths of the source that are no multiples of the step."""
    size = source.parameters
    space = space.model_copy(update={"max_parameters": size, "min_parameters": size})
    designer, design = SaliencyDesigner(source, random_saliency(source, seed), space), source
    for _ in range(events):
        if any(value is not None for value in designer.least_salient(design).values()):
            design = designer.next_step(design)
    assert designer.grow(design) == source


def test_growing_gives_back_the_most_salient_that_fits() -> None:
    """The KV groups are dearest of all, but would not fit; two steps of two channels do."""
    source = network(8, *[shape(2, 1, 6)] * 2)
    small = network(8, *[shape(1, 1, 2)] * 2)
    channels = [[50, 40, 5, 5, 1, 1], [50, 40, 3, 3, 2, 2]]
    saliency = replace(
        random_saliency(source, 0),
        kv_group=tuple(np.array([1e6, 1e5], dtype=np.float32) for _ in source.layers),
        ffn=tuple(np.array(values, dtype=np.float32) for values in channels),
    )
    size = small.parameters + 2 * 2 * 3 * 8
    space = SpaceSettings(max_parameters=size, min_parameters=size, ffn_multiple=2, hidden_multiple=8)
    grown = SaliencyDesigner(source, saliency, space).grow(small)
    assert grown == network(8, *[shape(1, 1, 4)] * 2)


def test_widths_that_are_no_multiples_step_to_the_next_one() -> None:
    source = network(70, shape(1, 1, 1535))
    saliency = random_saliency(source, 0)
    space = SpaceSettings(max_parameters=1, ffn_multiple=64, hidden_multiple=32)
    ffn = SaliencyDesigner(source, saliency, space, ("ffn",))
    design = ffn.next_step(source)
    assert design.layers[0].intermediate_size == 1472
    assert ffn.next_step(design).layers[0].intermediate_size == 1408
    assert ffn.least_salient(source)["stem"] is None, "types that may not change offer nothing"
    stem = SaliencyDesigner(source, saliency, space, ("stem",))
    sizes = [70]
    design = source
    while stem.least_salient(design)["stem"] is not None:
        design = stem.next_step(design)
        sizes.append(design.hidden_size)
    assert sizes == [70, 64, 32]


def test_the_unit_says_what_attention_loses() -> None:
    """Layer 0 has multi-query attention, layer 1 one query head for each key/value head."""
    source = network(16, shape(1, 4, 16), shape(4, 1, 16))
    saliency = random_saliency(source, 1)

    def smallest(unit: str) -> Architecture:
        space = SpaceSettings(max_parameters=1, attention_unit=unit)
        designer, design = SaliencyDesigner(source, saliency, space, ("attention",)), source
        while designer.least_salient(design)["attention"] is not None:
            design = designer.next_step(design)
        return design

    assert smallest("kv_group") == network(16, shape(1, 4, 16), shape(1, 1, 16))
    assert smallest("query_head") == network(16, shape(1, 1, 16), shape(4, 1, 16))


def test_each_group_loses_its_own_least_salient_query_heads() -> None:
    source, target = network(8, shape(2, 3, 8)), network(8, shape(2, 1, 8))
    saliency = replace(random_saliency(source, 0), query_head=(np.array([1, 3, 2, 60, 50, 40], dtype=np.float32),))
    plan = plan_cut(source, target, saliency)
    assert plan.kv_groups[0].tolist() == [0, 1] and plan.query_heads[0].tolist() == [1, 3]
    designer = SaliencyDesigner(source, saliency, SpaceSettings(max_parameters=1, attention_unit="query_head"))
    assert designer.forecast(network(8, shape(2, 2, 8))) == pytest.approx(1 + 40)
    assert designer.forecast(target) == pytest.approx(1 + 2 + 40 + 50)


def test_a_multi_query_model_is_cut_by_query_heads(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-mqa"])
    source = architecture_from_config(model.config)
    saliency = random_saliency(source, 0)
    space = SpaceSettings(max_parameters=source.parameters * 9 // 10, attention_unit="query_head", **ONE_BY_ONE)
    design = SaliencyDesigner(source, saliency, space, ("attention",)).greedy()
    assert {layer.num_key_value_heads for layer in design.layers} == {1}
    assert sum(layer.num_attention_heads for layer in design.layers) < 24
    cut(model, plan_cut(source, design, saliency))
    assert sum(parameter.numel() for parameter in model.parameters()) == design.parameters
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=torch.arange(10)[None]).logits).all()
    with pytest.raises(InputError, match="smallest legal design"):
        space = space.model_copy(update={"attention_unit": "kv_group"})
        SaliencyDesigner(source, saliency, space, ("attention",)).greedy()


def test_single_channels_of_a_real_size_are_one_global_ranking() -> None:
    """SmolLM2-135M to 114.6M parameters: the channels that stay are the most salient of all layers together."""
    fixed = FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True)
    source = Architecture(fixed=fixed, hidden_size=576, layers=(shape(3, 3, 1536),) * 30)
    saliency = random_saliency(source, 0)
    space = SpaceSettings(max_parameters=114_600_000, **ONE_BY_ONE)
    design = SaliencyDesigner(source, saliency, space, ("ffn",)).greedy()
    events = -((114_600_000 - source.parameters) // (3 * 576))
    assert events > 11_000
    assert source.parameters - design.parameters == events * 3 * 576
    threshold = np.sort(np.concatenate(saliency.ffn))[events]
    kept = [int((values >= threshold).sum()) for values in saliency.ffn]
    assert [layer.intermediate_size for layer in design.layers] == kept


@pytest.mark.parametrize("unit", UNITS)
def test_drafts_keep_the_query_heads_of_the_design_they_are_based_on(unit: str) -> None:
    source = network(32, *[shape(2, 4, 64)] * 3)
    space = SpaceSettings(
        max_parameters=source.parameters * 8 // 10, ffn_multiple=8, hidden_multiple=8, attention_unit=unit
    )
    found = PrunedLMSpace(source, random_saliency(source, 3), space)
    design = found.designer.greedy()
    assert [layer.num_attention_heads for layer in design.layers] != [8, 8, 8]
    draft = DesignDraft.of(design)
    assert found.problems(draft, design) == [] and found.read(draft, design) == design
    projected, _ = found.project(DesignDraft.of(source), design)
    assert projected.parameters <= space.max_parameters
