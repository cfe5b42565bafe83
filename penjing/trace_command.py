"""The command `penjing trace`: what a run did and what its agents said, as a tree, or the story of one design."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from graph.session import SearchSession
    from graph.trace import TracedSpan

_POLL_SECONDS = 0.5


def trace(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
    ] = "latest",
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="Tell the whole story of this design.", min=0)
    ] = None,
    calls: Annotated[
        bool, typer.Option("--calls", help="Show every call of a chat model: messages, answer, tokens, cost.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also show the steps in which nothing was said.")] = False,
    grep: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only what has this text in it, prompts and answers included.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing what happens until the run stops.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON document on stdout; with --follow one a line."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Show what a run did: its agents' turns, calls and tools, and the evaluations, with times, tokens and cost.

    [bold]Examples[/bold]: penjing trace; penjing trace latest 3; penjing trace RUN --calls --grep "late layers";
    penjing trace --follow
    """
    with reported_errors(as_json, debug):
        from penjing.sessions import open_session

        session = open_session(run)
        console = terminal()
        if trial is not None:
            _tell(session, trial, console, as_json)
        elif follow:
            _follow(session, grep, console, as_json)
        elif calls:
            _calls(session, grep, console, as_json)
        else:
            _tree(session, everything, grep, console, as_json)


def _tell(session: "SearchSession", trial: int, console: "Console", as_json: bool) -> None:
    story = session.story(trial)
    if as_json:
        print(story.model_dump_json())
        return
    from penjing.trace_lines import story_lines

    for line in story_lines(story):
        console.print(line, soft_wrap=True)


def _calls(session: "SearchSession", grep: str | None, console: "Console", as_json: bool) -> None:
    from graph.trace import TracedCall
    from penjing.trace_lines import call_lines

    found = [TracedCall.of(call) for call in session.calls()]
    if grep is not None:
        wanted = grep.casefold()
        found = [call for call in found if wanted in json.dumps(call.model_dump(), ensure_ascii=False).casefold()]
    if as_json:
        print(json.dumps({"run": session.run_id, "calls": [call.model_dump(mode="json") for call in found]}))
        return
    if not found:
        console.print(_nothing(session, grep), markup=False, highlight=False)
    before = None
    for call in found:
        same = before is not None and (before.turn, before.candidate) == (call.turn, call.candidate)
        for line in call_lines(call, before if same else None):
            console.print(line, soft_wrap=True)
        console.print()
        before = call


def _tree(session: "SearchSession", everything: bool, grep: str | None, console: "Console", as_json: bool) -> None:
    from graph.trace import matching, pruned, telling

    roots = session.trace()
    if grep is not None:
        roots = [kept for root in roots if (kept := pruned(root, lambda span: matching(span, grep) is not None))]
    elif not everything and not as_json:
        roots = [kept for root in roots if (kept := pruned(root, telling))]
    if as_json:
        print(json.dumps({"run": session.run_id, "trace": [root.model_dump(mode="json") for root in roots]}))
        return
    if not roots:
        console.print(_nothing(session, grep), markup=False, highlight=False)
    for root in roots:
        console.print(_branch(root, grep), soft_wrap=True)


def _branch(span: "TracedSpan", grep: str | None) -> "Tree":
    from rich.tree import Tree

    from graph.trace import matching
    from penjing.trace_lines import label, visible

    tree = Tree(label(span))
    line = None if grep is None else matching(span, grep)
    if line is not None:
        from rich.text import Text

        tree.add(Text(visible(line), style="green"))
    for child in span.children:
        tree.children.append(_branch(child, grep))
    return tree


def _follow(session: "SearchSession", grep: str | None, console: "Console", as_json: bool) -> None:
    """What begins and what ends, until nobody works on the run."""
    from graph.trace import matching, telling
    from penjing.trace_lines import label

    for depth, span in _news(session):
        if not telling(span) or (grep is not None and matching(span, grep) is None):
            continue
        if as_json:
            print(json.dumps({"depth": depth, **span.model_dump(mode="json", exclude={"children"})}), flush=True)
        else:
            console.print(_indented(depth, label(span, "begins")), soft_wrap=True)


def _news(session: "SearchSession") -> "Iterator[tuple[int, TracedSpan]]":
    told: set[tuple[str, str]] = set()
    while True:
        # Looked up before reading: what ends in between is read once more.
        going_on = session.folder.in_use
        for root in session.trace():
            for depth, span in root.walk():
                if (span.id, span.status) not in told:
                    told.add((span.id, span.status))
                    yield depth, span
        if not going_on:
            return
        time.sleep(_POLL_SECONDS)


def _indented(depth: int, line: "Text") -> "Text":
    from rich.text import Text

    return Text("  " * depth).append_text(line)


def _nothing(session: "SearchSession", grep: str | None) -> str:
    if grep is not None:
        return f"nothing in run {session.run_id} has {grep!r} in it"
    recorded: Any = session.calls()
    return f"run {session.run_id} has nothing to show{' but its calls: --calls' if recorded else ''}"
