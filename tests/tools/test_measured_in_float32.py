"""What decides in a search is measured in float32, also where training computes in bfloat16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from tools.evaluation.perplexity import validation_loss
from tools.export.compact import load_compact
from tools.pretraining.corpus import load_corpus
from tools.requests import SurveyRequest, TrialRequest
from tools.settings import Recipe
from tools.sources import load_model
from tools.survey import run_survey
from tools.trial import run_trial
from tools.trial_folder import MODEL_FOLDER


def test_the_losses_are_those_of_the_saved_weights(settings_of: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    config = SearchConfig(**settings_of(tmp_path))
    recipe = Recipe(warmup_steps=1, training_steps=2, batch_size=2, micro_batch_size=1, precision="bfloat16")
    asked = SurveyRequest(
        source=config.source, corpus=config.corpus, data=config.data, recipe=recipe, seed=0, cache=config.cache
    )
    survey = run_survey(asked, lambda _: None)
    assert survey.precision == "bfloat16"
    (tmp_path / "trial").mkdir()
    trial = TrialRequest(survey=survey, design=survey.architecture, recipe=recipe, seed=0, folder=tmp_path / "trial")
    measured = run_trial(trial, lambda _: None)
    held_out = load_corpus(survey.corpus_path).validation
    grown = load_compact(survey.source_path, trial.folder / MODEL_FOLDER)
    for model, loss in ((load_model(survey.source_path), survey.measurement.loss), (grown, measured.loss)):
        assert loss == pytest.approx(validation_loss(model, held_out), abs=1e-6)
        assert abs(loss - validation_loss(model, held_out, precision="bfloat16")) > 1e-5
