"""The command `penjing export`: a trial of a run, or a model directory, as files that other software opens."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from graph.events import AnyEvent
    from graph.session import SearchSession
    from memory.views import TrialView
    from tools.export.report import ExportReport
    from tools.requests import Progress


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL_DIR",
            help="A run's id, the beginning of one, or 'latest'; or a model: a directory in transformers' format, or a "
            "hub name.",
        ),
    ],
    trial_or_directory: Annotated[
        str, typer.Argument(metavar="[TRIAL] DIR", help="Trial number (default: the best), then the new directory.")
    ],
    directory: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
    format: Annotated[
        Literal["hf", "gguf"] | None,
        typer.Option(help="hf: for transformers (default); gguf: one file for llama.cpp, also where DIR is NAME.gguf."),
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(
            metavar="MIX",
            help="Quantise, as gguf: q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, iq4_nl or q3_k_m.",
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="hf: layers of different widths at their own size, with Python code that opens them "
            "(trust_remote_code). Without it they are padded with zeros, and any software opens them.",
        ),
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32, float16 or bfloat16; default: as the weights are, in GGUF files float16."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Write a model as a directory that transformers opens, or as a GGUF file for llama.cpp, with its model card.

    [bold]Examples[/bold]: penjing export latest my-model; penjing export latest 3 my-model --quantise q4_k_m;
    penjing export some-model/ small.gguf --quantise q8_0
    """
    with reported_errors(as_json, debug):
        from penjing.phases import shown_phases
        from tools.errors import InputError
        from tools.export.options import export_options

        destination = Path(directory or trial_or_directory).expanduser().absolute()
        options = export_options(destination, format, quantise, compact, dtype, overwrite)
        trial: TrialView | None = None
        if _is_model(what):
            if directory is not None:
                raise InputError(f"{what} is a model and no run: write penjing export MODEL_DIR DIR.")
            from tools.export.source_export import export_source
            from tools.places import cache_folder

            with shown_phases() as show:
                report = export_source(what, destination, options, cache_folder(), show)
        else:
            session = _session(what)
            if directory is None:
                trial = session.best()
            elif trial_or_directory.isdigit():
                trial = session.trial(int(trial_or_directory))
            else:
                raise InputError(f"{trial_or_directory!r} is no trial number: write penjing export RUN [TRIAL] DIR.")
            with shown_phases() as show:
                report = session.export(
                    trial, destination, format, overwrite, quantise, compact, dtype, _as_phases(show)
                )
        document = export_document(report, trial)
        if as_json:
            print(json.dumps(document))
        else:
            _print(report, trial)


def export_document(report: "ExportReport", trial: "TrialView | None") -> dict[str, Any]:
    """What an export wrote."""
    prediction = report.prediction
    quantisation = None
    if prediction is not None:
        quantisation = {
            "mix": prediction.mix,
            "bits_per_weight": prediction.bits_per_weight,
            "tensors": prediction.tensor_count,
            "fallback_tensors": prediction.fallback_tensors,
            "fallback_share": prediction.fallback_share,
            "growth": prediction.growth,
            "fallbacks": [
                {"wanted": fallback.wanted, "written": fallback.written, "tensors": list(fallback.tensors)}
                for fallback in prediction.fallbacks
            ],
        }
    return {
        "trial": None if trial is None else trial.number,
        "path": str(report.path),
        "file": report.weights_file,
        "class_name": report.class_name,
        "dtype": report.dtype,
        "parameters": report.parameters,
        "file_parameters": report.file_parameters,
        "padded": report.padded,
        "remote_code": report.remote_code,
        "bytes": report.bytes,
        "quantisation": quantisation,
        "notes": report.notes(),
    }


def _is_model(name: str) -> bool:
    """Whether `name` means a model itself: a directory with one, a file, a path or hub name, or the embedded one."""
    from tools.embedded import EMBEDDED_NAME

    path = Path(name).expanduser()
    return (path / "config.json").is_file() or path.is_file() or len(path.parts) > 1 or name == EMBEDDED_NAME


def _session(name: str) -> "SearchSession":
    from penjing.sessions import open_session
    from tools.errors import InputError

    try:
        return open_session(name)
    except InputError as error:
        if Path(name).expanduser().is_dir():
            raise InputError(
                f"{name} is neither a model (there is no config.json in that directory) nor a run; give a model's "
                "directory in transformers' format, or a run's id."
            ) from error
        raise


def _as_phases(show: "Callable[[Progress], None]") -> "Callable[[AnyEvent], None]":
    """What is told of weights that are grown again, for a bar."""
    from graph.events import ProgressEvent, StageEvent
    from tools.requests import Progress

    def told(event: "AnyEvent") -> None:
        match event:
            case ProgressEvent():
                show(Progress(phase=event.phase, done=event.done, total=event.total, loss=event.loss))
            case StageEvent():
                show(Progress(phase=event.message, done=0, total=1))

    return told


def _print(report: "ExportReport", trial: "TrialView | None") -> None:

    console = terminal()
    what = "The model" if trial is None else f"Trial {trial.number}"
    console.print(
        f"{what} ({report.parameters:,} parameters) is in {report.path} as {report.class_name}, {report.dtype}, "
        f"{report.bytes / 1e6:,.1f} MB",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for note in report.notes():
        console.print(note, highlight=False, markup=False, soft_wrap=True)
