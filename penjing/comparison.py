"""Several saved evaluations side by side: columns, rows, and what keeps their figures from being compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.evaluation.edge_figures import EdgeCost
from tools.evaluation.paper_table import SOURCE, paper_rows
from tools.evaluation.perplexity_order import Place, order_in_words, perplexity_order
from tools.evaluation.results import CONVENTIONS, Convention, PerplexityResult, TaskResult
from tools.evaluation.tasks import SEVEN_TASKS, TASKS

if TYPE_CHECKING:
    from tools.evaluate import EvaluateResult

# In the order of EfficientLLM's Table 2, and in its short names.
_SHORT = {
    "mmlu": "MMLU",
    "arc_challenge": "ARC-c",
    "arc_easy": "ARC-e",
    "boolq": "BoolQ",
    "hellaswag": "HellaSwag",
    "openbookqa": "OBQA",
    "piqa": "PIQA",
    "winogrande": "WinoGrande",
    "siqa": "SIQA",
}
_HEADERS: dict[Convention, str] = {"seq-128": "ppl 128", "seq-2048": "ppl 2048", "lm-eval-word": "ppl word"}
_ORDER = "nats per token on the same windows, the lowest first"
_COSTS = {
    "file_mb": "q4_k_m MB",
    "decode_ms": "q4_k_m ms/token",
    "memory_mb": "q4_k_m peak MB",
    "torch_decode_ms": "torch ms/token",
    "kv_cache_bytes_per_token": "KV bytes/token",
}


@dataclass(frozen=True)
class Column:
    """One figure of every model; `group` says which belong together where a table must be split."""

    key: str
    header: str
    group: str


@dataclass(frozen=True)
class Row:
    """One model: its figures by column, as text and as numbers. `paper` marks rows of EfficientLLM's table."""

    name: str
    texts: dict[str, str]
    values: dict[str, Any]
    paper: bool = False


