"""Zero-shot accuracy by EleutherAI's lm-evaluation-harness, each task paid for once."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.errors import InputError
from tools.evaluation.harness import HarnessScores, hub_task, local_task, require_harness, score
from tools.evaluation.loaded_model import LoadedModel
from tools.evaluation.result_cache import ResultCache
from tools.evaluation.results import TaskResult
from tools.evaluation.task_data import TaskRows, read_task, tasks_in
from tools.evaluation.tasks import SEVEN_TASKS, TASKS, ZeroShotTask, task_named
from tools.requests import Progress, ReportProgress


@dataclass(frozen=True)
class ZeroShotSettings:
    """How to score: `limit` takes the first items only, `max_length` is the context in tokens."""

    limit: int | None
    max_length: int
    batch_size: int | None
    seed: int


@dataclass(frozen=True)
class ChosenTask:
    """A task with its local rows, or without rows: then its data set comes from the hub."""

    task: ZeroShotTask
    rows: TaskRows | None


def chosen_tasks(names: tuple[str, ...] | None, task_data: Path | None) -> list[ChosenTask]:
    """The tasks of those names; None: the seven of the average, of a local folder all that are public tasks.

    Raises InputError for a task that does not exist, has no local file, or is not on the hub.
    """
    if names is None and task_data is None:
        names = SEVEN_TASKS
    elif names is None and task_data is not None:
        names = tuple(name for name in tasks_in(task_data) if TASKS[name].official)
        if not names:
            raise InputError(f"{task_data} has none of the public tasks; name those to take with --tasks.")
    chosen: dict[str, ChosenTask] = {}
    for name in names or ():
        task = task_named(name)
        if task_data is None and task.harness_name is None:
            raise InputError(
                f"The task {task.name} is not on the hub; give a folder with {task.name}.jsonl by --task-data "
                "(PENJING_TASK_DATA)."
            )
        chosen[task.name] = ChosenTask(task, read_task(task_data, task) if task_data is not None else None)
    return list(chosen.values())


def zero_shot(
    model: LoadedModel,
    tasks: list[ChosenTask],
    settings: ZeroShotSettings,
    cache: ResultCache,
    report: ReportProgress = lambda progress: None,
) -> tuple[TaskResult, ...]:
    """The accuracies of `model` on `tasks`, in their order; those in `cache` are taken from there.

    A result is kept by the model's files, the task with its prompt and data, the version of lm-eval (which fixes the
    versions of its own tasks), `limit`, `max_length` and the precision, as soon as it is there. Raises InputError where
    lm-eval is not installed or a data set cannot be had.
    """
    version = require_harness() if tasks else ""
    results = []
    for chosen in tasks:
        key = _key(model, chosen, settings, version)
        found = cache.find(TaskResult, chosen.task.name, key)
        if found is None:
            found = _scored(model, chosen, settings, version, report)
            cache.keep(chosen.task.name, key, found)
        else:
            report(Progress(phase=f"{chosen.task.name}, from the cache", done=1, total=1))
            found = found.model_copy(update={"cached": True})
        results.append(found)
    return tuple(results)


def _key(model: LoadedModel, chosen: ChosenTask, settings: ZeroShotSettings, version: str) -> list[object]:
    data = "hub" if chosen.rows is None else chosen.rows.digest
    return [
        *model.computed_as,
        chosen.task.name,
        chosen.task.prompt,
        data,
        version,
        settings.limit,
        settings.max_length,
    ]


def _scored(
    model: LoadedModel, chosen: ChosenTask, settings: ZeroShotSettings, version: str, report: ReportProgress
) -> TaskResult:
    from tools.evaluation.harness_model import HarnessModel

    task, rows = chosen.task, chosen.rows
    report(Progress(phase=f"{task.name}, loading", done=0, total=1))
    loaded = hub_task(task) if rows is None else local_task(task, rows)
    weights, tokenizer = model.parts
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise InputError(f"The tokenizer in {model.found.path} has neither a beginning nor an end of text: set one.")
    done, total = 0, _requests(loaded, settings.limit)

    def on_answer() -> None:
        nonlocal done
        done += 1
        report(Progress(phase=task.name, done=done, total=max(done, total)))

    judge = HarnessModel(weights, tokenizer, model.compute, settings.max_length, settings.batch_size, on_answer)
    started = time.monotonic()
    name = task.name if rows is not None else str(task.harness_name)
    scores: HarnessScores = score(judge, loaded, name, settings.limit, settings.seed)
    local_note = "" if rows is None or task.official else task.note
    return TaskResult(
        task=task.name,
        acc=_metric(scores, "acc", task),
        acc_stderr=scores.metrics.get("acc_stderr"),
        acc_norm=scores.metrics.get("acc_norm"),
        acc_norm_stderr=scores.metrics.get("acc_norm_stderr"),
        chance=task.chance if rows is None else rows.chance(task, settings.limit),
        items=scores.items,
        items_available=scores.items_available,
        limit=settings.limit,
        truncated=judge.truncated,
        official=task.official,
        note=local_note,
        data=_data_name(loaded) if rows is None else rows.file.name,
        version=scores.version,
        lm_eval=version,
        precision=model.compute.precision,
        batch_size=int(judge.batch_size_per_gpu),
        seconds=time.monotonic() - started,
    )


def _metric(scores: HarnessScores, name: str, task: ZeroShotTask) -> float:
    value = scores.metrics.get(name)
    if value is None:
        raise RuntimeError(f"lm-eval gave no {name} for the task {task.name}, only {', '.join(scores.metrics)}")
    return value


def _requests(loaded: Any, limit: int | None) -> int:
    """Strings to score: one for each choice of each item, as the first item has them."""
    tasks = loaded["tasks"].values() if isinstance(loaded, dict) else [loaded]
    total = 0
    for task in tasks:
        items = len(task.eval_docs)
        choices = len(task.doc_to_choice(task.eval_docs[0])) if task.OUTPUT_TYPE == "multiple_choice" else 1
        total += choices * min(items, limit or items)
    return total


def _data_name(loaded: Any) -> str:
    tasks = list(loaded["tasks"].values()) if isinstance(loaded, dict) else [loaded]
    return str(tasks[0].DATASET_PATH)
