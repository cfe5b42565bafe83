"""Evaluations and measurements as rows of a model card's evaluation table."""

from pathlib import Path

from tools.evaluate import EvaluateResult
from tools.evaluation.results import PerplexityResult, TaskAverage, TaskResult
from tools.export.model_card import Figure
from tools.measurement import Measurement


def rows_of(result: EvaluateResult) -> tuple[Figure, ...]:
    """Tasks, their average and perplexities of one evaluation; values of its dense model beside them."""
    dense = result.dense
    tasks = {} if dense is None else {task.task: task for task in dense.tasks}
    perplexities = {} if dense is None else {found.convention: found for found in dense.perplexities}
    rows = [_of_task(task, tasks.get(task.task)) for task in result.tasks]
    if result.average_acc_norm is not None:
        rows.append(_of_average(result.average_acc_norm, None if dense is None else dense.average_acc_norm))
    for found in result.perplexities:
        if found.perplexity is not None:
            rows.append(_of_perplexity(found, perplexities.get(found.convention)))
    return tuple(rows)


def rows_of_measurement(found: Measurement, origin: Measurement | None, text: str, hardware: str) -> tuple[Figure, ...]:
    """Validation loss and perplexity on `text` and decoding time of a trial, beside those of the base model."""
    rows: list[Figure] = []
    decoding = f"one sequence with its cache, {hardware}"
    for name, unit, settings, values in (
        ("validation loss", "nats per token", text, (found.loss, origin.loss if origin else None)),
        ("validation perplexity", "", text, (found.perplexity, origin.perplexity if origin else None)),
        ("decoding", "ms per token", decoding, (found.latency_ms, origin.latency_ms if origin else None)),
    ):
        if values[0] is not None:
            rows.append(Figure(name=name, unit=unit, value=values[0], origin=values[1], settings=settings))
    if found.accuracy is not None:
        row = Figure(
            name="zero-shot accuracy in the search",
            unit="mean share",
            value=found.accuracy,
            standard_error=found.accuracy_stderr,
            origin=None if origin is None else origin.accuracy,
            settings="tasks and items of the search's settings",
        )
        rows.append(row)
    return tuple(rows)


def _of_task(task: TaskResult, dense: TaskResult | None) -> Figure:
    normed = task.acc_norm is not None
    part = f"first {task.items:,} of {task.items_available:,} items" if task.limit else f"{task.items:,} items"
    return Figure(
        name=task.task,
        unit="acc_norm" if normed else "acc",
        value=task.acc_norm if task.acc_norm is not None else task.acc,
        standard_error=task.acc_norm_stderr if normed else task.acc_stderr,
        origin=None if dense is None else (dense.acc_norm if normed else dense.acc),
        settings=f"lm-eval {task.lm_eval}, zero-shot, {part}" + ("" if task.official else f"; {task.note}"),
    )


def _of_average(found: TaskAverage, dense: TaskAverage | None) -> Figure:
    return Figure(
        name=found.label,
        unit=found.metric,
        value=found.value,
        standard_error=found.stderr,
        origin=None if dense is None else dense.value,
        settings="of the rows above",
    )


def _of_perplexity(found: PerplexityResult, dense: PerplexityResult | None) -> Figure:
    assert found.perplexity is not None  # noqa: S101 - the caller left out those without one
    bits = f", {found.bits_per_byte:.3f} bits per byte" if found.bits_per_byte is not None else ""
    return Figure(
        name=f"perplexity {found.convention}",
        unit=f"per {found.per}",
        value=found.perplexity,
        origin=None if dense is None else dense.perplexity,
        settings=f"{Path(found.text).name}, {found.tokens:,} tokens, stride {found.stride}, BOS {found.bos}{bits}",
    )
