"""The Pareto front: against its definition, of vectors and of trials."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.objectives import OBJECTIVES, figure, front, read_objectives
from memory.pareto import pareto_front
from memory.records import Records
from memory.tables import Run
from memory.views import TrialView
from tests.postgresql import both_databases
from tools.architecture import Architecture
from tools.errors import InputError

new_database = both_databases

Design = Callable[..., Architecture]
# Few values, so that ties are common.
ENTRY = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf])
VECTORS = st.integers(1, 3).flatmap(lambda size: st.lists(st.tuples(*[ENTRY] * size), max_size=12))


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    no_worse = sum(mine <= theirs for mine, theirs in zip(one, other, strict=True)) == len(one)
    return no_worse and one != other


@given(VECTORS)
def test_the_front_is_what_its_definition_says(vectors: list[tuple[float, ...]]) -> None:
    kept = pareto_front(vectors)
    assert kept == sorted(set(kept))
    members = [vectors[index] for index in kept]
    assert not any(dominates(one, other) for one in members for other in members)
    for index, vector in enumerate(vectors):
        if index not in kept:
            assert any(dominates(member, vector) for member in members), "a member, not only any other vector"
    assert bool(kept) == bool(vectors)


@given(VECTORS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter_and_equals_stand_together(vectors: list[tuple[float, ...]], random_: object) -> None:
    shuffled = list(vectors)
    random_.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(vectors[index] for index in pareto_front(vectors)) == sorted(
        shuffled[index] for index in pareto_front(shuffled)
    )
    twice = [*vectors, *vectors]
    kept = pareto_front(vectors)
    assert pareto_front(twice) == [*kept, *(index + len(vectors) for index in kept)]


def test_what_cannot_be_compared_is_refused() -> None:
    assert pareto_front([]) == []
    with pytest.raises(ValueError, match="not-a-number"):
        pareto_front([(1.0, math.nan), (0.0, 0.0)])
    with pytest.raises(ValueError, match="length"):
        pareto_front([(1.0, 2.0), (1.0,)])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["loss", "latency"], "no objective 'latency'; did you mean 'latency_ms'"),
        (["loss", "file_size"], "did you mean 'file_mb'"),
        (["loss", "zzz"], f"no objective 'zzz'; the objectives are: {', '.join(OBJECTIVES)}."),
        (["loss"], "two or three different objectives"),
        (["loss", "loss"], "two or three different objectives"),
        (["loss", "parameters", "file_mb", "memory_mb"], "two or three different objectives"),
        ([""], "no objective ''"),
        ([], "two or three different objectives"),
    ],
)
def test_bad_objectives(names: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_objectives(names)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_objectives_keep_their_order() -> None:
    assert read_objectives(["latency_ms", "loss"]) == ("latency_ms", "loss")


def test_the_front_of_trials(records: Records, design: Design, finish_trial: Callable[..., TrialView]) -> None:
    """Sizes rise with the number; trial 3 is larger and worse than trial 2, trial 4 failed, trial 6 equals trial 5."""
    widths, losses = [8, 16, 24, 32, 40, 48, 48], [5.0, 4.5, 4.0, 4.2, None, 3.0, 3.0]
    for turn, (width, loss) in enumerate(zip(widths, losses, strict=True)):
        finish_trial(records, "run-a", turn, design(ffn=(128, width)), loss)
    trials = records.trials("run-a")
    assert [trial.number for trial in front(trials, ("parameters", "loss"))] == [0, 1, 2, 5, 6]
    assert [trial.number for trial in front(trials, ("loss", "parameters"))] == [5, 6, 2, 1, 0]
    assert [trial.number for trial in front(trials, ("loss", "file_mb", "memory_mb"))] == [5, 6, 2, 1, 0]
    assert front(trials, ("loss", "latency_ms")) == [], "no time was measured"
    assert front([], ("loss", "parameters")) == []


def test_file_and_memory_are_those_of_the_runs_settings(
    records: Records, design: Design, finish_trial: Callable[..., TrialView]
) -> None:
    records.create_run(Run(id="run-b", config={"file_format": "f32", "memory_context": 100, "trials": 3}))
    small = design()
    half = finish_trial(records, "run-a", 0, small, 3.0)
    whole = finish_trial(records, "run-b", 0, small, 3.0)
    norms = 5 * 64  # two in each of the two layers and the last one, float32 in every file
    assert half.file_mb == pytest.approx((2 * small.parameters + 2 * norms) / 1e6)
    assert whole.file_mb == pytest.approx(4 * small.parameters / 1e6)
    assert whole.memory_mb - whole.file_mb == pytest.approx(100 * small.kv_cache_bytes_per_token() / 1e6)
    assert figure(whole, "file_mb") == whole.file_mb and figure(whole, "memory_mb") == whole.memory_mb
