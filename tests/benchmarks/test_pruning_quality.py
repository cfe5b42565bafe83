"""What `benchmarks.pruning_quality` compares, and how it decides."""

from typing import Any

import pytest

from benchmarks.pruning_quality import BUDGETS, GROWN, POST_TRAINING, SHARES, rows_of, verdict


def row(method: str, loss: float, wikitext2: float, budget: int = 100, seed: int = 0) -> dict[str, Any]:
    return {"method": method, "share": 0.85, "budget": budget, "seed": seed, "loss": loss, "wikitext2": wikitext2}


def test_every_method_is_measured_at_every_size_and_budget() -> None:
    rows = list(rows_of(False, (0,)))
    methods = {*GROWN, *POST_TRAINING, "torch-pruning", "from scratch"}
    assert {(one.method, one.share, one.tokens) for one in rows} == {
        (method, share, tokens) for method in methods for share in SHARES for tokens in BUDGETS
    }
    assert len(rows) == len(methods) * len(SHARES) * len(BUDGETS)
    quick = list(rows_of(True, (0,)))
    assert 2 < len(quick) < 8 and set(GROWN) <= {one.method for one in quick} != set(GROWN)


def test_the_best_of_each_side_decides_for_each_figure() -> None:
    rows = [
        row("grown", 3.0, 40.0),
        row("grown, no repair", 2.9, 41.0),
        row("fisher", 3.1, 39.0),
        row("flap", 3.2, 50.0),
    ]
    loss, wikitext = verdict(rows)
    assert (loss["best_of_growing"], loss["best_other"], loss["below"]) == ("grown, no repair", "fisher", True)
    assert (wikitext["best_of_growing"], wikitext["best_other"], wikitext["below"]) == ("grown", "fisher", False)


def test_seeds_count_by_their_mean() -> None:
    rows = [
        row("grown", 3.0, 40.0),
        row("grown", 4.0, 40.0, seed=1),
        row("fisher", 3.4, 41.0),
        row("fisher", 3.5, 41.0, seed=1),
    ]
    loss, _ = verdict(rows)
    assert loss["growing"] == pytest.approx(3.5) and loss["other"] == pytest.approx(3.45) and not loss["below"]


def test_budgets_are_judged_apart() -> None:
    rows = [
        row(name, loss, 40.0, budget)
        for budget, ours in ((100, 3.0), (200, 3.3))
        for name, loss in (("grown", ours), ("flap", 3.1))
    ]
    assert [entry["below"] for entry in verdict(rows) if entry["figure"] == "loss"] == [True, False]
