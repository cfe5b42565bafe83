"""The command `penjing pretrain`: one source grown into a smaller model, trained and pruned at the same time."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penjing.errors import BAD_INPUT, FAILED, WorkInterruptedError, reported_errors
from penjing.terminal import terminal
from tools.imports import uncollected

if TYPE_CHECKING:
    from tools.pretrain import PretrainRequest, PretrainResult
    from tools.requests import Progress


_LAUNCHING = {"nnodes", "nproc_per_node", "rdzv_endpoint", "node_rank", "print_only"}
_EVERYWHERE_ALIKE = {"source", "corpus", "design", "output"}


def pretrain(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            help="Model to grow from: embedded name, directory or hub name. Default: that of --design RUN/TRIAL, else "
            "smollm2-135m."
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Text to train on: embedded name, file, directory or hub data set. Default: that of --design "
            "RUN/TRIAL, else python-docs."
        ),
    ] = None,
    target_parameters: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Drop groups until so many parameters are left, like 100M.")
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(
            metavar="RUN/TRIAL|FILE", help="Or drop down to the design of a trial, or to that in this JSON file."
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(metavar="COUNT", help="Training tokens in all, like 50M.")] = "1M",
    every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Optimiser steps per dropped FFN channel, as in the paper; needs --target-parameters."
        ),
    ] = None,
    drops: Annotated[
        int | None, typer.Option(min=1, help="Without --every: events on the way; 1 is one-shot. Default: every step.")
    ] = None,
    drop_curve: Annotated[float, typer.Option(help="Below 1 the early events drop more.")] = 1.0,
    second_order: Annotated[
        bool, typer.Option("--second-order/--no-second-order", help="Repair what is left for what goes.")
    ] = True,
    saliency: Annotated[
        str,
        typer.Option(
            help="How groups are ranked: token_sequence, token, second, first, mixed, magnitude, activation, random."
        ),
    ] = "token_sequence",
    types: Annotated[str, typer.Option(help="Which groups may go, commas between.")] = "attention,ffn,stem",
    uniform: Annotated[bool, typer.Option("--uniform", help="All layers alike, as in the paper.")] = False,
    attention_unit: Annotated[str, typer.Option(help="What attention loses: kv_group or query_head.")] = "kv_group",
    ffn_multiple: Annotated[
        int, typer.Option(min=1, help="FFN widths are multiples of this: 64, or 256 for GGUF.")
    ] = 1,
    hidden_multiple: Annotated[int, typer.Option(min=1, help="Hidden sizes are multiples of this.")] = 1,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting: recipe.learning_rate=2e-4, data.block_length=512."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for all that comes out; the same command goes on there.")
    ] = None,
    nnodes: Annotated[
        int | None, typer.Option(min=1, help="Share each batch by ranks on this many nodes, started by torchrun.")
    ] = None,
    nproc_per_node: Annotated[
        int | None, typer.Option(min=1, help="Ranks of each node; default: one for each GPU of this one, else 1.")
    ] = None,
    rdzv_endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where node 0 is found; needed with several nodes.")
    ] = None,
    node_rank: Annotated[int, typer.Option(min=0, help="Which node this one is.")] = 0,
    print_only: Annotated[
        bool, typer.Option("--print-only", help="Print the torchrun command of each node, and start nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Train a model and prune it while it trains, down to a size or a design, then train it on.

    A run that was stopped goes on where its last checkpoint is: give the same command again. With --nnodes the ranks
    of one or several nodes share each batch, as under torchrun; docs/scaling.md says how.

    [bold]Examples[/bold]: penjing pretrain --target-parameters 115M --tokens 100k --output small; penjing pretrain
    --source smollm2-135m --corpus text.jsonl --target-parameters 100M --tokens 50M --every 2 --second-order;
    penjing pretrain --design latest/3 --tokens 1B --nnodes 2 --rdzv-endpoint node0:29400 --node-rank 0
    """
    with reported_errors(as_json, debug):
        from penjing.configuration import with_assignments
        from penjing.options import chosen_design, count_of, types_of
        from tools.places import cache_folder

        with uncollected():
            from tools.pretrain import PretrainRequest

        chosen = None if design is None else chosen_design(design)
        source = source or (chosen and chosen.source) or "smollm2-135m"
        corpus = corpus or (chosen and chosen.corpus) or "python-docs"
        name = f"{Path(source).name}-{target_parameters or (chosen.name if chosen else 'trained')}-{tokens}"
        recipe = {"saliency": saliency, "second_order_update": second_order, "drop_share": 0.25}
        widths = {
            "uniform": uniform,
            "attention_unit": attention_unit,
            "ffn_multiple": ffn_multiple,
            "hidden_multiple": hidden_multiple,
        }
        values = {
            "source": source,
            "corpus": corpus,
            "output": (output or Path(name)).expanduser().absolute(),
            "tokens": count_of(tokens, "--tokens"),
            "target_parameters": None
            if target_parameters is None
            else count_of(target_parameters, "--target-parameters"),
            "target": chosen and chosen.architecture,
            "every": every,
            "drops": drops,
            "drop_curve": drop_curve,
            "types": types_of(types),
            "widths": widths,
            "recipe": recipe,
            "seed": seed,
            "cache": cache_folder(),
        }
        request = PretrainRequest.model_validate(with_assignments(PretrainRequest, values, assignments or []))
        if nnodes is not None or print_only:
            _launch(context, request, nnodes or 1, nproc_per_node, rdzv_endpoint, node_rank, print_only)
            return
        result = _run(request)
        if not _is_first_rank():
            return
        if as_json:
            print(result.model_dump_json())
        else:
            _print(request, result)
        if result.failure is not None:
            raise typer.Exit(FAILED)


