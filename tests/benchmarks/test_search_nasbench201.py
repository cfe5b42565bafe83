"""The search on NAS-Bench-201: what a search sees, how figures are made, how it decides."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.proposers import JUDGES, Proposed, Standing, Tried
from benchmarks import search_nasbench201
from benchmarks.search_nasbench201 import CONTENDERS, DECIDING, MARKS, REFERENCE, SHOWN, draw, holds, measure, report
from benchmarks.table_search import Contender, accuracy_of_best, band_of_mean, row_of, search
from tools.spaces import Cell, CellDraft, NASBench201Space
from tools.spaces.nasbench201_table import NASBench201Table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table() -> NASBench201Table:
    """Validation counts the place of each operation; test is its opposite, so that peeking would show."""
    space = NASBench201Space()
    rows = [(cell.string, 50.0 + sum(space.encode(cell)), 50.0 - sum(space.encode(cell))) for cell in space.designs()]
    return NASBench201Table.of_rows(rows, "a test")


class Recorder:
    """A random searcher that writes down what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Standing[Cell, CellDraft]] = []

    async def ask(self, situation: Standing[Cell, CellDraft]) -> Proposed[Cell, CellDraft]:
        self.seen.append(situation)
        return await JUDGES["random"]().ask(situation)


class Illegal:
    """A searcher whose answer is none."""

    async def ask(self, situation: Standing[Cell, CellDraft]) -> Proposed[Cell, CellDraft]:
        draft = CellDraft(operations=("none",))
        return Proposed(draft=draft, base=situation.space.decode([0] * 6))


def test_a_search_sees_validation_alone(table: NASBench201Table) -> None:
    recorder = Recorder()
    history = search(recorder, table, 6, seed=2)
    assert [len(standing.history) for standing in recorder.seen] == list(range(6))
    assert len({standing.seed for standing in recorder.seen}) == 6
    for tried in history:
        assert tried.value == 100 - table.validation(tried.design)
    assert list(recorder.seen[-1].history) == history[:5]
    assert search(Recorder(), table, 6, seed=2) == history != search(Recorder(), table, 6, seed=3)


def test_an_illegal_cell_is_an_error(table: NASBench201Table) -> None:
    with pytest.raises(ValueError, match="turn 0 of seed 4: an illegal cell"):
        search(Illegal(), table, 3, seed=4)


def test_the_best_on_validation_is_what_is_tested(table: NASBench201Table) -> None:
    cells = [NASBench201Space().decode([code] * 6) for code in (1, 0, 3, 2)]
    history = [Tried(number, cell, 100 - table.validation(cell)) for number, cell in enumerate(cells)]
    assert accuracy_of_best(history, table) == [44, 44, 32, 32]


def test_bands_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        low, high = band_of_mean(rng.normal(5, 2, size=(40, 1)))
        inside += int(low[0] < 5 < high[0])
    assert 180 <= inside <= 198
    row = row_of(np.array([[1.0, 2.0], [1.0, 4.0]]), 2)
    assert row["mean"] == 3 and row["spread"] == pytest.approx(2**0.5, abs=1e-3) and row["band"] == [2, 4]


def constant(mean: float, searches: int = 3) -> Any:
    """Curves of searches that are a little apart."""
    return np.linspace(mean - 0.01, mean + 0.01, searches)[:, None].repeat(100, axis=1)


def test_every_judge_has_its_reference_and_decides() -> None:
    assert set(REFERENCE) == set(JUDGES) == set(CONTENDERS)
    curves = {name: constant(93.8) for name in REFERENCE}
    figures = report(curves, dict.fromkeys(REFERENCE, 0.1))
    assert holds(figures) and figures["at_marks"] == {"25": list(REFERENCE), "50": []}
    assert json.loads(json.dumps(figures)) == figures
    row = figures["searchers"]["random"]["after"]["25"]
    assert row["reference"] == [93.40, 0.42] and row["difference"] == pytest.approx(0.4)
    assert row["standard_errors"] == pytest.approx(0.4 / np.hypot(0.42 / 500**0.5, 0.01 / 3**0.5), abs=0.2)
    for name in REFERENCE:
        figures = report(curves | {name: constant(93.0)}, dict.fromkeys(REFERENCE, 0.1))
        assert not holds(figures), name
    assert set(DECIDING) == set(MARKS) <= set(SHOWN)


def test_a_searcher_without_a_reference_is_shown_and_does_not_decide() -> None:
    curves = {name: constant(93.8) for name in REFERENCE} | {"agents": constant(94.2)}
    figures = report(curves, dict.fromkeys(curves, 0.1))
    assert holds(figures) and figures["at_marks"]["50"] == ["agents"]
    assert "reference" not in figures["searchers"]["agents"]["after"]["25"]


def test_each_contender_searches_its_number_of_times(table: NASBench201Table, tmp_path: Path) -> None:
    contenders = {"random": Contender(JUDGES["random"], 2), "evolution": Contender(JUDGES["evolution"])}
    curves, seconds = measure(table, contenders, seeds=2, trials=100)
    assert {name: values.shape for name, values in curves.items()} == {"random": (4, 100), "evolution": (2, 100)}
    assert set(seconds) == set(contenders)
    draw(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_table_that_is_none_ends_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("arch_str,accuracy\nx,1\n")
    command = [sys.executable, "-m", "benchmarks.search_nasbench201", "--table", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "has no column 'c10_val_200ep'; it has arch_str, accuracy" in done.stderr
    with pytest.raises(SystemExit):
        search_nasbench201.main(["--seeds", "1"])
