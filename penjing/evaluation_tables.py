"""One evaluation as tables for people; accuracies are in per cent."""

from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.table import Table

from penjing.terminal import terminal

if TYPE_CHECKING:
    from tools.evaluate import EvaluateResult
    from tools.evaluation.edge_figures import EdgeCost
    from tools.evaluation.results import PerplexityResult, TaskAverage, TaskResult


def print_evaluation(result: "EvaluateResult") -> None:
    """Everything that was found, what it was found with, and where it is kept."""
    console = terminal()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    padded = result.file_parameters != result.parameters
    padding = f" ({result.file_parameters:,} with padding)" if padded else ""
    say(f"{result.request.model}: {result.parameters:,} parameters{padding}; {result.compute}")
    for one in (result, result.dense):
        if one is not None and one.ran_own_code:
            say(f"Python code that comes with {one.request.model} was run.")
    if result.tasks:
        console.print(_task_table(result))
        for line in _task_notes(result):
            say(line)
    if result.perplexities:
        console.print(_perplexity_table(result))
        for line in [*_perplexity_notes(result.perplexities), *_perplexity_orders(result)]:
            say(line)
    for name, one in (("", result), ("dense ", result.dense)):
        if one is not None and one.edge is not None:
            console.print(_edge_table(f"{name}cost on this machine", one.edge))
    say(f"Kept in {result.file}")


def percent(value: float | None, stderr: float | None = None) -> str:
    """A share as per cent with its standard error."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if stderr is None else f"{100 * value:.1f} ± {100 * stderr:.1f}"


def _task_table(result: "EvaluateResult") -> Table:
    table = _table()
    table.add_column("task")
    beside = {} if result.dense is None else {found.task: found for found in result.dense.tasks}
    for name in ("acc", "acc_norm", *(("dense acc", "dense acc_norm") if beside else ()), "chance", "items"):
        table.add_column(name, justify="right")
    for found in result.tasks:
        cells = _accuracies(found) + (_accuracies(beside[found.task]) if beside else [])
        items = f"{found.items:,}" if found.items == found.items_available else f"{found.items:,} of "
        items += "" if found.items == found.items_available else f"{found.items_available:,}"
        name = found.task + ("" if found.official else " *") + (" (cached)" if found.cached else "")
        table.add_row(name, *cells, percent(found.chance), items)
    return table


def _accuracies(found: "TaskResult") -> list[str]:
    return [percent(found.acc, found.acc_stderr), percent(found.acc_norm, found.acc_norm_stderr)]


def _task_notes(result: "EvaluateResult") -> list[str]:
    lines = []
    for name, one in (("", result), ("dense, ", result.dense)):
        if one is None or one.average_acc_norm is None or one.average_acc is None:
            continue
        norm, plain = one.average_acc_norm, one.average_acc
        missing = f"; missing: {', '.join(norm.missing)}" if norm.missing else ""
        lines.append(
            f"{name}{norm.label}: {_value(norm)} with acc_norm where a task has it, {_value(plain)} with acc{missing}"
        )
    lines += [f"* {found.task} is not the public task: {found.note}." for found in result.tasks if not found.official]
    lines += [
        f"{found.task}: {found.truncated:,} of its prompts were longer than the context and lost their beginning."
        for found in result.tasks
        if found.truncated
    ]
    version = result.tasks[0].lm_eval
    lines.append(f"Scored by lm-eval {version}, without examples in the prompt; ± is one standard error, in per cent.")
    return lines


def _value(average: "TaskAverage") -> str:
    return percent(average.value, average.stderr)


def _perplexity_table(result: "EvaluateResult") -> Table:
    table = _table()
    table.add_column("perplexity")
    beside = {} if result.dense is None else {found.convention: found for found in result.dense.perplexities}
    names = ("value", *(("dense",) if beside else ()), "per", "bits/byte", "length", "stride", "tokens")
    for name in names:
        table.add_column(name, justify="right")
    for found in result.perplexities:
        values = [_number(found.perplexity, 2)]
        if beside:
            values.append(_number(beside[found.convention].perplexity, 2))
        name = found.convention + (" (cached)" if found.cached else "")
        counts = (f"{found.sequence_length:,}", f"{found.stride:,}", f"{found.tokens:,}")
        table.add_row(name, *values, found.per, _number(found.bits_per_byte, 4), *counts)
    return table


def _perplexity_notes(results: "tuple[PerplexityResult, ...]") -> list[str]:
    first = results[0]
    lines = [f"text: {first.text} ({first.text_bytes:,} bytes, sha256 {first.text_sha256[:12]})"]
    lines += [f"{found.convention}: not taken, as {found.note}." for found in results if found.note]
    policies = ", ".join(f"{found.convention} {found.bos}" for found in results)
    lines.append(f"beginning-of-text token: {policies}")
    lines.append("Only figures of one convention compare, and between tokenizers only bits per byte of the same text.")
    return lines


def _perplexity_orders(result: "EvaluateResult") -> list[str]:
    """How sure it is which of the two models is better, where there are two."""
    from tools.evaluation.perplexity_order import order_in_words, perplexity_order

    lines = []
    for found in result.perplexities:
        for dense in () if result.dense is None else result.dense.perplexities:
            if found.convention == dense.convention:
                order = perplexity_order({"this model": found, "dense": dense})
                told = f"{found.convention}, nats per token on the same windows: {order_in_words(order)}"
                lines += [told] if order else []
    return lines


def _edge_table(title: str, cost: "EdgeCost") -> Table:
    from penjing.edge_table import edge_rows

    table = _table()
    table.add_column(title, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    for row in edge_rows(cost):
        table.add_row(*row)
    return table


def _table() -> Table:
    return Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
