"""The benchmarks of memory: what a search is given, what is said of given figures, and a whole one on a tiny model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.chat_answers import Answer
from agents.conversation import Ask, Question
from benchmarks import memory, memory_pruned_lm
from benchmarks.growing import Job, Scale
from benchmarks.memory import ALONE, MODES, PAST, Measured, across_runs, draw, holds, measure, report, sentence
from benchmarks.search_cache import SearchCache
from benchmarks.search_pruned_lm import plan_of
from benchmarks.table_agents import AgentsContender, agents_config, random_ask
from benchmarks.table_past import ScreenedSearch
from graph.config import MemoryMode
from memory.ledger import Ledger
from memory.records import Records
from tests.fake_openai import FakeOpenAI
from tools.settings import WidthSettings
from tools.spaces import NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

SCALE = Scale(tokens=64, batch=1, micro_batch=1, block=32, validation_tokens=64)
PLAN = plan_of(SCALE, trials=3, seeds=2, held_out_tokens=128)


@pytest.fixture(scope="module")
def table() -> NASBench201Table:
    """Validation and test count the place of each operation, so that a surrogate can learn it."""
    space = NASBench201Space()
    rows = [(cell.string, 60.0 + sum(space.encode(cell)), 60.0 + sum(space.encode(cell))) for cell in space.designs()]
    return NASBench201Table.of_rows(rows, "a test")


def listening(asked: list[Question]) -> Callable[[int], Ask]:
    def of(seed: int) -> Ask:
        answer = random_ask(seed)

        async def ask(question: Question) -> Answer:
            asked.append(question)
            return (await answer(question)).model_copy(update={"input_tokens": 100, "output_tokens": 7})

        return ask

    return of


@pytest.mark.parametrize("mode", MODES)
def test_a_search_is_given_its_own_past(table: NASBench201Table, mode: MemoryMode) -> None:
    asked: list[Question] = []
    found = AgentsContender(listening(asked), agents_config(8, mode)).search(table, 8, seed=3)
    prompts = "\n".join(question.messages[1][1] for question in asked)
    assert ("Tried near the current cell" in prompts or "Also tried" in prompts) == (mode != "off")
    assert ("Notes from earlier trials" in prompts) == (mode == "full")
    assert ("such designs were better" in prompts) == (mode == "full")
    assert found.tokens == (100 * len(asked), 7 * len(asked))
    first = [question for question in asked if question.turn == 1]
    assert "Tried near" not in first[0].messages[1][1], "there is nothing but the current cell"


def test_searches_without_memory_differ_in_nothing_but_what_they_are_told(table: NASBench201Table) -> None:
    """Answers that do not hang on the prompt give the same search in every mode."""
    found = [AgentsContender(random_ask, agents_config(8, mode)).search(table, 8, seed=5).history for mode in MODES]
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_earlier_records_help_a_surrogate(table: NASBench201Table) -> None:
    with_past, without = (ScreenedSearch(earlier, earlier_trials=12) for earlier in (3, 0))
    errors = [
        [min(one.value or 0.0 for one in side.search(table, 6, seed).history) for seed in range(6)]
        for side in (with_past, without)
    ]
    assert np.mean(errors[0]) < np.mean(errors[1])
    assert with_past.search(table, 4, 1) == with_past.search(table, 4, 1)


def curves(mean: float, spread: float = 0.01) -> Measured:
    """Six searches of 25 trials, in no order of their worth."""
    ends = mean + spread * np.array([1.0, -2.0, 3.0, -3.0, 2.0, -1.0])
    return Measured(ends[:, None].repeat(25, axis=1), Ledger(raw=4, duplicate=1, turns=2, calls=5), (500, 50))


def figures_of(full: float, off: float, past: float, alone: float) -> dict[str, Any]:
    ours = {"full": curves(full), "no_lessons": curves(off, 0.02), "off": curves(off, -0.01)}
    return {
        "agents": report(ours, [("full", "off"), ("no_lessons", "off")]),
        "across_runs": report({PAST: curves(past), ALONE: curves(alone, -0.01)}, [(PAST, ALONE)]),
    }


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((93.5, 93.0, 93.5, 93.0), True),
        ((93.0, 93.0, 93.0, 93.0), True),
        ((92.5, 93.0, 93.5, 93.0), False),
        ((93.5, 93.0, 92.5, 93.0), False),
    ],
)
def test_it_holds_where_memory_does_no_harm(means: tuple[float, float, float, float], expected: bool) -> None:
    figures = figures_of(*means)
    assert holds(figures) is expected and json.loads(json.dumps(figures)) == figures
    row = figures["agents"]["searches"]["full"]
    assert (row["tokens_read_per_call"], row["duplicate_rate"]) == (100.0, 0.25)
    assert set(row["after"]) == {"10", "25"}


def test_the_sentences_follow_from_the_numbers() -> None:
    lifts = {
        name: memory.lift_between({"full": curves(mean), "off": curves(93.0, -0.01)}, "full", "off", 25)
        for name, mean in (("helped", 93.5), ("worse", 92.5), ("neither", 93.0))
    }
    assert sentence(lifts["helped"], "full").startswith(
        "Memory helped: the mean test error with full is 0.500 points below"
    )
    assert sentence(lifts["worse"], "full").startswith("Memory made the search worse: the mean test error with full is")
    assert "which chance alone may do" in sentence(lifts["neither"], "full")
    few = replace(lifts["helped"], seeds=(0, 1))
    assert "fewer than 6 seeds are too few" in sentence(few, "full")


def test_searches_are_kept_and_drawn(table: NASBench201Table, tmp_path: Path) -> None:
    cache = SearchCache(tmp_path / "kept", table)
    sides = {name: replace(one, earlier_trials=5) for name, one in across_runs().items()}  # type: ignore[type-var]
    found = measure(table, sides, 2, 10, cache)  # type: ignore[arg-type]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(kept) == 4
    again = measure(table, sides, 2, 10, cache)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == kept
    assert all((found[name].curves == again[name].curves).all() for name in found)
    draw({"a": found, "b": found}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_on_the_real_model_both_sides_draw_from_one_table(
    job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job, width = job_for("search_pruned_lm", SCALE), WidthSettings(ffn_multiple=8, hidden_multiple=8)
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        sides = memory_pruned_lm.searches_of(job, PLAN, "openai:fake", width)
        found = memory_pruned_lm.measure(sides)
        asked = len(server.requests)
        again = memory_pruned_lm.measure(memory_pruned_lm.searches_of(job, PLAN, "openai:fake", width))
        assert len(server.requests) == asked > 0
    facts = sides["full"].facts()
    figures = memory_pruned_lm.report(found, facts)
    assert memory_pruned_lm.report(again, facts) == figures and json.loads(json.dumps(figures)) == figures
    with Records.open(job.folder / "records.sqlite") as records:
        runs = records.runs()
        told = {run.config["memory"]: [len(one.retrieved) for one in records.proposals(run.id)] for run in runs}
        keys = [evaluation.key for run in runs for evaluation in records.evaluations(run.id)]
    assert len(runs) == 4 and len(keys) == len(set(keys)), "no evaluation was paid for twice"
    assert not any(told["off"]) and any(told["full"])
    assert figures["modes"]["full"]["seeds"] == 2 and "too few" in figures["lift"]["sentence"]
    assert memory_pruned_lm.holds(figures)
    memory_pruned_lm.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
