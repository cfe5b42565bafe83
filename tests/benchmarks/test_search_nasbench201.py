"""The search on NAS-Bench-201: what a search sees, how figures are made, how it decides."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.chat_team import open_chat_team
from agents.proposers import JUDGES, Proposed, Standing, Tried
from agents.settings import ChatSettings
from benchmarks import search_nasbench201
from benchmarks.search_cache import SearchCache
from benchmarks.search_nasbench201 import (
    CONTENDERS,
    DECIDING,
    MARKS,
    REFERENCE,
    SHOWN,
    Measured,
    agents,
    controls,
    draw,
    holds,
    measure,
    report,
)
from benchmarks.table_agents import AgentsContender, agents_config, chat_ask, total
from benchmarks.table_search import Contender, Searched, accuracy_of_best, band_of_mean, row_of, search
from tests.fake_openai import PROSE, FakeOpenAI
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


def constant(mean: float, searches: int = 3) -> Measured:
    """Curves of searches that are a little apart."""
    return Measured(np.linspace(mean - 0.01, mean + 0.01, searches)[:, None].repeat(100, axis=1), 0.1)


def test_every_judge_has_its_reference_and_decides() -> None:
    assert set(REFERENCE) == set(JUDGES) == set(CONTENDERS)
    measured = {name: constant(93.8) for name in REFERENCE}
    figures = report(measured)
    assert holds(figures) and figures["at_marks"] == {"25": list(REFERENCE), "50": []}
    assert json.loads(json.dumps(figures)) == figures
    row = figures["searchers"]["random"]["after"]["25"]
    assert row["reference"] == [93.40, 0.42] and row["difference"] == pytest.approx(0.4)
    assert row["standard_errors"] == pytest.approx(0.4 / np.hypot(0.42 / 500**0.5, 0.01 / 3**0.5), abs=0.2)
    for name in REFERENCE:
        assert not holds(report(measured | {name: constant(93.0)})), name
    assert set(DECIDING) == set(MARKS) <= set(SHOWN)


def test_agents_are_shown_with_their_lift_and_do_not_decide() -> None:
    measured = {name: constant(93.8) for name in REFERENCE}
    measured |= {"agents": constant(94.2, 6), "agents_control": constant(94.3, 60), "agents_copy": constant(94.2, 60)}
    figures = report(measured)
    assert holds(figures) and figures["at_marks"]["50"] == ["agents", "agents_control", "agents_copy"]
    assert "reference" not in figures["searchers"]["agents"]["after"]["25"]
    assert list(figures["lifts"]) == ["10", "25", "50", "100"]
    last = figures["lifts"]["100"]
    assert last["agents_control"]["sentence"].startswith("The LLM did not help: its best cell's test error in % is 0.")
    assert last["random"]["difference"] == pytest.approx(0.4, abs=0.02) and last["random"]["seeds"] == 3
    assert json.loads(json.dumps(figures)) == figures


def test_lifts_are_after_so_many_trials_and_of_the_best_on_validation_alone() -> None:
    """A better cell on test, found before, counts for nothing."""
    ours = np.full((6, 25), 95.0)
    ours[:, 10:] = 93.0
    theirs = np.full((6, 25), 94.0)
    measured = {"agents": Measured(ours, 0.1)} | {
        name: Measured(theirs, 0.1) for name in ("agents_control", "agents_copy", "random")
    }
    lifts = report(measured)["lifts"]
    assert list(lifts) == ["10", "25"]
    assert lifts["10"]["random"]["difference"] == 1 and lifts["25"]["random"]["difference"] == -1


def test_each_contender_searches_its_number_of_times(table: NASBench201Table, tmp_path: Path) -> None:
    contenders = {"random": Contender(JUDGES["random"], 2), "evolution": Contender(JUDGES["evolution"])}
    measured = measure(table, contenders, seeds=2, trials=100)
    assert {name: one.curves.shape for name, one in measured.items()} == {"random": (4, 100), "evolution": (2, 100)}
    draw(measured, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_kept_searches_are_not_made_again(table: NASBench201Table, tmp_path: Path) -> None:
    made: list[int] = []

    class Counting(Contender):
        def search(self, table: NASBench201Table, trials: int, seed: int) -> Searched:
            made.append(seed)
            return super().search(table, trials, seed)

    def run(**kept: Any) -> tuple[Searched, float]:
        contender = Counting(JUDGES["random"], kept=kept or None)
        return SearchCache(tmp_path, table).search("random", contender, 5, seed=3)

    first = run(pipeline=1)
    assert made == [3] and len(list(tmp_path.glob("random-5-3-*.json"))) == 1
    assert run(pipeline=1) == first and made == [3]
    run(pipeline=2)
    run()
    run()
    assert made == [3] * 4 and len(list(tmp_path.iterdir())) == 2


def test_controls_are_fixed_by_their_seeds_and_their_news_is_what_they_say(table: NASBench201Table) -> None:
    for name, contender in controls(12).items():
        first = contender.search(table, 12, seed=1)
        assert first == contender.search(table, 12, seed=1) != contender.search(table, 12, seed=2)
        cells = [tried.design for tried in first.history]
        assert len(set(cells)) == 12, "no cell is paid for twice"
        ledger = first.ledger
        assert ledger is not None and ledger.turns == 11 and ledger.illegal == 0 and ledger.calls > 11
        if name == "agents_copy":
            assert (ledger.duplicate, ledger.projected) == (ledger.raw, 11), "all that is new is the checker's"
        else:
            assert ledger.valid > 5 and ledger.duplicate < ledger.raw / 2
        assert total([ledger, ledger]).raw == 2 * ledger.raw
    with pytest.raises(ValueError, match="the stages are those of 12 trials"):
        contender.search(table, 13, seed=1)


def test_both_sides_begin_with_the_same_cell(table: NASBench201Table) -> None:
    firsts = {contender.search(table, 2, seed=4).history[0] for contender in controls(2).values()}
    assert len(firsts) == 1


@pytest.fixture
def fake_settings() -> ChatSettings:
    return ChatSettings(chat_model="openai:fake", max_retries=0)


def test_agents_search_cells_with_a_real_endpoint(
    table: NASBench201Table, fake_settings: ChatSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled answers, then three of prose in one turn: repairs, and a turn that comes to nothing."""
    asked: list[dict[str, Any]] = []

    def script(body: dict[str, Any]) -> str | None:
        asked.append(body)
        return PROSE if 6 <= len(asked) < 9 else None

    with FakeOpenAI(script, seed=1) as server:
        server.set_environment(monkeypatch)
        with open_chat_team({"evolver": fake_settings, "distiller": fake_settings}) as team:
            contender = AgentsContender(lambda seed: chat_ask(team, seed), agents_config(10))
            found = contender.search(table, 10, seed=1)
    ledger = found.ledger
    assert len({tried.design for tried in found.history}) == 10
    assert ledger is not None and ledger.turns >= 10 and ledger.faults["no JSON"] == 3
    assert ledger.valid + ledger.repaired + ledger.projected == 9 and ledger.rejected == ledger.turns - 9
    assert ledger.calls == len(asked)
    stages = ["patterns" in str(body["response_format"]) for body in asked]
    assert stages == sorted(stages) and any(stages) and not all(stages), "self-evolution comes first"
    assert all(body["messages"][0] == asked[0]["messages"][0] for body in asked)


