"""Masks: what they do to the logits, and that training never brings back what they took away."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.conftest import FAMILIES
from tools.architecture import Architecture
from tools.families import architecture_from_config
from tools.pruning.alive import everything
from tools.pruning.blocks import blocks, embedding
from tools.pruning.masking import mask
from tools.pruning.selection import CutPlan, Indices, head_channels
from tools.pruning.surgery import cut
from tools.sources import load_model

Optimizers = Callable[[Iterator[torch.nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimizers] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1),
    "amsgrad": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, amsgrad=True),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=0.1),
}
KINDS = ("kv_group", "query_head", "ffn", "stem")


def tiny_model(model_type: str, **sizes: Any) -> PreTrainedModel:
    """A random float64 model of two layers, with an epsilon that counts and gains that are not all alike."""
    torch.manual_seed(0)
    values = {"vocab_size": 37, "num_hidden_layers": 2, "rms_norm_eps": 0.3, "max_position_embeddings": 64} | sizes
    config = CONFIG_MAPPING[model_type].from_dict(values)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (parameter.ndim == 1) * 0.8)
    return model


@st.composite
def models(draw: st.DrawFn) -> PreTrainedModel:
    """Grouped-query models of all families, with few and many heads for each key/value head."""
    model_type = draw(st.sampled_from(["llama", "mistral", "qwen2", "qwen3"]))
    kv_heads, ratio = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 4]))
    sizes: dict[str, Any] = {
        "num_attention_heads": kv_heads * ratio,
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.sampled_from([2, 4, 6])),
        "hidden_size": kv_heads * ratio * draw(st.integers(1, 3)) + (0 if model_type == "llama" else 1),
        "intermediate_size": draw(st.integers(1, 9)),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if model_type in ("llama", "qwen3"):
        sizes["attention_bias"] = draw(st.booleans())
    if model_type == "llama":
        sizes["mlp_bias"] = draw(st.booleans())
    if model_type == "mistral":
        sizes["sliding_window"] = draw(st.sampled_from([3, None]))
    return tiny_model(model_type, **sizes)


def random_plan(model: PreTrainedModel, kinds: tuple[str, ...], seed: int) -> CutPlan:
    return random_plan_of(architecture_from_config(model.config), kinds, seed)


def random_plan_of(source: Architecture, kinds: tuple[str, ...], seed: int) -> CutPlan:
    """Keeps a random part of each of `kinds`, at least one group and mostly not all; query heads evenly."""
    rng = np.random.default_rng(seed)

    def some(width: int, kind: str) -> Indices:
        count = width if kind not in kinds else int(rng.integers(1, max(2, width)))
        return np.sort(rng.choice(width, count, replace=False)).astype(np.int64)

    whole = everything(source)
    kv_groups, query_heads = [], []
    for groups, heads in zip(whole.kv_groups, whole.query_heads, strict=True):
        ratio = len(heads) // len(groups)
        kept_ratio = len(some(ratio, "query_head"))
        kept = some(len(groups), "kv_group")
        kv_groups.append(kept)
        members = [group * ratio + np.sort(rng.choice(ratio, kept_ratio, replace=False)) for group in kept]
        query_heads.append(np.concatenate(members).astype(np.int64))
    return CutPlan(
        stem=some(len(whole.stem), "stem"),
        kv_groups=tuple(kv_groups),
        query_heads=tuple(query_heads),
        ffn=tuple(some(len(channels), "ffn") for channels in whole.ffn),
    )


def some_tokens(seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 37, (2, 7), generator=torch.Generator().manual_seed(seed))


def logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return found


def logits_with_gates(model: PreTrainedModel, plan: CutPlan, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the whole model whose removed activations are multiplied by zero; norms divide by all of the width."""
    handles = []

    def zeros_and_ones(width: int, keep: Indices) -> torch.Tensor:
        gate = torch.zeros(width, dtype=torch.float64)
        gate[torch.as_tensor(keep)] = 1.0
        return gate

    def on_input(module: torch.nn.Linear, keep: Indices) -> None:
        gate = zeros_and_ones(module.in_features, keep)
        handles.append(module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * gate,)))

    def on_output(module: torch.nn.Module) -> None:
        gate = zeros_and_ones(embedding(model).embedding_dim, plan.stem)
        handles.append(module.register_forward_hook(lambda _m, _i, output: output * gate))

    on_output(embedding(model))
    for index, block in enumerate(blocks(model)):
        on_input(block.o_proj, head_channels(plan.query_heads[index], block.head_dim))
        on_input(block.down_proj, plan.ffn[index])
        on_output(block.o_proj)
        on_output(block.down_proj)
    found = logits(model, tokens)
    for handle in handles:
        handle.remove()
    return found


def kept_elements(model: PreTrainedModel, plan: CutPlan) -> dict[str, torch.Tensor]:
    """For each Parameter which of its elements a cut keeps: found by cutting a model whose elements are numbered."""
    numbered = copy.deepcopy(model).double()
    with torch.no_grad():
        for parameter in numbered.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view(parameter.shape))
    cut(numbered, plan)
    kept = {}
    for (name, parameter), (_, small) in zip(model.named_parameters(), numbered.named_parameters(), strict=True):
        flags = torch.zeros(parameter.numel(), dtype=torch.bool)
        flags[small.detach().flatten().long()] = True
        kept[name] = flags.view(parameter.shape)
    return kept


