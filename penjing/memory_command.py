"""The commands `penjing memory ...`: what searches remember, looked up, counted, moved to another home, forgotten."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from penjing.errors import reported_errors
from penjing.terminal import terminal

if TYPE_CHECKING:
    from memory.filters import Filter
    from memory.progress import Told

memory_app = typer.Typer(
    no_args_is_help=True,
    help="What searches remember: look it up, count it, move it to another home, forget a run.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
CountOption = Annotated[int, typer.Option("-k", min=1, max=1000, help="How many of each kind, the nearest first.")]
SourceOption = Annotated[str | None, typer.Option(help="Only of runs with this source model, as penjing runs has it.")]
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only of this run.")]
FidelityOption = Annotated[
    str | None, typer.Option(help="Only what was measured so: short_training or untrained, see penjing memory stats.")
]
SmallestOption = Annotated[str | None, typer.Option(metavar="SIZE", help="Only designs of this many parameters: 100M.")]
LargestOption = Annotated[str | None, typer.Option(metavar="SIZE", help="Only designs of at most so many parameters.")]


@memory_app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Some words, like 'narrow late FFN'.")],
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="designs, lessons or prompts; may be given again. Default: all."),
    ] = None,
    k: CountOption = 5,
    source: SourceOption = None,
    run: RunOption = None,
    fidelity: FidelityOption = None,
    min_parameters: SmallestOption = None,
    max_parameters: LargestOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find designs, lessons and prompts near in wording; designs by the lessons that led to them.

    Works while searches run. Prompts are of no source, size or fidelity.

    [bold]Examples[/bold]: penjing memory search "narrow late FFN"; penjing memory search "fewer heads" --kind lessons
    -k 10 --run latest
    """
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory
        from penjing.memory_tables import found_tables

        chosen = _kinds(kinds or [])
        with _bar() as told, Memory(told=told) as opened:
            where = _filter(opened, source, run, fidelity, min_parameters, max_parameters)
            found = opened.search(text, k, where, chosen)
        if as_json:
            print(found.model_dump_json(include=set(chosen)))
        else:
            found_tables(terminal(), found, chosen)


