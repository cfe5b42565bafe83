"""The command `penjing compare`: saved evaluations of several models as one table, or what several runs found."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penjing.errors import reported_errors
from penjing.evaluate_command import (
    BatchSizeOption,
    EdgeOption,
    LimitOption,
    LimitTokensOption,
    PerplexityOption,
    PrecisionOption,
    TaskDataOption,
    TasksOption,
    TextOption,
    TrustOption,
)
from penjing.terminal import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from penjing.comparison import Comparison


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... or RUN...",
            help="Evaluated models, as penjing evaluate took them, or evaluation.json; or recorded runs.",
        ),
    ],
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate first what is missing, as the options below say.")
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also show EfficientLLM's Table 2, which is by the paper's own harness.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the comparison into this PNG or SVG file.")
    ] = None,
    tasks: TasksOption = None,
    task_data: TaskDataOption = None,
    limit: LimitOption = None,
    perplexity: PerplexityOption = False,
    text: TextOption = None,
    limit_tokens: LimitTokensOption = None,
    edge: EdgeOption = False,
    trust_remote_code: TrustOption = False,
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Show the evaluations of several models side by side. Nothing is computed without --evaluate.

    Of runs it shows what each found by itself, what it cost, and which is ahead after equal trials and equal tokens; of
    a branch and its run, what came after the fork.

    [bold]Examples[/bold]: penjing compare smollm2-135m my-model --paper; penjing compare a b --evaluate --tasks piqa
    --task-data benchmarks --limit 200 --markdown; penjing compare RUN BRANCH
    """
    with reported_errors(as_json, debug):
        from penjing.run_comparison_table import are_runs, print_run_comparison
        from tools.errors import InputError

        if are_runs(models):
            if evaluate or paper or markdown or picture is not None:
                raise InputError("Runs are compared without options but --json; the others are for models.")
            print_run_comparison(models, as_json)
            return
        from penjing.comparison import compare_evaluations
        from penjing.evaluate_command import request_of, run
        from penjing.options import require_picture
        from tools.evaluation.saved import find_evaluation
        from tools.places import cache_folder

        if picture is not None:
            require_picture(picture)
        if evaluate:
            results = [
                run(
                    request_of(
                        model,
                        tasks=tasks,
                        task_data=task_data,
                        limit=limit,
                        perplexity=perplexity,
                        text=text,
                        limit_tokens=limit_tokens,
                        edge=edge,
                        trust_remote_code=trust_remote_code,
                        precision=precision,
                        batch_size=batch_size,
                    )
                )
                for model in models
            ]
        else:
            results = [find_evaluation(model, cache_folder()) for model in models]
        comparison = compare_evaluations(results, paper)
        if picture is not None:
            from penjing.comparison_picture import draw_comparison

            draw_comparison(comparison, picture)
        if as_json:
            print(json.dumps(document(comparison)))
        elif markdown:
            print(markdown_table(comparison))
        else:
            _print(comparison)


def document(comparison: "Comparison") -> dict[str, object]:
    """The comparison as plain data: figures as numbers, accuracies in per cent.

    `perplexity_orders` has the models by their loss on the same windows, each with its distance to the one before.
    """
    rows = [{"model": row.name, "paper": row.paper, **row.values} for row in comparison.rows]
    orders = {convention: [place.as_data() for place in order] for convention, order in comparison.orders.items()}
    return {"models": rows, "perplexity_orders": orders, "notes": list(comparison.notes)}


def markdown_table(comparison: "Comparison") -> str:
    """The comparison as one Markdown table, with its notes below."""
    heads = ["model", *(column.header for column in comparison.columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * len(comparison.columns) + "|"]
    for row in comparison.rows:
        cells = [row.name.replace("|", "\\|"), *(row.texts.get(column.key, "-") for column in comparison.columns)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in comparison.notes)])


def _print(comparison: "Comparison") -> None:
    """One table where it fits the width; else one for each group of columns. No figure is ever cut off."""
    from rich.console import Console
    from rich.measure import Measurement

    console = terminal()

    def width(table: "Table") -> int:
        return Measurement.get(console, console.options.update(width=10_000), table).maximum

    groups = list(dict.fromkeys(column.group for column in comparison.columns if column.group != "all"))
    whole = _table(comparison, groups)
    alone = width(whole) <= console.width or len(groups) < 2
    for table in [whole] if alone else [_table(comparison, [group]) for group in groups]:
        Console(width=max(console.width, width(table))).print(table)
    for note in comparison.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _table(comparison: "Comparison", groups: list[str]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    shown = [column for column in comparison.columns if column.group in ("all", *groups)]
    table.add_column("model")
    for column in shown:
        table.add_column(column.header, justify="right")
    previous = False
    # The paper's table has accuracies only.
    for row in comparison.rows if "accuracy" in groups else [row for row in comparison.rows if not row.paper]:
        if row.paper and not previous:
            table.add_section()
        previous = row.paper
        table.add_row(row.name, *(row.texts.get(column.key, "-") for column in shown))
    return table
