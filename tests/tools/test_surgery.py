"""Cutting and compacting: the same logits, the same training, exact counts, and optimisers that follow."""

import copy
import dataclasses
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tests.conftest import FAMILIES
from tests.tools.test_masking import KINDS, OPTIMIZERS, logits, models, random_plan, random_plan_of, some_tokens, train
from tools.architecture import Architecture, LayerShape
from tools.export.compact import load_compact, rms_norm_eps, save_compact
from tools.families import architecture_from_config
from tools.pruning.alive import compose, everything
from tools.pruning.blocks import blocks, embedding, head, stem_norms
from tools.pruning.masking import mask
from tools.pruning.selection import CutPlan
from tools.pruning.surgery import compact, cut
from tools.sources import load_model

MIXTURES = [kinds for size in range(1, len(KINDS) + 1) for kinds in combinations(KINDS, size)]


def design_of(source: Architecture, plan: CutPlan) -> Architecture:
    shapes = tuple(
        LayerShape(num_attention_heads=len(heads), num_key_value_heads=len(groups), intermediate_size=len(channels))
        for heads, groups, channels in zip(plan.query_heads, plan.kv_groups, plan.ffn, strict=True)
    )
    return Architecture(fixed=source.fixed, hidden_size=len(plan.stem), layers=shapes)


