"""The algebra of pruning: Taylor identities, repair against least squares, cutting against masking, the optimiser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tools.architecture import Architecture, FixedShape, LayerShape
from tools.errors import InputError
from tools.families import architecture_from_config
from tools.pruning.blocks import blocks, embedding, stem_norms
from tools.pruning.groups import ffn_channel_parameters, kv_group_parameters, stem_channel_parameters
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.saliency import Saliency
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.second_order import repair
from tools.pruning.selection import CutPlan, head_channels, plan_cut
from tools.pruning.surgery import cut
from tools.sources import load_model


def tiny_model(heads: int = 4, kv_heads: int = 2, layers: int = 2, seed: int = 0) -> PreTrainedModel:
    """A random float64 Llama, so that identities can be checked to rounding."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=8,
        tie_word_embeddings=True,
        rms_norm_eps=1e-12,
    )
    model = LlamaForCausalLM(config).double()
    with torch.no_grad():
        for norm in stem_norms(model):
            norm.get_parameter("weight").uniform_(0.5, 1.5)
    return model


def some_tokens(seed: int = 1, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 61, (batch, 12), generator=torch.Generator().manual_seed(seed))


def random_saliency(architecture: Architecture, seed: int) -> Saliency:
    rng = np.random.default_rng(seed)

    def values(width: int) -> np.ndarray:
        return rng.random(width).astype(np.float32)

    return Saliency(
        kv_group=tuple(values(layer.num_key_value_heads) for layer in architecture.layers),
        query_head=tuple(values(layer.num_attention_heads) for layer in architecture.layers),
        ffn=tuple(values(layer.intermediate_size) for layer in architecture.layers),
        stem=values(architecture.hidden_size),
    )


def test_taylor_identities() -> None:
    """The inner products that saliency reads are the derivatives of gates on the activations."""
    model = tiny_model()
    tokens = some_tokens()
    block = blocks(model)[0]
    ffn_gate = torch.ones(24, dtype=torch.float64, requires_grad=True)
    head_gate = torch.ones(4, dtype=torch.float64, requires_grad=True)
    norm_gate = torch.ones(48, dtype=torch.float64, requires_grad=True)
    handles = [
        block.down_proj.register_forward_pre_hook(lambda _, inputs: (inputs[0] * ffn_gate,)),
        block.o_proj.register_forward_pre_hook(lambda _, inputs: (inputs[0] * head_gate.repeat_interleave(8),)),
        block.ffn_norm.register_forward_hook(lambda _m, _i, output: output * norm_gate),
    ]
    model(input_ids=tokens, labels=tokens).loss.backward()
    for handle in handles:
        handle.remove()

    def product(weight: torch.Tensor) -> torch.Tensor:
        assert weight.grad is not None
        return weight.detach() * weight.grad

    tolerance = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(product(block.down_proj.weight).sum(0), ffn_gate.grad, **tolerance)
    torch.testing.assert_close(product(block.up_proj.weight).sum(1), ffn_gate.grad, **tolerance)
    torch.testing.assert_close(product(block.o_proj.weight).sum(0).view(4, 8).sum(1), head_gate.grad, **tolerance)
    value_side = product(block.v_proj.weight).sum(1).view(2, 8).sum(1)
    torch.testing.assert_close(value_side, head_gate.grad.view(2, 2).sum(1), **tolerance)
    gain = block.ffn_norm.get_parameter("weight")
    torch.testing.assert_close(product(gain), norm_gate.grad, **tolerance)
    readers = product(block.gate_proj.weight).sum(0) + product(block.up_proj.weight).sum(0)
    torch.testing.assert_close(readers, product(gain), **tolerance)


@pytest.mark.parametrize("order", ["first", "second"])
def test_accumulated_gradients_give_the_saliency_of_single_micro_batches(order: str) -> None:
    model = tiny_model()
    separate = SaliencyMeter(model, order)  # type: ignore[arg-type]
    together = SaliencyMeter(model, order)  # type: ignore[arg-type]
    batches = [some_tokens(seed) for seed in range(3)]
    for tokens in batches:
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        separate.observe()
        separate.end_step()
    model.zero_grad()
    for tokens in batches:
        (model(input_ids=tokens, labels=tokens).loss / 3).backward()
        together.observe(loss_scale=1 / 3)
    # The inner products are kept in float32.
    for one, other in zip(separate.saliency().ffn, together.saliency().ffn, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-9)
    np.testing.assert_allclose(separate.saliency().stem, together.saliency().stem, rtol=2e-3, atol=1e-9)


