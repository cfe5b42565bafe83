"""The contract of every search space: subclass `SpaceContract`, say how one is made, and run."""

import random
from abc import ABC, abstractmethod
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.spaces import SearchSpace

SEEDS = st.integers(0, 2**31)
# One method is inherited by the tests of every space.
contract = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


class SpaceContract(ABC):
    """Tests of one space; its attributes say what is tested."""

    space: SearchSpace[Any, Any]

    @abstractmethod
    def illegal_draft(self, design: Any, rng: random.Random) -> Any:
        """A draft with at least one problem."""

    def _sample(self, seed: int) -> Any:
        return self.space.sample(random.Random(seed))

    def _assert_legal(self, design: Any) -> None:
        assert self.space.problems(self.space.draft(design), design) == []

    @contract
    @given(seed=SEEDS)
    def test_random_designs_are_legal_and_follow_from_the_seed(self, seed: int) -> None:
        design = self._sample(seed)
        self._assert_legal(design)
        assert self._sample(seed) == design and hash(self._sample(seed)) == hash(design)

    def test_random_designs_differ(self) -> None:
        """In each of the parameters that have a choice."""
        designs = [self._sample(seed) for seed in range(60)]
        assert len({self.space.identity(design) for design in designs}) > 20
        for place, parameter in enumerate(self.space.parameters):
            taken = {self.space.encode(design)[place] for design in designs}
            assert len(taken) > 1 or len(parameter.options) == 1, parameter.name

    @contract
    @given(seed=SEEDS)
    def test_mutations_are_other_legal_designs(self, seed: int) -> None:
        design = self._sample(seed)
        mutants = [self.space.mutate(design, random.Random(one)) for one in range(12)]
        for mutant in mutants:
            self._assert_legal(mutant)
            assert mutant != design
        assert mutants[0] == self.space.mutate(design, random.Random(0))

    def test_a_design_has_many_mutations(self) -> None:
        """As a rule; in a corner of a space there may be one."""
        counts = []
        for seed in range(10):
            mutants = [self.space.mutate(self._sample(seed), random.Random(one)) for one in range(12)]
            counts.append(len({self.space.identity(mutant) for mutant in mutants}))
        assert sorted(counts)[5] > 3

    @contract
    @given(seed=SEEDS)
    def test_neighbours_are_legal_distinct_and_in_one_order(self, seed: int) -> None:
        design = self._sample(seed)
        found = self.space.neighbours(design)
        assert found and design not in found
        assert len({self.space.identity(other) for other in found}) == len(found)
        for other in found:
            self._assert_legal(other)
        assert self.space.neighbours(design) == found

    @contract
    @given(seed=SEEDS)
    def test_codes_say_the_design(self, seed: int) -> None:
        design = self._sample(seed)
        codes = self.space.encode(design)
        assert len(codes) == len(self.space.parameters)
        assert len({parameter.name for parameter in self.space.parameters}) == len(codes)
        for code, parameter in zip(codes, self.space.parameters, strict=True):
            assert 0 <= code < len(parameter.options)
        assert self.space.decode(codes) == design

    @contract
    @given(seed=SEEDS)
    def test_every_list_of_codes_becomes_a_legal_design(self, seed: int) -> None:
        rng = random.Random(seed)
        self._assert_legal(self.space.decode([rng.randrange(len(one.options)) for one in self.space.parameters]))

    def test_the_outermost_codes_become_legal_designs(self) -> None:
        self._assert_legal(self.space.decode([0 for _ in self.space.parameters]))
        self._assert_legal(self.space.decode([len(one.options) - 1 for one in self.space.parameters]))

    @contract
    @given(seed=SEEDS, other_seed=SEEDS)
    def test_vectors_and_identities_tell_designs_apart(self, seed: int, other_seed: int) -> None:
        design, other = self._sample(seed), self._sample(other_seed)
        one, two = self.space.vector(design), self.space.vector(other)
        assert one.shape == two.shape == (sum(parameter.dimensions for parameter in self.space.parameters),)
        assert one.dtype == np.float64 and one.min() >= 0 and one.max() <= 1
        same = design == other
        assert bool((one == two).all()) is same
        assert (self.space.identity(design) == self.space.identity(other)) is same

    @contract
    @given(seed=SEEDS, base_seed=SEEDS)
    def test_drafts_say_the_design_whatever_the_base(self, seed: int, base_seed: int) -> None:
        design, base = self._sample(seed), self._sample(base_seed)
        draft = self.space.draft(design)
        assert self.space.problems(draft, base) == []
        assert self.space.read(draft, base) == design
        assert self.space.project(draft, base) == (design, [])

    @contract
    @given(seed=SEEDS)
    def test_what_is_illegal_is_said_and_can_be_projected(self, seed: int) -> None:
        rng = random.Random(seed)
        base = self._sample(seed)
        draft = self.illegal_draft(base, rng)
        problems = self.space.problems(draft, base)
        assert problems and all(text.endswith(".") and len(text) > 10 for text in problems)
        design, notes = self.space.project(draft, base)
        self._assert_legal(design)
        assert notes and all(notes)

    @contract
    @given(seed=SEEDS)
    def test_a_design_is_told_on_one_line(self, seed: int) -> None:
        told = self.space.describe(self._sample(seed))
        assert told.strip() and "\n" not in told

    def test_the_parts_tell_each_parameter_once(self) -> None:
        space = self.space
        places = [place for part in space.parts for _, kind in part.kinds for place in kind]
        assert sorted(places) == list(range(len(space.parameters)))
        for part in space.parts:
            for _, kind in part.kinds:
                assert len({space.parameters[place].ordered for place in kind}) == 1

    def test_a_space_that_can_be_counted_names_each_design_once(self) -> None:
        designs = self.space.designs()
        if designs is None:
            return
        found = list(designs)
        assert len({self.space.identity(design) for design in found}) == len(found)
        for design in islice(found, 0, None, max(1, len(found) // 50)):
            self._assert_legal(design)
        assert {self._sample(seed) for seed in range(20)} <= set(found)
