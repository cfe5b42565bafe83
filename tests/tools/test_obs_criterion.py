"""Optimal brain surgeon as a criterion: its errors are what removal costs, one by one and greedily."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.pruning.criteria.obs import block_errors, greedy_errors
from tools.pruning.inverse_hessian import InverseHessian

DAMPING = 0.1


def joint_error(weight: torch.Tensor, inverse: torch.Tensor, columns: list[int]) -> float:
    """tr(W_Q S^-1 W_Q^T) in float64."""
    own = torch.linalg.inv(inverse[columns][:, columns])
    return float(torch.trace(weight[:, columns] @ own @ weight[:, columns].T))


def layer_of(seed: int, width: int) -> tuple[torch.Tensor, torch.Tensor, InverseHessian]:
    """Random weights [5, width], the damped Hessian of correlated inputs, and its inverse."""
    generator = torch.Generator().manual_seed(seed)
    inputs_ti = torch.randn(40, width, generator=generator) @ torch.randn(width, width, generator=generator)
    moments = inputs_ti.T @ inputs_ti / 40
    weight = torch.randn(5, width, generator=generator)
    share = DAMPING * (1 + width / 40)
    damped = moments + share * moments.diagonal().mean() * torch.eye(width)
    return weight, damped.double(), InverseHessian(moments, 40, DAMPING)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([1, 2, 3]), count=st.integers(2, 5))
def test_obs_error_is_what_removal_costs(seed: int, size: int, count: int) -> None:
    """The least squared error of the layer's output over all weights whose removed columns are zero."""
    width = size * count
    weight, hessian, inverse = layer_of(seed, width)
    found = block_errors(weight, inverse.matrix, size)
    for run in range(count):
        removed = list(range(run * size, (run + 1) * size))
        kept = [column for column in range(width) if column not in removed]
        best = torch.zeros(5, width, dtype=torch.float64)
        solved = torch.linalg.solve(hessian[kept][:, kept], (weight.double() @ hessian[:, kept]).T)
        best[:, kept] = solved.T
        difference = weight.double() - best
        assert float(found[run]) == pytest.approx(
            float(torch.trace(difference @ hessian @ difference.T)), rel=2e-3, abs=1e-4
        )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), size=st.sampled_from([1, 2]), count=st.integers(2, 6))
def test_greedy_obs_goes_by_joint_errors(seed: int, size: int, count: int) -> None:
    """At every step the group whose removal, on top of those that went before, costs the least."""
    weight, hessian, inverse = layer_of(seed, size * count)
    exact = torch.linalg.inv(hessian)
    found = greedy_errors(weight, inverse, size)
    gone: list[int] = []
    before = highest = 0.0
    for run in torch.argsort(found, stable=True).tolist():
        costs = {}
        for other in range(count):
            columns = list(range(other * size, (other + 1) * size))
            if columns[0] not in gone:
                costs[other] = joint_error(weight.double(), exact, gone + columns) - before
        highest = max(highest, min(costs.values()))
        assert costs[run] == pytest.approx(min(costs.values()), rel=5e-3, abs=1e-3)
        assert float(found[run]) == pytest.approx(highest, rel=5e-3, abs=1e-3)
        before += costs[run]
        gone += list(range(run * size, (run + 1) * size))


def test_greedy_obs_spares_the_last_of_two_twins() -> None:
    """Either of two equal channels is cheap while the other is there; only one of them may go."""
    generator = torch.Generator().manual_seed(0)
    inputs_ti = torch.randn(400, 80, generator=generator)
    inputs_ti[:, 1] = inputs_ti[:, 0]
    weight = torch.ones(3, 80)
    weight[:, :2] = 2.0

    def inverse() -> InverseHessian:
        return InverseHessian(inputs_ti.T @ inputs_ti / 400, 400, 0.001)

    alone = block_errors(weight, inverse().matrix, 1)
    assert set(torch.argsort(alone)[:2].tolist()) == {0, 1}
    greedy = torch.argsort(greedy_errors(weight, inverse(), 1)).tolist()
    assert {greedy[0], greedy[-1]} == {0, 1}
