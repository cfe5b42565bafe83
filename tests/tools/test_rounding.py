"""Stochastic rounding to bfloat16: exact on average, idle on the grid, the same each time."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluation.perplexity import validation_loss
from tools.rounding import in_dtype, round_weights, rounded_weights
from tools.sources import load_model

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).filter(
    lambda value: abs(value) < 1e38
)


def random_blocks(count: int, length: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng(0).integers(0, 300, (count, length), dtype=np.int32)


@given(NUMBERS, st.text(max_size=8))
def test_a_number_goes_to_one_of_its_neighbours_and_a_neighbour_stays(value: float, name: str) -> None:
    found = in_dtype(name, torch.tensor([value]), torch.bfloat16).float()
    # bfloat16 has 7 bits of fraction: neighbours are 2^-7 of the power of two below them apart.
    step = 2.0 ** (math.frexp(value)[1] - 8)
    assert abs(found.item() - value) < max(step, 2e-38)
    assert torch.equal(in_dtype("another", found, torch.bfloat16).float(), found)


def test_it_is_exact_on_average_where_the_nearest_is_not() -> None:
    """A weight that training moved by a tenth of a step: the nearest is where it was before."""
    moved = torch.full((100_000,), 1.0 + 0.1 / 128)
    assert (moved.bfloat16() == 1).all()
    rounded = in_dtype("weight", moved, torch.bfloat16).double()
    # Five standard deviations of the mean of so many draws.
    assert rounded.mean().item() == pytest.approx(moved[0].item(), abs=5 * 0.3 / 128 / math.sqrt(len(moved)))
    assert set(rounded.tolist()) == {1.0, 1.0 + 1 / 128}
    assert in_dtype("weight", -moved, torch.bfloat16).tolist() == (-rounded).tolist()


def test_a_name_seeds_it() -> None:
    weights = torch.randn(64, 64)
    first = in_dtype("one", weights, torch.bfloat16)
    assert torch.equal(first, in_dtype("one", weights.clone(), torch.bfloat16))
    assert not torch.equal(first, in_dtype("two", weights, torch.bfloat16))
    assert torch.equal(first[:, :32].isfinite(), torch.ones(64, 32, dtype=torch.bool))


def test_other_types_are_rounded_to_nearest() -> None:
    weights = torch.randn(64, 64)
    assert torch.equal(in_dtype("w", weights, torch.float16), weights.half())
    assert torch.equal(in_dtype("w", weights, torch.float32), weights)
    assert torch.equal(in_dtype("w", weights.double(), torch.bfloat16), weights.bfloat16())
    assert torch.equal(in_dtype("w", weights.bfloat16(), torch.bfloat16), weights.bfloat16())


def test_what_is_not_finite_stays_so() -> None:
    odd = in_dtype("w", torch.tensor([math.inf, -math.inf, math.nan]), torch.bfloat16)
    assert odd[0] == math.inf and odd[1] == -math.inf and odd[2].isnan()


def test_a_whole_model_is_rounded_in_place(sources: dict[str, Path]) -> None:
    model = load_model(sources["llama-tied"])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    round_weights(model)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, in_dtype(name, before[name], torch.bfloat16).float()), name
    assert model.get_submodule("lm_head").weight is model.get_submodule("model.embed_tokens").weight


def test_rounding_for_a_while_leaves_the_model_as_it_was(sources: dict[str, Path]) -> None:
    model = load_model(sources["qwen3"])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with pytest.raises(KeyError), rounded_weights(model):
        assert all(torch.equal(one, one.bfloat16().float()) for one in model.parameters())
        assert not all(torch.equal(one, before[name]) for name, one in model.named_parameters())
        raise KeyError
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())


def test_it_keeps_a_short_training_of_a_source_in_bfloat16(sources: dict[str, Path]) -> None:
    """Each weight moves by a quarter of a step at most: products in bfloat16 round nearly all of that away."""
    model, blocks = load_model(sources["llama-tied"]), random_blocks(16, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    before = validation_loss(model, blocks)
    tokens = torch.from_numpy(blocks).long()
    model(input_ids=tokens, labels=tokens).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= parameter.abs() * parameter.grad.sign() / 1024
    gained = before - validation_loss(model, blocks)
    nearest = before - validation_loss(model, blocks, precision="bfloat16")
    with rounded_weights(model):
        stochastic = before - validation_loss(model, blocks, precision="bfloat16")
    assert gained > 0 and nearest < 0.3 * gained and stochastic == pytest.approx(gained, rel=0.2)