@memory_app.command()
def like(
    trial: Annotated[str, typer.Argument(metavar="RUN/TRIAL", help="A trial, like latest/3.")],
    k: CountOption = 5,
    source: SourceOption = None,
    run: RunOption = None,
    fidelity: FidelityOption = None,
    min_parameters: SmallestOption = None,
    max_parameters: LargestOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find past designs near in shape to a trial's, with what came of them.

    The distance is Euclidean, of widths relative to the source model's, so that designs of other sources compare.

    [bold]Example[/bold]: penjing memory like latest/3 -k 10
    """
    with reported_errors(as_json, debug):
        from dataclasses import replace

        from penjing.home_memory import Memory
        from penjing.memory_tables import designs_table

        with _bar() as told, Memory(told=told) as opened:
            asked = opened.trial(trial)
            where = _filter(opened, source, run, fidelity, min_parameters, max_parameters)
            found = opened.like(trial, k, replace(where, unlike=asked.identity))
        if as_json:
            rows = [one.model_dump(exclude={"lesson"}) for one in found]
            print(json.dumps({"trial": asked.name, "designs": rows}))
            return
        console = terminal()
        console.print(f"trial {asked.name}: {asked.architecture.describe()}", highlight=False, soft_wrap=True)
        if found:
            console.print(designs_table(found))
        else:
            console.print("No other design is remembered.", highlight=False)


@memory_app.command()
def stats(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say how much is remembered, what of it was used again, and whether records and vectors agree."""
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory
        from penjing.memory_tables import stats_table

        with _bar() as told, Memory(told=told) as opened:
            document = opened.stats()
        if as_json:
            print(json.dumps(document))
        else:
            terminal().print(stats_table(document))


@memory_app.command()
def rebuild(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Make the vectors again from the records. Nothing can be lost: they hold nothing else."""
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory

        with _bar() as told, Memory(told=told) as opened:
            counts = opened.rebuild()
        if as_json:
            print(json.dumps(counts))
        else:
            words = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            terminal().print(f"Made again from the records: {words}.", highlight=False)


@memory_app.command()
def forget(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take a run away for good: its records, its folder with models and logs, its vectors, patterns drawn from it.

    Evaluations that other runs use stay, and so does what prompts of other runs quoted. It cannot be undone; penjing
    memory export keeps a copy of the records.
    """
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory
        from penjing.memory_tables import counted, forgetting_lines
        from tools.errors import InputError

        with Memory() as opened:
            plan = opened.what_goes(run)
            console = terminal(stderr=True)
            if not yes:
                for line in forgetting_lines(plan):
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
                if not sys.stdin.isatty():
                    raise InputError(f"Nobody can be asked here: to forget run {plan.run} for good, add --yes.")
                if not typer.confirm("Forget it for good? This cannot be undone.", err=True):
                    raise InputError("Nothing was forgotten.")
            with _bar() as told:
                opened.told = told
                gone = opened.forget(plan.run)
        if as_json:
            print(gone.model_dump_json(exclude={"folders"}))
        else:
            terminal().print(f"Forgotten: run {gone.run} with {counted(gone.trials, 'trial')}.", highlight=False)


@memory_app.command()
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file, or - for stdout.")],
    runs: Annotated[
        list[str] | None, typer.Option("--run", metavar="RUN", help="Only this run; may be given again. Default: all.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write runs with all that belongs to them as JSON lines; models, spans and logs stay behind.

    [bold]Examples[/bold]: penjing memory export all.jsonl; penjing memory export - --run latest | gzip > run.jsonl.gz
    """
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory
        from penjing.memory_tables import counted
        from tools.errors import InputError

        if file == "-" and as_json:
            raise InputError("--json and - both want stdout: name a file, or leave --json out.")
        with Memory() as opened:
            if file == "-":
                written = opened.export(sys.stdout, runs or ())
            else:
                written = opened.export_file(Path(file).expanduser(), runs or (), overwrite)
        if as_json:
            print(json.dumps({"file": file, "runs": written}))
        else:
            terminal(stderr=True).print(f"Exported: {counted(len(written), 'run')}.", highlight=False)


@memory_app.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What penjing memory export wrote, or - for stdin.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take in exported runs: all lines are checked first, and it is all or nothing. Nothing that is here is changed.

    Imported runs are marked and never gone on with; places in their settings are left out. Their evaluations count for
    your own searches, with the times of the machine that measured them: import only what you trust.
    """
    with reported_errors(as_json, debug):
        from penjing.home_memory import Memory
        from penjing.memory_tables import import_lines

        with _readable(file) as lines, _bar() as told, Memory.into(told=told) as opened:
            report = opened.take_in(lines)
        if as_json:
            print(report.model_dump_json())
        else:
            for line in import_lines(report):
                terminal().print(line, highlight=False, markup=False, soft_wrap=True)


def _kinds(given: list[str]) -> "tuple[Any, ...]":
    from penjing.home_memory import KINDS
    from tools.errors import InputError

    for kind in given:
        if kind not in KINDS:
            raise InputError(f"There is no kind {kind!r}: the kinds are {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if not given or kind in given)


def _filter(
    opened: Any, source: str | None, run: str | None, fidelity: str | None, smallest: str | None, largest: str | None
) -> "Filter":
    from memory.filters import Filter
    from penjing.options import count_of

    return Filter(
        source=source,
        run_id=None if run is None else opened.records.run(run).id,
        fidelity=fidelity,
        min_parameters=None if smallest is None else count_of(smallest, "--min-parameters"),
        max_parameters=None if largest is None else count_of(largest, "--max-parameters"),
    )


@contextmanager
def _readable(file: str) -> Iterator[IO[bytes]]:
    """The file, or a copy of stdin, since it is read twice. Raises InputError where it cannot be read."""
    from tools.errors import InputError

    if file == "-":
        with tempfile.TemporaryFile() as copy:
            while part := sys.stdin.buffer.read(1 << 20):
                copy.write(part)
            copy.seek(0)
            yield copy
        return
    try:
        opened = Path(file).expanduser().open("rb")
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from error
    with opened:
        yield opened


@contextmanager
def _bar() -> "Iterator[Told]":
    """Sentences, and on a terminal a bar for each kind of work; a total of 0 is one that is not known."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = terminal(stderr=True)
    text = TextColumn("{task.completed:,.0f} {task.description}")
    columns, tasks = (text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()), dict[str, Any]()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:

        def told(what: str, done: int, total: int) -> None:
            if not done and not total:
                bar.console.print(what, highlight=False, markup=False, soft_wrap=True)
                return
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done, total=total or None)

        yield told
