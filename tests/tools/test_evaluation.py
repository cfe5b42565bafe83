"""Evaluation: the loss against a plain computation, and the timing of models whose layers differ."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from tools.architecture import Architecture, LayerShape
from tools.evaluation.edge import decode_latency
from tools.evaluation.perplexity import block_losses, validation_loss
from tools.sources import architecture_from_config, load_model

Cut = Callable[[PreTrainedModel, Architecture, Architecture], None]

BLOCKS = np.random.default_rng(3).integers(0, 320, (7, 24), dtype=np.int32)


def plain_loss(model: PreTrainedModel) -> float:
    """Block by block and token by token, in float64 at the end."""
    losses = []
    for block in BLOCKS:
        tokens = torch.from_numpy(block).long()
        with torch.no_grad():
            probabilities = F.log_softmax(model(tokens[None]).logits[0].double(), dim=-1)
        losses += [-float(probabilities[position, tokens[position + 1]]) for position in range(len(block) - 1)]
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("family", ["llama-tied", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_loss_is_the_mean_over_predicted_tokens(sources: dict[str, Path], family: str, batch_size: int) -> None:
    model = load_model(sources[family])
    model.train()
    loss = validation_loss(model, BLOCKS, batch_size)
    assert model.training
    model.eval()
    assert loss == pytest.approx(plain_loss(model), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_block_has_the_loss_that_it_has_alone(sources: dict[str, Path], batch_size: int) -> None:
    model = load_model(sources["llama-tied"])
    losses = block_losses(model, BLOCKS, batch_size)
    alone = [validation_loss(model, BLOCKS[number : number + 1]) for number in range(len(BLOCKS))]
    assert losses.shape == (len(BLOCKS),) and losses.tolist() == pytest.approx(alone, rel=1e-5)
    assert validation_loss(model, BLOCKS, batch_size) == losses.mean()


def test_loss_of_a_uniform_model_is_the_logarithm_of_the_vocabulary(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-untied"])
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    assert validation_loss(model, BLOCKS, 4) == pytest.approx(math.log(320), rel=1e-6)


def test_bfloat16_is_close_and_really_used(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-untied"])
    exact, rounded = (validation_loss(model, BLOCKS, 4, precision) for precision in ("float32", "bfloat16"))
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)
    assert model.dtype == torch.float32


def test_loss_that_is_not_finite_is_returned_and_no_blocks_are_an_error(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-untied"])
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    assert math.isnan(validation_loss(model, BLOCKS, 4))
    with pytest.raises(ValueError, match="no token to predict"):
        validation_loss(model, BLOCKS[:0], 4)


def test_latency_of_layers_that_differ(sources: dict[str, Path], cut_by_hand: Cut) -> None:
    path = sources["llama-tied"]
    source = architecture_from_config(json.loads((path / "config.json").read_text()))
    shapes = [(4, 2, 40), (4, 4, 96), (2, 1, 8)]
    layers = [
        LayerShape(num_attention_heads=heads, num_key_value_heads=groups, intermediate_size=ffn)
        for heads, groups, ffn in shapes
    ]
    model = load_model(path)
    cut_by_hand(model, source, source.model_copy(update={"hidden_size": 52, "layers": tuple(layers)}))
    lengths: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, arguments, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    latency = decode_latency(model, prompt_length=10, new_tokens=3, repeats=2)
    hook.remove()
    assert lengths == [10, 1, 1, 1] * 3  # one repeat to warm up
    assert 0 < latency.minimum_ms <= latency.median_ms <= latency.maximum_ms
    assert latency.prefill_ms > 0
    assert latency.threads == torch.get_num_threads()
    # With the cache, the last token's logits are those of the whole text at once.
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        cache = model(tokens[:, :11], use_cache=True).past_key_values
        step = model(tokens[:, 11:], past_key_values=cache).logits[0, -1]
        assert torch.allclose(step, model(tokens).logits[0, -1], atol=1e-5)
