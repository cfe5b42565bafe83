"""The searches that `benchmarks.parallel` times: real ones over a small model, and ones that evaluate nothing."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.small_source import small_corpus, small_source
from graph.config import SearchConfig
from graph.drive import drive
from graph.events import AnyEvent
from graph.session import SearchSession
from tools.measurement import Measurement
from tools.requests import ReportProgress, Survey, SurveyRequest, TrialRequest
from tools.workers import LocalWorkers, Workers
from tools.workers.ray_cluster import RayCluster


class IdleWorkers(Workers):
    """Say at once that a design has a loss, which follows from its identity; only the survey and an export are real."""

    def __init__(self) -> None:
        self._real, self._asked = LocalWorkers(), set[str]()

    async def survey(self, request: SurveyRequest, report: ReportProgress, most_seconds: float | None = None) -> Survey:
        return await self._real.survey(request, report, most_seconds)

    async def trial(
        self, request: TrialRequest, report: ReportProgress, most_seconds: float | None = None
    ) -> Measurement:
        if request.key in self._asked:
            # The best one is grown for its export.
            return await self._real.trial(request, report, most_seconds)
        self._asked.add(request.key)
        loss = 3 + int(request.design.hash[:6], 16) / 2**24
        return Measurement.of_loss(loss, fidelity=request.fidelity, parameters=request.design.parameters, seconds=1e-3)


def settings_of(folder: Path, **overrides: Any) -> SearchConfig:
    """A search without a language model over the small source, which is made where it is not there yet."""
    source, corpus = folder / "source", folder / "corpus.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        "source": str(source if source.is_dir() else small_source(folder)),
        "corpus": str(corpus if corpus.is_file() else small_corpus(folder)),
        "llm_share": 0.0,
        "judge": "random",
        "data": {"block_length": 64, "training_tokens": 8192, "validation_tokens": 512},
        "recipe": {"warmup_steps": 2, "training_steps": 2, "batch_size": 2, "micro_batch_size": 2},
        "space": {"ffn_multiple": 8, "hidden_multiple": 8},
        "home": folder / "home",
        "cache": folder / "cache",
    }
    return SearchConfig(**{**plain, **overrides})


def idle_search(folder: Path, trials: int, tell: Callable[[int], None]) -> dict[str, list[float]]:
    """When each trial was told, in seconds after the first and in seconds of a core, and this process's MB then."""
    config = settings_of(folder, trials=trials)
    session = SearchSession.start(config)
    moments, cpu, memory, process = list[float](), list[float](), list[float](), psutil.Process(os.getpid())

    def emit(event: AnyEvent) -> None:
        if event.kind != "progress":
            session._records.add_event(session.run_id, event.kind, event.model_dump(mode="json"))
        if event.kind == "evaluation":
            moments.append(time.perf_counter())
            cpu.append(time.process_time())
            memory.append(process.memory_info().rss / 1e6)
            tell(len(moments))

    asyncio.run(drive(session.run_id, config, session._records, emit, IdleWorkers()))
    session.close()
    return {
        "seconds": [moment - moments[0] for moment in moments],
        "cpu_seconds": [moment - cpu[0] for moment in cpu],
        "memory_mb": memory,
    }


def real_search(folder: Path, name: str, trials: int, steps: int, tell: Callable[[int], None], **places: Any) -> float:
    """Trials per hour of a search in a home of its own, counted from the end of trial 0, which is always alone."""
    recipe = {"warmup_steps": 2, "training_steps": steps, "batch_size": 2, "micro_batch_size": 2}
    config = settings_of(folder, trials=trials, recipe=recipe, home=folder / name, **places)
    session = SearchSession.start(config)
    moments = list[float]()
    for event in session.stream():
        if event.kind == "evaluation":
            moments.append(time.perf_counter())
            tell(len(moments))
    session.close()
    return 3600 * (len(moments) - 1) / (moments[-1] - moments[0])


def ray_start() -> dict[str, float]:
    """Seconds until Ray runs on this machine, until its first task and the next one ended; MB of all its processes."""
    cluster, began = RayCluster(None), time.perf_counter()
    ray = cluster.connect()
    connected = time.perf_counter()
    # As trials are: each in a process of its own.
    task = ray.remote(max_calls=1)(lambda: os.getpid())
    ray.get(task.remote())
    first = time.perf_counter()
    ray.get(task.remote())
    second = time.perf_counter()
    children = psutil.Process().children(recursive=True)
    memory = sum(child.memory_info().rss for child in children if child.is_running()) / 1e6
    cluster.close()
    return {
        "connected_seconds": connected - began,
        "first_task_seconds": first - connected,
        "next_task_seconds": second - first,
        "memory_mb": memory,
    }
