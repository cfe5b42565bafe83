"""What training prunes by: per-token gates against autograd, orders and decay, state for checkpoints."""

from typing import get_args

import numpy as np
import pytest
import torch

from tests.tools.test_pruning import some_tokens, tiny_model
from tools.families import architecture_from_config
from tools.pruning.blocks import blocks, embedding
from tools.pruning.input_statistics import InputStatistics
from tools.pruning.ranking import make_ranking
from tools.pruning.recording import Recording
from tools.pruning.saliency import Saliency
from tools.pruning.saliency_meter import SaliencyMeter
from tools.pruning.sampling import EVERY_STEPS, EVERY_TOKENS, enough_seen, token_stride
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut
from tools.pruning.token_saliency import TokenSaliencyMeter
from tools.pruning.token_sequence_saliency import TokenSequenceSaliencyMeter
from tools.settings import Recipe, SaliencyName

NAMES = get_args(SaliencyName)


def test_query_and_key_identities() -> None:
    """<W_q, G> of a KV group's heads equals <W_k, G>, per head and per rotary pair (i, i + head_dim / 2)."""
    model, tokens = tiny_model(), some_tokens()
    model(input_ids=tokens, labels=tokens).loss.backward()
    for block in blocks(model):
        query = (block.q_proj.weight * block.q_proj.weight.grad).sum(1).view(2, 2, 8).sum(1)
        key = (block.k_proj.weight * block.k_proj.weight.grad).sum(1).view(2, 8)
        torch.testing.assert_close(query.sum(1), key.sum(1), rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(query[:, :4] + query[:, 4:], key[:, :4] + key[:, 4:], rtol=1e-8, atol=1e-12)


def test_the_signed_saliency_of_all_writers_of_the_stem_is_zero() -> None:
    """The norms make the model blind to the scale of the stem, so there is no global level in signed scores."""
    model, tokens = tiny_model(), some_tokens()
    looked_up: list[torch.Tensor] = []
    handle = embedding(model).register_forward_hook(
        lambda _, __, output: (output.retain_grad(), looked_up.append(output))[1]
    )
    model(input_ids=tokens, labels=tokens).loss.backward()
    handle.remove()
    total = (looked_up[0] * looked_up[0].grad).sum()
    for block in blocks(model):
        total = total + sum((writer.weight * writer.weight.grad).sum() for writer in block.stem_writers)
    assert abs(float(total.detach())) < 1e-8


def test_token_saliency_is_the_square_of_each_tokens_own_gate() -> None:
    model, tokens = tiny_model(), some_tokens()
    gates = {
        "ffn": torch.ones(2, 12, 24, dtype=torch.float64, requires_grad=True),
        "attention": torch.ones(2, 12, 4, dtype=torch.float64, requires_grad=True),
    }
    block = blocks(model)[1]
    handles = [
        block.down_proj.register_forward_pre_hook(lambda _, inputs: (inputs[0] * gates["ffn"],)),
        block.o_proj.register_forward_pre_hook(
            lambda _, inputs: (inputs[0] * gates["attention"].repeat_interleave(8, dim=2),)
        ),
    ]
    model(input_ids=tokens, labels=tokens).loss.backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    meter = TokenSaliencyMeter(model)
    detach = meter.attach()
    (model(input_ids=tokens, labels=tokens).loss / 4).backward()
    meter.observe(loss_scale=1 / 4)
    detach()
    # Gates of the summed loss: the model's own is a mean, taken over all tokens.
    ffn, heads = (24 * gates[name].grad.flatten(0, 1) for name in ("ffn", "attention"))  # type: ignore[union-attr]
    found = meter.saliency()
    np.testing.assert_allclose(found.ffn[1], 0.5 * ffn.square().mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.query_head[1], 0.5 * heads.square().mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.kv_group[1], 0.5 * heads.view(-1, 2, 2).sum(2).square().mean(0), rtol=1e-4)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("sparsely", [False, True])
def test_token_sequence_saliency_is_the_larger_of_both_for_attention(sparsely: bool) -> None:
    """Read sparsely, whole sequences of attention are: here the first of two, which stands for four such steps."""
    model, tokens = tiny_model(), some_tokens()
    gate = torch.ones(2, 12, 4, dtype=torch.float64, requires_grad=True)
    handle = blocks(model)[1].o_proj.register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * gate.repeat_interleave(8, dim=2),)
    )
    alone, both = TokenSaliencyMeter(model), TokenSequenceSaliencyMeter(model)
    ends = [alone.attach(sparsely), both.attach(sparsely)]
    model(input_ids=tokens, labels=tokens).loss.backward()
    for meter in (alone, both):
        meter.observe()
    for end in (*ends, handle.remove):
        end()
    assert gate.grad is not None
    heads_bth = 24 * gate.grad[:1] if sparsely else 24 * gate.grad
    larger = []
    for gates_bti in (heads_bth, heads_bth.view(-1, 12, 2, 2).sum(dim=3)):
        of_tokens = 0.5 * gates_bti.square().mean(dim=(0, 1))
        of_sequences = 0.5 * gates_bti.sum(dim=1).square().mean(dim=0) / 12
        assert (of_tokens > of_sequences).any() or (of_sequences > of_tokens).any()
        larger.append(torch.maximum(of_tokens, of_sequences))
    found = both.saliency()
    np.testing.assert_allclose(found.query_head[1], larger[0], rtol=1e-4)
    np.testing.assert_allclose(found.kv_group[1], larger[1], rtol=1e-4)
    np.testing.assert_array_equal(found.ffn[1], alone.saliency().ffn[1])
    np.testing.assert_array_equal(found.stem, alone.saliency().stem)
    assert both.totals()["count"].item() == (EVERY_STEPS if sparsely else 1)


