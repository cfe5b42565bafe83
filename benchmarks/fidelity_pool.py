"""A pool of designs of equal size, each measured at every fidelity: what `benchmarks.fidelity` draws its searches from.

Measured by the function that the workers of a search run. What was measured is kept in the cache folder, a small file
for each, so that a call which was interrupted goes on.
"""

import gc
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.growing import Bars, Job
from tools.architecture import Architecture
from tools.fidelity import Fidelity, Ladder
from tools.measurement import Measurement
from tools.pruning.saliency import Saliency
from tools.requests import ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.settings import Recipe, SpaceSettings, WidthSettings
from tools.spaces import PrunedLMSpace
from tools.survey import run_survey
from tools.survey_folder import SALIENCY_FILE
from tools.trial import run_trial
from tools.trial_folder import MODEL_FOLDER, stored_measurement

FORECAST = "forecast"
LADDER: tuple[Fidelity, ...] = ("one_shot", "short_training", "long_training")
RUNGS = (FORECAST, *LADDER)
"""From the lowest to the highest; the forecast, the saliency of what a design cuts, costs nothing."""
_NARROW = 0.995
"""The smallest design as a share of the largest: sizes decide nothing."""
_SEED = 0
_FAR = 4
"""So many mutations, one after the other."""
RANDOM = "random"


@dataclass(frozen=True)
class Row:
    """One design: where it comes from, its `losses` by rung, the forecast among them, and what each took in seconds."""

    origin: str
    design: str
    parameters: int
    losses: dict[str, float]
    seconds: dict[str, float]


@dataclass
class Pool:
    """The saliency-greedy design, and designs that are ever farther from it in turn, `count` in all.

    Of four, two are its mutants, as a search comes to look at; one is a mutant four times over; one is drawn at random.
    """

    job: Job
    count: int
    share: float
    warmup_steps: int
    training_steps: int
    width: WidthSettings = field(default_factory=WidthSettings)

    @property
    def recipe(self) -> Recipe:
        """Of the survey, the one-shot repair and the short training."""
        scale = self.job.scale
        return Recipe(
            warmup_steps=self.warmup_steps,
            training_steps=self.training_steps,
            batch_size=scale.batch,
            micro_batch_size=scale.micro_batch,
            precision="float32",
        )

    @property
    def ladder(self) -> Ladder:
        """All three rungs, with a search's default settings."""
        return Ladder(fidelities=LADDER, recipe=self.recipe)

    def rows(self, bars: Bars) -> list[Row]:
        """Measure what is missing; all designs with all their figures, in their order. Raises as `run_trial` does."""
        with bars.run("survey") as show:
            survey = self._survey(show)
        space = self._space(survey)
        found = []
        for place, (origin, design) in enumerate(self._designs(space)):
            losses, seconds = {FORECAST: space.designer.forecast(design)}, {FORECAST: 0.0}
            for fidelity in LADDER:
                with bars.run(f"design {place + 1}, {fidelity}") as show:
                    measured = self._measured(survey, design, fidelity, show)
                if measured.loss is None:
                    raise RuntimeError(f"design {place + 1} has no loss at {fidelity}")
                losses[fidelity], seconds[fidelity] = measured.loss, measured.seconds
            found.append(Row(origin, design.describe(), design.parameters, losses, seconds))
        return found

    @property
    def parts(self) -> int:
        """How many parts the progress bar has."""
        return 1 + self.count * len(LADDER)

    def facts(self) -> dict[str, Any]:
        """What the report states of the setting."""
        scale, ladder = self.job.scale, self.ladder
        return {
            **self.job.facts(),
            "designs": self.count,
            "share": self.share,
            "survey_tokens": self.warmup_steps * scale.step_tokens,
            "tokens": {fidelity: ladder.steps(fidelity) * scale.step_tokens for fidelity in LADDER},
            "validation_tokens": scale.validation_tokens,
        }

    def _survey(self, show: ReportProgress) -> Survey:
        job = self.job
        return run_survey(
            SurveyRequest(
                source=job.source,
                corpus=job.corpus,
                data=job.scale.data,
                recipe=self.recipe,
                seed=_SEED,
                cache=job.cache,
            ),
            show,
        )

    def _space(self, survey: Survey) -> PrunedLMSpace:
        source = survey.architecture
        largest = round(self.share * source.parameters)
        settings = SpaceSettings(
            **self.width.model_dump(), max_parameters=largest, min_parameters=round(_NARROW * largest)
        )
        return PrunedLMSpace(source, Saliency.load(survey.folder / SALIENCY_FILE), settings)

    def _designs(self, space: PrunedLMSpace) -> list[tuple[str, Architecture]]:
        """Distinct ones; which follows from the source and the seed alone."""
        rng = random.Random(_SEED)  # noqa: S311 - a benchmark needs repeatable numbers
        greedy = space.designer.greedy()
        found: dict[Architecture, str] = {greedy: "greedy"}

        def mutated(times: int) -> Architecture:
            design = greedy
            for _ in range(times):
                design = space.mutate(design, rng)
            return design

        makers: tuple[tuple[str, Callable[[], Architecture]], ...] = (
            ("mutant", lambda: mutated(1)),
            ("far mutant", lambda: mutated(_FAR)),
            ("mutant", lambda: mutated(1)),
            (RANDOM, lambda: space.sample(rng)),
        )
        while len(found) < self.count:
            origin, make = makers[(len(found) - 1) % len(makers)]
            found.setdefault(make(), origin)
        return [(origin, design) for design, origin in found.items()]

    def _measured(self, survey: Survey, design: Architecture, fidelity: Fidelity, show: ReportProgress) -> Measurement:
        request = TrialRequest(
            survey=survey,
            design=design,
            recipe=self.ladder.recipe_of(fidelity),
            seed=_SEED,
            fidelity=fidelity,
            folder=Path(),
        )
        folder = self._folder / request.key
        known = stored_measurement(folder)
        if known is None:
            known = run_trial(request.model_copy(update={"folder": folder}), show)
        # Half a gigabyte each, and only figures are asked for.
        shutil.rmtree(folder / MODEL_FOLDER, ignore_errors=True)
        # Models are left in reference cycles, and the next one must not stand beside them.
        gc.collect()
        return known

    @cached_property
    def _folder(self) -> Path:
        return self.job.folder / "evaluations"
