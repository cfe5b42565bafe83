"""Every judge keeps the contract in both spaces; what is special of each; how they see a search of the graph."""

import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import mean
from typing import Any

import numpy as np
import pytest

from agents.proposers import (
    JUDGES,
    ForestSearch,
    Judge,
    LocalSearch,
    RandomSearch,
    RegularisedEvolution,
    Situation,
    TreeParzen,
    Tried,
)
from agents.proposers.forest import expected_improvement, normal_scores
from memory.views import TrialView
from tests.agents.proposer_contract import MAKERS, PlainStanding, ProposerContract, ask, design_of, past, search
from tests.language_model_space import language_model
from tools.errors import InputError
from tools.measurement import Failure, Measurement
from tools.settings import GoalSettings
from tools.spaces import Cell, NASBench201Space, SearchSpace


class TestJudges(ProposerContract):
    @pytest.fixture(params=sorted(JUDGES))
    def fresh(self, request: pytest.FixtureRequest) -> Callable[[], Judge]:
        return JUDGES[request.param]

    @pytest.fixture
    def proposer(self, fresh: Callable[[], Judge]) -> Judge:
        return fresh()

    @pytest.fixture(params=sorted(MAKERS))
    def space(self, request: pytest.FixtureRequest) -> Any:
        return MAKERS[request.param]()


def late_values(judge: Judge, space: SearchSpace[Any, Any]) -> float:
    """What its last proposals of two searches are worth, in the mean."""
    return mean(tried.value or 0.0 for seed in range(2) for tried in search(judge, space, 32, seed)[-12:])


@pytest.mark.parametrize("name", sorted(set(JUDGES) - {"random"}))
def test_what_learns_proposes_better_than_chance(name: str) -> None:
    space = NASBench201Space()
    assert late_values(JUDGES[name](), space) < late_values(RandomSearch(), space) - 2


def test_evolution_mutates_the_best_of_the_youngest() -> None:
    """The best of all is too old to be a parent; failed ones are no members."""
    space = NASBench201Space()
    history = [Tried(tried.number, tried.design, float(tried.number)) for tried in past(space, 20)]
    history[15] = Tried(15, history[15].design, None)
    evolution = RegularisedEvolution(population=4, sample=50)
    proposed = ask(evolution, PlainStanding(space, tuple(history), 20, 3))
    assert proposed.based_on == (16,)
    cell = space.read(proposed.draft, proposed.base)
    assert cell in space.neighbours(history[16].design)
    drawn = {
        ask(RegularisedEvolution(population=4, sample=1), PlainStanding(space, tuple(history), 20, seed)).based_on
        for seed in range(60)
    }
    assert drawn == {(16,), (17,), (18,), (19,)}
    assert ask(evolution, PlainStanding(space, tuple(history[:3]), 3, 3)).based_on == ()


def test_evolution_goes_on_where_all_mutations_were_tried() -> None:
    space = NASBench201Space()
    parent = space.sample(random.Random(0))
    around = [Tried(number, cell, None) for number, cell in enumerate(space.neighbours(parent))]
    history = (*around, Tried(24, parent, 1.0))
    design = design_of(RegularisedEvolution(population=1, sample=1), PlainStanding(space, history, 25, 0))
    assert design != parent and any(design in space.neighbours(tried.design) for tried in around)


def walked(space: SearchSpace[Any, Any], history: list[Tried[Any]]) -> tuple[int, ...]:
    return ask(LocalSearch(), PlainStanding(space, tuple(history), len(history), 1)).based_on


def test_local_search_takes_the_first_better_neighbour_and_leaves_an_optimum() -> None:
    space = NASBench201Space()
    start = space.sample(random.Random(1))
    neighbours = space.neighbours(start)
    history = [Tried(0, start, 5.0)]
    assert walked(space, history) == (0,)
    history += [Tried(1, neighbours[0], 6.0), Tried(2, neighbours[1], None)]
    assert walked(space, history) == (0,), "neither a worse one nor a failed one is taken"
    assert walked(space, [*history, Tried(3, neighbours[2], 4.0)]) == (3,)
    # Nothing around is better.
    history += [Tried(number + 1, cell, 7.0) for number, cell in enumerate(neighbours) if number >= 2]
    assert walked(space, history) == ()
    other = next(cell for cell in map(space.sample, map(random.Random, range(99))) if cell not in [start, *neighbours])
    assert walked(space, [*history, Tried(25, other, None)]) == (), "a failed start is none"
    assert walked(space, [*history, Tried(25, other, 9.0)]) == (25,), "a new start counts, however bad"
    proposed = design_of(LocalSearch(), PlainStanding(space, (*history, Tried(25, other, 9.0)), 26, 1))
    assert proposed in space.neighbours(other)


