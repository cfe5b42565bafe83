"""The rule of ASHA, against what the paper says of it, over any course that a search can take."""

import random

from hypothesis import given
from hypothesis import strategies as st

from graph.promotion import Promoted, next_promotion

scores = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)
etas = st.integers(2, 5)


class Course:
    """A search that promotes while the rule says so and begins a new design where it does not, one at a time."""

    def __init__(self, rungs: int, eta: int, score: "list[list[float | None]]") -> None:
        self.rungs: list[dict[int, float | None]] = [{} for _ in range(rungs)]
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]
        self.eta, self.score, self.chosen = eta, score, list[Promoted]()

    def run(self, designs: int) -> None:
        while True:
            found = next_promotion(self.rungs, self.promoted, self.eta)
            if found is not None:
                self._check(found)
                self.promoted[found.rung - 1].add(found.number)
                self.rungs[found.rung][found.number] = self.score[found.number][found.rung]
                self.chosen.append(found)
            elif len(self.rungs[0]) < designs:
                number = len(self.rungs[0])
                self.rungs[0][number] = self.score[number][0]
            else:
                return

    def _check(self, found: Promoted) -> None:
        below = self.rungs[found.rung - 1]
        own = below[found.number]
        assert own is not None and found.number not in self.promoted[found.rung - 1]
        better = sum(score is not None and (score, number) < (own, found.number) for number, score in below.items())
        assert found.rank == better + 1 <= len(below) // self.eta
        assert found.rivals == len(below)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    rungs, designs = draw(st.integers(1, 4)), draw(st.integers(0, 30))
    table = [[draw(scores) for _ in range(rungs)] for _ in range(designs)]
    course = Course(rungs, draw(etas), table)
    course.run(designs)
    return course


@given(courses())
def test_who_goes_up_is_in_the_upper_part_once_and_has_a_result(course: Course) -> None:
    assert len(course.chosen) == len({(one.number, one.rung) for one in course.chosen})
    for below, above in zip(course.rungs, course.rungs[1:], strict=False):
        assert above.keys() <= below.keys()


@given(courses())
def test_in_the_end_all_that_belong_above_are_there(course: Course) -> None:
    for rung, below in enumerate(course.rungs[:-1]):
        order = sorted((score, number) for number, score in below.items() if score is not None)
        top = {number for _, number in order[: len(below) // course.eta]}
        assert top <= course.promoted[rung] == course.rungs[rung + 1].keys()


@given(st.integers(1, 40), st.integers(2, 4), etas, st.randoms(use_true_random=False))
def test_best_first_is_plain_successive_halving(designs: int, rungs: int, eta: int, chance: random.Random) -> None:
    """Where all designs are measured before any goes up, as many go up as in Jamieson and Talwalkar 2016."""
    order = list(range(designs))
    chance.shuffle(order)
    course = Course(rungs, eta, [[float(order[number])] * rungs for number in range(designs)])
    course.rungs[0] = {number: float(order[number]) for number in range(designs)}
    course.run(designs)
    for rung, found in enumerate(course.rungs):
        assert sorted(score for score in found.values() if score is not None) == list(range(designs // eta**rung))


@given(courses())
def test_only_the_order_of_the_scores_counts(course: Course) -> None:
    ranks = [sorted({row[rung] for row in course.score if row[rung] is not None}) for rung in range(len(course.rungs))]
    table = [
        [None if one is None else 10.0 * ranks[rung].index(one) - 7.0 for rung, one in enumerate(row)]
        for row in course.score
    ]
    other = Course(len(course.rungs), course.eta, table)
    other.run(len(table))
    assert other.chosen == course.chosen


def test_the_highest_rung_comes_first_and_of_equals_the_earlier() -> None:
    rungs: list[dict[int, float | None]] = [{0: 1.0, 1: 1.0, 2: 3.0, 3: 4.0}, {4: 2.0, 5: 2.0}, {}]
    assert next_promotion(rungs, [set(), set(), set()], 2) == Promoted(4, 2, 1, 2)
    assert next_promotion(rungs, [set(), {4}, set()], 2) == Promoted(0, 1, 1, 4)
    assert next_promotion(rungs, [{0}, {4}, set()], 2) == Promoted(1, 1, 2, 4)
    assert next_promotion(rungs, [{0, 1}, {4}, set()], 2) is None


def test_none_goes_up_to_a_closed_rung() -> None:
    rungs: list[dict[int, float | None]] = [{0: 1.0, 1: 1.0, 2: 3.0, 3: 4.0}, {4: 2.0, 5: 2.0}, {}]
    assert next_promotion(rungs, [set(), set(), set()], 2, closed=[2]) == Promoted(0, 1, 1, 4)
    assert next_promotion(rungs, [set(), set(), set()], 2, closed=[1]) == Promoted(4, 2, 1, 2)
    assert next_promotion(rungs, [set(), set(), set()], 2, closed=[1, 2]) is None


def test_failures_count_and_are_never_promoted() -> None:
    failed: dict[int, float | None] = {0: None, 1: None, 2: None, 3: 1.0}
    assert next_promotion([failed, {}], [set(), set()], 2) == Promoted(3, 1, 1, 4)
    assert next_promotion([failed, {}], [{3}, set()], 2) is None


def test_what_was_promoted_stays_so_when_better_ones_come() -> None:
    """ASHA may promote more than 1/eta: who was among the best when few were there."""
    rungs: list[dict[int, float | None]] = [{0: 3.0, 1: 4.0, 2: 2.0, 3: 1.0}, {0: 9.0}]
    assert next_promotion(rungs, [{0}, set()], 2) == Promoted(3, 1, 1, 4)


def test_one_rung_promotes_nobody() -> None:
    assert next_promotion([{0: 1.0, 1: 2.0}], [set()], 2) is None
