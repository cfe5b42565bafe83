"""Workers in this process and in subprocesses, and the setting that names them."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.tools.worker_contract import LONG, WorkerContract
from tools.errors import InputError
from tools.requests import Progress, TrialRequest
from tools.workers import LocalWorkers, ProcessWorkers, Workers, WorkersChoice, make_workers


class TestLocalWorkers(WorkerContract):
    def make(self, logs: Path) -> Workers:
        return LocalWorkers()


class TestProcessWorkers(WorkerContract):
    def make(self, logs: Path) -> Workers:
        return ProcessWorkers(logs, places=2)

    def test_a_killed_worker_is_a_failure(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        before = set(psutil.Process().children())

        def kill(progress: Progress) -> None:
            for child in {*psutil.Process().children()} - before:
                os.kill(child.pid, signal.SIGKILL)

        request = trial_of(LONG)
        request.folder.mkdir()
        found = asyncio.run(self.make(tmp_path / "logs").trial(request, kill))
        assert found.failure is not None and found.failure.kind == "out_of_memory"
        assert "signal 9" in found.failure.message

    def test_what_is_cancelled_twice_is_not_waited_for(
        self, trial_of: Callable[..., TrialRequest], tmp_path: Path
    ) -> None:
        before, request = set(psutil.Process().children()), trial_of(LONG)
        request.folder.mkdir()

        async def cancel() -> list[psutil.Process]:
            begun = asyncio.Event()
            task = asyncio.create_task(self.make(tmp_path / "logs").trial(request, lambda _: begun.set()))
            await begun.wait()
            children = list({*psutil.Process().children()} - before)
            for child in children:
                # It cannot write anything down, nor end.
                child.suspend()
            task.cancel()
            assert not (await asyncio.wait([task], timeout=1.0))[0], "it is waited for"
            task.cancel()
            assert (await asyncio.wait([task], timeout=10.0))[0] and task.cancelled()
            return children

        children = asyncio.run(cancel())
        assert len(children) == 1 and not children[0].is_running()

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
