"""The benchmark of all searchers on the real model: its verdict from given figures, and a whole one on a tiny model."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import search_pruned_lm
from benchmarks.growing import Job, Scale
from benchmarks.pruned_lm_searches import HELD_OUT_FILE, Searched, Searches, added
from benchmarks.search_pruned_lm import GREEDY, draw, holds, measure, plan_of, report, table
from graph.judgement import AGENTS, Judgement, Outcome
from memory.ledger import Ledger
from memory.records import Records
from tests.fake_openai import FakeOpenAI
from tools.settings import WidthSettings

SCALE = Scale(tokens=64, batch=1, micro_batch=1, block=32, validation_tokens=64)
PLAN = plan_of(SCALE, trials=3, seeds=2, held_out_tokens=128)


def searched(agents: float, random: float, evolution: float = 9.0) -> Searched:
    """Three seeds of three searchers, whose best designs have these held-out losses, a little apart by seed."""
    outcomes, held_out = [], {}
    for name, loss in ((AGENTS, agents), ("random", random), ("evolution", evolution)):
        for seed in range(3):
            run = f"{name} {seed}"
            outcomes.append(Outcome(name, seed, run, (4.5, None, loss + 0.2 + 0.01 * seed, loss + 0.3)))
            held_out[run] = loss + 0.01 * seed
    ledger = Ledger(raw=4, parsed=3, turns=4, valid=2)
    return Searched(Judgement("loss", tuple(outcomes)), held_out, 4.2, ledger, (3.0, 5.0, 100.0))


def test_the_held_out_loss_decides_for_every_judge() -> None:
    figures = report(searched(agents=4.0, random=4.1), {"trials": 4})
    assert figures["methods"][AGENTS]["held_out"] == pytest.approx(4.01)
    assert figures["methods"]["greedy"]["held_out"] == 4.2
    assert figures["below"] == {"random": True, "evolution": True, "greedy": True} and holds(figures)
    assert figures["seconds_per_evaluation"] == 5.0 and figures["ledger"]["rates"]["parsed"] == 0.75


def test_one_better_judge_is_enough_against_the_agents() -> None:
    figures = report(searched(agents=4.0, random=4.1, evolution=3.9), {})
    assert figures["below"]["evolution"] is False and not holds(figures)
    lifts = {found["judge"]: found for found in figures["lifts"]}
    assert lifts["random"]["held_out"] == pytest.approx(0.1) and lifts["evolution"]["held_out"] == pytest.approx(-0.1)
    assert "No lift of the LLM is shown" in lifts["evolution"]["sentence"]


def test_greedy_is_no_judge_but_shown() -> None:
    figures = report(searched(agents=4.3, random=4.4), {})
    assert figures["below"]["greedy"] is False and holds(figures)
    header, rows = table(figures)
    assert rows[0][:2] == ["greedy", "-"] and len(header) == len(rows[0])


def test_validation_curves_are_the_best_so_far(tmp_path: Path) -> None:
    found = searched(agents=4.0, random=4.1)
    figures = report(found, {})
    curve = figures["methods"][AGENTS]["validation_by_trials"]
    assert curve == pytest.approx([4.5, 4.5, 4.21, 4.21])
    draw(found.judgement, figures, tmp_path / "searches.png")
    assert (tmp_path / "searches.png").stat().st_size > 10_000


def test_an_evaluation_has_the_tokens_of_its_scale() -> None:
    scale = search_pruned_lm.SCALES["cpu", False]
    plan = plan_of(scale, trials=8, seeds=3, held_out_tokens=1024)
    assert plan.training_steps * scale.step_tokens == scale.tokens and plan.warmup_steps == 2 * plan.training_steps


def test_ledgers_add_up() -> None:
    both = added([Ledger(raw=2, faults={"empty": 1}), Ledger(raw=3, parsed=1, faults={"empty": 2, "timeout": 1})])
    assert (both.raw, both.parsed, both.faults) == (5, 1, {"empty": 3, "timeout": 1})


def test_it_tells_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["search_pruned_lm.py", "--help"])
    monkeypatch.delitem(sys.modules, "benchmarks.search_pruned_lm")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks.search_pruned_lm", run_name="__main__")
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "--quick" in said and "python -m benchmarks.search_pruned_lm" in said


@pytest.mark.slow
def test_all_sides_draw_from_one_table_and_nothing_is_measured_twice(
    job_for: Callable[[str, Scale], Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = job_for("search_pruned_lm", SCALE)
    width = WidthSettings(ffn_multiple=8, hidden_multiple=8)
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        searches = Searches(job, PLAN, 0.8, "openai:fake", ("random", "local"), width)
        figures, searched = measure(searches)
        asked = len(server.requests)
        again, _ = measure(Searches(job, PLAN, 0.8, "openai:fake", ("random", "local"), width))
        assert len(server.requests) == asked > 0
    assert again == figures and json.loads(json.dumps(figures)) == figures
    with Records.open(job.folder / "records.sqlite") as records:
        trials = [trial for run in records.runs() for trial in records.trials(run.id)]
    assert len(trials) == 3 * 2 * 3 and figures["evaluations"] == len({trial.architecture.hash for trial in trials})
    assert len({trial.loss for trial in trials if trial.number == 0}) == 1, "all seeds have the same trial 0"

    kept = json.loads((job.folder / HELD_OUT_FILE).read_text())
    best = {one.run: one.best(3) for one in searched.judgement.outcomes}
    measured = {trial.evaluation_key for trial in trials if trial.number == 0 or trial.loss == best[trial.run_id]}
    assert {key.split()[0] for key in kept} == measured and set(searched.held_out) == set(best)
    methods = figures["methods"]
    assert set(methods) == {"agents", "random", "local", GREEDY} and methods[GREEDY]["held_out"] in [
        round(loss, 4) for loss in kept.values()
    ]
    blocks = searches._held_out_blocks
    assert blocks.shape == (4, 32), "of the validation part, beyond what the searches measure on"
    assert not list(job.folder.glob("runs/*/best_model")), "the exports are not kept"
    assert figures["ledger"]["turns"] == 4 and figures["ledger"]["rates"]["parsed"] == 1
    draw(searched.judgement, figures, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