def train(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, steps: int, bfloat16: bool = False, first: int = 0
) -> list[float]:
    losses = []
    for number in range(first, first + steps):
        tokens = some_tokens(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@settings(max_examples=40, deadline=None)
@given(model=models(), kinds=st.sets(st.sampled_from(KINDS)), seed=st.integers(0, 999))
def test_a_mask_zeroes_the_activations_of_its_groups(model: PreTrainedModel, kinds: set[str], seed: int) -> None:
    plan = random_plan(model, tuple(kinds), seed)
    expected = logits_with_gates(model, plan, some_tokens())
    mask(model, plan)
    torch.testing.assert_close(logits(model, some_tokens()), expected, rtol=1e-9, atol=1e-11)
    kept = kept_elements(model, plan)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter != 0, kept[name]), name


@pytest.mark.parametrize("kinds", [KINDS, ("kv_group",), ("query_head",), ("ffn",), ("stem",)], ids="+".join)
@pytest.mark.parametrize("family", ["llama-untied", "llama-biases", "qwen3-biases"])
def test_training_leaves_masked_groups_at_zero(sources: dict[str, Path], family: str, kinds: tuple[str, ...]) -> None:
    stays_dead(load_model(sources[family]), kinds, "adamw")


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"llama-untied", "llama-biases", "qwen3-biases"}))
def test_training_leaves_masked_groups_of_every_family_at_zero(sources: dict[str, Path], family: str) -> None:
    stays_dead(load_model(sources[family]), KINDS, "adamw")


@pytest.mark.parametrize("optimizer", ["amsgrad", "momentum"])
def test_training_with_other_optimisers_leaves_masked_groups_at_zero(sources: dict[str, Path], optimizer: str) -> None:
    stays_dead(load_model(sources["llama-biases"]), KINDS, optimizer)


def test_training_in_bfloat16_leaves_masked_groups_at_zero(sources: dict[str, Path]) -> None:
    stays_dead(load_model(sources["qwen3-biases"]), KINDS, "adamw", bfloat16=True)


def stays_dead(model: PreTrainedModel, kinds: tuple[str, ...], optimizer_name: str, bfloat16: bool = False) -> None:
    """Weights, gradients and moments of masked elements are exactly zero through 30 steps; all others move."""
    model.train().requires_grad_(True)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    train(model, optimizer, 2, bfloat16)
    plan = random_plan(model, kinds, seed=5)
    kept = kept_elements(model, plan)
    mask(model, plan, [optimizer])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert any(not flags.all() for flags in kept.values())

    def dead_is_zero(values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            assert torch.count_nonzero(value[~kept[name]]) == 0, name

    tokens = torch.cat([some_tokens(seed) for seed in range(8)])
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    dead_is_zero({name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None})
    optimizer.zero_grad()
    # At any step, as one number in millions comes back to where it was by chance.
    moved = {name: torch.zeros_like(flags) for name, flags in kept.items()}
    for number in range(30):
        train(model, optimizer, 1, bfloat16, first=number)
        for name, parameter in model.named_parameters():
            moved[name] |= parameter.detach() != before[name]
    for name, parameter in model.named_parameters():
        dead_is_zero({name: parameter.detach()})
        states = [value for value in optimizer.state[parameter].values() if value.shape == parameter.shape]
        assert states
        for value in states:
            dead_is_zero({name: value})
        # Weight decay moves each element that is not masked.
        assert moved[name][kept[name]].all(), name


def test_masking_twice_changes_nothing_and_a_later_mask_goes_on(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-tied"])
    first, second = random_plan(model, KINDS, 0), random_plan(model, ("ffn",), 1)
    both = CutPlan(
        stem=first.stem,
        kv_groups=first.kv_groups,
        query_heads=first.query_heads,
        ffn=tuple(np.intersect1d(one, other) for one, other in zip(first.ffn, second.ffn, strict=True)),
    )
    mask(model, first)
    once = copy.deepcopy(model.state_dict())
    mask(model, first)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())
    mask(model, both)
    for name, parameter in model.named_parameters():
        assert torch.count_nonzero(parameter[~kept_elements(model, both)[name]]) == 0


def test_a_copy_is_masked_again_to_keep_its_query_heads_dead(sources: dict[str, Path]) -> None:
    """The o columns of a query head whose key/value head lives are kept by a hook that a copy has not."""
    model = load_model(sources["llama-tied"]).train()
    plan = random_plan(model, ("query_head",), 0)
    kept = kept_elements(model, plan)["model.layers.0.self_attn.o_proj.weight"]
    mask(model, plan)
    for again in (False, True):
        copied = copy.deepcopy(model)
        if again:
            mask(copied, plan)
        train(copied, torch.optim.AdamW(copied.parameters(), lr=1e-2), 2)
        revived = torch.count_nonzero(blocks(copied)[0].o_proj.weight[~kept])
        assert (revived == 0) == again


def test_a_living_graph_is_noticed(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-tied"])
    loss = model(input_ids=some_tokens(), labels=some_tokens()).loss
    mask(model, random_plan(model, KINDS, 0))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
