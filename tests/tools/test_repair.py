"""Optimal brain surgeon in blocks: the algebra, and the cached inverses that follow a model through many events."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.test_pruning import random_saliency, recorded_statistics, some_tokens, tiny_model
from tools.architecture import Architecture, LayerShape
from tools.families import architecture_from_config
from tools.pruning.blocks import blocks
from tools.pruning.inverse_hessian import FactoredInverse, InverseHessian
from tools.pruning.second_order import Repairer
from tools.pruning.selection import plan_cut
from tools.pruning.surgery import cut

Kind = type[InverseHessian] | type[FactoredInverse]
INVERSES: tuple[Kind, ...] = (InverseHessian, FactoredInverse)
EXACT = 1e12
"""So many tokens that damping is not raised for their number."""


def problem(seed: int, width: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs_ti = torch.randn(tokens, width, generator=generator)
    weights = torch.randn(5, width, generator=generator)
    return weights, inputs_ti.T @ inputs_ti / tokens


@pytest.mark.parametrize("kind", INVERSES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(4, 24), data=st.data())
def test_removal_is_the_least_squares_optimum(kind: Kind, seed: int, width: int, data: st.DataObject) -> None:
    """What is left equals the constrained optimum, and no other choice with the columns at zero has less error."""
    columns = torch.tensor(data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=width - 1, unique=True)))
    weights, moments = problem(seed, width, 4 * width)
    inverse = kind(moments, EXACT, damping=1e-3)
    changed = weights + inverse.remove(weights, columns)
    assert (changed[:, columns] == 0).all()
    ridge = 1e-3 * moments.diagonal().mean()
    damped = moments + ridge * torch.eye(width)
    kept = torch.ones(width, dtype=torch.bool).index_fill(0, columns, False)
    expected = torch.linalg.solve(damped[kept][:, kept], (weights @ damped)[:, kept].T).T
    torch.testing.assert_close(changed[:, kept], expected, rtol=2e-3, atol=2e-4)

    def error(candidate: torch.Tensor) -> torch.Tensor:
        difference = weights - candidate
        return torch.trace(difference @ damped @ difference.T)

    other = changed + 0.01 * torch.randn(changed.shape, generator=torch.Generator().manual_seed(seed)) * kept
    assert error(changed) <= error(other)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(4, 24), data=st.data())
def test_the_downdated_inverse_is_the_inverse_of_what_is_left(seed: int, width: int, data: st.DataObject) -> None:
    columns = torch.tensor(data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=width - 1, unique=True)))
    weights, moments = problem(seed, width, 4 * width)
    inverse = InverseHessian(moments, EXACT, damping=1e-2)
    inverse.remove(weights, columns)
    kept = np.setdiff1d(np.arange(width), columns.numpy())
    inverse.keep(kept)
    damped = moments + 1e-2 * moments.diagonal().mean() * torch.eye(width)
    torch.testing.assert_close(inverse.matrix, torch.linalg.inv(damped[kept][:, kept]), rtol=2e-3, atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), width=st.integers(6, 24), data=st.data())
def test_factors_change_weights_like_the_matrix(seed: int, width: int, data: st.DataObject) -> None:
    """Removals one after another, with cuts in between after which inputs have other numbers."""
    weights, moments = problem(seed, width, 4 * width)
    matrix, factors = InverseHessian(moments, EXACT, damping=1e-2), FactoredInverse(moments, EXACT, damping=1e-2)
    alive, gone_in_all = list(range(width)), 0
    while len(alive) > 2:
        some = st.lists(st.sampled_from(alive), min_size=1, max_size=len(alive) - 1, unique=True)
        columns = torch.tensor(sorted(data.draw(some)))
        change, same = matrix.remove(weights, columns), factors.remove(weights, columns)
        torch.testing.assert_close(same, change, rtol=1e-3, atol=1e-3)
        weights, gone_in_all = weights + change, gone_in_all + len(columns)
        gone = (weights == 0).all(dim=0)
        assert (same[:, gone & ~torch.zeros_like(gone).index_fill(0, columns, True)] == 0).all()
        alive = [place for place in alive if place not in columns.tolist()]
        if data.draw(st.booleans()):
            matrix.keep(np.array(alive))
            factors.keep(np.array(alive))
            weights, alive = weights[:, alive], list(range(len(alive)))
    assert factors.removed == gone_in_all


def test_restored_factors_go_on_bit_for_bit() -> None:
    weights, moments = problem(3, 24, 96)
    one = FactoredInverse(moments, EXACT, damping=1e-2)
    one.remove(weights, torch.arange(4))
    one.keep(np.arange(4, 24))
    stored = {name: tensor.contiguous().clone() for name, tensor in one.tensors().items()}
    other = FactoredInverse.restored(stored, torch.device("cpu"))
    for columns in (torch.tensor([3, 7]), torch.tensor([1, 9, 12])):
        assert torch.equal(one.remove(weights[:, 4:], columns), other.remove(weights[:, 4:], columns))
    assert one.removed == other.removed == 9


@pytest.mark.parametrize("kind", INVERSES)
@pytest.mark.parametrize("size", [1, 3])
def test_one_after_another_is_the_same_as_all_at_once(kind: Kind, size: int) -> None:
    weights, moments = problem(3, 24, 96)
    together = kind(moments, EXACT, damping=1e-2)
    columns = torch.arange(0, 12)
    expected = weights + together.remove(weights, columns)
    apart, changed = kind(moments, EXACT, damping=1e-2), weights.clone()
    for some in columns.split(size):
        changed += apart.remove(changed, some)
    torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", INVERSES)
def test_an_input_that_was_never_active_is_removed_without_a_trace(kind: Kind) -> None:
    weights, moments = problem(5, 8, 64)
    moments[2] = 0
    moments[:, 2] = 0
    delta = kind(moments, EXACT, damping=1e-2).remove(weights, torch.tensor([2]))
    others = [0, 1, 3, 4, 5, 6, 7]
    assert (delta[:, others] == 0).all() and torch.equal(delta[:, 2], -weights[:, 2])


def test_fewer_tokens_than_inputs_raise_the_damping() -> None:
    _, moments = problem(1, 16, 64)
    known, unknown = InverseHessian(moments, 1e6, 0.01), InverseHessian(moments, 4, 0.01)
    assert unknown.matrix.diagonal().sum() < known.matrix.diagonal().sum()


def shrunk(source: Architecture, ffn: int, hidden: int) -> Architecture:
    layers = [
        LayerShape(
            num_attention_heads=layer.num_attention_heads,
            num_key_value_heads=layer.num_key_value_heads,
            intermediate_size=ffn,
        )
        for layer in source.layers
    ]
    return Architecture(fixed=source.fixed, hidden_size=hidden, layers=tuple(layers))


@pytest.mark.parametrize("refresh", [0, 4, 1000])
def test_cached_inverses_follow_a_model_through_many_events(refresh: int) -> None:
    """With unchanged moments a cached, downdated inverse repairs like one that is made anew at each event."""
    statistics = recorded_statistics(tiny_model(), [some_tokens(seed, batch=8) for seed in range(4)])

    def repaired(refresh: int) -> list[torch.Tensor]:
        model = tiny_model()
        source = architecture_from_config(model.config)
        repairer = Repairer(model, damping=0.1, refresh=refresh)
        moments, current = dict(statistics), source
        for ffn, hidden in ((22, 32), (20, 30), (17, 28)):
            target = shrunk(source, ffn, hidden)
            plan = plan_cut(current, target, random_saliency(current, ffn))
            for change in repairer.changes(plan, moments):
                change.apply()
            cut(model, plan)
            repairer.keep(plan)
            moments = follow(moments, plan, len(source.layers))
            current = target
        return [parameter.detach() for parameter in model.parameters()]

    for one, other in zip(repaired(refresh), repaired(0), strict=True):
        # Damping is a share of the mean diagonal, which a cached inverse takes from before its removals.
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def follow(moments: dict[str, torch.Tensor], plan: object, depth: int) -> dict[str, torch.Tensor]:
    """The moments of the inputs that stay."""
    from tools.pruning.selection import CutPlan

    assert isinstance(plan, CutPlan)
    followed = dict(moments)
    for index in range(depth):
        for name, kept in (
            ("down", plan.ffn[index]),
            ("attention_input", plan.stem),
            ("ffn_input", plan.stem),
        ):
            followed[f"{name}.{index}"] = moments[f"{name}.{index}"][kept][:, kept]
    for name in moments:
        if name.startswith("stem."):
            followed[name] = moments[name][plan.stem]
    return followed


def test_readers_of_the_stem_stand_in_for_lost_channels() -> None:
    """The outputs of q, k, v, gate and up stay nearer to what they were than without repair."""
    tokens = some_tokens(1, batch=8)

    def outputs(repair: bool) -> list[torch.Tensor]:
        model = tiny_model()
        source = architecture_from_config(model.config)
        plan = plan_cut(source, shrunk(source, 24, 26), random_saliency(source, 4))
        if repair:
            statistics = recorded_statistics(model, [tokens])
            for change in Repairer(model, damping=0.01).changes(plan, statistics):
                change.apply()
        cut(model, plan)
        return first_outputs(model, tokens)

    expected = first_outputs(tiny_model(), tokens)
    for with_repair, without, whole in zip(outputs(True), outputs(False), expected, strict=True):
        assert (with_repair - whole).norm() < (without - whole).norm()


def first_outputs(model: torch.nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    """What q and v of the first block give: the stem there is the embedding alone."""
    found: list[torch.Tensor] = []
    block = blocks(model)[0]
    handles = [
        linear.register_forward_hook(lambda _, __, output: found.append(output.detach()))
        for linear in (block.q_proj, block.v_proj)
    ]
    with torch.no_grad():
        model(input_ids=tokens)
    for handle in handles:
        handle.remove()
    return found
