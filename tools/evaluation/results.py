"""What an evaluation finds, as plain data: accuracies of tasks, their average, perplexities with their labels."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tools.evaluation.tasks import SEVEN_TASKS

Convention = Literal["seq-128", "seq-2048", "lm-eval-word"]
Precision = Literal["bfloat16", "float32"]

CONVENTIONS: tuple[Convention, ...] = ("seq-128", "seq-2048", "lm-eval-word")


class TaskResult(BaseModel):
    """One task of one model, as lm-eval scored it; accuracies and their standard errors are shares, not per cent.

    `items` were scored of `items_available`; `limit` says whether that was asked for; `truncated` of their strings were
    longer than the context and lost their beginning. `acc_norm` is None where the task has none. `official` is False
    where the task is not the public one; `note` says why. `data` names a hub data set or a local file. `cached` is True
    where the figures were there from before.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    acc: float
    acc_stderr: float | None
    acc_norm: float | None = None
    acc_norm_stderr: float | None = None
    chance: float
    items: int
    items_available: int
    limit: int | None = None
    truncated: int = 0
    official: bool = True
    note: str = ""
    data: str
    version: str
    lm_eval: str = Field(description="version of lm-eval")
    precision: Precision
    batch_size: int
    seconds: float
    cached: bool = False


class TaskAverage(BaseModel):
    """Mean accuracy over those of the seven tasks that were evaluated; `tasks` and `missing` name both kinds.

    `metric` is `acc_norm` (where a task has it, else `acc`) or `acc` throughout. The standard error takes the tasks as
    independent.
    """

    model_config = ConfigDict(frozen=True)

    metric: Literal["acc_norm", "acc"]
    value: float
    stderr: float | None
    tasks: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def label(self) -> str:
        """How many of the seven tasks it is the average of."""
        return f"average of {len(self.tasks)} of {len(SEVEN_TASKS)} tasks"


class PerplexityResult(BaseModel):
    """Perplexity of one text in one convention, with all that is needed to tell it from another one.

    `perplexity` is per token, in the convention `lm-eval-word` per whitespace word (`words`); `loss` is in nats per
    predicted token. `bits_per_byte` is comparable between tokenizers, on the same text (`text_sha256`, `text_bytes`).
    `tokens` counts predicted ones, `windows` what the text was cut into: windows or pages. Where the convention cannot
    be had, figures are None and `note` says why. `window_losses` are nats per token of each window, where all have as
    many tokens, and `windows_sha256` is of these tokens: two models with the same compare window by window
    (`tools.evaluation.perplexity_order`).
    """

    model_config = ConfigDict(frozen=True)

    convention: Convention
    perplexity: float | None = None
    loss: float | None = None
    bits_per_byte: float | None = None
    per: Literal["token", "word"]
    sequence_length: int
    stride: int
    bos: str
    text: str
    text_sha256: str
    text_bytes: int
    tokens: int = 0
    words: int | None = None
    windows: int = 0
    precision: Precision
    seconds: float = 0.0
    note: str = ""
    windows_sha256: str = ""
    window_losses: tuple[float, ...] = ()
    cached: bool = False


def average(tasks: tuple[TaskResult, ...], metric: Literal["acc_norm", "acc"]) -> TaskAverage | None:
    """The average over those of the seven tasks that are among `tasks`; None where none is."""
    found = {result.task: result for result in tasks if result.task in SEVEN_TASKS}
    if not found:
        return None
    names = tuple(name for name in SEVEN_TASKS if name in found)
    scores = [_score(found[name], metric) for name in names]
    errors = [error for _, error in scores if error is not None]
    complete = len(errors) == len(scores)
    return TaskAverage(
        metric=metric,
        value=math.fsum(value for value, _ in scores) / len(scores),
        stderr=math.sqrt(math.fsum(error**2 for error in errors)) / len(scores) if complete else None,
        tasks=names,
        missing=tuple(name for name in SEVEN_TASKS if name not in found),
    )


def _score(result: TaskResult, metric: str) -> tuple[float, float | None]:
    if metric == "acc_norm" and result.acc_norm is not None:
        return result.acc_norm, result.acc_norm_stderr
    return result.acc, result.acc_stderr
