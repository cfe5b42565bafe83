"""What a worker is asked to do and what it reports: plain data that crosses process and machine borders as JSON."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tools.architecture import Architecture
from tools.fidelity import Fidelity
from tools.measurement import Measurement
from tools.settings import DataSettings, Recipe

CHECKPOINT_SECONDS = 300.0
"""So often what trains for long is written down, unless a search says otherwise."""
NUMERICS_VERSION = 6
"""Raised when the same request would give another result, so that cached results are not taken for new ones."""


class Progress(BaseModel):
    """How far a worker is: `done` of `total` in a named phase, with the loss where there is one."""

    model_config = ConfigDict(frozen=True)

    phase: str
    done: int
    total: int
    loss: float | None = None

    @property
    def is_step(self) -> bool:
        """Whether a training step was taken, after which the work may be stopped."""
        return self.loss is not None


ReportProgress = Callable[[Progress], None]


class AccuracyRequest(BaseModel):
    """Score zero-shot tasks: their names, the first `limit` items, the folder of local files or None for the hub.

    `data`, the SHA-256 of each local file or "hub", and the version of lm-eval tell results apart.
    """

    model_config = ConfigDict(frozen=True)

    tasks: tuple[str, ...]
    limit: int | None
    task_data: Path | None
    data: tuple[str, ...]
    lm_eval: str

    @property
    def identity(self) -> list[object]:
        """What decides the accuracies of one model."""
        return [list(self.tasks), self.limit, list(self.data), self.lm_eval]


class SurveyRequest(BaseModel):
    """Measure a source model and take its saliency on a corpus; with `accuracy` its tasks are scored too."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["survey"] = "survey"
    source: str
    corpus: str
    data: DataSettings
    recipe: Recipe
    seed: int
    cache: Path
    accuracy: AccuracyRequest | None = None
    artifacts: str | None = None
    """Where surveys are kept besides, for other machines; see `tools.artifacts`."""
    checkpoint_seconds: float | None = CHECKPOINT_SECONDS
    """While it trains it is written down so often, for whoever goes on with it; None: never."""


class Survey(BaseModel):
    """What is known of a source model before the search; `folder` holds saliency, input statistics and warm state."""

    model_config = ConfigDict(frozen=True)

    key: str
    source_path: Path
    source_fingerprint: str
    architecture: Architecture
    corpus_path: Path
    corpus_fingerprint: str
    folder: Path
    precision: Literal["bfloat16", "float32"]
    compute: str
    measurement: Measurement


class TrialRequest(BaseModel):
    """Grow the surveyed source into one design and measure it; weights and results go to `folder`.

    At `long_training` the recipe has the steps of that: see `tools.fidelity.Ladder.recipe_of`.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["trial"] = "trial"
    survey: Survey
    design: Architecture
    recipe: Recipe
    seed: int
    fidelity: Fidelity = "short_training"
    folder: Path
    accuracy: AccuracyRequest | None = None
    checkpoint_seconds: float | None = CHECKPOINT_SECONDS
    """As that of a survey."""

    @property
    def key(self) -> str:
        """Canonical identity of the evaluation: equal keys mean equal results, so none is paid for twice."""
        return evaluation_key(self.survey, self.design, self.recipe, self.seed, self.fidelity, self.accuracy)


def survey_key(source: str, corpus: str, recipe: Recipe, seed: int, precision: str) -> str:
    """Identity of a survey; `source` and `corpus` are fingerprints. The steps after the cut count too: they are part
    of the learning rate curve that the warm state is on."""
    return _digest([NUMERICS_VERSION, source, corpus, recipe.model_dump(mode="json"), seed, precision])


def evaluation_key(
    survey: Survey,
    design: Architecture,
    recipe: Recipe,
    seed: int,
    fidelity: Fidelity,
    accuracy: AccuracyRequest | None = None,
) -> str:
    """Identity of one evaluation: design, recipe, source, data, precision, fidelity, seed, and the tasks if any."""
    scored = [] if accuracy is None else [accuracy.identity]
    return _digest([survey.key, design.hash, recipe.model_dump(mode="json"), seed, fidelity, *scored])


def _digest(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
