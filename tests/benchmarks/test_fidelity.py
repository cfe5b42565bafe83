"""The benchmark of fidelities: searches on given tables, the verdict, and a whole one on a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fidelity import CLIMBS, PLAIN, SEARCHERS, draw, holds, measure, report, table_of, tables
from benchmarks.fidelity_pool import FORECAST, LADDER, RUNGS, Pool, Row
from benchmarks.fidelity_searches import Searcher, Table, correlations, gain
from benchmarks.growing import Job, Scale
from tools.settings import WidthSettings

SCALE = Scale(tokens=64, batch=1, micro_batch=1, block=32, validation_tokens=64)
COSTS = (1.0, 4.0, 16.0)


def rows(count: int, noise: float, seed: int = 0) -> list[Row]:
    """Designs whose cheap figures are the true one and so much noise, the less the higher the rung."""
    draws = np.random.default_rng(seed)
    truth = draws.normal(size=count)
    found = []
    for number in range(count):
        losses = {RUNGS[-1]: float(truth[number])}
        for place, rung in enumerate(RUNGS[:-1]):
            losses[rung] = float(truth[number] + noise * (3 - place) * draws.normal())
        seconds = dict(zip(LADDER, COSTS, strict=True))
        found.append(Row("mutant", f"design {number}", 1000, losses, {FORECAST: 0.0, **seconds}))
    return found


@pytest.mark.slow
def test_a_ladder_that_tells_the_truth_finds_more_at_equal_cost() -> None:
    figures = report(rows(32, noise=0.0), {"designs": 32}, seeds=12)
    climbed = figures["searchers"][CLIMBS]
    assert holds(figures) and climbed["interval"][0] < climbed["lower_by"] < climbed["interval"][1]
    assert climbed["lower_by"] > 0.3 and climbed["loss"] < figures["searchers"][PLAIN]["loss"]
    assert figures["budget_seconds"] == 8 * COSTS[-1] and figures["budget_evaluations"] == 8
    both = figures["correlations"][LADDER[0]][LADDER[-1]]
    assert both["spearman"]["value"] == both["kendall"]["value"] == 1.0
    header, found = tables(figures)[1]
    assert found[-1][0] == PLAIN and len(header) == len(found[0])


@pytest.mark.slow
def test_a_ladder_that_lies_finds_less() -> None:
    told = rows(32, noise=0.0)
    lies = [
        Row(
            one.origin,
            one.design,
            one.parameters,
            {**one.losses, **{r: -one.losses[r] for r in RUNGS[:-1]}},
            one.seconds,
        )
        for one in told
    ]
    figures = report(lies, {"designs": 32}, seeds=40)
    assert not holds(figures) and figures["correlations"][LADDER[0]][LADDER[-1]]["spearman"]["value"] == -1.0


def test_without_a_ladder_the_best_so_far_is_found_in_the_order_of_the_draw() -> None:
    table = Table(np.array([[9.0] * 4, [9.0] * 4, [3.0, 1.0, 2.0, 4.0]]), COSTS, np.zeros(4), (0, 1, 2, 3))
    curve = Searcher("plain", (2,)).curve(table, [15.0, 16.0, 31.9, 32.0, 64.0, 99.0], seed=0)
    assert np.isnan(curve[0]) and curve[1] == curve[2] and curve[-1] == curve[-2] == 1.0
    assert (np.diff(curve[1:]) <= 0).all()


def test_what_a_ladder_pays_is_what_its_rungs_cost() -> None:
    """Four designs on the first rung and one on the second cost 8; only the promoted one can be given then."""
    losses = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 9.0], [10.0, 20.0, 30.0, 40.0]])
    table = Table(losses, COSTS, np.zeros(4), (0, 1, 2, 3))
    curve = Searcher("ladder", (0, 1, 2), 4).curve(table, [4.0, 7.9, 8.0, 99.0], seed=1)
    assert curve.tolist() == [40.0] * 4
    halving = Searcher("ladder", (0, 1, 2), 2).curve(table, [999.0], seed=1)
    assert halving[0] in losses[2], "in the end one has had the long training"


def test_the_forecast_chooses_what_is_paid_for() -> None:
    forecasts = np.array([4.0, 3.0, 2.0, 1.0])
    table = Table(np.array([[1.0, 2.0, 3.0, 4.0]] * 3), COSTS, forecasts, (0, 1, 2, 3))
    first = Searcher("screened", (2,), proposals=4).curve(table, [16.0], seed=5)
    assert first[0] == 4.0, "of all four the one of the best forecast"


def test_the_interval_is_over_the_designs() -> None:
    plain, ladder = SEARCHERS[0], SEARCHERS[1]
    differ = gain(ladder, plain, table_of(rows(24, noise=0.3)), [96.0], seeds=20)
    assert differ.low[0] < differ.difference[0] < differ.high[0]
    alike = Table(np.ones((3, 24)), COSTS, np.zeros(24), tuple(range(24)))
    same = gain(ladder, plain, alike, [96.0], seeds=20)
    assert same.low[0] == same.difference[0] == same.high[0] == 0


def test_correlations_of_figures_that_are_all_equal_are_none() -> None:
    found = correlations({"one": [1.0, 1.0, 1.0], "other": [1.0, 2.0, 3.0], "third": [1.0, 3.0, 2.0]})
    assert found["one"]["other"]["spearman"] is None
    assert found["other"]["third"]["spearman"]["value"] == 0.5  # type: ignore[index]
    low, high = found["other"]["third"]["spearman"]["interval"]  # type: ignore[index]
    assert -1 <= low <= 0.5 <= high <= 1


@pytest.mark.slow
def test_a_pool_is_measured_once(job_for: Callable[[str, Scale], Job], tmp_path: Path) -> None:
    job = job_for("fidelity", SCALE)
    pool = Pool(job, 4, 0.8, 2, 2, WidthSettings(ffn_multiple=8, hidden_multiple=8))
    figures = measure(pool, seeds=5)
    assert json.loads(json.dumps(figures)) == figures
    assert [row["origin"] for row in figures["rows"]] == ["greedy", "mutant", "far mutant", "mutant"]
    kept = sorted((job.folder / "evaluations").glob("*/measurement.json"))
    assert len(kept) == 12 and not list((job.folder / "evaluations").glob("*/model"))
    times = [file.stat().st_mtime_ns for file in kept]
    again = Pool(job, 4, 0.8, 2, 2, WidthSettings(ffn_multiple=8, hidden_multiple=8))
    assert measure(again, seeds=5) == figures
    assert [file.stat().st_mtime_ns for file in kept] == times
    assert figures["tokens"] == {"one_shot": 0, "short_training": 64, "long_training": 256}
    draw(figures, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
