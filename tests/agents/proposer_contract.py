"""The contract of searchers in any space: subclass it, with the fixtures `proposer`, `fresh` and `space`."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agents.proposers import JUDGES, Judge, Proposed, Tried
from tests.language_model_space import language_model
from tools.spaces import NASBench201Space, SearchSpace

ROOT = Path(__file__).parents[2]
MAKERS: dict[str, Any] = {"nasbench201": NASBench201Space, "pruned_lm": language_model}


@dataclass(frozen=True)
class PlainStanding:
    """A search at one of its turns."""

    space: SearchSpace[Any, Any]
    history: Sequence[Tried[Any]] = ()
    turn: int = 0
    seed: int = 0


def value_of(space: SearchSpace[Any, Any], design: Any) -> float:
    """Something to minimise: how far each choice is from its second option."""
    return float(sum((code - 1) ** 2 for code in space.encode(design)))


def past(space: SearchSpace[Any, Any], count: int, failing: int = 0) -> list[Tried[Any]]:
    """Random designs with their values; of `failing` ones the first has none."""
    rng = random.Random(5)
    history = []
    for number in range(count):
        design = space.sample(rng)
        failed = failing and number % failing == 0
        history.append(Tried(number, design, None if failed else value_of(space, design)))
    return history


def ask(proposer: Judge, standing: PlainStanding) -> Proposed[Any, Any]:
    """What it proposes."""
    return asyncio.run(proposer.ask(standing))


def design_of(proposer: Judge, standing: PlainStanding) -> Any:
    """The design that it proposes, which must be legal."""
    proposed = ask(proposer, standing)
    assert proposed.error is None and proposed.rationale
    assert standing.space.problems(proposed.draft, proposed.base) == []
    numbers = {tried.number for tried in standing.history}
    assert set(proposed.based_on) <= numbers
    return standing.space.read(proposed.draft, proposed.base)


def search(proposer: Judge, space: SearchSpace[Any, Any], turns: int, seed: int) -> list[Tried[Any]]:
    """A whole search."""
    history: list[Tried[Any]] = []
    for turn in range(turns):
        design = design_of(proposer, PlainStanding(space, tuple(history), turn, 1000 * seed + turn))
        history.append(Tried(turn, design, value_of(space, design)))
    return history


class ProposerContract:
    """What every searcher does, given the fixtures `proposer` and `space`."""

    def test_it_begins_with_nothing(self, proposer: Judge, space: SearchSpace[Any, Any]) -> None:
        assert len({space.identity(design_of(proposer, PlainStanding(space, seed=seed))) for seed in range(5)}) > 1

    def test_a_search_repeats_nothing_and_is_fixed_by_its_seeds(
        self, proposer: Judge, space: SearchSpace[Any, Any]
    ) -> None:
        history = search(proposer, space, 13, seed=1)
        assert len({space.identity(tried.design) for tried in history}) == 13
        assert search(proposer, space, 13, seed=1) == history
        assert search(proposer, space, 13, seed=2) != history

    def test_nothing_is_kept_between_turns(
        self, proposer: Judge, space: SearchSpace[Any, Any], fresh: "type[Judge]"
    ) -> None:
        """A proposer made anew goes on as one that has been through a search."""
        history = search(proposer, space, 12, seed=3)
        standing = PlainStanding(space, tuple(history), 12, 99)
        assert ask(proposer, standing) == ask(fresh(), standing)

    def test_failed_trials_are_no_obstacle(self, proposer: Judge, space: SearchSpace[Any, Any]) -> None:
        for count, failing in ((1, 1), (14, 1), (14, 2), (30, 3)):
            history = past(space, count, failing)
            design = design_of(proposer, PlainStanding(space, tuple(history), count, 7))
            assert space.identity(design) not in {space.identity(tried.design) for tried in history}

    def test_equal_values_are_no_obstacle(self, proposer: Judge, space: SearchSpace[Any, Any]) -> None:
        history = tuple(Tried(tried.number, tried.design, 1.0) for tried in past(space, 20))
        design_of(proposer, PlainStanding(space, history, 20, 7))

    def test_the_last_designs_of_a_space_are_found(self, proposer: Judge, space: SearchSpace[Any, Any]) -> None:
        designs = space.designs()
        if designs is None:
            pytest.skip("this space cannot be counted")
        everything = list(designs)
        random.Random(0).shuffle(everything)
        history = [Tried(number, design, None) for number, design in enumerate(everything[:-2])]
        for tried in range(2):
            design = design_of(proposer, PlainStanding(space, tuple(history), len(history), tried))
            assert design in everything[-2:] and design not in [one.design for one in history[-1:]]
            history.append(Tried(len(history), design, None))
        assert design_of(proposer, PlainStanding(space, tuple(history), len(history), 0)) in everything

    def test_another_process_with_another_hash_seed_proposes_the_same(
        self, proposer: Judge, space: SearchSpace[Any, Any]
    ) -> None:
        key = f"{proposer.name} {space.name}"
        assert proposals_of_another_process()[key] == proposals_of(proposer, space)


@cache
def proposals_of_another_process() -> dict[str, list[str]]:
    """Those of every judge in every space, by their names."""
    environment = os.environ | {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.agents.proposer_contract"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def proposals_of(proposer: Judge, space: SearchSpace[Any, Any]) -> list[str]:
    """Identities of two proposals after a past with failed trials."""
    history = tuple(past(space, 20, 4))
    designs = [design_of(proposer, PlainStanding(space, history, 20, seed)) for seed in (1, 2)]
    return [space.identity(design) for design in designs]


if __name__ == "__main__":
    everything = itertools.product(JUDGES.items(), MAKERS.items())
    print(json.dumps({f"{judge} {name}": proposals_of(new(), make()) for (judge, new), (name, make) in everything}))
