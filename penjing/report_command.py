"""The command `penjing report`: a run as one HTML file to send to somebody."""

import json
from pathlib import Path
from typing import Annotated

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
    ] = "latest",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The new file; default RUN.html here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Write a run as one HTML file: result, figures, trials and their stories, what it cost, all settings.

    It opens in any browser without the internet, and has all that the agents were told and answered in it.

    [bold]Example[/bold]: penjing report latest --out search.html
    """
    with reported_errors(as_json, debug):
        from penjing.html_report import html_report
        from penjing.sessions import open_records, open_session
        from tools.errors import InputError

        session = open_session(run)
        path = (out or Path(f"{session.run_id}.html")).expanduser().absolute()
        if path.is_dir() or (path.exists() and not overwrite):
            what = "is a folder" if path.is_dir() else "exists already; --overwrite replaces it"
            raise InputError(f"{path} {what}.")
        with open_records() as records:
            text = html_report(session, records)
        beside = path.with_name(f".{path.name}.new")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise InputError(f"Cannot write {path}: {error.strerror}.") from error
        if as_json:
            print(json.dumps({"run": session.run_id, "file": str(path), "bytes": path.stat().st_size}))
            return
        size = path.stat().st_size / 1e6
        terminal().print(f"{path} ({size:,.1f} MB)", highlight=False, markup=False, soft_wrap=True)
