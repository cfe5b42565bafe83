"""The command `penjing plot`: the pictures of a run as files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal


def plot(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
    ] = "latest",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go; default RUN-pictures.")] = None,
    trial: Annotated[
        int | None, typer.Option(help="Whose layers, training and pruning are drawn; default the best one's.", min=0)
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Draw on a dark ground.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Draw a run as SVG and PNG: best so far, Pareto fronts, lineage; layers, training and pruning of one trial.

    [bold]Example[/bold]: penjing plot latest --out pictures
    """
    with reported_errors(as_json, debug):
        from memory.retrieval import best
        from penjing.figures import save_picture
        from penjing.sessions import open_records
        from penjing.snapshot import read_snapshot
        from tools.errors import InputError

        with open_records() as records:
            snapshot = read_snapshot(records, run)
        leaders = best(snapshot.trials, 1)
        number = trial if trial is not None else leaders[0].number if leaders else None
        pictures = snapshot.pictures() + ([] if number is None else snapshot.trial_pictures(number))
        drawn = [picture for picture in pictures if not picture.is_empty]
        if not drawn:
            raise InputError(f"Run {snapshot.run.id} has nothing to draw yet: {pictures[0].summary}")
        folder = (out or Path(f"{snapshot.run.id}-pictures")).expanduser().absolute()
        files = [(picture, folder / f"{picture.name}{end}") for picture in drawn for end in (".svg", ".png")]
        there = [file.name for _, file in files if file.exists()]
        if there and not overwrite:
            raise InputError(f"{folder} has {', '.join(there[:3])} already; --overwrite replaces what is there.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for picture, file in files:
                save_picture(picture, file, dark)
        except OSError as error:
            raise InputError(f"Cannot draw into {folder}: {error.strerror}.") from error
        if as_json:
            rows = [{"picture": one.name, "file": str(file), "summary": one.summary} for one, file in files]
            print(json.dumps({"run": snapshot.run.id, "trial": number, "files": rows}))
            return
        console = terminal()
        for picture in drawn:
            line = f"{folder / picture.name}.svg, .png: {picture.summary}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        for picture in pictures:
            if picture.is_empty:
                console.print(f"not drawn: {picture.title}. {picture.summary}", highlight=False, markup=False)