def test_saliency_survives_the_disk(tmp_path: Path) -> None:
    saliency = random_saliency(architecture_from_config(tiny_model().config), 3)
    saliency.save(tmp_path / "saliency.safetensors")
    loaded = Saliency.load(tmp_path / "saliency.safetensors")
    np.testing.assert_array_equal(loaded.stem, saliency.stem)
    for one, other in zip(loaded.query_head, saliency.query_head, strict=True):
        np.testing.assert_array_equal(one, other)


def test_group_sizes_match_the_paper() -> None:
    """One event of each type on SmolLM-1.7B (one group from each of 24 layers) frees what the paper's figures imply."""
    fixed = FixedShape(model_type="llama", vocab_size=49152, head_dim=64, tie_word_embeddings=True)
    layer = LayerShape(num_attention_heads=32, num_key_value_heads=32, intermediate_size=8192)
    source = Architecture(fixed=fixed, hidden_size=2048, layers=(layer,) * 24)
    assert source.parameters == 1_711_376_384
    assert 24 * ffn_channel_parameters(source) == 147_456
    assert 24 * kv_group_parameters(source, 0) == 12_582_912
    assert stem_channel_parameters(source) == 835_633


def masked_logits(model: PreTrainedModel, plan: CutPlan, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the uncut model whose removed attention channels and FFN channels are multiplied by zero."""
    handles = []
    for index, block in enumerate(blocks(model)):
        for linear, keep in (
            (block.o_proj, head_channels(plan.query_heads[index], block.head_dim)),
            (block.down_proj, plan.ffn[index]),
        ):
            mask = torch.zeros(linear.in_features, dtype=linear.weight.dtype)
            mask[torch.as_tensor(keep)] = 1.0
            handles.append(linear.register_forward_pre_hook(lambda _, inputs, mask=mask: (inputs[0] * mask,)))
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=tokens).logits
    for handle in handles:
        handle.remove()
    return logits


@settings(max_examples=25, deadline=None)
@given(data=st.data(), kv_heads=st.sampled_from([1, 2, 4]), ratio=st.sampled_from([1, 2, 3]))
def test_cut_model_gives_the_masked_models_logits(data: st.DataObject, kv_heads: int, ratio: int) -> None:
    model = tiny_model(heads=kv_heads * ratio, kv_heads=kv_heads)
    source = architecture_from_config(model.config)
    layers = []
    for _ in source.layers:
        groups = data.draw(st.integers(1, kv_heads))
        heads = groups * data.draw(st.integers(1, ratio))
        ffn = data.draw(st.integers(1, 24))
        layers.append(LayerShape(num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=ffn))
    target = source.with_layers(layers)
    plan = plan_cut(source, target, random_saliency(source, data.draw(st.integers(0, 99))))
    tokens = some_tokens()
    expected = masked_logits(model, plan, tokens)
    cut(model, plan)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, rtol=1e-9, atol=1e-11)
    assert sum(parameter.numel() for parameter in model.parameters()) == target.parameters


def test_stem_cut_of_dead_channels_changes_nothing() -> None:
    """Channels that are zero everywhere may go, once the gains make up for the smaller RMSNorm denominator."""
    model = tiny_model()
    source = architecture_from_config(model.config)
    keep = np.array([i for i in range(48) if i % 4])
    dead = torch.as_tensor([i for i in range(48) if i % 4 == 0])
    with torch.no_grad():
        embedding(model).weight[:, dead] = 0
        for block in blocks(model):
            for writer in block.stem_writers:
                writer.weight[dead] = 0
    tokens = some_tokens()
    statistics = recorded_statistics(model, [tokens])
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    every = plan_cut(source, source, random_saliency(source, 0))
    plan = CutPlan(stem=keep, kv_groups=every.kv_groups, query_heads=every.query_heads, ffn=every.ffn)
    repair(model, plan, statistics, damping=0.01)
    cut(model, plan)
    with torch.no_grad():
        # The statistics are float32.
        torch.testing.assert_close(model(input_ids=tokens).logits, expected, rtol=1e-4, atol=1e-6)


def recorded_statistics(model: PreTrainedModel, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    statistics = InputStatistics(model, tokens_per_micro_batch=10_000)
    detach = statistics.attach()
    with torch.no_grad():
        for tokens in batches:
            model(input_ids=tokens)
    detach()
    return statistics.state()


def test_repair_is_the_ridge_regression_optimum() -> None:
    """W_K + W_S H_SK (H_KK + lambda I)^-1 minimises ||W X - W' X_K||^2 + lambda ||W' - W_K||^2."""
    model = tiny_model()
    batches = [some_tokens(seed, batch=8) for seed in range(4)]
    block = blocks(model)[0]
    inputs: list[torch.Tensor] = []
    handle = block.down_proj.register_forward_pre_hook(lambda _, args: inputs.append(args[0].flatten(0, 1)))
    statistics = recorded_statistics(model, batches)
    handle.remove()
    x_ti = torch.cat(inputs)
    source = architecture_from_config(model.config)
    shapes = [layer.model_copy(update={"intermediate_size": 15}) for layer in source.layers]
    plan = plan_cut(source, source.with_layers(shapes), random_saliency(source, 5))
    keep = torch.as_tensor(plan.ffn[0])
    weight = block.down_proj.weight.detach().clone()
    damping, tokens = 0.01, len(x_ti)
    repair(model, plan, statistics, damping)
    moments = x_ti.T @ x_ti / tokens
    ridge = damping * (1 + 24 / tokens) * moments.diagonal().mean()
    target = (weight @ x_ti.T) @ x_ti[:, keep] / tokens + ridge * weight[:, keep]
    expected = target @ torch.linalg.inv(moments[keep][:, keep] + ridge * torch.eye(15, dtype=torch.float64))
    torch.testing.assert_close(block.down_proj.weight[:, keep].detach(), expected, rtol=1e-4, atol=1e-6)


def test_repair_lowers_the_layers_error() -> None:
    model = tiny_model()
    batches = [some_tokens(seed, batch=8) for seed in range(4)]
    block = blocks(model)[0]
    statistics = recorded_statistics(model, batches)
    moments = statistics["down.0"].double()
    source = architecture_from_config(model.config)
    shapes = [layer.model_copy(update={"intermediate_size": 12}) for layer in source.layers]
    plan = plan_cut(source, source.with_layers(shapes), random_saliency(source, 5))
    before = block.down_proj.weight.detach().clone()

    def error(kept: torch.Tensor) -> float:
        difference = before.clone()
        difference[:, torch.as_tensor(plan.ffn[0])] -= kept
        return float(torch.trace(difference @ moments @ difference.T))

    without = error(before[:, torch.as_tensor(plan.ffn[0])])
    repair(model, plan, statistics, damping=0.01)
    assert error(block.down_proj.weight[:, torch.as_tensor(plan.ffn[0])].detach()) < without


def test_optimiser_moments_follow_their_parameters() -> None:
    """Training after a cut moves the Parameters that the optimiser holds, with the moments of what was kept."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = some_tokens()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    block = blocks(model)[1]
    identity, moment = id(block.down_proj.weight), optimizer.state[block.down_proj.weight]["exp_avg"].clone()
    source = architecture_from_config(model.config)
    shape = LayerShape(num_attention_heads=2, num_key_value_heads=1, intermediate_size=10)
    target = Architecture(fixed=source.fixed, hidden_size=28, layers=(shape, shape))
    plan = plan_cut(source, target, random_saliency(source, 2))
    cut(model, plan, [optimizer])
    assert id(block.down_proj.weight) == identity
    kept = moment[torch.as_tensor(plan.stem)][:, torch.as_tensor(plan.ffn[1])]
    torch.testing.assert_close(optimizer.state[block.down_proj.weight]["exp_avg"], kept)
    old = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, old[name])]
    assert moved == list(old)


