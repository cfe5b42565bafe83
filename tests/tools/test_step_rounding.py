"""Weights that are rounded for a step: what is read, what stays, and that short trainings in bfloat16 gain from it."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tools.pretraining.compute import Compute
from tools.pretraining.step_rounding import StepRounding
from tools.pretraining.trainer import Trainer
from tools.settings import Recipe
from tools.sources import load_model

BLOCKS: npt.NDArray[np.int32] = np.random.default_rng(0).integers(0, 300, (48, 24)).astype(np.int32)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def on_the_grid(tensor: torch.Tensor) -> bool:
    return torch.equal(tensor, tensor.bfloat16().float())


@pytest.mark.parametrize("family", ["llama-tied", "qwen2", "llama-biases"])
def test_linear_layers_are_rounded_and_come_back(sources: dict[str, Path], family: str) -> None:
    model = load_model(sources[family])
    before, parameters = weights_of(model), dict(model.named_parameters())
    linear = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        for own, _ in module.named_parameters()
    }
    with pytest.raises(KeyError), StepRounding(model, 0).at(3):
        assert dict(model.named_parameters()).keys() == parameters.keys()
        for name, parameter in model.named_parameters(remove_duplicate=False):
            assert on_the_grid(parameter) == (name in linear or model.get_parameter("lm_head.weight") is parameter)
            largest = (parameter - before.get(name, parameter)).abs().max()
            assert largest <= parameter.abs().max() / 128, "a step of the grid at most"
        raise KeyError
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name] and torch.equal(parameter, before[name])


def test_gradients_are_those_at_the_rounded_weights(sources: dict[str, Path]) -> None:
    """In the Parameters, summed over backward passes; a copy with these weights has the same."""
    model, tokens = load_model(sources["llama-tied"]), torch.from_numpy(BLOCKS[:2]).long()
    with StepRounding(model, 0).at(0):
        reference = copy.deepcopy(model)
        for one in (model, reference):
            for _ in range(2):
                one(input_ids=tokens, labels=tokens).loss.backward()
    pairs = zip(model.parameters(), reference.parameters(), strict=True)
    assert all(one.grad is not None and torch.equal(one.grad, other.grad) for one, other in pairs)


def test_the_seed_and_the_step_decide(sources: dict[str, Path]) -> None:
    def rounded(model: PreTrainedModel, seed: int, step: int) -> torch.Tensor:
        with StepRounding(model, seed).at(step):
            return model.get_parameter("model.layers.0.mlp.up_proj.weight").detach().clone()

    model = load_model(sources["llama-tied"])
    first = rounded(model, 0, 5)
    assert torch.equal(first, rounded(load_model(sources["llama-tied"]), 0, 5))
    assert not torch.equal(first, rounded(model, 0, 6)) and not torch.equal(first, rounded(model, 1, 5))


def test_the_mean_over_steps_is_the_weight() -> None:
    layer = nn.Linear(64, 48)
    rounding, total, steps = StepRounding(layer, 0), torch.zeros(48, 64, dtype=torch.float64), 400
    for step in range(steps):
        with rounding.at(step):
            total += layer.weight
    # Steps of the grid below 1/8, the largest weight, are 2^-10; an error of one is uniform at worst.
    assert (total / steps - layer.weight).abs().max() < 6 * 2**-10 / 2 / steps**0.5


def test_errors_of_a_product_are_those_of_independent_draws() -> None:
    """Row and column share random numbers, and yet errors do not add up along either."""
    layer = nn.Linear(256, 256, bias=False)
    rounding, rows, columns, single = StepRounding(layer, 0), [], [], []
    for step in range(300):
        with rounding.at(step):
            found = layer.weight.detach().clone()
        error = found - layer.weight.detach()
        rows.append(error.sum(dim=1))
        columns.append(error.sum(dim=0))
        single.append(error.square().sum())
    variance = torch.stack(single).mean() / 256
    for sums in (rows, columns):
        assert torch.stack(sums).square().mean().item() == pytest.approx(variance.item(), rel=0.1)


def test_zeros_of_a_mask_stay_and_shapes_may_change() -> None:
    layer = nn.Linear(16, 8)
    rounding = StepRounding(layer, 0)
    with torch.no_grad():
        layer.weight[3:5] = 0.0
        layer.weight[:, 2] = -0.0
    with rounding.at(0):
        assert torch.count_nonzero(layer.weight[3:5]) == torch.count_nonzero(layer.weight[:, 2]) == 0
    kept = layer.weight.data[:, 4:]
    layer.weight.data = kept
    with rounding.at(1):
        assert layer.weight.shape == (8, 12) and on_the_grid(layer.weight)
    assert torch.equal(layer.weight.data, kept)


def test_small_steps_end_where_they_should() -> None:
    """Targets a tenth of a step of the grid away from weights on it: the nearest never sees that they are reached."""
    target = torch.linspace(1, 2, 64)[:, None].bfloat16().float() + 0.1 / 128

    def trained(rounding: StepRounding | None, layer: nn.Linear) -> float:
        optimizer = torch.optim.AdamW(layer.parameters(), 0.2 / 128 / 24, (0.9, 0.95), weight_decay=0.0)
        for step in range(24):
            reading = nullcontext() if rounding is None else rounding.at(step)
            with reading, torch.autocast("cpu", torch.bfloat16):
                loss = (layer(torch.eye(1)).float()[0] - target[:, 0]).square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return (layer.weight - target).abs().mean().item()

    def on_grid() -> nn.Linear:
        layer = nn.Linear(1, 64, bias=False)
        layer.weight.data = target - 0.1 / 128
        return layer

    nearest, layer = trained(None, on_grid()), on_grid()
    assert trained(StepRounding(layer, 0), layer) < 0.5 * nearest


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_reads_rounded_weights_in_bfloat16_only(
    sources: dict[str, Path], precision: Literal["float32", "bfloat16"]
) -> None:
    model, seen = load_model(sources["llama-tied"]), []
    weight = model.get_parameter("model.layers.1.self_attn.q_proj.weight")

    class Reader:
        def observe(self, loss_scale: float = 1.0) -> None:
            seen.append(weight.detach().clone())

        def end_step(self) -> None:
            assert not on_the_grid(weight), "what is trained is never rounded"

    recipe = Recipe(batch_size=2, micro_batch_size=1)
    trainer = Trainer(model, BLOCKS, recipe, Compute("cpu", precision), seed=0)
    trainer.look(1, "looking", lambda *_: None, Reader())
    trainer.train(2, "training", lambda *_: None, Reader())
    assert [on_the_grid(found) for found in seen] == [precision == "bfloat16"] * 6
    assert torch.equal(seen[0], seen[1]), "micro-batches of a step read the same"
    assert torch.equal(seen[0], seen[2]), "the step that comes after a look is that of the same batch"
    assert not torch.equal(seen[3], seen[4])
