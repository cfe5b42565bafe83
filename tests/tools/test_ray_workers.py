"""Workers on Ray: a real cluster on this machine, a node of it that dies, and what a user is told."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tools.worker_contract import LONG, RECIPE, WorkerContract, ignore
from tools.errors import InputError
from tools.requests import Progress, TrialRequest
from tools.workers import RaySettings, Workers, make_workers
from tools.workers.base import GIVEN_AGAIN
from tools.workers.ray_cluster import RayCluster
from tools.workers.ray_serving import answers
from tools.workers.ray_workers import RayWorkers

pytest.importorskip("ray", reason="Ray is not installed: uv pip install -e '.[ray]'")
pytestmark = pytest.mark.timeout(300)


# First those without a cluster: a connection that the process has already is used.
def test_a_node_that_does_not_see_the_folder(tmp_path: Path) -> None:
    words = [json.loads(word) for word in answers("{}", [str(tmp_path / "elsewhere" / ".seen-1234")])]
    assert list(words[0]) == ["began"]
    (sentence,) = words[1].values()
    assert f"cannot see {tmp_path / 'elsewhere'}: put home and cache into a folder that all nodes share" in sentence


def test_an_address_where_nothing_is(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = make_workers(f"ray:127.0.0.1:{port}", tmp_path)
    assert isinstance(workers, RayWorkers)
    with pytest.raises(InputError, match=rf"workers=ray:127.0.0.1:{port} cannot be reached \(Connection refused\)"):
        RayCluster(f"127.0.0.1:{port}").connect()


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package ray: install Penjing with its extra"):
        make_workers("ray", tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One for all tests, as a program of its own would have it: searches use it and leave it open."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
class TestRayWorkers(WorkerContract):
    """What passes through Ray as it passes through a subprocess is looked at less often."""

    seldom = frozenset(
        {
            "test_a_survey_that_two_want_is_taken_once",
            "test_bad_input_passes_through",
            "test_a_failure_is_a_result",
            "test_two_that_are_asked_for_at_once",
            "test_what_is_out_of_time_is_written_down",
            "test_limits_of_time",
            "test_what_is_cancelled_ends",
        }
    )

    def make(self, logs: Path) -> Workers:
        return RayWorkers(None, RaySettings())

    @pytest.mark.slow
    def test_a_killed_worker_is_begun_again(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        recipe = RECIPE.model_copy(update={"training_steps": 200})
        killed = list[int]()
        told = list[Progress]()

        def kill_the_first(progress: Progress) -> None:
            told.append(progress)
            if progress.phase == "growing" and not killed:
                killed.extend(kill_workers())

        request = trial_of(recipe)
        request.folder.mkdir()
        found = asyncio.run(RayWorkers(None, RaySettings(retries=1)).trial(request, kill_the_first))
        assert found.succeeded and len(killed) == 1
        phases = [progress.phase for progress in told]
        assert "cutting" in phases[phases.index(GIVEN_AGAIN) :]

    @pytest.mark.slow
    def test_a_worker_that_dies_each_time_is_a_failure(
        self, trial_of: Callable[..., TrialRequest], tmp_path: Path
    ) -> None:
        def kill(progress: Progress) -> None:
            if progress.phase == "growing":
                kill_workers()

        request = trial_of(LONG)
        request.folder.mkdir()
        found = asyncio.run(RayWorkers(None, RaySettings(retries=1)).trial(request, kill))
        assert found.failure is not None and found.failure.kind == "crashed"
        assert "died in each of 2 attempts" in found.failure.message

    @pytest.mark.slow
    def test_cancelled_workers_are_gone(self, trial_of: Callable[..., TrialRequest], tmp_path: Path) -> None:
        request, found = trial_of(LONG), list[psutil.Process]()
        request.folder.mkdir()

        async def cancel() -> None:
            begun = asyncio.Event()

            def report(progress: Progress) -> None:
                if progress.phase == "growing":
                    found[:] = busy_workers()
                    begun.set()

            task = asyncio.create_task(self.make(tmp_path).trial(request, report))
            await asyncio.wait_for(begun.wait(), 120)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert found and psutil.wait_procs(found, timeout=20)[1] == []

    def test_more_than_any_node_has(self, trial_of: Callable[..., TrialRequest]) -> None:
        trial_of().folder.mkdir()
        with pytest.raises(InputError, match=r"No node of the Ray cluster has 1 cores and 4 GPUs .* lower ray.cpus"):
            asyncio.run(RayWorkers(None, RaySettings(gpus=4)).trial(trial_of(), ignore))


def busy_workers() -> list[psutil.Process]:
    """Ray's processes on this machine that carry out a request."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[:1] == ["ray::answers"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_workers() -> list[int]:
    found = busy_workers()
    for process in found:
        os.kill(process.pid, signal.SIGKILL)
    return [process.pid for process in found]