def test_tpe_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="needs the package optuna"):
        ask(TreeParzen(), PlainStanding(NASBench201Space()))


def test_tpe_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    space = NASBench201Space()
    ask(TreeParzen(), PlainStanding(space, tuple(past(space, 15)), 15, 0))
    assert capfd.readouterr() == ("", "")


def test_expected_improvement_is_the_mean_gain_of_a_normal_value() -> None:
    rng = np.random.default_rng(0)
    mean_values, deviations = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0.5, 1.0, 0.0, 0.0])
    draws = mean_values + deviations * rng.normal(size=(400_000, 4))
    simulated = np.maximum(1.2 - draws, 0).mean(axis=0)
    assert expected_improvement(mean_values, deviations, 1.2) == pytest.approx(simulated, abs=3e-3)


def test_normal_scores_follow_ranks_alone() -> None:
    scores = normal_scores(np.array([3.0, -1.0, 1e9, 3.0, 0.0]))
    assert scores[0] == scores[3] and np.argsort(scores[[1, 4, 0, 2]]).tolist() == [0, 1, 2, 3]
    assert scores[1] == pytest.approx(-scores[2])
    assert (normal_scores(np.array([4.0, 4.0])) == 0).all()


def test_the_forest_takes_what_it_has_learnt_to_be_good() -> None:
    """One edge decides everything."""
    space = NASBench201Space()
    cells = [tried.design for tried in past(space, 60)]
    history = tuple(
        Tried(number, cell, 0.0 if cell.operations[3] == "nor_conv_1x1" else 5.0) for number, cell in enumerate(cells)
    )
    proposed = [design_of(ForestSearch(), PlainStanding(space, history, 60, seed)) for seed in range(5)]
    assert {cell.operations[3] for cell in proposed if isinstance(cell, Cell)} == {"nor_conv_1x1"}


def view(number: int, space: Any, loss: float | None, **more: Any) -> TrialView:
    """A trial as the records give it."""
    design = space.sample(random.Random(number))
    failure = None if loss is not None else Failure(kind="out_of_memory", message="too large")
    measurement = Measurement(
        parameters=design.parameters, loss=loss, failure=failure, fidelity="short_training", **more.pop("measured", {})
    )
    plain: dict[str, Any] = {
        "trial_id": number,
        "run_id": "run",
        "number": number,
        "stage": "self_evolution",
        "proposer": "evolver",
        "parent_number": None,
        "architecture": design,
        "measurement": measurement,
        "rationale": (),
        "outcome": "valid",
        "forecast": None,
        "cached": False,
        "prompt_hash": None,
        "based_on": (),
        "proposal_id": number,
        "evaluation_key": None,
        "created_at": datetime.now(UTC),
    }
    return TrialView(**(plain | more))


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_judges_take_a_turn_in_a_search_of_agents(name: str) -> None:
    space = language_model()
    trials = tuple(view(number, space, None if number == 3 else 5 - 0.1 * number) for number in range(12))
    waiting = view(12, space, 1.0, measurement=None)
    situation = Situation(turn=13, space=space, trials=(*trials, waiting), parent=trials[0], seed=4)
    assert [tried.value for tried in situation.history][2:5] == [4.8, None, 4.6]
    assert situation.history[-1] == Tried(12, waiting.architecture, None)
    proposed = ask(JUDGES[name](), situation)  # type: ignore[arg-type]
    assert proposed.draft is not None and not space.problems(proposed.draft, space.source)
    design = space.read(proposed.draft, space.source)
    assert design not in [trial.architecture for trial in situation.trials]


def test_judges_learn_from_what_the_search_is_after_and_not_from_what_breaks_its_limits() -> None:
    space, slow = language_model(), {"measured": {"latency_ms": 9.0, "accuracy": 0.5}}
    fast = {"measured": {"latency_ms": 1.0, "accuracy": 0.5}}
    limit, accuracy = GoalSettings(max_latency_ms=5.0), GoalSettings(objective="accuracy")
    for goal, measured, value in ((limit, slow, None), (limit, fast, 2.5), (accuracy, fast, -0.5)):
        trial = view(0, space, 2.5, goal=goal, **measured)
        situation = Situation(turn=1, space=space, trials=(trial,), parent=trial, seed=0)
        assert [tried.value for tried in situation.history] == [value]
