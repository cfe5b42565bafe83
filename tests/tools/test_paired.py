"""Differences on the same blocks: their error, and the one block that makes them."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.evaluation.paired import PairedDifference, paired_difference
from tools.pretraining.looks import warning_of_outlier

Blocks = list[tuple[float, float]]
BLOCKS = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), min_size=2, max_size=40)


@given(BLOCKS)
def test_mean_and_error_are_those_of_the_differences(blocks: Blocks) -> None:
    losses, others = zip(*blocks, strict=True)
    found = paired_difference(losses, others)
    differences = [one - other for one, other in blocks]
    assert found is not None and found.error is not None
    assert found.mean == pytest.approx(statistics.fmean(differences), abs=1e-9)
    assert found.error == pytest.approx(statistics.stdev(differences) / math.sqrt(len(blocks)), abs=1e-9)


@given(BLOCKS, st.lists(st.floats(-30, 30), min_size=40, max_size=40))
def test_how_hard_a_block_is_plays_no_part(blocks: Blocks, harder: list[float]) -> None:
    losses, others = zip(*blocks, strict=True)
    shifted = [
        [value + more for value, more in zip(side, harder, strict=False)] for side in (list(losses), list(others))
    ]
    one, other = paired_difference(losses, others), paired_difference(*shifted)
    assert one is not None and other is not None
    assert one.mean == pytest.approx(other.mean, abs=1e-9)
    assert one.error == pytest.approx(other.error, abs=1e-9)


@pytest.mark.parametrize("count", [8, 16, 64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_block_that_makes_a_difference_is_named(count: int, sign: int) -> None:
    generator = np.random.default_rng(count)
    others = generator.uniform(1, 6, count)
    losses = others + generator.normal(0.01, 0.04, count)
    usual = paired_difference(losses.tolist(), others.tolist())
    assert usual is not None and (usual.outlier, usual.mean_without) == (None, None)
    losses[5] += 2.1 * sign
    found = paired_difference(losses.tolist(), others.tolist())
    assert found is not None
    if count < 16:
        assert found.outlier is None
    else:
        rest = np.delete(losses - others, 5).mean()
        assert (found.outlier, found.mean_without) == (5, pytest.approx(rest, abs=1e-12))
        assert abs(found.mean - rest) > 10 * abs(usual.mean - rest)


def test_what_cannot_be_compared_is_not() -> None:
    assert paired_difference([], []) is None
    assert paired_difference([1.0], [1.0, 2.0]) is None
    assert paired_difference([1.0, math.nan], [1.0, 2.0]) is None
    assert paired_difference([1.0, math.inf], [1.0, 2.0]) is None
    assert paired_difference([1.5], [1.0]) == PairedDifference(0.5, None, None, None)
    # All alike but one: nothing is as far as 8 times no spread.
    same = paired_difference([2.0] * 15 + [3.0], [1.0] * 16)
    assert same is not None and (same.outlier, same.mean_without) == (15, 1.0)


def test_a_warning_names_the_block_and_both_means() -> None:
    assert warning_of_outlier(PairedDifference(0.1, 0.01, None, None), 32) is None
    assert warning_of_outlier(PairedDifference(0.1168, 0.07, 23, 0.0491), 32) == (
        "One held-out block, number 24 of 32, is farther from the source's loss than all others by far: the mean "
        "difference is +0.1168 with it, +0.0491 without."
    )
