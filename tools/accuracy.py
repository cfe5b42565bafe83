"""Mean zero-shot accuracy, where a search is after it: what is to be scored, and the score of a model in memory."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.evaluation.result_cache import ResultCache
from tools.requests import AccuracyRequest, Progress, ReportProgress
from tools.settings import GoalSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tools.evaluation.loaded_model import LoadedModel
    from tools.evaluation.results import TaskResult
    from tools.pretraining.compute import Compute

PHASE = "scoring tasks"
# The context of `penjing evaluate`, so that both give the same figures.
_MAX_LENGTH = 2048


def accuracy_request(goal: GoalSettings) -> AccuracyRequest | None:
    """What `goal` wants scored; None where it is not after accuracy.

    Raises InputError for a task that does not exist or has no data, and where lm-eval is not installed.
    """
    if goal.objective != "accuracy":
        return None
    from tools.evaluation.harness import require_harness
    from tools.evaluation.zero_shot import chosen_tasks

    chosen = chosen_tasks(goal.objective_tasks, goal.task_data)
    return AccuracyRequest(
        tasks=tuple(entry.task.name for entry in chosen),
        limit=goal.objective_limit,
        task_data=goal.task_data,
        data=tuple("hub" if entry.rows is None else entry.rows.digest for entry in chosen),
        lm_eval=require_harness(),
    )


def score_live(
    model: "PreTrainedModel",
    name: str,
    source: Path,
    request: AccuracyRequest,
    compute: "Compute",
    seed: int,
    folder: Path,
    report: ReportProgress,
) -> dict[str, Any]:
    """The accuracy figures of a Measurement, of a model that is in memory and on its device.

    `source` is the directory with its tokenizer; `name` tells the model from all others, and finished tasks are kept
    under it in `folder`. Raises InputError where a data set of the hub cannot be had.
    """
    from tools.evaluation.evaluated_model import EvaluatedModel
    from tools.evaluation.loaded_model import LoadedModel
    from tools.rounding import rounded_weights
    from tools.sources import load_tokenizer

    found = EvaluatedModel(name=name, path=source, digest=name, parameters=0, runs_own_code=False)
    loaded = LoadedModel(found, compute, (model, load_tokenizer(source)))
    with rounded_weights(model) if compute.precision == "bfloat16" else nullcontext():
        return _figures(_scored(loaded, request, seed, ResultCache(folder), report))


def score_directory(
    path: Path, request: AccuracyRequest, compute: "Compute", seed: int, cache: Path, report: ReportProgress
) -> dict[str, Any]:
    """The same of a model's directory; what `penjing evaluate` has scored is not scored again, and the other way."""
    from tools.evaluation.evaluated_model import find_model
    from tools.evaluation.loaded_model import LoadedModel
    from tools.evaluation.saved import evaluations_folder

    found = find_model(str(path))
    results = ResultCache(evaluations_folder(cache, found.digest))
    return _figures(_scored(LoadedModel(found, compute), request, seed, results, report))


def _scored(
    model: "LoadedModel", request: AccuracyRequest, seed: int, cache: ResultCache, report: ReportProgress
) -> list["TaskResult"]:
    from tools.evaluation.zero_shot import ZeroShotSettings, chosen_tasks, zero_shot

    settings = ZeroShotSettings(request.limit, _MAX_LENGTH, None, seed)
    chosen = chosen_tasks(request.tasks, request.task_data)
    results: list[TaskResult] = []
    for number, task in enumerate(chosen):

        def tell(progress: Progress, before: int = number) -> None:
            share = progress.done / max(1, progress.total)
            report(Progress(phase=PHASE, done=round(100 * (before + share)), total=100 * len(chosen)))

        results += zero_shot(model, [task], settings, cache, tell)
    return results


def _figures(results: list["TaskResult"]) -> dict[str, Any]:
    """Accuracies by task, their mean, and its standard error with the tasks taken as independent."""
    scores, variance = {}, 0.0
    for result in results:
        normalised = result.acc_norm is not None
        scores[result.task] = result.acc_norm if result.acc_norm is not None else result.acc
        error = result.acc_norm_stderr if normalised else result.acc_stderr
        # A task of one item has none.
        variance += math.nan if error is None else error**2
    stderr = math.sqrt(variance) / len(results)
    return {
        "accuracies": scores,
        "accuracy": math.fsum(scores.values()) / len(scores),
        "accuracy_stderr": None if math.isnan(stderr) else stderr,
    }
