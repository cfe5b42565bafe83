"""The command `penjing branch`: another run that goes on from a trial of one, under other prompts or settings."""

from pathlib import Path
from typing import Annotated

import typer

from penjing.errors import reported_errors
from penjing.running_search import drive_search


def branch(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
    ],
    at: Annotated[int, typer.Option("--at", metavar="TRIAL", min=0, help="The trial after which it goes on.")],
    prompt_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Your templates for the branch.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the branch; not one that its trials are measured by."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Go on from a trial of a run under other prompts or settings. The run itself stays as it is.

    What was asked and measured up to there is shared, not paid for again. See what came of it with
    penjing compare RUN BRANCH.

    [bold]Examples[/bold]: penjing branch latest --at 3 --prompt-dir mine; penjing branch RUN --at 10 --set trials=40
    """
    with reported_errors(as_json, debug):
        from penjing.sessions import changed_config, open_session

        session = open_session(run)
        given = [*(assignments or []), *([f"prompt_dir={prompt_dir}"] if prompt_dir else [])]
        # Two runs cannot write one cassette.
        config = changed_config(session.config.model_copy(update={"name": "", "record": None, "replay": None}), given)
        drive_search(session.branch(at, config), as_json)