def _run(request: "PretrainRequest") -> "PretrainResult":
    from penjing.launching import PEER_LOST, end_with_launcher, note_bad_input
    from penjing.phases import shown_phases
    from penjing.termination import TERMINATED, orderly_end
    from tools.errors import InputError
    from tools.pretrain import CHECKPOINT_FOLDER, PretrainingStoppedError
    from tools.pretrain import pretrain as run_pretrain
    from tools.ranks import PeerLostError

    end_with_launcher()
    is_rank = "TORCHELASTIC_RUN_ID" in os.environ
    words = "Training stops after this step, and writes down where it is. Ctrl-C again ends it at once."
    try:
        # A rank is told to end by the terminal and by its launcher, which waits for half a minute.
        with shown_phases() as show, orderly_end(words, patient=is_rank) as end:

            def heard(progress: "Progress") -> None:
                end.may_wait = progress.phase == "growing"
                show(progress)

            def stop() -> bool:
                end.may_wait = True
                return end.asked

            return run_pretrain(request, heard, stop)
    except PeerLostError as error:
        # Whoever started the ranks says which one was the first to end.
        raise typer.Exit(PEER_LOST) from error
    except InputError as error:
        if not note_bad_input(str(error)):
            raise
        raise typer.Exit(BAD_INPUT) from error
    except PretrainingStoppedError as error:
        if is_rank:
            raise typer.Exit(TERMINATED) from None
        where = f"after step {error.step:,} of {error.steps:,}"
        raise WorkInterruptedError(f"Interrupted {where}; the same command goes on from there.") from None
    except KeyboardInterrupt:
        if is_rank:
            raise typer.Exit(TERMINATED) from None
        if not (request.output / CHECKPOINT_FOLDER).is_dir():
            raise
        raise WorkInterruptedError("Interrupted; the same command goes on from the last checkpoint.") from None


def _is_first_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _launch(
    context: typer.Context,
    request: "PretrainRequest",
    nodes: int,
    ranks_per_node: int | None,
    endpoint: str | None,
    node_rank: int,
    print_only: bool,
) -> None:
    """Print the command of each node, and start this one's."""
    from penjing.launching import Launch, given_options, ranks_here, start

    words = ["--source", request.source, "--corpus", request.corpus, "--output", str(request.output)]
    beside = request.output.with_name(f"{request.output.name}.design.json")
    if request.target is not None:
        # Other nodes may not have the run that it is from.
        words += ["--design", str(beside)]
    given = given_options(context, _LAUNCHING | _EVERYWHERE_ALIKE)
    launch = Launch(nodes, ranks_per_node or ranks_here(), node_rank, endpoint, (*words, *given))
    for line in launch.lines():
        typer.echo(line, err=not print_only)
    if print_only:
        return
    if request.target is not None:
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(request.target.model_dump_json(indent=1) + "\n")
    start(launch)


def _print(request: "PretrainRequest", result: "PretrainResult") -> None:
    """A small table, what happened on the way, and where the model is."""
    from rich.box import SIMPLE
    from rich.table import Table

    from tools.pretrain import PICTURE_FILE, TRAINING_PICTURE_FILE

    console = terminal()
    for warning in result.warnings:
        console.print(f"Warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    table = Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("model")
    for name in ("parameters", "loss", "perplexity"):
        table.add_column(name, justify="right")
    rows = (("source", result.source_parameters, result.source_loss), ("grown", result.parameters, result.loss))
    for label, parameters, loss in rows:
        shown = ("-", "-") if loss is None else (f"{loss:.4f}", f"{math.exp(min(loss, 700.0)):,.2f}")
        table.add_row(label, f"{parameters:,}", *shown)
    console.print(table)
    if result.difference_error is not None and result.loss is not None and result.source_loss is not None:
        console.print(
            f"Loss less the source's on the same held-out blocks: {result.loss - result.source_loss:+.4f}, "
            f"standard error {result.difference_error:.4f}.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"{result.tokens:,} tokens in {result.seconds:.0f} s; {result.events} drops; {result.architecture.describe()}.",
        highlight=False,
        soft_wrap=True,
    )
    if result.failure is not None:
        console.print(f"Stopped: {result.failure.message}.", highlight=False, markup=False, soft_wrap=True)
        return
    console.print(f"Model: {result.model}", highlight=False, markup=False, soft_wrap=True)
    pictures = {"training": TRAINING_PICTURE_FILE, **({"drops": PICTURE_FILE} if result.events else {})}
    for what, name in pictures.items():
        console.print(f"Picture of the {what}: {request.output / name}", highlight=False, markup=False, soft_wrap=True)
