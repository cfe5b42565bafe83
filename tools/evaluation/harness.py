"""EleutherAI's lm-evaluation-harness: whether it is here, its tasks made from ours, and one task scored by it."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.errors import InputError
from tools.evaluation.hub import hub_data
from tools.evaluation.task_data import TaskRows
from tools.evaluation.tasks import ZeroShotTask

if TYPE_CHECKING:
    from tools.evaluation.harness_model import HarnessModel

INSTALL_COMMAND = 'pip install "lm-eval>=0.4.13,<0.5"'

_PACKAGE = "lm_eval"
# Any number above 0 gives lm-eval's closed form of the standard error of a mean; nothing here is bootstrapped.
_STANDARD_ERRORS = 1


@dataclass(frozen=True)
class HarnessScores:
    """What lm-eval says of one task: its metrics under their own names, and how many items there were."""

    metrics: dict[str, float | None]
    items: int
    items_available: int
    version: str


def require_harness() -> str:
    """The version of lm-eval that is installed. Raises InputError that says how to install it."""
    if find_spec(_PACKAGE) is None:
        raise InputError(f"This needs EleutherAI's lm-eval, which is not installed: run `{INSTALL_COMMAND}`.")
    from importlib.metadata import version

    return version("lm-eval")


def local_task(task: ZeroShotTask, data: TaskRows) -> Any:
    """A task of lm-eval whose items are `data`; no data set is looked for anywhere."""
    return task_of_rows(
        task.name,
        [dict(row) for row in data.rows],
        {
            "output_type": "multiple_choice",
            "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in task.metrics],
            **task.prompt,
        },
    )


def task_of_rows(name: str, rows: list[dict[str, Any]], configuration: dict[str, Any]) -> Any:
    """A task of lm-eval over rows in memory, without examples in the prompt."""
    import datasets  # type: ignore[import-untyped]
    from lm_eval.api.task import ConfigurableTask

    with quiet_harness():
        return ConfigurableTask(
            config={
                "task": name,
                "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(rows)},
                "test_split": "test",
                "num_fewshot": 0,
                "metadata": {"version": 1.0},
                **configuration,
            }
        )


def hub_task(task: ZeroShotTask) -> Any:
    """The task as lm-eval itself defines it, or the group of tasks, with its data set from the hub.

    Raises InputError where the data set cannot be had.
    """
    from lm_eval import tasks

    # Reading only the folder that has the task takes no time; reading all of them takes 20 seconds.
    folder = Path(tasks.__file__).parent / task.harness_folder
    manager = tasks.TaskManager(include_defaults=False, include_path=str(folder))
    advice = "check the network, or give a folder of local files with --task-data (PENJING_TASK_DATA)"
    with quiet_harness(), hub_data(f"The data set of the task {task.name}", advice):
        return manager.load([task.harness_name])


def score(model: "HarnessModel", loaded: Any, name: str, limit: int | None, seed: int) -> HarnessScores:
    """Have lm-eval score the first `limit` items of a task, or of each task of a group, by `model`.

    `loaded` comes from the functions above; `name` is the task's or group's own in lm-eval.
    """
    from lm_eval.evaluator import evaluate

    tasks = loaded if isinstance(loaded, dict) else {"tasks": {name: loaded}}
    for task in tasks["tasks"].values():
        task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    with quiet_harness():
        found: Any = evaluate(
            lm=model, task_dict=tasks, limit=limit, bootstrap_iters=_STANDARD_ERRORS, log_samples=False
        )
    row = found["results"][name]
    metrics = {key.split(",")[0]: value for key, value in row.items() if "," in key}
    counts = found["n-samples"]
    return HarnessScores(
        metrics={key: float(value) if isinstance(value, (int, float)) else None for key, value in metrics.items()},
        items=sum(counts[leaf]["effective"] for leaf in tasks["tasks"]),
        items_available=sum(counts[leaf]["original"] for leaf in tasks["tasks"]),
        version=str(found["versions"].get(name)),
    )


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep lm-eval's log and bars off the terminal, as progress is reported in our own way."""
    import lm_eval.api.task
    import lm_eval.models.huggingface

    logger = logging.getLogger(_PACKAGE)
    level = logger.level
    modules: tuple[Any, ...] = (lm_eval.api.task, lm_eval.models.huggingface)
    bars = [module.tqdm for module in modules]
    logger.setLevel(logging.ERROR)
    for module, bar in zip(modules, bars, strict=True):
        module.tqdm = _silent(bar)
    try:
        yield
    finally:
        logger.setLevel(level)
        for module, bar in zip(modules, bars, strict=True):
            module.tqdm = bar


def _silent(bar: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **named: bar(*arguments, **{**named, "disable": True})
