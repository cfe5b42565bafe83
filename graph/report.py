"""The final table of a run: the parent as it was, the saliency-greedy design, the best of the search; and forecasts."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from memory.outcomes import compared
from memory.retrieval import best
from memory.views import TrialView
from tools.measurement import Measurement
from tools.requests import Survey

_FEWEST_TRIALS = 4


class ResultRow(BaseModel):
    """One row: `loss` in nats per token on the validation blocks, `latency_ms` per decoded token.

    `accuracy` is the mean zero-shot accuracy, a share, in a search that is after it. `over_limit` says which measured
    limit of the run it breaks, and by how much. `measured_after` says at which fidelity, where the run has several.
    `difference_error` is the standard error of its loss less the saliency-greedy design's, over validation blocks.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    trial: int | None
    parameters: int
    loss: float | None
    perplexity: float | None
    latency_ms: float | None
    design: str
    over_limit: str | None = None
    stage: str | None = None
    accuracy: float | None = None
    accuracy_stderr: float | None = None
    measured_after: str = ""
    difference_error: float | None = None


def result_table(survey: Survey, trials: Sequence[TrialView]) -> list[ResultRow]:
    """Parent, greedy design where it was grown, best trial."""
    rows = [_row("parent, not trained further", None, survey.measurement, survey.architecture.describe())]
    leaders = best(trials, 1)
    greedy = [_beside(trial, leaders) for trial in trials if trial.stage == "greedy"]
    for name, trial in [("saliency-greedy design", greedy[:1]), ("best of the search", leaders)]:
        for entry in trial:
            if entry.measurement is not None:
                row = _row(name, entry.number, entry.measurement, entry.architecture.describe())
                over = None if entry.over_limit is None else str(entry.over_limit)
                difference = compared(entry, greedy[0]) if greedy else None
                more = {
                    "over_limit": over,
                    "stage": entry.stage,
                    "measured_after": entry.measured_after,
                    "difference_error": None if difference is None else difference.error,
                }
                rows.append(row.model_copy(update=more))
    return rows


def _beside(greedy: TrialView, leaders: Sequence[TrialView]) -> TrialView:
    """The greedy design at the fidelity of the best one, where it came so far."""
    same = [rung for rung in greedy.rungs if rung.succeeded and rung.fidelity in {one.fidelity for one in leaders}]
    return greedy.on_rung(same[0]) if same else greedy


class ForecastQuality(BaseModel):
    """How well a forecast ranked a run's designs before they were paid for.

    `rank_correlation` is Spearman's, of the forecast with the measured score, over `trials`: 1 where it ranked them all
    rightly, 0 where it said nothing. None for fewer than four trials, and where all forecasts or scores are equal.
    """

    model_config = ConfigDict(frozen=True)

    rank_correlation: float | None
    trials: int


def forecast_quality(trials: Sequence[TrialView]) -> dict[str, ForecastQuality]:
    """The quality of both forecasts: `saliency` of what is cut, and what the `surrogate` expected."""
    # Where all were measured, and what was expected of them.
    trials = [trial.on_first_rung() for trial in trials]
    return {
        "saliency": _quality([(trial.forecast, trial.score) for trial in trials]),
        "surrogate": _quality([(trial.expected_score, trial.score) for trial in trials]),
    }


def _quality(pairs: Sequence[tuple[float | None, float | None]]) -> ForecastQuality:
    known = [(forecast, score) for forecast, score in pairs if forecast is not None and score is not None]
    forecasts, scores = {forecast for forecast, _ in known}, {score for _, score in known}
    if len(known) < _FEWEST_TRIALS or len(forecasts) == 1 or len(scores) == 1:
        return ForecastQuality(rank_correlation=None, trials=len(known))
    # Half a second to import, and only reports need it.
    from scipy.stats import spearmanr  # type: ignore[import-untyped]

    return ForecastQuality(rank_correlation=float(spearmanr(known).statistic), trials=len(known))


def _row(name: str, trial: int | None, measurement: Measurement, design: str) -> ResultRow:
    return ResultRow(
        name=name,
        trial=trial,
        parameters=measurement.parameters,
        loss=measurement.loss,
        perplexity=measurement.perplexity,
        latency_ms=measurement.latency_ms,
        accuracy=measurement.accuracy,
        accuracy_stderr=measurement.accuracy_stderr,
        design=design,
    )
