"""The lift of the LLM: pairs, equal trials, an interval that keeps its promise, and plain words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.lift import LEAST_SEEDS, lift
from tools.errors import InputError


def searches(bests: list[float]) -> dict[int, list[float | None]]:
    """One search for each seed: its best comes second, a failed trial first."""
    return {seed: [None, best, best + 1] for seed, best in enumerate(bests)}


def test_the_difference_is_of_best_values_paired_by_seed() -> None:
    found = lift(searches([2.0, 3.0, 4.0]), searches([2.5, 3.5, 4.5]), "random")
    assert found.difference == found.low == found.high == 0.5
    assert (found.agents_best, found.judge_best, found.seeds, found.trials) == (3.0, 3.5, (0, 1, 2), 3)


def test_only_equal_trials_count() -> None:
    agents = {0: [5.0, 4.0, 1.0, 0.0], 1: [5.0, 4.0, 1.0]}
    judge: dict[int, list[float]] = {0: [4.5, 4.5], 1: [4.5, 4.5, 4.5]}
    assert lift(agents, judge, "local").trials == 2 and lift(agents, judge, "local").difference == 0.5
    assert lift(agents, judge, "local", trials=1).difference == -0.5
    with pytest.raises(InputError, match="after 3 trials: the shortest has 2"):
        lift(agents, judge, "local", trials=3)


def test_seeds_without_a_partner_or_without_a_value_are_left_out() -> None:
    agents = {0: [1.0], 1: [None], 2: [1.0], 7: [1.0]}
    found = lift(agents, {0: [2.0], 1: [2.0], 2: [None], 3: [2.0]}, "tpe")
    assert found.seeds == (0,) and found.left_out == (1, 2, 3, 7)
    assert "4 left out" in found.sentence()
    with pytest.raises(InputError, match="No search of the agents has a partner"):
        lift({0: [1.0]}, {1: [1.0]}, "tpe")
    with pytest.raises(InputError, match="has a value"):
        lift({0: [None]}, {0: [1.0]}, "tpe")


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        found = lift(searches([0.0] * 8), searches(list(rng.normal(1.0, 0.7, size=8))), "random")
        inside += int(found.low <= 1.0 <= found.high)
    assert 0.92 <= inside / 300 <= 0.99


def test_a_lift_is_claimed_by_chance_rarely() -> None:
    rng = np.random.default_rng(1)
    claims = 0
    for _ in range(300):
        ours, theirs = rng.normal(3.0, 0.1, size=(2, LEAST_SEEDS))
        claims += int(lift(searches(list(ours)), searches(list(theirs)), "random").positive)
    assert claims / 300 < 0.05


@settings(deadline=None)
@given(gap=st.floats(-1, 1), seeds=st.integers(1, 12))
def test_words_follow_the_interval(gap: float, seeds: int) -> None:
    wobble = [0.05 * (seed % 3 - 1) for seed in range(seeds)]
    found = lift(searches([3.0] * seeds), searches([3.0 + gap + off for off in wobble]), "evolution")
    said = found.sentence()
    assert found.positive == (seeds >= LEAST_SEEDS and found.low > 0)
    assert not (found.positive and found.negative)
    assert said.startswith("The LLM helped:") == found.positive
    assert said.startswith("The LLM did not help:") == found.negative
    assert said.startswith("No lift of the LLM is shown:") == (not found.positive and not found.negative)
    assert ("too few" in said) == (seeds < LEAST_SEEDS)
    assert "evolution" in said and said.endswith(".")


def test_the_sentences() -> None:
    better = lift(searches([2.9] * 8), searches([3.0 + 0.01 * (seed % 2) for seed in range(8)]), "random")
    assert better.sentence() == (
        f"The LLM helped: its best loss is 0.1050 below random's (95 % confidence {better.low:+.4f} to "
        f"{better.high:+.4f}; 8 seeds, 3 trials each)."
    )
    worse = lift(searches([3.0] * 8), searches([2.9] * 8), "local")
    assert worse.sentence("perplexity").startswith("The LLM did not help: its best perplexity is 0.1000 above local's")
    one = lift(searches([2.9]), searches([3.0]), "random")
    assert "0.1000 below random's, but fewer than 6 seeds are too few" in one.sentence()
    assert "1 seed, 3 trials" in one.sentence()
