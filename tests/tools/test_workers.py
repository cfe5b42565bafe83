"""Workers in this process and in subprocesses, and the setting that names them."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import tools.workers.processes
from tests.tools.worker_contract import LONG, RECIPE, WorkerContract, ignore
from tests.worker_processes import workers_at_work
from tools.errors import InputError
from tools.measurement import Measurement
from tools.requests import Progress, TrialRequest
from tools.workers import LocalWorkers, ProcessWorkers, Workers, WorkersChoice, make_workers


class TestLocalWorkers(WorkerContract):
    def make(self, logs: Path) -> Workers:
        return LocalWorkers()


class TestProcessWorkers(WorkerContract):
    def make(self, logs: Path) -> Workers:
        return ProcessWorkers(logs, places=2)

    def test_a_killed_worker_is_a_failure(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        def kill(progress: Progress) -> None:
            for child in workers_at_work():
                os.kill(child.pid, signal.SIGKILL)

        request = trial_of(LONG)
        request.folder.mkdir()
        with closing(self.make(tmp_path / "logs")) as workers:
            found = asyncio.run(workers.trial(request, kill))
        assert found.failure is not None and found.failure.kind == "out_of_memory"
        assert "signal 9" in found.failure.message

    def test_what_is_cancelled_twice_is_not_waited_for(
        self, trial_of: Callable[..., TrialRequest], tmp_path: Path
    ) -> None:
        request = trial_of(LONG)
        request.folder.mkdir()

        async def cancel() -> list[psutil.Process]:
            begun = asyncio.Event()
            task = asyncio.create_task(workers.trial(request, lambda _: begun.set()))
            await begun.wait()
            children = workers_at_work()
            for child in children:
                # It cannot write anything down, nor end.
                child.suspend()
            task.cancel()
            assert not (await asyncio.wait([task], timeout=1.0))[0], "it is waited for"
            task.cancel()
            assert (await asyncio.wait([task], timeout=10.0))[0] and task.cancelled()
            return children

        with closing(self.make(tmp_path / "logs")) as workers:
            children = asyncio.run(cancel())
        assert len(children) == 1 and not children[0].is_running()

    def test_one_whose_fork_server_dies_is_a_failure_and_the_next_gets_a_new_one(
        self, trial_of: Callable[..., TrialRequest], tmp_path: Path
    ) -> None:
        left = list[psutil.Process]()

        def kill(progress: Progress) -> None:
            if progress.phase == "growing" and not left:
                left.extend(workers_at_work())
                left[0].parent().kill()  # type: ignore[union-attr]

        first, second = (trial_of(recipe).model_copy(update={"folder": tmp_path / name}) for name, recipe in (
            ("first", LONG), ("second", RECIPE)
        ))  # fmt: skip
        first.folder.mkdir()
        second.folder.mkdir()

        async def both() -> list[Measurement]:
            return [await workers.trial(first, kill), await workers.trial(second, ignore)]

        with closing(self.make(tmp_path / "logs")) as workers:
            failed, done = asyncio.run(both())
        assert failed.failure is not None and "signal 9" in failed.failure.message and done.succeeded
        assert psutil.wait_procs(left, timeout=20)[1] == []

    def test_what_cannot_be_imported_is_told(
        self, trial_of: Callable[..., TrialRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = trial_of()
        request.folder.mkdir()
        (tmp_path / "transformers.py").write_text("raise ImportError('half installed')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with closing(self.make(tmp_path / "logs")) as workers:
            found = asyncio.run(workers.trial(request, ignore))
            assert found.failure is not None and "ImportError: half installed" in found.failure.message
            monkeypatch.delenv("PYTHONPATH")
            assert asyncio.run(workers.trial(request, ignore)).succeeded

    def test_places(self, tmp_path: Path) -> None:
        async def most_at_once(workers: Workers) -> int:
            held = most = 0

            async def one() -> None:
                nonlocal held, most
                async with workers.place():
                    held += 1
                    most = max(most, held)
                    await asyncio.sleep(0.01)
                    held -= 1

            await asyncio.gather(*[one() for _ in range(6)])
            return most

        made = {
            setting: asyncio.run(most_at_once(make_workers(setting, tmp_path, parallel=3)))
            for setting in ("processes", "processes:1", "processes:5", "local")
        }
        assert made == {"processes": 3, "processes:1": 1, "processes:5": 5, "local": 1}


class TestPlainProcessWorkers(WorkerContract):
    """Where nothing can be forked. What does not hang on how a process is started is looked at less often."""

    seldom = frozenset(
        {
            "test_a_survey_that_two_want_is_taken_once",
            "test_bad_input_passes_through",
            "test_a_failure_is_a_result",
            "test_two_that_are_asked_for_at_once",
            "test_limits_of_time",
            "test_what_is_out_of_time_is_written_down",
            "test_what_is_cancelled_ends",
        }
    )

    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tools.workers.processes, "can_fork", lambda: False)

    def make(self, logs: Path) -> Workers:
        return ProcessWorkers(logs, places=2)


@pytest.mark.parametrize(
    ("setting", "choice"),
    [
        ("local", WorkersChoice("local")),
        ("processes", WorkersChoice("processes")),
        ("processes:12", WorkersChoice("processes", places=12)),
        ("ray", WorkersChoice("ray")),
        ("ray:auto", WorkersChoice("ray", address="auto")),
        ("ray:10.0.0.1:6379", WorkersChoice("ray", address="10.0.0.1:6379")),
        ("ray:ray://head:10001", WorkersChoice("ray", address="ray://head:10001")),
    ],
)
def test_what_the_setting_says(setting: str, choice: WorkersChoice) -> None:
    assert WorkersChoice.read(setting) == choice


@pytest.mark.parametrize(
    "setting", ["", "threads", "local:2", "processes:", "processes:0", "processes:-1", "processes:1.5", "ray:", "ray: "]
)
def test_what_it_cannot_say(setting: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^workers: .*\.$"):
        make_workers(setting, tmp_path)
