"""Work on the nodes of a Ray cluster.

Each survey and each trial is a Ray task in a process of its own, which has the cores and GPUs that the settings say.
Files go through a folder that all nodes share, words through Ray. What a worker writes of a trial is the same whoever
writes it, and renamed into its place; the record of it is written by the search alone.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.errors import InputError
from tools.measurement import Failure, Measurement
from tools.requests import Progress, ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.workers.base import (
    GIVEN_AGAIN,
    STOP_SECONDS,
    WorkerError,
    Workers,
    failed,
    out_of_time,
    shorter_limit,
)
from tools.workers.ray_cluster import RayCluster
from tools.workers.ray_serving import answers

if TYPE_CHECKING:
    from tools.workers.choice import RaySettings

_LOOK_SECONDS = 1.0


class RayWorkers(Workers):
    """At most as many trials at a time as the cluster's nodes have room for."""

    def __init__(self, address: str | None, settings: "RaySettings") -> None:
        self._cluster, self._settings = RayCluster(address), settings
        self._used = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        ray = await asyncio.to_thread(self._cluster.connect)
        while self._used and self._used >= self._room(ray):
            await asyncio.sleep(_LOOK_SECONDS)
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        with _seen([request.cache]) as seen:
            async with asyncio.timeout(most_seconds):
                answer = await self._answer(request, report, seen, None)
        if "result" not in answer:
            raise WorkerError(Failure.model_validate(answer["failure"]).message)
        return Survey.model_validate(answer["result"])

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        limit = shorter_limit(request, most_seconds)
        try:
            with _seen([request.folder, request.survey.folder]) as seen:
                async with asyncio.timeout(most_seconds):
                    answer = await self._answer(request, report, seen, request.recipe.time_limit_seconds)
        except TimeoutError:
            return out_of_time(request, limit, limit)
        if "result" in answer:
            return Measurement.model_validate(answer["result"])
        return failed(request, Failure.model_validate(answer["failure"]))

    def close(self) -> None:
        self._cluster.close()

    async def _answer(
        self,
        request: SurveyRequest | TrialRequest,
        report: ReportProgress,
        seen: list[str],
        limit: float | None,
    ) -> dict[str, Any]:
        """The last word: {"result": ...} or {"failure": ...}. Begins again where worker or node died.

        `limit` is that of one attempt.
        """
        ray = await asyncio.to_thread(self._cluster.connect)
        self._require_room(ray)
        lost = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.LocalRayletDiedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.ObjectLostError,
        )
        for attempt in range(self._settings.retries + 1):
            try:
                return await self._once(ray, request.model_dump_json(), report, seen, limit)
            except lost as error:
                failure = _failure_of(error, attempt + 1, ray)
                report(Progress(phase=GIVEN_AGAIN, done=attempt, total=self._settings.retries))
            except ray.exceptions.RayTaskError as error:
                return {"failure": _defect_of(error).model_dump()}
        return {"failure": failure.model_dump()}

    async def _once(
        self,
        ray: Any,
        request: str,
        report: ReportProgress,
        seen: list[str],
        limit: float | None,
    ) -> dict[str, Any]:
        # A process for each: its memory is measured, and what it leaves behind goes with it. Ray's own retries would
        # not tell that a worker died.
        task = ray.remote(num_returns="streaming", max_calls=1, max_retries=0)(answers)
        words = task.options(num_cpus=self._settings.cpus, num_gpus=self._settings.gpus).remote(request, seen)
        ended = False
        try:
            # The time in which a node with room is looked for is not the design's.
            await (await self._first(ray, words))
            async with asyncio.timeout(limit):
                async for reference in words:
                    word = json.loads(await reference)
                    if "progress" in word:
                        report(Progress.model_validate(word["progress"]))
                    elif "input_error" in word:
                        raise InputError(word["input_error"])
                    else:
                        ended = True
                        return word  # type: ignore[no-any-return]
            return {"failure": Failure(kind="crashed", message="the Ray worker gave no answer").model_dump()}
        except (asyncio.CancelledError, TimeoutError):
            # Whoever cancels once more does not wait for it.
            await _written_down(ray, words)
            raise
        finally:
            if not ended:
                ray.cancel(words, force=True)

    async def _first(self, ray: Any, words: AsyncIterator[Any]) -> Any:
        """The first word, that the task has begun. Raises InputError where the last node with room for it is lost."""
        begun = asyncio.ensure_future(anext(words))
        try:
            while not (await asyncio.wait([begun], timeout=_LOOK_SECONDS))[0]:
                self._require_room(ray)
            return begun.result()
        finally:
            begun.cancel()

    def _room(self, ray: Any) -> int:
        """Trials that the nodes can have at a time."""
        return sum(_fits(node, self._settings) for node in _nodes(ray))

    def _require_room(self, ray: Any) -> None:
        """Ray would wait without end for a node that has what no node has."""
        nodes, needs = _nodes(ray), self._settings
        if not any(_fits(node, needs) for node in nodes):
            most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in ("CPU", "GPU")}
            raise InputError(
                f"No node of the Ray cluster has {needs.cpus:g} cores and {needs.gpus:g} GPUs for a trial (the most "
                f"are {most['CPU']:g} and {most['GPU']:g}): lower ray.cpus and ray.gpus, or add a node."
            )


async def _written_down(ray: Any, words: AsyncIterator[Any]) -> None:
    """Have the worker write down how far it is, which takes it a training step and a checkpoint."""
    ray.cancel(words, force=False)
    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        async with asyncio.timeout(STOP_SECONDS):
            async for reference in words:
                await reference


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fits(node: dict[str, float], needs: "RaySettings") -> int:
    """How many trials the node has room for; where they need nothing, one for each core."""
    counts = [int(node.get(name, 0.0) / most) for name, most in (("CPU", needs.cpus), ("GPU", needs.gpus)) if most]
    return min(counts) if counts else max(1, int(node.get("CPU", 0.0)))


def _failure_of(error: Exception, attempts: int, ray: Any) -> Failure:
    times = f"in each of {attempts} attempts" if attempts > 1 else "at once"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failure(kind="out_of_memory", message=f"Ray ended the worker for want of memory {times}")
    return Failure(kind="crashed", message=f"its Ray worker or node died {times} ({type(error).__name__})")


def _defect_of(error: Exception) -> Failure:
    last = str(error).strip().splitlines()[-1]
    return Failure(kind="crashed", message=f"the Ray worker ended with an error: {last}")


@contextmanager
def _seen(folders: Sequence[Path]) -> Iterator[list[str]]:
    """Files in these folders by which a worker knows that it sees them."""
    files = [folder / f".seen-{secrets.token_hex(4)}" for folder in folders]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        yield [str(file) for file in files]
    finally:
        for file in files:
            file.unlink(missing_ok=True)