@dataclass(frozen=True)
class Comparison:
    """The whole table. `notes` say what its figures are and where they do not compare."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    orders: Mapping[Convention, tuple[Place, ...]] = field(default_factory=dict)


def compare_evaluations(results: "Sequence[EvaluateResult]", paper: bool = False) -> Comparison:
    """The evaluations as one table, with the rows of EfficientLLM's Table 2 below where `paper` is set.

    Accuracies are in per cent, `acc_norm` where a task has it.
    """
    tasks = _tasks(results, paper)
    conventions = [one for one in CONVENTIONS if any(_perplexity(result, one) for result in results)]
    columns = [Column("parameters", "parameters", "all")]
    columns += [Column(name, _header(name), "accuracy") for name in tasks]
    if any(result.average_acc_norm for result in results) or paper:
        columns.append(Column("average", "average", "accuracy"))
    columns += [Column(one, _HEADERS[one], "perplexity") for one in conventions]
    if conventions:
        columns.append(Column("bits_per_byte", "bits/byte", "perplexity"))
    if any(result.edge is not None for result in results):
        columns += [Column(key, header, "cost") for key, header in _COSTS.items()]
    names = _names(results)
    rows = [_row(name, result, tasks, conventions) for name, result in zip(names, results, strict=True)]
    notes = _notes(results, tasks, conventions, paper)
    orders = {one: order for one in conventions if (order := _order(results, one))}
    notes += [f"{_HEADERS[one]}, {_ORDER}: {order_in_words(order)}." for one, order in orders.items()]
    if paper:
        rows += [_paper_row(row, tasks) for row in paper_rows()]
        notes.append(f"Rows marked 'paper' are from {SOURCE}.")
    return Comparison(tuple(columns), tuple(rows), tuple(notes), orders)


def _tasks(results: "Sequence[EvaluateResult]", paper: bool) -> list[str]:
    found = {task.task for result in results for task in result.tasks}
    if paper:
        found |= {"mmlu", *SEVEN_TASKS}
    order = [*_SHORT, *(name for name in TASKS if name not in _SHORT)]
    return [name for name in order if name in found]


def _header(task: str) -> str:
    return _SHORT.get(task, task) + ("" if TASKS[task].official else " *")


def _names(results: "Sequence[EvaluateResult]") -> list[str]:
    """Short names; where two would be the same, what was typed."""
    short = [Path(result.request.model).name for result in results]
    typed = [result.request.model for result in results]
    return [name if short.count(name) == 1 else whole for name, whole in zip(short, typed, strict=True)]


def _row(name: str, result: "EvaluateResult", tasks: list[str], conventions: list[Convention]) -> Row:
    texts, values = {"parameters": _size(result.parameters)}, {"parameters": result.parameters}
    row = Row(name, texts, values)
    for task in tasks:
        found = _task(result, task)
        if found is not None:
            norm = found.acc_norm is not None
            value, stderr = (found.acc_norm, found.acc_norm_stderr) if norm else (found.acc, found.acc_stderr)
            _put(row, task, None if value is None else 100 * value, None if stderr is None else 100 * stderr)
    if result.average_acc_norm is not None:
        average = result.average_acc_norm
        _put(row, "average", 100 * average.value, None if average.stderr is None else 100 * average.stderr)
        texts["average"] += f" ({len(average.tasks)}/{len(SEVEN_TASKS)})"
        row.values["average_tasks"] = len(average.tasks)
    for convention in conventions:
        taken = _perplexity(result, convention)
        if taken is not None and taken.perplexity is not None:
            texts[convention] = f"{taken.perplexity:,.2f}"
            row.values[convention] = taken.perplexity
    if result.edge is not None:
        _put_costs(row, result.edge)
    bits = _bits(result, conventions)
    if bits is not None:
        texts["bits_per_byte"], row.values["bits_per_byte"] = f"{bits:.4f}", bits
    return row


def _put(row: Row, key: str, value: float | None, stderr: float | None) -> None:
    if value is None:
        return
    row.values[key], row.values[f"{key}_stderr"] = value, stderr
    row.texts[key] = f"{value:.1f}" if stderr is None else f"{value:.1f} ± {stderr:.1f}"


def _put_costs(row: Row, cost: EdgeCost) -> None:
    size = cost.file_size("gguf", "q4_k_m")
    small, plain = cost.speed("llama.cpp", "q4_k_m"), cost.speed("torch", "float32")
    found = {
        "file_mb": None if size is None else size.bytes / 1e6,
        "decode_ms": None if small is None else small.decode_ms.median,
        "memory_mb": None if small is None else small.peak_memory_mb,
        "torch_decode_ms": None if plain is None else plain.decode_ms.median,
        "kv_cache_bytes_per_token": cost.counts.kv_cache_bytes_per_token,
    }
    for key, value in found.items():
        if value is not None:
            row.values[key] = value
            row.texts[key] = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _paper_row(row: Any, tasks: list[str]) -> Row:
    known = {task: value for task, value in row.accuracies.items() if value is not None and task in tasks}
    texts = {task: f"{value:.1f}" for task, value in known.items()}
    texts |= {"parameters": row.parameters, "average": f"{row.average:.1f} (7/7)"}
    values: dict[str, Any] = {**known, "parameters": row.parameter_count, "average": row.average, "average_tasks": 7}
    tokens = "" if row.tokens == "-" else f", {row.tokens} tokens"
    return Row(f"paper: {row.model}{tokens}", texts, values | {"tokens": row.tokens}, paper=True)


def _notes(
    results: "Sequence[EvaluateResult]", tasks: list[str], conventions: list[Convention], paper: bool
) -> list[str]:
    notes = []
    if any(result.tasks for result in results):
        notes.append("Accuracies in per cent, acc_norm where a task has it; ± is one standard error.")
    for task in tasks:
        notes += _differences(
            _header(task), [found for result in results if (found := _task(result, task)) is not None], _same_items
        )
    averages = {result.average_acc_norm.tasks for result in results if result.average_acc_norm is not None}
    if len(averages | ({SEVEN_TASKS} if paper and averages else set())) > 1:
        notes.append("average: the models' averages are not of the same tasks, so they do not compare.")
    for convention in conventions:
        notes += _differences(
            _HEADERS[convention],
            [taken for result in results if (taken := _perplexity(result, convention)) is not None],
            lambda found: (found.text_sha256, found.sequence_length),
        )
    costs = [result.edge for result in results if result.edge is not None]
    if costs:
        notes.append("Costs at batch size 1: q4_k_m by llama.cpp, torch in float32, median of the decoded tokens.")
    if len({(cost.machine.processor, *(speed.threads for speed in cost.speeds[:1])) for cost in costs}) > 1:
        notes.append("Costs: taken on different machines or with different threads, so they do not compare.")
    notes += [f"* {task} is not the public task: {TASKS[task].note}." for task in tasks if not TASKS[task].official]
    return notes


def _differences(header: str, found: Sequence[Any], what: Callable[[Any], object]) -> list[str]:
    if len({what(one) for one in found}) > 1:
        return [f"{header}: the models were not evaluated on the same data, so their figures do not compare."]
    if len({one.precision for one in found}) > 1:
        return [f"{header}: the models were computed in different precisions."]
    return []


def _same_items(found: TaskResult) -> object:
    return (found.items, found.data, found.version)


def _task(result: "EvaluateResult", name: str) -> TaskResult | None:
    return next((found for found in result.tasks if found.task == name), None)


def _perplexity(result: "EvaluateResult", convention: Convention) -> PerplexityResult | None:
    return next((found for found in result.perplexities if found.convention == convention), None)


def _order(results: "Sequence[EvaluateResult]", convention: Convention) -> tuple[Place, ...]:
    taken = zip(_names(results), (_perplexity(result, convention) for result in results), strict=True)
    return perplexity_order({name: found for name, found in taken if found is not None})


def _bits(result: "EvaluateResult", conventions: list[Convention]) -> float | None:
    """Bits per byte in the last convention that the table has, where this model has it too."""
    found = _perplexity(result, conventions[-1]) if conventions else None
    return None if found is None else found.bits_per_byte


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.2f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
