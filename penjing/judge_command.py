"""The command `penjing judge`, and `penjing search --judges`: the agents' searches against those of judges."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penjing.errors import SearchInterruptedError, reported_errors
from penjing.interruption import Interruption
from penjing.sessions import home_folder
from penjing.terminal import terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from graph.config import SearchConfig
    from graph.judgement import Judgement, Outcome
    from graph.session import SearchSession
    from graph.tournament import Entry, Tournament


def judge(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A search of the agents: its id, the beginning of one, or 'latest'."),
    ] = "latest",
    judges: Annotated[
        str,
        typer.Option(metavar="A,B", help="Searchers without a language model: random, evolution, local, tpe, forest."),
    ] = "random",
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Seeds of each searcher; fewer than 6 cannot tell from chance.")
    ] = 1,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the best so far of all into this PNG or SVG file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Say whether the language model helped: the same search again by judges, with equal seeds, trials and budget.

    What is missing is run: the judges' searches, and with more seeds the agents' too. Searches that are there already
    count, and no design is grown twice with one seed. Started again, an interrupted comparison goes on.

    [bold]Examples[/bold]: penjing judge latest; penjing judge RUN --judges random,local --seeds 6 --picture lift.png
    """
    with reported_errors(as_json, debug):
        from graph.tournament import tournament_of
        from penjing.options import require_picture

        if picture is not None:
            require_picture(picture)
        play(tournament_of(run, names_of(judges), seeds, home_folder()), picture, as_json)


def compared(
    config: "SearchConfig", judges: str | None, seeds: int | None, picture: Path | None
) -> "Tournament | None":
    """The tournament that the options of `penjing search` ask for, if any. Raises InputError for wrong ones."""
    from penjing.options import require_picture
    from tools.errors import InputError

    if judges is None:
        if seeds is not None or picture is not None:
            raise InputError("--seeds and --picture go with --judges: say which, like --judges random.")
        return None
    if config.record is not None or config.replay is not None:
        raise InputError("--record and --replay are for one search, --judges compares several: leave one of them out.")
    if config.approve:
        raise InputError("--approve is for one search, --judges compares several: leave one of them out.")
    if picture is not None:
        require_picture(picture)
    from graph.tournament import Tournament

    return Tournament(config, names_of(judges), seeds or 1)


def in_words(tournament: "Tournament") -> str:
    """How many searches there are, for the estimate of one."""
    count, judges = tournament.seeds, ", ".join(tournament.judges)
    return (
        f"This is one search of the agents. The comparison is {count} of these and {count} by each of {judges}; those "
        "take no tokens, and designs that were grown before with the same seed cost nothing."
    )


def names_of(judges: str) -> list[str]:
    """Judges from a list with commas."""
    return [name.strip() for name in judges.split(",") if name.strip()]


def play(tournament: "Tournament", picture: Path | None, as_json: bool) -> None:
    """Run what is missing with a progress display, then say what came out."""
    interruption = Interruption()
    console, outcomes, command = terminal(stderr=True), list["Outcome"](), ""
    try:
        for number, entry in enumerate(tournament.entries, 1):
            session = tournament.session(entry)
            command = command or (
                f"penjing judge {session.run_id} --judges {','.join(tournament.judges)} --seeds {tournament.seeds}"
            )
            try:
                place = f"search {number} of {len(tournament.entries)}"
                outcomes.append(_search(tournament, entry, session, place, console, interruption))
            finally:
                session.close()
    except KeyboardInterrupt:
        raise SearchInterruptedError(command or "the same command") from None
    except Exception:
        if outcomes:
            console.print(f"To go on: {command}", highlight=False, soft_wrap=True)
        raise
    judgement = tournament.judgement(outcomes)
    if picture is not None:
        judgement.draw(picture)
    if as_json:
        print(json.dumps(judgement.document()))
    else:
        _print(judgement)


def _search(
    tournament: "Tournament",
    entry: "Entry",
    session: "SearchSession",
    place: str,
    console: "Console",
    interruption: "Interruption",
) -> "Outcome":
    from penjing.progress import SearchProgress

    done = len([trial for trial in session.trials() if trial.measurement is not None])
    before = " (finished before)" if session.record.status == "finished" else ""
    console.print(f"{place}: {entry}, run {session.run_id}{before}", highlight=False, soft_wrap=True)
    events = tournament.stream(session)
    try:
        with SearchProgress(console, session.config.trials, done) as progress:
            for event in events:
                interruption.hear(event)
                progress.show(event)
    finally:
        events.close()
    return tournament.outcome(entry, session)


def _print(judgement: "Judgement") -> None:
    console = terminal()
    console.print(_table(judgement))
    for verdict in judgement.verdicts:
        console.print(verdict.sentence, highlight=False, soft_wrap=True)
    if (best := judgement.best) is not None:
        whose = f"{best.searcher}, seed {best.seed}"
        console.print(f"Best design of all: {whose}; penjing show {best.run}", highlight=False, soft_wrap=True)


def _table(judgement: "Judgement") -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    title = f"Best {judgement.objective} after {judgement.trials} trials"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("searcher")
    for name in ("seeds", "mean best", "lift of the LLM", "95 % confidence"):
        table.add_column(name, justify="right")
    for row in judgement.rows:
        best = "-" if row.best is None else f"{row.best:.4f}"
        lift = ("-", "-")
        if row.lift is not None:
            interval = f"{row.lift.low:+.4f} to {row.lift.high:+.4f}" if len(row.lift.seeds) > 1 else "one seed"
            lift = (f"{row.lift.difference:+.4f}", interval)
        table.add_row(row.searcher, str(row.seeds), best, *lift)
    return table
