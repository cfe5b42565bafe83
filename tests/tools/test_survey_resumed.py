"""A survey that was interrupted in the middle of its warm-up: going on is bit-exact, and nothing is trained twice."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tools.checkpoint_pace
from graph.config import SearchConfig
from tools.requests import Progress, Survey, SurveyRequest
from tools.settings import Recipe
from tools.survey import run_survey

RECIPE = Recipe(warmup_steps=8, training_steps=2, batch_size=2, micro_batch_size=1, precision="float32")
STEPS = list(range(1, 9))


class Interrupted(BaseException):
    """As KeyboardInterrupt, but nobody's own."""


@pytest.fixture
def request_of(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SurveyRequest]:
    """A request to survey the tiny source, written down after each step; `cache` is the name of its folder."""
    monkeypatch.setattr(tools.checkpoint_pace, "WRITING_SHARE", math.inf)
    config = SearchConfig(**settings_of(tmp_path))

    def make(cache: str = "cache", **recipe: Any) -> SurveyRequest:
        return SurveyRequest(
            source=config.source,
            corpus=config.corpus,
            data=config.data,
            recipe=RECIPE.model_copy(update=recipe),
            seed=0,
            cache=tmp_path / cache,
            checkpoint_seconds=0.0,
        )

    return make


def interrupt(request: SurveyRequest, step: int) -> Path:
    """The checkpoint that it leaves."""

    def report(progress: Progress) -> None:
        if progress.phase == "taking saliency" and progress.done == step:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_survey(request, report)
    (left,) = (request.cache / "surveys").glob("*.begun")
    return left


def gone_on(request: SurveyRequest) -> tuple[Survey, list[Progress]]:
    told: list[Progress] = []
    survey = run_survey(request, told.append)
    assert [path.name for path in survey.folder.parent.iterdir() if not path.name.endswith(".lock")] == [survey.key]
    return survey, told


def steps_of(told: list[Progress]) -> list[int]:
    return [progress.done for progress in told if progress.phase == "taking saliency"]


def contents(survey: Survey) -> dict[str, bytes]:
    files = sorted(
        path for path in survey.folder.rglob("*") if path.suffix == ".safetensors" or path.name == "state.json"
    )
    assert len(files) == 5
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("recipe", [{}, {"saliency": "second", "moment_decay": 0.9}, {"saliency": "magnitude"}])
def test_it_is_gone_on_with_bit_for_bit(request_of: Callable[..., SurveyRequest], recipe: dict[str, Any]) -> None:
    whole, _ = gone_on(request_of("whole", **recipe))
    interrupt(request_of(**recipe), 3)
    interrupt(request_of(**recipe), 6)
    found, told = gone_on(request_of(**recipe))
    # What came after the last step that was written down is done again.
    assert steps_of(told) == STEPS[5:] and "measuring, source" not in {progress.phase for progress in told}
    assert contents(found) == contents(whole) and found.measurement.loss == whole.measurement.loss
    assert found.key == whole.key


def test_what_is_damaged_is_begun_anew(request_of: Callable[..., SurveyRequest]) -> None:
    whole, _ = gone_on(request_of("whole"))
    for place in range(5):
        request = request_of(f"cache {place}")
        left = interrupt(request, 4)
        files = sorted(path for path in left.rglob("*") if path.is_file())
        assert len(files) == 5
        files[place].write_bytes(b"")
        found, told = gone_on(request)
        assert steps_of(told) == STEPS and contents(found) == contents(whole)