@pytest.fixture(params=["llama-tied", "llama-untied", "llama-biases", "mistral", "qwen2", "qwen3"])
def family(request: pytest.FixtureRequest, sources: dict[str, Path]) -> Iterator[Path]:
    yield sources[request.param]


def test_every_family_can_be_cut_in_all_three_ways(family: Path) -> None:
    model = load_model(family)
    source = architecture_from_config(model.config)
    layers = [
        LayerShape(
            num_attention_heads=layer.num_attention_heads // layer.num_key_value_heads,
            num_key_value_heads=1,
            intermediate_size=40 + 8 * index,
        )
        for index, layer in enumerate(source.layers)
    ]
    target = Architecture(fixed=source.fixed, hidden_size=48, layers=tuple(layers))
    meter = SaliencyMeter(model)
    statistics = InputStatistics(model)
    detach = statistics.attach()
    tokens = torch.randint(0, 300, (2, 16), generator=torch.Generator().manual_seed(0))
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    detach()
    meter.observe()
    plan = plan_cut(source, target, meter.saliency())
    del loss
    repair(model, plan, statistics.state(), damping=0.3)
    cut(model, plan)
    assert sum(parameter.numel() for parameter in model.parameters()) == target.parameters
    after = model(input_ids=tokens, labels=tokens).loss
    after.backward()
    assert torch.isfinite(after)


def test_a_design_that_is_no_part_of_the_source_is_refused() -> None:
    source = architecture_from_config(tiny_model().config)
    wider = [layer.model_copy(update={"intermediate_size": 25}) for layer in source.layers]
    with pytest.raises(InputError, match="Layer 0 of the design is larger"):
        plan_cut(source, source.with_layers(wider), random_saliency(source, 0))
