"""The command `penjing approve`: what a search waits for, and your decision; the same questions in its own terminal."""

import json
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from graph.approval import Waiting
    from graph.session import SearchSession
    from memory.approval_records import Decision

_LOOK_SECONDS = 0.5
_QUESTION = "[a]ccept, [e]dit, or [r]eject?"


def approve(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
    ] = "latest",
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="The trial; not needed where one alone waits.", min=0)
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Pay for the design as it is.")] = False,
    edit: Annotated[
        str | None,
        typer.Option(metavar="FILE|JSON", help="Pay for this design instead; what it does not name stays as proposed."),
    ] = None,
    reject: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Do not pay for it; the words go back to its author.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Decide on a design that a search with `approve` waits for, from any terminal; without an option show what waits.

    [bold]Examples[/bold]: penjing approve; penjing approve latest 3 --accept; penjing approve latest 3 --edit
    '{"hidden_size": 544}'; penjing approve latest 3 --reject "Keep the first layers as they are."
    """
    with reported_errors(as_json, debug):
        from penjing.sessions import open_session

        decision, design, words = _decision(accept, edit, reject)
        session = open_session(run)
        if decision is None:
            _show(session, trial, as_json)
            return
        number = _only(session) if trial is None else trial
        session.decide(number, decision, design, words)
        if as_json:
            print(json.dumps({"run": session.run_id, "trial": number, "decision": decision}))
            return
        console = terminal()
        console.print(f"trial {number}: {decision}", highlight=False)
        if not session.folder.in_use:
            console.print(f"Nobody works on the run; to go on: penjing resume {session.run_id}", highlight=False)


def ask_here(session: "SearchSession", number: int, console: "Console") -> None:
    """Ask in the terminal of the search, until somebody has decided, here or elsewhere."""
    from tools.errors import InputError

    asked = False
    while (waiting := next((one for one in session.waiting() if one.trial == number), None)) is not None:
        if not asked:
            _print(waiting, console)
            console.print(_QUESTION, markup=False, highlight=False)
        asked = True
        line = _line()
        if line is None:
            continue
        asked = False
        try:
            _answer(session, waiting, line.strip(), console)
        except InputError as error:
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)


def _answer(session: "SearchSession", waiting: "Waiting", line: str, console: "Console") -> None:
    choice, _, rest = line.partition(" ")
    if choice in ("a", "accept"):
        session.decide(waiting.trial, "accept")
    elif choice in ("r", "reject"):
        words = rest.strip()
        if not words:
            console.print("What is its author to know?", highlight=False)
            words = sys.stdin.readline().strip()
        session.decide(waiting.trial, "reject", words=words)
    elif choice in ("e", "edit"):
        import click

        before = json.dumps(waiting.draft.model_dump(mode="json"), indent=1)
        edited = click.edit(before, extension=".json")
        if edited is not None:
            session.decide(waiting.trial, "edit", edited)


def _line() -> str | None:
    """A line that was typed; None where there was none for a moment, so that decisions from elsewhere are seen."""
    if os.name != "posix":
        return sys.stdin.readline()
    ready, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
    if not ready:
        return None
    line = sys.stdin.readline()
    if not line:
        # Control-D: whoever closes the input stops asking here, as Control-C does.
        raise KeyboardInterrupt
    return line


def _decision(accept: bool, edit: str | None, reject: str | None) -> "tuple[Decision | None, str | None, str]":
    from tools.errors import InputError

    options = {"--accept": accept, "--edit": edit is not None, "--reject": reject is not None}
    given = [name for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise InputError(f"Only one of {', '.join(given)} can be meant.")
    if accept:
        return "accept", None, ""
    if reject is not None:
        return "reject", None, reject
    return (None, None, "") if edit is None else ("edit", _text(edit), "")


def _text(given: str) -> str:
    """The JSON itself, or that of the file."""
    from tools.errors import InputError

    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{given} is neither a JSON object nor a file that can be read ({error}).") from error


def _only(session: "SearchSession") -> int:
    from tools.errors import InputError

    numbers = [one.trial for one in session.waiting()]
    if len(numbers) != 1:
        several = f"trials {', '.join(map(str, numbers))} wait: name one" if numbers else "nothing waits for a decision"
        raise InputError(f"In run {session.run_id} {several}.")
    return numbers[0]


def _show(session: "SearchSession", trial: int | None, as_json: bool) -> None:
    found = session.waiting()
    if trial is not None:
        session.trial(trial)
        found = [one for one in found if one.trial == trial]
    if as_json:
        print(json.dumps({"run": session.run_id, "waiting": [one.model_dump(mode="json") for one in found]}))
        return
    console = terminal()
    if not found:
        what = "nothing waits" if trial is None else f"trial {trial} does not wait"
        console.print(f"{what} for a decision in run {session.run_id}", highlight=False)
    for one in found:
        _print(one, console)


def _print(waiting: "Waiting", console: "Console") -> None:
    from penjing.trace_lines import visible

    origin = "the source" if waiting.parent is None else f"trial {waiting.parent}"
    lines: list[str] = [f"Trial {waiting.trial} of {waiting.run} waits: {waiting.design}"]
    lines += [f"  by {waiting.proposer} in turn {waiting.turn} ({waiting.stage.replace('_', ' ')}), from {origin}"]
    lines += [f"  because: {visible(words)}" for words in waiting.rationale]
    lines += [f"  {words}" for words in waiting.change]
    figures: list[Any] = [f"{waiting.parameters:,} parameters", f"{waiting.file_mb:,.1f} MB"]
    figures += [] if waiting.forecast is None else [f"saliency cut {waiting.forecast:.3g}"]
    figures += [waiting.expected] if waiting.expected else []
    lines += [f"  {', '.join(figures)}; the evaluation takes about {waiting.expected_seconds:,.0f} s"]
    lines += [f"  {json.dumps(waiting.draft.model_dump(mode='json'))}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
