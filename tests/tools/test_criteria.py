"""The contract of pruning criteria, kept by every one of them on every family; and what each of them means."""

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pruning.blocks import blocks, embedding, head
from tools.pruning.criteria import CRITERIA, Criterion, Statistics, make_criterion
from tools.pruning.criteria.evidence import Calibration, gather
from tools.pruning.criteria.fluctuation import compensate, give_biases
from tools.pruning.criteria.group_values import group_sizes
from tools.pruning.groups import (
    ffn_channel_parameters,
    kv_group_parameters,
    query_head_cost,
    stem_channel_parameters,
)
from tools.pruning.saliency import Saliency
from tools.pruning.selection import CutPlan, plan_cut
from tools.pruning.surgery import cut
from tools.sources import load_model

FAMILY_NAMES = (
    "llama-tied",
    "llama-untied",
    "llama-mqa",
    "llama-biases",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3-biases",
)


DAMPING = 0.1


def calibration(seeds: Iterable[int] = range(2)) -> Calibration:
    """Micro-batches of one block of 24 tokens."""
    batches = [torch.randint(0, 300, (1, 24), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return Calibration(tuple(batches), nullcontext)


def no_report(phase: str, done: int, total: int) -> None:
    pass


def evidence(model: PreTrainedModel, criterion: Criterion, seeds: Iterable[int] = range(2)) -> Statistics:
    return gather(model, criterion, calibration(seeds), criterion.needs_statistics, no_report)


def judged(model: PreTrainedModel, name: str, seeds: Iterable[int] = range(2), seed: int = 0) -> Saliency:
    criterion = make_criterion(name, model, seed, DAMPING)
    return criterion.saliency(evidence(model, criterion, seeds))


def arrays(saliency: Saliency) -> list[np.ndarray]:
    return [*saliency.kv_group, *saliency.query_head, *saliency.ffn, saliency.stem]


def assert_same(one: Iterable[np.ndarray], other: Iterable[np.ndarray], rtol: float = 1e-7, atol: float = 0.0) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def test_the_families_are_all_there(sources: dict[str, Path]) -> None:
    assert set(FAMILY_NAMES) == set(sources)


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("name", CRITERIA)
def test_contract(sources: dict[str, Path], family: str, name: str) -> None:
    model = load_model(sources[family])
    source = architecture_from_config(model.config)
    weights = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    found = judged(model, name)
    depth = len(source.layers)
    shapes = [(layer.num_key_value_heads,) for layer in source.layers]
    shapes += [(layer.num_attention_heads,) for layer in source.layers]
    shapes += [(layer.intermediate_size,) for layer in source.layers]
    assert [values.shape for values in arrays(found)] == [*shapes, (source.hidden_size,)]
    assert all(values.dtype == np.float32 for values in arrays(found))
    assert all(np.isfinite(values).all() and (values >= 0).all() for values in arrays(found))
    assert all(np.ptp(values) > 0 for values in arrays(found) if len(values) > 1), "the groups are told apart"
    assert len(found.kv_group) == depth
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[key]), f"{key} was changed"
        assert parameter.grad is None
    assert_same(arrays(judged(model, name)), arrays(found), rtol=0)


@pytest.mark.parametrize("name", CRITERIA)
def test_without_evidence_there_is_no_saliency(sources: dict[str, Path], name: str) -> None:
    criterion = make_criterion(name, load_model(sources["llama-tied"]))
    if criterion.needs_gradients:
        with pytest.raises(ValueError, match="observe"):
            criterion.observe()
        with pytest.raises(ValueError, match="no micro-batch was observed"):
            criterion.saliency({})
    elif criterion.needs_statistics:
        with pytest.raises(ValueError, match="needs the statistics of layer inputs"):
            criterion.saliency({})
    else:
        assert criterion.saliency({}).stem.shape == (64,)


def test_an_unknown_criterion(sources: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no pruning criterion 'tylor'; the criteria are: magnitude"):
        make_criterion("tylor", load_model(sources["llama-tied"]))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_groups_hold_the_weights_that_they_free(sources: dict[str, Path], family: str) -> None:
    """Summing one for each weight gives the sizes that the designs are budgeted by: nothing twice, nothing left out."""
    model = load_model(sources[family])
    source = architecture_from_config(model.config)
    sizes = group_sizes(model)
    for index, layer in enumerate(source.layers):
        assert set(sizes.kv_group[index].tolist()) == {kv_group_parameters(source, index)}
        per_group = query_head_cost(source, index).parameters / layer.num_key_value_heads
        assert set(sizes.query_head[index].tolist()) == {per_group}
        assert set(sizes.ffn[index].tolist()) == {ffn_channel_parameters(source)}
    assert set(sizes.stem.tolist()) == {stem_channel_parameters(source)}


def product(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None
    return weight.detach() * weight.grad


@pytest.mark.parametrize(("name", "mixed"), [("taylor_element", False), ("taylor_element_mixed", True)])
def test_taylor_elements_by_hand(sources: dict[str, Path], name: str, mixed: bool) -> None:
    """One group of each kind, summed weight by weight; query heads 2 and 3 read key/value head 1."""
    model = load_model(sources["llama-untied"])
    found = judged(model, name, seeds=[5])
    tokens = calibration([5]).micro_batches[0]
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    block = blocks(model)[1]

    def summed(*parts: torch.Tensor) -> float:
        return sum(float((part - 0.5 * part.square() if mixed else part).abs().sum()) for part in parts)

    q, k, v, o = (product(getattr(block, f"{part}_proj").weight) for part in "qkvo")
    gate, up, down = (product(getattr(block, f"{part}_proj").weight) for part in ("gate", "up", "down"))
    assert found.ffn[1][7] == pytest.approx(summed(gate[7], up[7], down[:, 7]), rel=1e-4)
    assert found.query_head[1][2] == pytest.approx(summed(q[32:48], o[:, 32:48]), rel=1e-4)
    assert found.kv_group[1][1] == pytest.approx(summed(q[32:64], o[:, 32:64], k[16:32], v[16:32]), rel=1e-4)
    stem = [product(embedding(model).weight)[:, 9], product(head(model).weight)[:, 9]]
    for part in blocks(model):
        stem += [product(reader.weight)[:, 9] for reader in part.stem_readers]
        stem += [product(writer.weight)[9] for writer in part.stem_writers]
        stem += [product(norm.get_parameter("weight"))[9] for norm in (part.attention_norm, part.ffn_norm)]
    stem.append(product(model.get_submodule("model.norm").get_parameter("weight"))[9])
    assert found.stem[9] == pytest.approx(summed(*stem), rel=1e-4)


@pytest.mark.parametrize("name", ["taylor_element", "taylor_element_mixed", "taylor_vector", "fisher"])
def test_every_micro_batch_counts(sources: dict[str, Path], name: str) -> None:
    """The mean over the micro-batches' own values, not the last one's, nor that of the summed gradients."""
    model = load_model(sources["qwen3"])
    first, second = (arrays(judged(model, name, seeds=[seed])) for seed in (1, 2))
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert_same(arrays(judged(model, name, seeds=[1, 2])), means, rtol=1e-4, atol=1e-12)
    assert_same(arrays(judged(model, name, seeds=[2, 1])), means, rtol=1e-4, atol=1e-12)
    assert not np.allclose(first[-1], second[-1], rtol=1e-2), "the two differ"


def test_the_vector_sees_less_than_the_elements(sources: dict[str, Path]) -> None:
    """|sum w g| over a column is at most the sum of |w g|; the elements count the rows as well."""
    model = load_model(sources["llama-tied"])
    vector, element = judged(model, "taylor_vector"), judged(model, "taylor_element")
    for one, other in zip(vector.ffn + vector.query_head, element.ffn + element.query_head, strict=True):
        assert (one <= other).all()


@pytest.mark.parametrize("name", ["magnitude", "taylor_element", "activation", "taylor_vector", "obs", "obs_greedy"])
@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "qwen2"])
def test_a_group_is_scored_with_the_heads_that_read_it(sources: dict[str, Path], family: str, name: str) -> None:
    """A key/value group without any weights, its own query heads included, is worth nothing; no other is."""
    model = load_model(sources[family])
    block = blocks(model)[0]
    size, width = block.head_dim, block.o_proj.in_features // block.num_key_value_heads
    with torch.no_grad():
        for linear, rows in ((block.q_proj, width), (block.k_proj, size), (block.v_proj, size)):
            linear.weight[rows : 2 * rows] = 0
            if linear.bias is not None:
                linear.bias[rows : 2 * rows] = 0
        block.o_proj.weight[:, width : 2 * width] = 0
    found = judged(model, name)
    ratio = block.num_attention_heads // block.num_key_value_heads
    assert np.flatnonzero(found.kv_group[0] == 0).tolist() == [1]
    assert np.flatnonzero(found.query_head[0] == 0).tolist() == list(range(ratio, 2 * ratio))


def rescaled(model: PreTrainedModel, factors: torch.Tensor) -> None:
    """Each FFN channel of layer 1 times its factor before down_proj, and down_proj's column divided by it."""
    block = blocks(model)[1]
    with torch.no_grad():
        block.up_proj.weight.mul_(factors[:, None])
        block.down_proj.weight.div_(factors)


INVARIANT = ("activation", "taylor_element", "taylor_element_mixed", "taylor_vector", "fisher", "fluctuation")


@pytest.mark.parametrize("name", INVARIANT)
def test_what_computes_the_same_is_worth_the_same(sources: dict[str, Path], name: str) -> None:
    """Exchanging scale between the two sides of a channel changes no logit, and so no score."""
    model = load_model(sources["llama-tied"])
    before = judged(model, name)
    rescaled(model, 2.0 ** (torch.arange(96) % 5 - 2))
    assert_same(judged(model, name).ffn, before.ffn, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("name", ["obs", "obs_greedy"])
def test_obs_is_blind_to_the_scale_of_a_layer(sources: dict[str, Path], name: str) -> None:
    """The damping follows the mean diagonal: single channels may not change their scale, all together may."""
    model = load_model(sources["llama-tied"])
    before = judged(model, name)
    rescaled(model, torch.full((96,), 4.0))
    assert_same(judged(model, name).ffn, before.ffn, rtol=2e-3)


def test_magnitude_is_not_invariant(sources: dict[str, Path]) -> None:
    """Known of the criterion, and a sign that the two tests before can fail."""
    model = load_model(sources["llama-tied"])
    before = judged(model, "magnitude")
    rescaled(model, torch.full((96,), 4.0))
    assert (judged(model, "magnitude").ffn[1] > 2 * before.ffn[1]).all()


def test_activation_by_hand(sources: dict[str, Path]) -> None:
    """Over all 1,200 tokens, many more than layers have inputs."""
    model = load_model(sources["qwen2"])
    block, inputs = blocks(model)[2], list[torch.Tensor]()
    handles = [
        linear.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().flatten(0, 1)))
        for linear in (block.o_proj, block.down_proj)
    ]
    with torch.no_grad():
        for tokens in calibration(range(50)).micro_batches:
            model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    found = judged(model, "activation", seeds=range(50))
    output, down = (torch.cat(inputs[place::2]).square().mean(0).sqrt() for place in (0, 1))
    expected = (block.down_proj.weight.abs() * down).sum(0)
    np.testing.assert_allclose(found.ffn[2], expected.detach().numpy(), rtol=1e-4)
    heads = (block.o_proj.weight.abs() * output).sum(0).view(4, 2 * 16).sum(1)
    np.testing.assert_allclose(found.kv_group[2], heads.detach().numpy(), rtol=1e-4)


