"""The surrogate in every space: what it learns, how sure it is, and what it says where there is little to learn."""

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor

from agents.surrogate import (
    FEWEST_RECORDS,
    LENGTHS,
    NOISES,
    TRENDS,
    Expectation,
    Hyperparameters,
    Surrogate,
    most_likely,
)
from tests.language_model_space import language_model
from tools.spaces import NASBench201Space, PrunedLMSpace, SearchSpace


@pytest.fixture(params=["nasbench201", "pruned_lm"])
def space(request: pytest.FixtureRequest) -> SearchSpace[Any, Any]:
    return NASBench201Space() if request.param == "nasbench201" else language_model()


def designs_of(space: SearchSpace[Any, Any], count: int, seed: int) -> list[Any]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def value_of(space: SearchSpace[Any, Any], design: Any) -> float:
    """Something that is neither linear nor known to the surrogate."""
    vector = space.vector(design)
    return 2.5 + float(((vector - 0.4) ** 2) @ np.linspace(0.1, 1.0, len(vector)))


def taught(space: SearchSpace[Any, Any], count: int, seed: int = 1) -> Surrogate[Any, Any]:
    return Surrogate(space, [(design, value_of(space, design)) for design in designs_of(space, count, seed)])


def test_it_ranks_designs_that_it_has_not_seen(space: SearchSpace[Any, Any]) -> None:
    unseen = designs_of(space, 100, seed=2)
    expected = [one.score for one in taught(space, 40).expect_all(unseen)]
    assert spearmanr(expected, [value_of(space, design) for design in unseen]).statistic > 0.8


def test_it_knows_what_it_has_seen_and_doubts_what_it_has_not(space: SearchSpace[Any, Any]) -> None:
    surrogate, seen, unseen = taught(space, 12), designs_of(space, 12, seed=1), designs_of(space, 50, seed=2)
    spread = np.std([value_of(space, design) for design in seen])
    for design, expected in zip(seen, surrogate.expect_all(seen), strict=True):
        assert expected.score is not None and abs(expected.score - value_of(space, design)) < 0.5 * spread
    doubts = [np.mean([one.deviation for one in surrogate.expect_all(designs)]) for designs in (seen, unseen)]
    assert 0 < doubts[0] < doubts[1]


def test_equal_records_give_equal_expectations(space: SearchSpace[Any, Any]) -> None:
    unseen = designs_of(space, 20, seed=2)
    together = taught(space, 9).expect_all(unseen)
    assert together == taught(space, 9).expect_all(unseen)
    alone = taught(space, 9).expect(unseen[3])
    assert alone.score == pytest.approx(together[3].score) and alone.deviation == pytest.approx(together[3].deviation)


@pytest.mark.parametrize("count", range(FEWEST_RECORDS))
def test_of_few_records_nothing_is_learnt(space: SearchSpace[Any, Any], count: int) -> None:
    surrogate = taught(space, count)
    assert not surrogate.knows and surrogate.expect(designs_of(space, 1, 2)[0]) == Expectation()
    assert taught(space, FEWEST_RECORDS).knows


def test_equal_values_and_equal_designs_teach_that_nothing_matters(space: SearchSpace[Any, Any]) -> None:
    unseen = designs_of(space, 5, seed=2)
    same_value = Surrogate(space, [(design, 3.0) for design in designs_of(space, 6, 1)])
    assert {(one.score, one.deviation) for one in same_value.expect_all(unseen)} == {(3.0, 0.0)}
    same_design = Surrogate(space, [(unseen[0], value) for value in (2.0, 3.0, 4.0, 3.0)])
    assert same_design.expect(unseen[0]).score == pytest.approx(3.0)


def test_the_forecast_is_one_more_feature() -> None:
    space: PrunedLMSpace = language_model()
    forecast = space.designer.forecast
    seen, unseen = designs_of(space, 6, seed=1), designs_of(space, 60, seed=2)
    surrogate = Surrogate(space, [(design, 2.0 + 0.01 * forecast(design)) for design in seen], forecast)
    blind = Surrogate(space, [(design, 2.0 + 0.01 * forecast(design)) for design in seen])
    truth = [forecast(design) for design in unseen]
    found = [one.score for one in surrogate.expect_all(unseen)]
    assert spearmanr(found, truth).statistic > 0.95
    assert (
        spearmanr(found, truth).statistic > spearmanr([one.score for one in blind.expect_all(unseen)], truth).statistic
    )
    assert surrogate.expect(unseen[0]).forecast == truth[0]


def test_designs_of_other_steps_of_widths_are_left_out() -> None:
    space, other = language_model(), language_model(ffn_multiple=7)
    own = [(design, value_of(space, design)) for design in designs_of(space, 6, seed=1)]
    narrow = [design for design in designs_of(other, 30, seed=1) if design.layers[0].intermediate_size not in (56, 92)]
    foreign = [(design, 99.0) for design in narrow]
    assert foreign, "seven is no step of the other space"
    surrogate = Surrogate(space, [*own, *foreign])
    assert surrogate.records == 6 and surrogate.expect(own[0][0]) == Surrogate(space, own).expect(own[0][0])


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_most_likely_point_is_the_one_that_scikit_learn_finds(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width))
    targets = rows @ rng.normal(size=width) + 0.3 * rng.normal(size=count)
    best, others = most_likely(rows, targets), itertools.product(TRENDS, LENGTHS, NOISES)
    found = {
        point: GaussianProcessRegressor(point.kernel(), optimizer=None).fit(rows, targets)
        for point in itertools.starmap(Hyperparameters, others)
    }
    likelihoods = {point: process.log_marginal_likelihood_value_ for point, process in found.items()}
    assert likelihoods[best] == pytest.approx(max(likelihoods.values()), rel=1e-9)
