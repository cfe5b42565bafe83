"""A survey and a trial that are told to end: they write down where they are, and no step of theirs is taken twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from tools.measurement import Measurement
from tools.requests import Progress, SurveyRequest, TrialRequest
from tools.settings import Recipe
from tools.stopping import Stop, WorkStoppedError
from tools.survey import run_survey
from tools.trial import run_trial
from tools.trial_folder import begun_trial

STEPS = list(range(1, 9))
RECIPE = Recipe(warmup_steps=8, training_steps=8, batch_size=2, micro_batch_size=1, precision="float32")


@pytest.fixture
def survey_request(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> SurveyRequest:
    config = SearchConfig(**settings_of(tmp_path))
    return SurveyRequest(
        source=config.source, corpus=config.corpus, data=config.data, recipe=RECIPE, seed=0, cache=config.cache
    )


@pytest.fixture
def trial_of(survey_request: SurveyRequest, tmp_path: Path) -> Callable[..., TrialRequest]:
    survey = run_survey(survey_request, lambda _: None)
    design = survey.architecture.model_copy(update={"hidden_size": survey.architecture.hidden_size * 3 // 4})

    def make(folder: str = "trial", **other: Any) -> TrialRequest:
        (tmp_path / folder).mkdir(exist_ok=True)
        recipe = RECIPE.model_copy(update=other.pop("recipe", {}))
        request = TrialRequest(survey=survey, design=design, recipe=recipe, seed=0, folder=tmp_path / folder)
        return request.model_copy(update=other)

    return make


def stopped_at(work: Callable[..., Any], request: SurveyRequest | TrialRequest, phase: str, done: int) -> list[int]:
    """The steps that were taken until it ended: told at this point, as by Ctrl-C."""
    stop, steps = Stop(), list[int]()

    def report(progress: Progress) -> None:
        stop.hear(progress)
        if progress.is_step:
            steps.append(progress.done)
        if (progress.phase, progress.done) == (phase, done):
            stop.ask()
            stop.hear(progress)

    with pytest.raises(WorkStoppedError):
        work(request, report, stop)
    return steps


def gone_on(work: Callable[..., Any], request: SurveyRequest | TrialRequest) -> tuple[Any, list[int]]:
    steps = list[int]()
    return work(request, lambda progress: steps.append(progress.done) if progress.is_step else None), steps


def figures(measurement: Measurement) -> dict[str, Any]:
    return measurement.model_dump(exclude={"seconds", "latency_ms", "peak_memory_mb"})


def test_a_survey(survey_request: SurveyRequest, tmp_path: Path) -> None:
    assert stopped_at(run_survey, survey_request, "taking saliency", 5) == STEPS[:5]
    found, steps = gone_on(run_survey, survey_request)
    assert steps == STEPS[5:]
    whole, _ = gone_on(run_survey, survey_request.model_copy(update={"cache": tmp_path / "elsewhere"}))
    assert found.measurement.loss == whole.measurement.loss
    for file in whole.folder.glob("*.safetensors"):
        assert (found.folder / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("phase", "done", "taken"),
    [("growing", 1, 1), ("growing", 5, 5), ("growing", 8, 8), ("measuring, grown", 0, 8), ("saving", 0, 8)],
)
@pytest.mark.parametrize("recipe", [{}, {"drops": 1}, {"drops": 4, "drop_share": 1.0, "update_steps": 2}])
def test_a_trial(
    trial_of: Callable[..., TrialRequest], phase: str, done: int, taken: int, recipe: dict[str, Any]
) -> None:
    request = trial_of(recipe=recipe)
    assert stopped_at(run_trial, request, phase, done) == STEPS[:taken]
    found, steps = gone_on(run_trial, request)
    assert steps == STEPS[taken:], "each step is taken once"
    whole, _ = gone_on(run_trial, trial_of("whole", recipe=recipe))
    assert figures(found) == figures(whole)


def test_before_the_first_step_there_is_nothing_to_write(trial_of: Callable[..., TrialRequest]) -> None:
    assert stopped_at(run_trial, trial_of(), "cutting", 0) == []
    assert begun_trial(trial_of().folder) is None


@pytest.mark.parametrize("other", [{"checkpoint_seconds": None}, {"fidelity": "one_shot"}])
def test_without_checkpoints_it_only_ends(trial_of: Callable[..., TrialRequest], other: dict[str, Any]) -> None:
    request = trial_of(**other)
    if request.fidelity == "one_shot":
        stopped_at(run_trial, request, "saving", 0)
    else:
        stopped_at(run_trial, request, "growing", 5)
    assert begun_trial(request.folder) is None


def test_a_signal_ends_a_step_and_all_else_at_once() -> None:
    stop = Stop()
    stop.hear(Progress(phase="growing", done=1, total=2, loss=3.0))
    stop.heed(15, None)
    stop.heed(15, None)
    assert stop()
    with pytest.raises(WorkStoppedError):
        stop.hear(Progress(phase="measuring, grown", done=0, total=1))
    elsewhere = Stop()
    with pytest.raises(WorkStoppedError):
        elsewhere.heed(15, None)
    elsewhere.heed(15, None)
    assert elsewhere(), "a second signal does not disturb the writing"