def test_chance_is_even_per_parameter(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-tied"])
    sizes = group_sizes(model).saliency()
    shares = [a / b for a, b in zip(arrays(judged(model, "random", seed=3)), arrays(sizes), strict=True)]
    drawn = np.concatenate(shares)
    assert drawn.min() >= 0 and drawn.max() <= 1 and abs(drawn.mean() - 0.5) < 0.05
    other = arrays(judged(model, "random", seed=4))
    assert not np.allclose(other[-1], arrays(judged(model, "random", seed=3))[-1])


def test_fluctuation_is_the_order_of_flap(sources: dict[str, Path]) -> None:
    """Per parameter, over all layers and both kinds, the order is that of the standardised scores."""
    model = load_model(sources["llama-untied"])
    criterion = make_criterion("fluctuation", model)
    statistics = evidence(model, criterion)
    found, sizes = criterion.saliency(statistics), group_sizes(model).saliency()
    expected, ranked = [], []
    for index, block in enumerate(blocks(model)):
        for place, linear in (("output", block.o_proj), ("down", block.down_proj)):
            variance = statistics[f"{place}.{index}"].diagonal() - statistics[f"{place}_mean.{index}"].square()
            score = (variance * linear.weight.square().sum(0)).detach().numpy()
            score = score**2 if place == "output" else score
            score = (score - score.mean()) / score.std()
            expected.append(score.reshape(2, -1).mean(1) if place == "output" else score)
        ranked.append(found.kv_group[index] / sizes.kv_group[index])
        ranked.append(found.ffn[index] / sizes.ffn[index])
    by_hand, ours = np.concatenate(expected), np.concatenate(ranked)
    np.testing.assert_allclose(ours - ours[0], by_hand - by_hand[0], atol=1e-3)


def with_constant_channel(model: PreTrainedModel, layer: int, channel: int) -> None:
    """Make an FFN channel answer the same to every token, by its biases alone."""
    block = blocks(model)[layer]
    with torch.no_grad():
        for linear in (block.gate_proj, block.up_proj):
            linear.weight[channel] = 0
            linear.bias[channel] = 3.0


@pytest.mark.parametrize("family", ["llama-tied", "llama-biases"])
def test_a_bias_takes_over_what_does_not_change(sources: dict[str, Path], family: str) -> None:
    """A channel without fluctuation is the least salient of its layer, and its removal changes no logit."""
    model = load_model(sources[family])
    tokens = calibration([3]).micro_batches[0]

    def logits() -> Any:
        with torch.no_grad():
            return model(input_ids=tokens).logits

    plain, old = logits(), architecture_from_config(model.config)
    source = give_biases(model, old)
    torch.testing.assert_close(logits(), plain, rtol=0, atol=0)
    assert source == architecture_from_config(model.config)
    assert source.parameters == sum(parameter.numel() for parameter in model.parameters()) >= old.parameters
    with_constant_channel(model, layer=1, channel=50)
    criterion = make_criterion("fluctuation", model)
    statistics = evidence(model, criterion)
    saliency = criterion.saliency(statistics)
    assert saliency.ffn[1].argmin() == 50
    layers = list(source.layers)
    layers[1] = layers[1].model_copy(update={"intermediate_size": 95})
    plan = plan_cut(source, source.with_layers(layers), saliency)
    expected = logits()
    compensate(model, plan, statistics)
    cut(model, plan)
    assert blocks(model)[1].down_proj.in_features == 95
    torch.testing.assert_close(logits(), expected, rtol=1e-3, atol=1e-4)


def test_bias_compensation_for_heads_is_the_mean(sources: dict[str, Path]) -> None:
    """What o_proj gives in the mean over the calibration tokens is the same before and after heads are removed."""
    model = load_model(sources["llama-tied"])
    source = give_biases(model, architecture_from_config(model.config))
    criterion = make_criterion("fluctuation", model)
    statistics = evidence(model, criterion)
    every = plan_cut(source, source, criterion.saliency(statistics))
    heads = tuple(np.arange(6) for _ in every.query_heads)
    plan = CutPlan(stem=every.stem, kv_groups=every.kv_groups, query_heads=heads, ffn=every.ffn)
    block = blocks(model)[0]
    with torch.no_grad():
        before = block.o_proj(statistics["output_mean.0"])
        compensate(model, plan, statistics)
        kept = statistics["output_mean.0"].clone()
        kept[6 * 16 :] = 0
        torch.testing.assert_close(block.o_proj(kept), before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_families_that_cannot_hold_biases(sources: dict[str, Path], family: str) -> None:
    model = load_model(sources[family])
    with pytest.raises(InputError, match=f"models of type '{family}' cannot hold: take a Llama model"):
        give_biases(model, architecture_from_config(model.config))
