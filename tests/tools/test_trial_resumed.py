"""A trial that was interrupted in the middle of its training: going on is bit-exact, and nothing is trained twice."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tools.checkpoint_pace
import tools.trial
from graph.config import SearchConfig
from tools.architecture import Architecture, LayerShape
from tools.measurement import Measurement
from tools.requests import Progress, Survey, SurveyRequest, TrialRequest
from tools.settings import Recipe
from tools.survey import run_survey
from tools.trial import run_trial
from tools.trial_folder import CHECKPOINT_FOLDER, TrialNotes, begun_trial, count_anew

RECIPE = Recipe(warmup_steps=2, training_steps=8, batch_size=2, micro_batch_size=1, precision="float32")
STEPS = list(range(1, 9))


@pytest.fixture(autouse=True)
def written_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools.checkpoint_pace, "WRITING_SHARE", math.inf)


class Interrupted(BaseException):
    """As KeyboardInterrupt, but nobody's own."""


@pytest.fixture
def trial_of(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., TrialRequest]:
    """A request to grow a smaller design, written down after each step; `folder` is its name."""
    config = SearchConfig(**settings_of(tmp_path))
    surveys: dict[str, Survey] = {}

    def make(folder: str = "trial", **recipe: Any) -> TrialRequest:
        chosen = RECIPE.model_copy(update=recipe)
        name = repr(chosen)
        if name not in surveys:
            request = SurveyRequest(
                source=config.source, corpus=config.corpus, data=config.data, recipe=chosen, seed=0, cache=config.cache
            )
            surveys[name] = run_survey(request, lambda _: None)
        survey = surveys[name]
        (tmp_path / folder).mkdir(exist_ok=True)
        design = smaller(survey.architecture)
        place = tmp_path / folder
        return TrialRequest(survey=survey, design=design, recipe=chosen, seed=0, folder=place, checkpoint_seconds=0.0)

    return make


def smaller(source: Architecture) -> Architecture:
    layers = [
        LayerShape(
            num_attention_heads=layer.num_attention_heads // 2,
            num_key_value_heads=layer.num_key_value_heads // 2,
            intermediate_size=layer.intermediate_size // 2 + 4 * (index % 2),
        )
        for index, layer in enumerate(source.layers)
    ]
    return Architecture(fixed=source.fixed, hidden_size=source.hidden_size * 3 // 4, layers=tuple(layers))


def interrupt(request: TrialRequest, step: int) -> None:
    def report(progress: Progress) -> None:
        if progress.phase == "growing" and progress.done == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_trial(request, report)


def gone_on(request: TrialRequest) -> tuple[Measurement, list[int]]:
    """What it gives, and the steps that were trained for it."""
    steps: list[int] = []

    def report(progress: Progress) -> None:
        if progress.phase == "growing":
            assert progress.total == len(STEPS)
            steps.append(progress.done)

    return run_trial(request, report), steps


def figures(measurement: Measurement) -> dict[str, Any]:
    """All that does not hang on the clock and the machine."""
    return measurement.model_dump(exclude={"seconds", "latency_ms", "peak_memory_mb"})


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"drops": 1},
        {"drops": 4, "drop_share": 0.7},
        {"drops": 4, "drop_share": 0.7, "compact_every": 3},
        {"drops": 2, "drop_share": 0.7, "update_steps": 2, "saliency": "second"},
        {"drops": 4, "drop_share": 1.0, "saliency": "activation", "distillation": 0.5},
    ],
)
def test_it_is_gone_on_with_bit_for_bit(trial_of: Callable[..., TrialRequest], recipe: dict[str, Any]) -> None:
    expected = run_trial(trial_of("whole", **recipe), lambda _: None)
    request = trial_of(**recipe)
    interrupt(request, 3)
    interrupt(request, 6)
    found, steps = gone_on(request)
    # What came after the last step that was written down is done again.
    assert steps == STEPS[5:]
    assert figures(found) == figures(expected)
    assert not (request.folder / CHECKPOINT_FOLDER).exists()


def test_the_seconds_of_all_attempts_count(trial_of: Callable[..., TrialRequest]) -> None:
    request = trial_of()
    interrupt(request, 4)
    notes = begun_trial(request.folder)
    assert notes is not None and notes.seconds > 0
    path = request.folder / CHECKPOINT_FOLDER / "notes.json"
    path.write_text(TrialNotes(seconds=1000.0, loss_before_training=5.0).model_dump_json())
    count_anew(request.folder)
    assert begun_trial(request.folder) == TrialNotes(seconds=0.0, loss_before_training=5.0)
    path.write_text(TrialNotes(seconds=1000.0, loss_before_training=5.0).model_dump_json())
    found, _ = gone_on(request)
    assert 1000 < found.seconds < 1100 and found.loss_before_training == 5.0


def test_what_is_damaged_is_begun_anew(trial_of: Callable[..., TrialRequest]) -> None:
    expected = run_trial(trial_of("whole"), lambda _: None)
    request = trial_of()
    interrupt(request, 4)
    files = [path for path in (request.folder / CHECKPOINT_FOLDER).rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        content = path.read_bytes()
        path.write_bytes(b"")
        assert begun_trial(request.folder) is None
        path.write_bytes(content)
    assert begun_trial(request.folder) is not None
    (request.folder / CHECKPOINT_FOLDER / "growth.safetensors").write_bytes(b"")
    found, steps = gone_on(request)
    assert steps == STEPS and figures(found) == figures(expected)


def test_short_trials_write_nothing_down(trial_of: Callable[..., TrialRequest]) -> None:
    for seconds in (None, 300.0):
        request = trial_of(f"trial {seconds}").model_copy(update={"checkpoint_seconds": seconds})
        interrupt(request, 7)
        assert not (request.folder / CHECKPOINT_FOLDER).exists()


def test_what_is_long_to_write_is_written_seldom(
    trial_of: Callable[..., TrialRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = tools.trial.save_growth, []

    def slow_save(*arguments: Any) -> None:
        time.sleep(0.1)
        written.append(1)
        save(*arguments)

    monkeypatch.setattr(tools.trial, "save_growth", slow_save)
    monkeypatch.setattr(tools.checkpoint_pace, "WRITING_SHARE", 0.001)
    run_trial(trial_of(), lambda _: None)
    assert len(written) == 1
