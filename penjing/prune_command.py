"""The command `penjing prune`: one source, one method of the field, one smaller model; no search and no training."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from tools.one_shot import PruneRequest, PruneResult


def prune(
    source: Annotated[str, typer.Option(help="Model to prune: embedded name, directory or hub name.")] = "smollm2-135m",
    corpus: Annotated[
        str, typer.Option(help="Text to judge and measure by: embedded name, file, directory or hub data set.")
    ] = "python-docs",
    method: Annotated[str, typer.Option(help="How to prune; see --methods.")] = "penjing",
    target_parameters: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most parameters that may be left, like 100M or 1.5B.")
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(help="What to cut: attention, ffn, stem, with commas between; default: the method's own."),
    ] = None,
    calibration_tokens: Annotated[int, typer.Option(min=1, help="Training tokens that groups are judged by.")] = 6144,
    damping: Annotated[float, typer.Option(help="Damping of the second-order repair and of OBS errors.")] = 0.3,
    ffn_multiple: Annotated[int, typer.Option(min=1, help="FFN widths are multiples of this.")] = 64,
    hidden_multiple: Annotated[int, typer.Option(min=1, help="Hidden sizes are multiples of this.")] = 32,
    seed: Annotated[int, typer.Option(help="Decides the calibration text, and the method random.")] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New directory for the model; default: SOURCE-METHOD-SIZE.")
    ] = None,
    methods: Annotated[bool, typer.Option("--methods", help="List the methods and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Prune a model once, without search or training, by a method of the field; measure it before and after.

    [bold]Examples[/bold]: penjing prune --target-parameters 115M; penjing prune --method llm-pruner
    --target-parameters 100M --types ffn,attention --output small
    """
    with reported_errors(as_json, debug):
        if methods:
            _list_methods(as_json)
            return
        from penjing.options import count_of, types_of
        from tools.errors import InputError
        from tools.one_shot import PruneRequest
        from tools.settings import WidthSettings

        if target_parameters is None:
            raise InputError("There is no target: say how many parameters may be left, like --target-parameters 100M.")
        default = f"{Path(source).name or 'model'}-{method}-{target_parameters}"
        request = PruneRequest(
            source=source,
            corpus=corpus,
            method=method,
            target_parameters=count_of(target_parameters, "--target-parameters"),
            types=None if types is None else types_of(types),
            calibration_tokens=calibration_tokens,
            damping=damping,
            widths=WidthSettings(ffn_multiple=ffn_multiple, hidden_multiple=hidden_multiple),
            seed=seed,
            output=(output or Path(default)).expanduser().absolute(),
        )
        result = _run(request)
        if as_json:
            print(result.model_dump_json())
        else:
            _print(result)


def _list_methods(as_json: bool) -> None:
    from tools.pruning.methods import METHODS

    if as_json:
        rows = [
            {
                "method": name,
                "criterion": method.criterion,
                "scope": method.scope,
                "types": list(method.types),
                "repair": method.repair,
                "description": method.description,
            }
            for name, method in METHODS.items()
        ]
        print(json.dumps({"methods": rows}))
        return
    width = max(map(len, METHODS))
    for name, method in METHODS.items():
        print(f"{name:{width}}  {method.description}.")


def _run(request: "PruneRequest") -> "PruneResult":
    from penjing.phases import shown_phases
    from tools.one_shot import prune as run_prune

    with shown_phases() as show:
        return run_prune(request, show)


def _print(result: "PruneResult") -> None:
    """A small table and where the model is."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("model")
    for name in ("parameters", "loss", "perplexity"):
        table.add_column(name, justify="right")
    for name, found in (("source", result.before), (result.method, result.after)):
        loss, perplexity = found.loss or math.nan, found.perplexity or math.nan
        table.add_row(name, f"{found.parameters:,}", f"{loss:.4f}", f"{perplexity:,.2f}")
    console = terminal()
    console.print(table)
    console.print(
        f"{result.seconds:.0f} s to judge and cut, with {result.calibration_tokens:,} tokens; loss over "
        f"{result.validation_tokens:,} tokens.",
        highlight=False,
        soft_wrap=True,
    )
    padded = result.file_parameters != result.after.parameters
    padding = f", {result.file_parameters:,} parameters with padding" if padded else ""
    console.print(f"Model: {result.path} ({result.class_name}{padding})", highlight=False, markup=False, soft_wrap=True)
