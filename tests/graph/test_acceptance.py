"""When a child becomes the current architecture: the three rules, and the same decisions with the same seed."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from graph.acceptance import acceptance, accepted, temperature
from graph.config import SearchConfig
from graph.session import SearchSession
from memory.views import TrialView
from tests.fake_openai import FakeOpenAI


def trial(number: int, score: float | None, stage: str = "self_evolution", acceptable: bool = True) -> TrialView:
    """What the rules look at."""
    return cast(TrialView, SimpleNamespace(number=number, score=score, stage=stage, acceptable=acceptable))


def decide(child: TrialView, parent: TrialView, seeds: Sequence[int] = (0,), **settings: Any) -> float:
    """Share of the seeds with which the child is accepted."""
    config = SearchConfig(trials=11, self_evolution=10, **settings)
    between = [trial(number, 3.0) for number in range(1, child.number)]
    trials = [trial(0, 3.0, "greedy"), *between, child]
    return sum(accepted(config, child, parent, trials, seed) for seed in seeds) / len(seeds)


PARENT = trial(0, 3.0, "greedy")


@pytest.mark.parametrize("rule", ["always", "not_worse", "annealed"])
@pytest.mark.parametrize(
    ("child", "by_rule"),
    [
        (trial(1, 2.9), {"always": 1, "not_worse": 1, "annealed": 1}),
        (trial(1, 3.0), {"always": 1, "not_worse": 1, "annealed": 1}),
        (trial(1, 4.0), {"always": 1, "not_worse": 0, "annealed": 0}),
        (trial(1, 2.9, acceptable=False), {"always": 1, "not_worse": 0, "annealed": 0}),
        (trial(1, None), {"always": 1, "not_worse": 0, "annealed": 0}),
    ],
)
def test_rules(rule: str, child: TrialView, by_rule: dict[str, int]) -> None:
    assert decide(child, PARENT, accept=rule) == by_rule[rule]
    if child.acceptable and child.score is not None:
        assert decide(child, trial(0, 3.0, "greedy", acceptable=False), accept=rule) == 1


@pytest.mark.parametrize(("number", "worse_by"), [(1, 0.02), (1, 0.005), (6, 0.02), (10, 0.004)])
def test_metropolis(number: int, worse_by: float) -> None:
    share = decide(trial(number, 3.0 + worse_by), PARENT, range(4000), accept="annealed", annealing_temperature=0.02)
    expected = math.exp(-worse_by / (0.02 * (11 - number) / 10))
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


def test_the_temperature_falls_to_zero_over_self_evolution() -> None:
    config = SearchConfig(trials=11, self_evolution=4, accept="annealed", annealing_temperature=0.1)
    assert [temperature(config, earlier) for earlier in range(6)] == pytest.approx([0.1, 0.075, 0.05, 0.025, 0, 0])
    assert temperature(SearchConfig(trials=2, self_evolution=0), 0) == 0
    assert acceptance(0.01, 0) == 0 and acceptance(0.01, 1e9) == pytest.approx(1)
    with pytest.raises(ValidationError, match="greater than 0"):
        SearchConfig(annealing_temperature=0)


def test_a_search_by_annealing_is_repeatable(
    config_of: Callable[..., SearchConfig], survey_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def parents(home: str, heat: float) -> list[tuple[str, int | None]]:
        with FakeOpenAI(seed=5, models=["fake"]) as server:
            server.set_environment(monkeypatch)
            settings = {"trials": 4, "self_evolution": 3, "accept": "annealed", "annealing_temperature": heat}
            session = SearchSession.start(config_of(home=tmp_path / home, cache=survey_cache, **settings))
            session.run()
            return [(found.architecture.hash, found.parent_number) for found in session.trials()]

    hot = parents("one", 1e6)
    assert hot == parents("two", 1e6)
    assert [parent for _, parent in hot] == [None, 0, 1, 2], "every child is accepted"
