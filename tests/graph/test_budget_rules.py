"""The rules of the budget alone: whatever is asked for and whatever it really costs, no cap is exceeded."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.budget import (
    BudgetCaps,
    Spent,
    allotted_seconds,
    call_refusal,
    evaluation_refusal,
    expected_seconds,
    used_in_words,
)
from tools.settings import Recipe

share = st.floats(0, 1)
seconds = st.floats(0, 1000)
caps_strategy = st.builds(
    BudgetCaps,
    llm_tokens=st.none() | st.integers(1, 20_000),
    usd=st.none() | st.floats(0.001, 1),
    evaluation_seconds=st.none() | st.floats(0.1, 2000),
    wall_clock_seconds=st.none() | st.floats(0.1, 2000),
)
# Most tokens, USD for each of them, what part of the most it really costs, and how long it would take.
calls = st.tuples(st.just("call"), st.integers(1, 5000), st.floats(0, 1e-4), share, seconds)
# Expected and real seconds.
evaluations = st.tuples(st.just("evaluation"), seconds, seconds)
# Seconds of other work, such as the drawing of a picture: these have no gate.
moves = st.lists(calls | evaluations, max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(caps_strategy, moves)
def test_no_cap_is_ever_exceeded_and_nothing_that_fits_is_refused(caps: BudgetCaps, moves: list[tuple]) -> None:
    spent = Spent()
    for move in moves:
        wall_left = None if caps.wall_clock_seconds is None else caps.wall_clock_seconds - spent.wall_clock_seconds
        if move[0] == "call":
            _, most, rate, part, length = move
            refusal = call_refusal(caps, spent, most, most * rate)
            fits = (
                (caps.llm_tokens is None or spent.llm_tokens + most <= caps.llm_tokens)
                and (caps.usd is None or (spent.usd or 0.0) + most * rate <= caps.usd)
                and (wall_left is None or wall_left > 0)
            )
            assert (refusal is None) == fits
            if refusal is None:
                took = length if wall_left is None else min(length, wall_left)
                spent = replace(
                    spent,
                    llm_tokens=spent.llm_tokens + int(most * part),
                    usd=(spent.usd or 0.0) + most * rate * part,
                    wall_clock_seconds=spent.wall_clock_seconds + took,
                )
        else:
            _, expected, length = move
            refusal = evaluation_refusal(caps, spent, expected)
            most_seconds = allotted_seconds(caps, spent, expected)
            assert (refusal is None) == (most_seconds is None or (most_seconds > 0 and most_seconds >= expected))
            if refusal is None:
                took = length if most_seconds is None else min(length, most_seconds)
                spent = replace(
                    spent,
                    evaluation_seconds=spent.evaluation_seconds + took,
                    wall_clock_seconds=spent.wall_clock_seconds + took,
                )
        for name, value in caps.model_dump().items():
            assert value is None or getattr(spent, name) <= value * (1 + 1e-9)
        if refusal is not None:
            assert getattr(caps, refusal.cap) is not None and refusal.words.startswith(f"budget.{refusal.cap}: ")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(1, 1000), st.lists(st.tuples(seconds, share), min_size=1, max_size=6))
def test_evaluations_side_by_side_share_what_is_left(cap: float, wanted: list[tuple[float, float]]) -> None:
    """All begin before any ends; each then takes some part of what it was promised."""
    caps, promised = BudgetCaps(evaluation_seconds=cap), list[float]()
    for number, (expected, _) in enumerate(wanted):
        if evaluation_refusal(caps, Spent(), expected, sum(promised)) is None:
            most = allotted_seconds(caps, Spent(), expected, sum(promised), len(wanted) - number)
            assert most is not None and most >= expected
            promised.append(most)
    assert sum(promised) <= cap * (1 + 1e-9)
    assert promised or wanted[0][0] > cap, "the first one that fits gets room"


def test_an_unknown_price_never_fits_under_a_cap_of_money() -> None:
    caps = BudgetCaps(usd=5)
    assert call_refusal(caps, Spent(), 1, None) is not None
    assert call_refusal(caps, Spent(usd=None, unpriced_calls=1), 1, 0.0) is not None
    assert call_refusal(BudgetCaps(), Spent(usd=None), 1, None) is None


def test_what_is_said() -> None:
    caps = BudgetCaps.model_validate(
        {"llm_tokens": "10k", "usd": 1, "evaluation_seconds": 120, "wall_clock_seconds": 60}
    )
    spent = Spent(llm_tokens=9812, usd=0.5, evaluation_seconds=95.2, wall_clock_seconds=60.0)
    assert str(call_refusal(caps, spent, 700, 0.1)) == (
        "budget.llm_tokens: 9,812 of 10,000 tokens are spent, and the next call can take up to 700"
    )
    assert str(call_refusal(caps, replace(spent, llm_tokens=0), 700, 0.6)) == (
        "budget.usd: $0.5000 of $1 is spent, and the next call can cost up to $0.6000"
    )
    assert str(evaluation_refusal(caps, spent, 30.0)) == (
        "budget.evaluation_seconds: 95.2 s of 120 s are spent, and an evaluation takes about 30 s"
    )
    assert str(call_refusal(caps, replace(spent, llm_tokens=0), 700, 0.1)) == (
        "budget.wall_clock_seconds: 60 s of 60 s are spent"
    )
    assert used_in_words(caps, spent)[0] == "9,812 of 10,000 LLM tokens"
    assert used_in_words(BudgetCaps(), replace(spent, usd=None))[0] == "cost not known"


def test_the_median_of_this_run_counts_as_soon_as_there_is_one() -> None:
    recipe = Recipe(warmup_steps=10, training_steps=25)
    assert expected_seconds([], 40.0, recipe) == 100.0
    assert expected_seconds([10.0, 90.0, 20.0], 40.0, recipe) == 20.0


@pytest.mark.parametrize(
    "bad", [{"llm_tokens": 0}, {"usd": 0}, {"usd": float("inf")}, {"evaluation_seconds": -1}, {"tokens": 5}]
)
def test_caps_that_are_none(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"greater|finite|permitted"):
        BudgetCaps.model_validate(bad)
