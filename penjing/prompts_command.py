"""The commands `penjing prompts ...`: look at the agents' templates, change them, see what the changes are worth."""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from graph.prompt_lengths import PromptLength
    from prompts.library import PromptLibrary

prompts = typer.Typer(
    no_args_is_help=True,
    help="Look at the agents' prompt templates, change them, and see what the changes are worth.\n\nA template of "
    "yours takes the place of the packaged one of its name: for all searches in PENJING_PROMPT_DIR or --dir "
    "(set prompt_dir to it), for one run with --run, also while that runs.",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A template; see penjing prompts list.")]
DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Your templates; default PENJING_PROMPT_DIR.")
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="With the templates of this run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]


@prompts.command("list")
def list_prompts(
    dir: DirOption = None, run: RunOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """List all templates: which file is in use, its version, what it is for."""
    with reported_errors(as_json, debug):
        library, rows = _library(dir, run), []
        for name in library.names():
            header, path = library.header(name), library.path(name)
            own = not path.is_relative_to(library.packaged_folder)
            rows.append(
                {
                    "name": name,
                    "own": own,
                    "file": str(path),
                    "hash": library.hash(name),
                    **header.model_dump(mode="json", exclude={"name"}),
                }
            )
        if as_json:
            print(json.dumps({"prompts": rows}))
            return
        from rich.table import Table

        table = Table("template", "version", "whose", "hash", "what for")
        for row in rows:
            table.add_row(
                row["name"], row["version"], "yours" if row["own"] else "packaged", row["hash"], row["description"]
            )
        terminal().print(table)


@prompts.command()
def show(
    name: NameArgument,
    dir: DirOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print a template as it is in use."""
    with reported_errors(as_json, debug):
        library = _library(dir, run)
        text = library.path(name).read_text(encoding="utf-8")
        print(json.dumps({"name": name, "file": str(library.path(name)), "text": text}) if as_json else text, end="")


@prompts.command()
def edit(name: NameArgument, dir: DirOption = None, run: RunOption = None, debug: DebugOption = False) -> None:
    """Change a template of your own in $EDITOR; it begins as a copy of the one in use. It is checked afterwards.

    [bold]Examples[/bold]: penjing prompts edit strategies --dir my-prompts; penjing prompts edit design --run latest
    """
    with reported_errors(False, debug):
        from tools.errors import InputError

        folder, library = _own_folder(dir, run), _library(dir, run, make=True)
        path = folder / f"{name}.md"
        before = library.path(name)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if editor is None:
            raise InputError(f"Set EDITOR to your editor, or copy {before} to {path} and change it there.")
        folder.mkdir(parents=True, exist_ok=True)
        # A search that runs takes a template as soon as it is there, and must not find half of one.
        with tempfile.TemporaryDirectory(prefix="penjing-") as place:
            draft = Path(place) / path.name
            draft.write_bytes(before.read_bytes())
            try:
                subprocess.run([*shlex.split(editor), str(draft)], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise InputError(f"The editor {editor!r} failed ({error}); nothing was changed.") from error
            whole = folder / f".{name}.partial"
            whole.write_bytes(draft.read_bytes())
            whole.replace(path)
        _report(library, [name], False)


@prompts.command()
def diff(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this template.")] = None,
    dir: DirOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what your templates say otherwise than the packaged ones."""
    with reported_errors(as_json, debug):
        from prompts.checking import difference

        library = _library(dir, run)
        packaged = [path.stem for path in library.packaged_folder.glob("*.md")]
        names = [name] if name is not None else [one for one in library.names() if one in packaged]
        found = {one: difference(library, one) for one in names}
        if as_json:
            print(json.dumps({"differences": {one: lines for one, lines in found.items() if lines}}))
            return
        for line in (line for lines in found.values() for line in lines):
            print(line)


@prompts.command()
def check(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this template.")] = None,
    dir: DirOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check templates: unknown variables, missing sections, an answer that cannot be read. Exit code 2 for an error.

    Also how long each becomes with all that memory may give, in the space of the run or of your settings, against the
    context of the chat model: an error where prompt and answer have no room.
    """
    with reported_errors(as_json, debug):
        library = _library(dir, run)
        names = [name] if name is not None else list(library.names())
        _report(library, names, as_json, _lengths(library, names, run))


@prompts.command()
def render(
    name: NameArgument,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run whose values fill it in.")] = "latest",
    trial: Annotated[
        int | None, typer.Option(help="With what was known before this design; default the last one.")
    ] = None,
    dir: DirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fill a template in with the values of a real turn, as the agent would see it now. No chat model is asked."""
    with reported_errors(as_json, debug):
        from penjing.sessions import open_session
        from tools.errors import InputError

        session = open_session(run)
        turn = None if trial is None else session.story(trial).turn
        found = [
            span.attributes["penjing.prompt.variables"]
            for span in session.spans()
            if span.attributes.get("penjing.prompt.name") == name and turn in (None, span.turn)
        ]
        if not found:
            where = f"in run {session.run_id}" if trial is None else f"for trial {trial} of run {session.run_id}"
            raise InputError(f"The template {name!r} was not used {where}; penjing trace shows what was.")
        rendered = _library(dir, session.run_id).render(name, **json.loads(found[-1]))
        # At most: a token is a byte or more; of English prose it is three to five.
        size = len(rendered.text.encode())
        if as_json:
            print(json.dumps({"name": name, "hash": rendered.hash, "text": rendered.text, "bytes": size}))
            return
        print(rendered.text)
        terminal(stderr=True).print(f"{size:,} bytes, about {size // 4:,} tokens", style="dim", highlight=False)


@prompts.command()
def guidance(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run; it may be running.")],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What its agents are to know; '' for nothing any more.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell the agents of a run something in your own words, from their next turn on; without TEXT show it.

    [bold]Example[/bold]: penjing prompts guidance latest "Keep hidden_size at 576; try fewer key/value heads."
    """
    with reported_errors(as_json, debug):
        from graph.guidance import write_guidance, written_guidance
        from penjing.sessions import open_session

        file = open_session(run).folder.guidance
        if text is not None:
            write_guidance(file, text)
        told = written_guidance(file)
        if as_json:
            print(json.dumps({"file": str(file), "guidance": told}))
            return
        print(told)
        terminal(stderr=True).print(f"in {file}, which you may also edit", style="dim", highlight=False, soft_wrap=True)


@prompts.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to count over.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare what came of each version of each template: better designs, legal answers, tokens, cost, with counts."""
    with reported_errors(as_json, debug):
        from graph.prompt_outcomes import prompt_outcomes
        from penjing.sessions import open_records

        with open_records() as records:
            rows = prompt_outcomes(records, [records.run(name).id for name in dict.fromkeys(runs)])
        if as_json:
            extra = ("improvement_rate", "validity")
            print(
                json.dumps(
                    {"prompts": [{**row.model_dump(), **{key: getattr(row, key) for key in extra}} for row in rows]}
                )
            )
            return
        from rich.table import Table

        table = Table(
            "template", "version", "runs", "calls", "better than parent", "legal at once", "tokens a call", "USD"
        )
        for row in rows:
            usd = "-" if row.cost_usd is None else f"{row.cost_usd:.4f}"
            table.add_row(
                row.name,
                row.hash,
                str(row.runs),
                str(row.calls),
                _share(row.better, row.designs),
                _share(row.legal, row.answers),
                f"{row.tokens / row.calls:,.0f}",
                usd,
            )
        terminal().print(table)


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})" if of else "-"


def _lengths(library: "PromptLibrary", names: list[str], run: str | None) -> "list[PromptLength]":
    """How long the prompts of these names become; none where a template cannot be used, which is told otherwise."""
    import asyncio

    from graph.prompt_lengths import prompt_lengths
    from penjing.configuration import load_config
    from penjing.sessions import open_session
    from prompts.library import PromptError

    config = load_config(None, None, []) if run is None else open_session(run).config
    try:
        found = asyncio.run(prompt_lengths(config, library))
    except PromptError:
        return []
    return [one for one in found if one.name in names]


def _report(library: "PromptLibrary", names: list[str], as_json: bool, lengths: "Sequence[PromptLength]" = ()) -> None:
    """Print the findings; exit code 2 where one is an error."""
    from prompts.checking import Finding
    from prompts.checking import check as findings_of

    found = [finding for name in names for finding in findings_of(library, name)]
    found += [Finding(one.name, "error", f"it is too long: {one}") for one in lengths if not one.fits]
    if not as_json:
        for one in lengths:
            print(f"{one.name}: {one}")
    if as_json:
        measured = [{**one.model_dump(), "fits": one.fits} for one in lengths]
        print(json.dumps({"findings": [vars(finding) for finding in found], "lengths": measured}))
    else:
        for finding in found:
            line = "" if finding.line is None else f", line {finding.line}"
            print(f"{finding.level}: {finding.name}{line}: {finding.words}")
        if not found:
            print(f"nothing to find fault with in {', '.join(names)}")
    if any(finding.level == "error" for finding in found):
        raise typer.Exit(2)


def _library(dir: Path | None, run: str | None, make: bool = False) -> "PromptLibrary":
    """The templates in use: those of the run, then the user's, then the packaged ones."""
    from prompts.library import PromptLibrary

    above, overlay = None, _directory(dir)
    if run is not None:
        from penjing.sessions import open_session

        session = open_session(run)
        above, overlay = session.folder.prompts, overlay or session.config.prompt_dir
    elif make and overlay is not None:
        overlay.mkdir(parents=True, exist_ok=True)
    return PromptLibrary(overlay, above=above)


def _own_folder(dir: Path | None, run: str | None) -> Path:
    """Where an edited template goes."""
    if run is not None:
        from penjing.sessions import open_session

        return open_session(run).folder.prompts
    folder = _directory(dir)
    if folder is None:
        from tools.errors import InputError

        raise InputError(
            "Say where your templates are: --dir DIR (then search with --set prompt_dir=DIR), or --run RUN for one run."
        )
    return folder


def _directory(dir: Path | None) -> Path | None:
    given: Any = dir or os.environ.get("PENJING_PROMPT_DIR")
    return Path(given).expanduser().absolute() if given else None
