"""The contract of all workers: subclass `WorkerContract`, say how yours are made, and run."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from graph.config import SearchConfig
from tools.errors import InputError
from tools.measurement import Measurement
from tools.requests import Progress, Survey, SurveyRequest, TrialRequest
from tools.settings import Recipe
from tools.trial import run_trial
from tools.trial_folder import MEASUREMENT_FILE, begun_trial
from tools.workers import LocalWorkers, Workers

RECIPE = Recipe(warmup_steps=2, training_steps=3, batch_size=2, micro_batch_size=1)
LONG = RECIPE.model_copy(update={"training_steps": 10**6})


def ignore(_: Progress) -> None:
    """Nobody watches."""


class WorkerContract(ABC):
    """Tests of one kind of workers, over a tiny real model."""

    seldom: ClassVar[frozenset[str]] = frozenset()
    """Tests that are slow ones here: what they show is seen with other workers."""

    @abstractmethod
    def make(self, logs: Path) -> Workers:
        """Workers with room for two trials, if they can have that."""

    @pytest.fixture(scope="class")
    def request_of(
        self,
        settings_of: Callable[..., dict[str, Any]],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Callable[..., SurveyRequest]:
        """A request to survey the tiny source, its cache the same for all tests."""
        plain = settings_of(tmp_path_factory.mktemp("survey"))
        config = SearchConfig(**plain)

        def make(**other: Any) -> SurveyRequest:
            request = SurveyRequest(
                source=config.source, corpus=config.corpus, data=config.data, recipe=RECIPE, seed=0, cache=config.cache
            )
            return request.model_copy(update=other)

        return make

    @pytest.fixture(scope="class")
    def survey(self, request_of: Callable[..., SurveyRequest]) -> Survey:
        return asyncio.run(LocalWorkers().survey(request_of(), ignore))

    @pytest.fixture
    def trial_of(self, survey: Survey, tmp_path: Path) -> Callable[..., TrialRequest]:
        """A request to grow the source as it is, in this test's own folder."""

        def make(recipe: Recipe = RECIPE, seed: int = 0, **other: Any) -> TrialRequest:
            folder = tmp_path / "trial"
            design = survey.architecture
            return TrialRequest(survey=survey, design=design, recipe=recipe, seed=seed, folder=folder, **other)

        return make

    def run(self, request: TrialRequest, tmp_path: Path, **limits: Any) -> tuple[Measurement, list[Progress]]:
        request.folder.mkdir(exist_ok=True)
        told: list[Progress] = []
        with closing(self.make(tmp_path / "logs")) as workers:
            return asyncio.run(workers.trial(request, told.append, **limits)), told

    def test_a_survey_that_two_want_is_taken_once(
        self, request_of: Callable[..., SurveyRequest], survey: Survey, tmp_path: Path
    ) -> None:
        told: tuple[list[Progress], ...] = ([], [])

        async def both() -> list[Survey]:
            with closing(self.make(tmp_path / "logs")) as workers:
                request = request_of(cache=tmp_path / "cache")
                return await asyncio.gather(*(workers.survey(request, each.append) for each in told))

        first, second = asyncio.run(both())
        assert first == second and list(first.folder.iterdir())
        assert first.architecture == survey.architecture and first.measurement.loss == survey.measurement.loss
        took = [any(progress.phase == "taking saliency" for progress in each) for each in told]
        assert sorted(took) == [False, True]

    def test_a_trial_is_what_it_is_everywhere(
        self, trial_of: Callable[..., TrialRequest], survey: Survey, tmp_path: Path
    ) -> None:
        here = trial_of().model_copy(update={"folder": tmp_path / "here"})
        here.folder.mkdir()
        expected = run_trial(here, ignore)
        found, told = self.run(trial_of(), tmp_path)
        assert found.succeeded and found.training_losses == expected.training_losses and found.loss == expected.loss
        assert told and {progress.phase for progress in told} & {"cutting", "growing"}
        file = trial_of().folder / MEASUREMENT_FILE
        assert Measurement.model_validate_json(file.read_text()) == found
        written = file.stat().st_mtime_ns
        again, _ = self.run(trial_of(), tmp_path)
        assert again == found and file.stat().st_mtime_ns == written, "it is grown and written once"
        assert not [path for path in file.parent.iterdir() if path.name.startswith(".seen")]

    def test_bad_input_passes_through(self, request_of: Callable[..., SurveyRequest], tmp_path: Path) -> None:
        with (
            closing(self.make(tmp_path / "logs")) as workers,
            pytest.raises(InputError, match="nowhere"),
        ):
            asyncio.run(workers.survey(request_of(source=str(tmp_path / "nowhere")), ignore))

    def test_a_failure_is_a_result(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        wild = RECIPE.model_copy(update={"learning_rate": 1e30, "training_steps": 20})
        found, _ = self.run(trial_of(wild), tmp_path)
        assert found.failure is not None and found.failure.kind == "not_finite"
        assert found.parameters == trial_of().design.parameters
        assert not (trial_of().folder / MEASUREMENT_FILE).exists()

    def test_limits_of_time(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        found, _ = self.run(trial_of(LONG), tmp_path, most_seconds=2.0)
        assert found.failure is not None and found.failure.message == "took longer than 2 s"
        recipe = LONG.model_copy(update={"time_limit_seconds": 1.0})
        found, _ = self.run(trial_of(recipe), tmp_path, most_seconds=100.0)
        assert found.failure is not None and found.failure.message == "took longer than 1 s"

    def test_what_is_out_of_time_is_written_down(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        # How long a worker takes until it trains is not known.
        for seconds in (5.0, 20.0, 80.0):
            found, told = self.run(trial_of(LONG), tmp_path, most_seconds=seconds)
            assert found.failure is not None and found.failure.message == f"took longer than {seconds:g} s"
            assert found.seconds >= seconds
            if any(progress.phase == "growing" for progress in told):
                break
        assert begun_trial(trial_of().folder) is not None

    def test_what_is_cancelled_ends(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        request = trial_of(LONG)
        request.folder.mkdir()
        told: list[Progress] = []

        async def cancel() -> None:
            begun = asyncio.Event()

            def report(progress: Progress) -> None:
                told.append(progress)
                if progress.phase == "growing":
                    # From a thread where they are local.
                    loop.call_soon_threadsafe(begun.set)

            loop = asyncio.get_running_loop()
            with closing(self.make(tmp_path / "logs")) as workers:
                task = asyncio.create_task(workers.trial(request, report))
                await asyncio.wait_for(begun.wait(), 120)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                count = len(told)
                await asyncio.sleep(0.5)
                assert len(told) <= count + 1, "one word may have been under way"

        asyncio.run(cancel())
        assert not (request.folder / MEASUREMENT_FILE).exists()
        assert begun_trial(request.folder) is not None, "it is written down for whoever goes on with it"

    def test_two_that_are_asked_for_at_once(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        requests = [trial_of(seed=seed).model_copy(update={"folder": tmp_path / str(seed)}) for seed in (0, 1)]

        async def both() -> list[Measurement]:
            with closing(self.make(tmp_path / "logs")) as workers:

                async def one(request: TrialRequest) -> Measurement:
                    request.folder.mkdir()
                    async with workers.place():
                        return await workers.trial(request, ignore)

                return list(await asyncio.gather(*map(one, requests)))

        found = asyncio.run(both())
        assert all(one.succeeded for one in found)