def test_an_evaluation_in_between_is_not_read() -> None:
    model, tokens = tiny_model(), some_tokens()
    meter = TokenSaliencyMeter(model)
    meter.attach()
    model(input_ids=tokens, labels=tokens).loss.backward()
    meter.observe()
    before = meter.saliency()
    with torch.no_grad():
        model(input_ids=tokens)
    np.testing.assert_array_equal(meter.saliency().stem, before.stem)
    with pytest.raises(ValueError, match="call observe"):
        meter.observe()


def test_mixed_is_the_first_order_less_the_second() -> None:
    model, tokens = tiny_model(), some_tokens()
    found: dict[str, Saliency] = {}
    for order in ("first", "second", "mixed"):
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        meter = SaliencyMeter(model, order)  # type: ignore[arg-type]
        meter.observe()
        found[order] = meter.saliency()
    product = (blocks(model)[0].down_proj.weight * blocks(model)[0].down_proj.weight.grad).sum(0)
    np.testing.assert_allclose(found["mixed"].ffn[0], (product - product.square() / 2).abs().detach(), rtol=1e-5)
    np.testing.assert_allclose(found["second"].ffn[0], found["first"].ffn[0] ** 2 / 2, rtol=1e-5)


@pytest.mark.parametrize("name", ["second", "token"])
def test_decay_weighs_later_steps_more(name: SaliencyName) -> None:
    """With decay b, values s1 and s2 of two steps give (b s1 + s2) / (b + 1)."""
    model = tiny_model()

    def saliency(seeds: list[int], decay: float) -> Saliency:
        recipe = Recipe(saliency=name, saliency_decay=decay)
        ranking = make_ranking(recipe, model, InputStatistics(model), seed=0)
        detach = ranking.attach()
        for position, seed in enumerate(seeds):
            if position:
                ranking.end_step()
            model.zero_grad()
            model(input_ids=some_tokens(seed), labels=some_tokens(seed)).loss.backward()
            ranking.observe()
        detach()
        return ranking.saliency()

    first, second = saliency([1], 1.0), saliency([2], 1.0)
    for decay in (0.5, 1.0):
        found = saliency([1, 2], decay)
        np.testing.assert_allclose(found.stem, (decay * first.stem + second.stem) / (decay + 1), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_ranking_keeps_the_contract(name: SaliencyName) -> None:
    """Shapes of the live model before and after a cut, nothing negative, and the same after a restart."""
    model, tokens = tiny_model(), some_tokens()
    source = architecture_from_config(model.config)
    statistics = InputStatistics(model)
    ranking = make_ranking(Recipe(saliency=name), model, statistics, seed=3)
    stops = [statistics.attach(), ranking.attach()]
    model(input_ids=tokens, labels=tokens).loss.backward()
    ranking.observe()
    ranking.end_step()
    for stop in stops:
        stop()
    before = ranking.saliency()
    assert [len(values) for values in before.ffn] == [24, 24] and len(before.stem) == 48
    assert all(
        (values >= 0).all() and np.isfinite(values).all() for values in (*before.ffn, *before.kv_group, before.stem)
    )
    again = make_ranking(Recipe(saliency=name), model, statistics, seed=3)
    again.restore(ranking.totals())
    np.testing.assert_array_equal(again.saliency().stem, before.stem)
    shapes = [layer.model_copy(update={"intermediate_size": 10}) for layer in source.layers]
    plan = plan_cut(source, source.with_layers(shapes), before)
    cut(model, plan)
    ranking.keep(plan)
    statistics.keep(plan)
    after = ranking.saliency()
    assert [len(values) for values in after.ffn] == [10, 10]
    if name in ("first", "second", "mixed", "token", "token_sequence"):
        np.testing.assert_allclose(after.ffn[0], before.ffn[0][plan.ffn[0]], rtol=1e-6)


@pytest.mark.parametrize("limit", [None, 3, 12])
def test_tokens_that_are_read_stand_for_all(limit: int | None) -> None:
    """Whatever is read of a micro-batch, all its tokens count, and early ones weigh as much as late ones."""
    model = tiny_model()
    statistics, rows = InputStatistics(model, tokens_per_micro_batch=limit), []
    detach = statistics.attach()
    handle = blocks(model)[0].down_proj.register_forward_pre_hook(
        lambda _, inputs: rows.append(inputs[0].flatten(0, 1))
    )
    with torch.no_grad():
        for seed in range(12):
            model(input_ids=some_tokens(seed, batch=2))
    detach()
    handle.remove()
    state = statistics.state()
    assert state["tokens"].item() == pytest.approx(12 * 24)
    expected = torch.zeros(24, 24, dtype=torch.float64)
    for inputs in rows:
        read = inputs[:: token_stride(24, limit, sparsely=False)]
        expected += read.T @ read * (24 / len(read))
    torch.testing.assert_close(state["down.0"].double(), expected / (12 * 24), rtol=1e-4, atol=1e-7)


def test_strides_of_tokens() -> None:
    assert [enough_seen(seen, 1536) for seen in (0, 12_287, 12_288, 1e6)] == [False, False, True, True]
    assert token_stride(256, 64, False) == 4 and token_stride(40, 64, False) == 1
    assert token_stride(256, None, False) == 1 and token_stride(256, None, True) == EVERY_TOKENS


@pytest.mark.parametrize("name", NAMES)
def test_once_enough_is_known_every_fourth_step_is_read_and_stands_for_four(name: SaliencyName) -> None:
    """Steps in between run as dense ones do, and what was read weighs as much as if all had been."""
    model = tiny_model()
    statistics = InputStatistics(model)
    ranking = make_ranking(Recipe(saliency=name), model, statistics, seed=0)
    recording, rows, attached = Recording(ranking, statistics), [], []
    down = blocks(model)[0].down_proj

    def hooks() -> int:
        return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())

    recording.start()
    for seed in range(16):
        attached.append(hooks())
        watched = down.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].detach().flatten(0, 1)))
        tokens = some_tokens(seed, batch=2)
        model(input_ids=tokens, labels=tokens).loss.backward()
        watched.remove()
        recording.observe()
        model.zero_grad()
        recording.end_step()
    recording.stop()
    assert hooks() == 0
    # 24 tokens a step, 24 inputs: 8 steps are enough.
    read = [1] * 8 + [EVERY_STEPS if step % EVERY_STEPS == 0 else 0 for step in range(8, 16)]
    assert [bool(count) for count in attached] == [bool(weight) for weight in read]
    expected = torch.zeros(24, 24, dtype=torch.float64)
    for weight, inputs in zip(read, rows, strict=True):
        seen = inputs[::EVERY_TOKENS] if weight > 1 else inputs
        expected += weight * (seen.T @ seen) * len(inputs) / len(seen)
    state = statistics.state()
    assert state["tokens"].item() == 16 * 24
    torch.testing.assert_close(state["down.0"].double(), expected / (16 * 24), rtol=1e-4, atol=1e-7)
    counted = ranking.totals().get("count")
    assert counted is None or counted.item() == 16
