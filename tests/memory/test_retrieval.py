"""Choosing among past trials, and how light the folder is to import."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memory
from memory.records import Records
from memory.retrieval import best, sample_best
from memory.views import TrialView
from tests.postgresql import both_databases
from tools.architecture import Architecture

new_database = both_databases


def test_best_are_those_of_lowest_loss_that_succeeded(filled: Records) -> None:
    assert [view.number for view in best(filled.trials("run-a"), 3)] == [7, 6, 5]
    assert [view.number for view in best(filled.trials("run-a"), 99)] == [7, 6, 5, 4, 2, 1, 0]
    assert best([], 3) == sample_best([], 3, 2, 0) == []


def test_samples_come_from_the_top_and_repeat_with_their_seed(filled: Records) -> None:
    trials = filled.trials("run-a")
    drawn = {seed: [view.number for view in sample_best(trials, 4, 2, seed)] for seed in range(40)}
    assert all(set(numbers) <= {7, 6, 5, 4} and len(numbers) == 2 for numbers in drawn.values())
    assert all(numbers == sorted(numbers, reverse=True) for numbers in drawn.values())
    assert len({tuple(numbers) for numbers in drawn.values()}) == 6
    assert [view.number for view in sample_best(trials, 4, 2, 3)] == drawn[3]
    assert len(sample_best(trials, 4, 9, 0)) == 4


def test_a_design_counts_once(
    filled: Records, design: Callable[..., Architecture], finish_trial: Callable[..., TrialView]
) -> None:
    for turn in range(100, 105):
        finish_trial(filled, "run-a", turn, design(ffn=(128, 128)), 3.0)
    numbers = {view.number for view in sample_best(filled.trials("run-a"), 3, 3, 0)}
    assert numbers == {8, 6, 5}


@given(st.integers(0, 10), st.integers(0, 10), st.integers())
def test_sizes_are_never_exceeded(k: int, size: int, seed: int) -> None:
    assert sample_best([], k, size, seed) == []


def test_every_public_name_is_there() -> None:
    for name in memory.__all__:
        assert getattr(memory, name).__name__ == name
    assert set(dir(memory)) == set(memory.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = memory.nonsense


def test_importing_memory_imports_nothing_heavy() -> None:
    heavy = {"chromadb", "sqlalchemy", "sqlmodel", "sklearn", "torch", "pydantic", "numpy"}
    told = subprocess.run(
        [sys.executable, "-c", f"import memory, sys; print({heavy} & set(sys.modules))"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "set()"
    opened = subprocess.run(
        [
            sys.executable,
            "-c",
            "import memory, sys; memory.Records.open('sqlite://'); print('chromadb' in sys.modules)",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert opened.stdout.strip() == "False"
