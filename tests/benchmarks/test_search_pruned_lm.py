"""The verdict of the benchmark of all searchers on the real model, from given figures."""

from pathlib import Path

import pytest

from benchmarks import search_pruned_lm
from benchmarks.pruned_lm_searches import Searched, added
from benchmarks.search_pruned_lm import draw, holds, plan_of, report, table
from graph.judgement import AGENTS, Judgement, Outcome
from memory.ledger import Ledger


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