def test_where_the_agents_say_nothing_a_judge_takes_over(
    table: NASBench201Table, fake_settings: ChatSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(lambda body: PROSE) as server:
        server.set_environment(monkeypatch)
        with open_chat_team({"evolver": fake_settings, "distiller": fake_settings}) as team:
            contender = AgentsContender(lambda seed: chat_ask(team, seed), agents_config(5))
            found = contender.search(table, 5, seed=1)
    assert found.ledger is not None
    assert len(found.history) == 5 and found.ledger.judged == 4 and found.ledger.rejected == found.ledger.turns


def test_what_decides_a_search_of_the_agents_is_in_its_key() -> None:
    with open_chat_team({}) as team:
        kept = agents(team, 25).kept
    assert kept is not None and json.loads(json.dumps(kept)) is not None
    assert "0.7" in json.dumps(kept["settings"]) and len(kept["prompts"]) == 5 and len(kept["schemas"]) == 3


def test_a_table_that_is_none_ends_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("arch_str,accuracy\nx,1\n")
    command = [sys.executable, "-m", "benchmarks.search_nasbench201", "--table", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "has no column 'c10_val_200ep'; it has arch_str, accuracy" in done.stderr
    with pytest.raises(SystemExit):
        search_nasbench201.main(["--seeds", "1"])
