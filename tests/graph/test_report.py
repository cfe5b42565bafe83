"""How well designs were ranked before they were paid for."""

import random
from collections.abc import Callable

import pytest
from scipy.stats import spearmanr

from graph.report import forecast_quality
from memory.records import Records
from memory.tables import Run
from memory.views import TrialView
from penjing.tables import forecast_lines, trial_table
from tests.memory.conftest import finish, make_design

Trials = Callable[..., list[TrialView]]


@pytest.fixture
def trials_of() -> Trials:
    def make(
        losses: list[float | None], forecasts: list[float | None], expected: list[float | None]
    ) -> list[TrialView]:
        with Records.open("sqlite://") as records:
            records.create_run(Run(id="run"))
            for turn, (loss, forecast, score) in enumerate(zip(losses, forecasts, expected, strict=True)):
                design = make_design(hidden=8 * (turn + 1))
                finish(records, "run", turn, design, loss, forecast=forecast, expected_score=score)
            return records.trials("run")

    return make


def test_both_forecasts_are_compared_with_the_truth(trials_of: Trials) -> None:
    losses = [random.Random(1).gauss(4.0, 0.1 * (place + 1)) for place in range(8)]
    noisy = [loss + random.Random(place).gauss(0, 0.3) for place, loss in enumerate(losses)]
    expected = [None, None, None, *(10 - loss for loss in losses[3:])]
    quality = forecast_quality(trials_of([*losses, None], [*noisy, 0.1], [*expected, 2.0]))
    saliency, surrogate = quality["saliency"], quality["surrogate"]
    assert saliency.trials == 8 and saliency.rank_correlation == pytest.approx(spearmanr(noisy, losses).statistic)
    assert 0 < (saliency.rank_correlation or 0) < 1
    assert surrogate.trials == 5 and surrogate.rank_correlation == pytest.approx(-1)
    lines = forecast_lines({name: found.model_dump() for name, found in quality.items()})
    words = f"saliency {saliency.rank_correlation:.2f} (8 trials), surrogate -1.00 (5 trials)"
    assert lines == [f"forecasts' rank correlation with what was measured: {words}"]


def test_nothing_is_said_of_too_few_or_equal_figures(trials_of: Trials) -> None:
    few = forecast_quality(trials_of([1.0, 2.0, 3.0, None], [1.0, 2.0, 3.0, 4.0], [None] * 4))
    assert (few["saliency"].rank_correlation, few["saliency"].trials) == (None, 3)
    assert (few["surrogate"].rank_correlation, few["surrogate"].trials) == (None, 0)
    equal = forecast_quality(trials_of([1.0, 2.0, 3.0, 4.0], [0.5] * 4, [None] * 4))
    assert (equal["saliency"].rank_correlation, equal["saliency"].trials) == (None, 4)
    assert forecast_lines({name: found.model_dump() for name, found in equal.items()}) == []


def test_the_table_of_trials_has_what_was_expected(trials_of: Trials) -> None:
    trials = trials_of([4.0, 3.0], [0.1, 0.2], [None, 3.125])
    heads = {str(column.header): list(column.cells) for column in trial_table(trials).columns}
    assert heads["expected"] == ["-", "3.1250"] and heads["loss"] == ["4.0000", "3.0000"]
    assert "expected" not in {str(column.header) for column in trial_table(trials[:1]).columns}