def parameters_of(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trainable(path: Path) -> PreTrainedModel:
    model = load_model(path).train()
    model.requires_grad_(True)
    return model


@settings(max_examples=60, deadline=None)
@given(model=models(), kinds=st.sets(st.sampled_from(KINDS)), seed=st.integers(0, 999))
def test_a_compacted_model_gives_the_masked_models_logits(model: PreTrainedModel, kinds: set[str], seed: int) -> None:
    """The epsilon of these models is as large as their variances, so a wrong one shows."""
    source, plan = architecture_from_config(model.config), random_plan(model, tuple(kinds), seed)
    mask(model, plan)
    expected = logits(model, some_tokens())
    compact(model, plan)
    # The norms compute in float32; without a change of the stem they compute the same.
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if "stem" in kinds else {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(logits(model, some_tokens()), expected, **tolerance)
    assert parameters_of(model) == design_of(source, plan).parameters
    assert rms_norm_eps(model) == model.config.rms_norm_eps


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_mixture_compacts_without_a_change(sources: dict[str, Path], family: str) -> None:
    whole = load_model(sources[family])
    source = architecture_from_config(whole.config)
    for seed, kinds in enumerate(MIXTURES):
        model, plan = copy.deepcopy(whole), random_plan(whole, kinds, seed)
        mask(model, plan)
        expected = logits(model, some_tokens())
        compact(model, plan)
        torch.testing.assert_close(logits(model, some_tokens()), expected, rtol=1e-3, atol=1e-4)
        assert parameters_of(model) == design_of(source, plan).parameters


def test_groups_that_are_zero_may_go(sources: dict[str, Path]) -> None:
    """What is zero on one side alone is already without effect; stem channels are, where nothing writes to them."""
    model = load_model(sources["qwen3-biases"])
    with torch.no_grad():
        embedding(model).weight[:, 0] = 0
        for block in blocks(model):
            block.down_proj.weight[0] = 0
            block.o_proj.weight[0] = 0
            block.o_proj.bias[0] = 0
            block.down_proj.weight[:, -2:] = 0
            # Query heads 2 and 3 read key/value head 1.
            block.o_proj.weight[:, 2 * 16 : 4 * 16] = 0
    expected = logits(model, some_tokens())
    plan = CutPlan(
        stem=np.arange(1, 64),
        kv_groups=(np.array([0, 2, 3]),) * 3,
        query_heads=(np.array([0, 1, 4, 5, 6, 7]),) * 3,
        ffn=(np.arange(94),) * 3,
    )
    compact(model, plan)
    torch.testing.assert_close(logits(model, some_tokens()), expected, rtol=1e-4, atol=1e-4)


def test_masks_and_compactions_in_turn(sources: dict[str, Path]) -> None:
    """Two masks, a compaction, a mask, a compaction: nothing but the masks changes what is computed."""
    model = load_model(sources["qwen3"])
    design = architecture_from_config(model.config)
    for seeds in ((0, 1), (2,)):
        alive = everything(design)
        for seed in seeds:
            plan = random_plan_of(design, ("ffn", "stem", "query_head"), seed)
            alive, design = compose(alive, plan), design_of(design, plan)
            mask(model, alive)
        expected = logits(model, some_tokens())
        compact(model, alive)
        torch.testing.assert_close(logits(model, some_tokens()), expected, rtol=1e-4, atol=1e-5)
        assert parameters_of(model) == design.parameters
    assert rms_norm_eps(model) == pytest.approx(1e-6 * 64 / design.hidden_size)


def test_a_compacted_model_survives_the_disk(sources: dict[str, Path], tmp_path: Path) -> None:
    model = load_model(sources["qwen3-biases"])
    source, plan = architecture_from_config(model.config), random_plan(model, KINDS, 3)
    mask(model, plan)
    compact(model, plan)
    save_compact(model, design_of(source, plan), tmp_path / "model")
    loaded = load_compact(sources["qwen3-biases"], tmp_path / "model")
    assert torch.equal(logits(loaded, some_tokens()), logits(model, some_tokens()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("family", ["llama-tied", "qwen3-biases"])
def test_training_masked_is_training_compacted(sources: dict[str, Path], family: str, optimizer: str) -> None:
    masked = trainable(sources[family])
    plan = random_plan(masked, ("kv_group", "query_head", "ffn"), 4)
    small = copy.deepcopy(masked)
    optimizers = [OPTIMIZERS[optimizer](model.parameters()) for model in (masked, small)]
    for model, each in zip((masked, small), optimizers, strict=True):
        for group in each.param_groups:
            group["lr"] = 1e-3
        train(model, each, 3)
    mask(masked, plan, [optimizers[0]])
    mask(small, plan, [optimizers[1]])
    compact(small, plan, [optimizers[1]])
    losses = train(masked, optimizers[0], 30)
    np.testing.assert_allclose(train(small, optimizers[1], 30), losses, rtol=1e-5)
    assert abs(losses[-1] - losses[0]) > 1e-2
    compact(masked, plan, [optimizers[0]])
    for one, other in zip(masked.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        for name, value in optimizers[0].state[one].items():
            torch.testing.assert_close(value, optimizers[1].state[other][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimiser_states_follow_and_all_else_stays(sources: dict[str, Path], name: str) -> None:
    model = trainable(sources["llama-biases"])
    frozen = blocks(model)[2].gate_proj.weight.requires_grad_(False)
    optimizer = OPTIMIZERS[name](parameter for parameter in model.parameters() if parameter.requires_grad)
    train(model, optimizer, 3)
    model(input_ids=some_tokens(), labels=some_tokens()).loss.backward()
    plan = random_plan(model, KINDS, 6)
    parameters = dict(model.named_parameters())
    wanted = {"momentum_buffer"} if name == "momentum" else {"exp_avg", "exp_avg_sq"}
    wanted |= {"max_exp_avg_sq"} if name == "amsgrad" else set()
    # The states go the way of the weights: copies of the model whose weights are the states are cut beside it.
    expected = {}
    for state in wanted:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for one, other in zip(model.parameters(), twin.parameters(), strict=True):
                other.copy_(optimizer.state[one][state] if one.requires_grad else torch.zeros_like(one))
        cut(twin, plan)
        expected[state] = dict(twin.named_parameters())
    weights = copy.deepcopy(model)
    cut(weights, plan)
    steps = {parameter: copy.deepcopy(optimizer.state[parameter].get("step")) for parameter in optimizer.state}
    cut(model, plan, [optimizer])
    assert dict(model.named_parameters()).keys() == parameters.keys()
    for (key, parameter), weight in zip(model.named_parameters(), weights.parameters(), strict=True):
        assert parameter is parameters[key] and parameter.grad is None and parameter.is_contiguous()
        assert torch.equal(parameter, weight)
        assert parameter.requires_grad == (parameter is not frozen)
        if parameter.requires_grad:
            for state in wanted:
                assert torch.equal(optimizer.state[parameter][state], expected[state][key])
            assert optimizer.state[parameter].get("step") == steps[parameter]
    assert frozen not in optimizer.state
    assert embedding(model).weight is head(model).weight
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    train(model, optimizer, 1)
    still = [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])]
    assert still == [key for key, parameter in parameters.items() if parameter is frozen]


def test_states_that_cannot_follow_are_refused_before_anything_is_cut(sources: dict[str, Path]) -> None:
    model = trainable(sources["llama-tied"])
    optimizer = torch.optim.Adafactor(model.parameters())
    train(model, optimizer, 1)
    with pytest.raises(ValueError, match=r"of Adafactor has shape .* cannot be cut with it"):
        cut(model, random_plan(model, KINDS, 0), [optimizer])
    assert parameters_of(model) == architecture_from_config(model.config).parameters


@pytest.mark.parametrize("family", ["llama-tied", "qwen3-biases"])
def test_moments_of_rescaled_weights_fit_their_new_gradients(sources: dict[str, Path], family: str) -> None:
    """A gain that is k times as large has a gradient k times as small, and QK-normed projections likewise."""
    model = trainable(sources[family])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, amsgrad=True)
    train(model, optimizer, 3)
    plan = dataclasses.replace(everything(architecture_from_config(model.config)), stem=np.arange(0, 64, 2))
    mask(model, plan, [optimizer])
    factor = math.sqrt(64 / 32)
    rescaled = {norm.get_parameter("weight") for norm in stem_norms(model)}
    if family == "qwen3-biases":
        rescaled |= {parameter for block in blocks(model) for parameter in block.q_proj.parameters()}
        rescaled |= {parameter for block in blocks(model) for parameter in block.k_proj.parameters()}

    def cut_twin(values: dict[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for one, other in zip(model.parameters(), twin.parameters(), strict=True):
                other.copy_(values[one])
        cut(twin, plan)
        return {name: parameter.detach() for name, parameter in twin.named_parameters()}

    def gradients() -> dict[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        model(input_ids=some_tokens(), labels=some_tokens(), use_cache=False).loss.backward()
        return {parameter: parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None}

    powers = {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}
    expected = {
        name: cut_twin({parameter: optimizer.state[parameter][name] for parameter in model.parameters()})
        for name in powers
    }
    expected_gradients = cut_twin(gradients())
    compact(model, plan, [optimizer])
    found = gradients()
    for key, parameter in model.named_parameters():
        shrunk = factor if parameter in rescaled else 1.0
        torch.testing.assert_close(found[parameter] * shrunk, expected_gradients[key], rtol=1e-3, atol=1e-5)
        for name, power in powers.items():
            value = optimizer.state[parameter][name]
            torch.testing.assert_close(value * shrunk**power, expected[name][key])


def test_dropping_the_old_graph_is_enough(sources: dict[str, Path]) -> None:
    """As long as an output lives, gradients still have the old shapes; no more is needed than to let go of it."""
    for alive in (False, True):
        model = trainable(sources["llama-untied"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        output = model(input_ids=some_tokens(), labels=some_tokens(), use_cache=False)
        output.loss.backward()
        optimizer.step()
        if not alive:
            del output
        cut(model, random_plan(model, KINDS, 0), [optimizer])
        loss = model(input_ids=some_tokens(), labels=some_tokens(), use_cache=False).loss
        if alive:
            with pytest.raises(RuntimeError, match="invalid gradient"):
                loss.backward()
        else:
            loss.backward()
            optimizer.step()


def test_no_hook_is_left_on_a_cut_model(sources: dict[str, Path]) -> None:
    model = trainable(sources["llama-tied"])
    plan = random_plan(model, ("query_head",), 0)
    mask(model, plan)
    cut(model, plan)
    assert not any(parameter._backward_hooks for parameter in model.parameters())
    train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), 1)
