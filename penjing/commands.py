"""The command line: `penjing search`, `resume`, `runs`, `show`, `judge`, `export`, `settings`, `pretrain`, `prune`,
`evaluate`, `compare`, `trace`, `plot`, `report`, `ui`, `memory`."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penjing.approve_command import approve
from penjing.branch_command import branch
from penjing.compare_command import compare
from penjing.errors import reported_errors
from penjing.evaluate_command import evaluate
from penjing.export_command import export
from penjing.judge_command import compared, in_words, judge, play
from penjing.memory_command import memory_app
from penjing.plot_command import plot
from penjing.pretrain_command import pretrain
from penjing.prompts_command import prompts
from penjing.prune_command import prune
from penjing.report_command import report
from penjing.running_search import drive_search
from penjing.sessions import home_folder, open_session
from penjing.terminal import terminal
from penjing.trace_command import trace
from penjing.ui_command import ui
from tools.imports import uncollected

if TYPE_CHECKING:
    from rich.console import Console

    from graph.session import SearchSession

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Grow large language models into compact ones: LLM agents search the architecture, pruning-aware training "
    "grows the model into it.\n\nStart with [bold]penjing search --preset quick[/bold]: a whole search in minutes, "
    "without key, GPU or network.",
)


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
ApproveOption = Annotated[
    bool,
    typer.Option("--approve", help="Wait before each evaluation until you accept, edit or reject the design."),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or 'latest'; see penjing runs.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, like recipe.training_steps=50."),
]


@app.command()
def search(
    config: Annotated[Path | None, typer.Argument(help="YAML file with settings; see penjing settings.")] = None,
    preset: Annotated[str | None, typer.Option(help="Settings that come with Penjing: quick.")] = None,
    assignments: SetOption = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record every call of a chat model in this new file.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run a recorded search again, without any chat model.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what it would cost and whether it can be done; nothing is trained."),
    ] = False,
    approve_each: ApproveOption = False,
    judges: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Also search without a language model, by these: see penjing judge."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="With --judges: seeds of each searcher.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --judges: draw the comparison into this PNG or SVG file.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Search a compact architecture, grow the best model, and export it.

    Settings come from the preset, then the file, then environment variables PENJING_* (PENJING_RECIPE__TRAINING_STEPS),
    then --set; the later ones win.

    [bold]Examples[/bold]: penjing search --preset quick; penjing search my.yaml --set max_parameters=100M;
    penjing search my.yaml --set budget.usd=5 --dry-run; penjing search my.yaml --judges random,local --seeds 6
    """
    with reported_errors(as_json, debug):
        from penjing.configuration import load_config

        tapes = ["approve=true"] if approve_each else []
        tapes += [f"{key}={json.dumps(str(path))}" for key, path in (("record", record), ("replay", replay)) if path]
        configuration = load_config(config, preset, [*(assignments or []), *tapes])
        tournament = compared(configuration, judges, seeds, picture)
        if dry_run:
            from penjing.dry_run import print_dry_run, run_dry

            document = run_dry(configuration)
            if tournament is not None:
                document["notes"].append(in_words(tournament))
            if as_json:
                print(json.dumps(document))
            else:
                print_dry_run(_stdout(), document)
            return
        if tournament is not None:
            play(tournament, picture, as_json)
            return
        with uncollected():
            from graph.session import SearchSession

        session = SearchSession.start(configuration)
        drive_search(session, as_json)


@app.command()
def resume(
    run: RunArgument = "latest",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting that decides no results, like budget.usd=5."),
    ] = None,
    approve_each: ApproveOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go on with a stopped search. Nothing that was finished is done again.

    What was spent before counts. A search that its budget ended goes on with a higher cap, or without (null):

    [bold]Examples[/bold]: penjing resume latest; penjing resume RUN --set budget.usd=5 --set budget.llm_tokens=null
    """
    with reported_errors(as_json, debug):
        from penjing.sessions import reopened_session

        changed = [*(assignments or []), *(["approve=true"] if approve_each else [])]
        drive_search(reopened_session(run, changed), as_json)


@app.command()
def runs(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """List all runs, newest first."""
    with reported_errors(as_json, debug):
        from graph.folder import Home
        from memory.records import Records
        from penjing.documents import run_document
        from penjing.tables import run_table

        home = home_folder()
        found, trials, waiting = [], {}, {}
        if Home(home).records.is_file():
            with Records.open(Home(home).records) as records:
                found = records.runs()
                trials = {entry.id: records.trials(entry.id) for entry in found}
                waiting = records.waiting_approvals()
        documents = [run_document(entry, trials[entry.id], home, waiting.get(entry.id, [])) for entry in found]
        if as_json:
            print(json.dumps({"runs": documents}))
        elif not found:
            _stderr().print("There is no run yet; start one with: penjing search --preset quick", highlight=False)
        else:
            _stdout().print(run_table(documents))


@app.command()
def show(
    run: RunArgument = "latest",
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the best design and all trials into this PNG or SVG file.")
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(
            metavar="A,B[,C]",
            help="Show the trials that no other one beats in all of these: two or three of parameters, loss, "
            "accuracy, latency_ms, memory_mb, file_mb. A picture shows the front too, the third one as colour.",
        ),
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Also show what happened, in order; ticks of progress are not kept.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one run: its result, its trials, and what became of the agents' proposals.

    [bold]Example[/bold]: penjing show latest --pareto loss,latency_ms --picture front.png
    """
    with reported_errors(as_json, debug):
        from memory.objectives import read_objectives
        from penjing.documents import event_documents, show_document

        objectives = () if pareto is None else read_objectives([name.strip() for name in pareto.split(",")])
        session = open_session(run)
        if picture is not None:
            session.draw(picture, objectives)
        document = show_document(session, objectives)
        happened = event_documents(session) if events else []
        if as_json:
            print(json.dumps({**document, "events": happened} if events else document))
        else:
            _print_run(session, document)
            for event in happened:
                when = datetime.fromisoformat(event["at"]).astimezone()
                line = f"{when:%Y-%m-%d %H:%M:%S}  {event['text']}"
                _stdout().print(line, highlight=False, markup=False, soft_wrap=True)
            if objectives:
                from penjing.tables import front_table

                _stdout().print(front_table(session.pareto(*objectives), objectives))


app.command()(branch)
app.command()(approve)
app.command()(judge)
app.command()(export)
app.command()(pretrain)
app.command()(prune)
app.command()(evaluate)
app.command()(compare)
app.add_typer(memory_app, name="memory")
app.command()(trace)
app.command()(plot)
app.command()(report)
app.command()(ui)
app.add_typer(prompts, name="prompts")


@app.command()
def settings(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Explain every setting, with its default."""
    with reported_errors(as_json, debug):
        from penjing.documents import settings_document

        document = settings_document()
        if as_json:
            print(json.dumps({"settings": document}))
            return
        from rich.table import Table

        table = Table("setting", "default", "meaning")
        for row in document:
            table.add_row(row["key"], str(row["default"]), row["description"])
        _stdout().print(table)


def _print_run(session: "SearchSession", document: dict[str, Any]) -> None:
    from penjing.tables import (
        budget_table,
        cache_lines,
        forecast_lines,
        ledger_lines,
        pattern_lines,
        result_table,
        retrieved_lines,
        rival_lines,
        rung_table,
        status_words,
        trial_table,
        verdict,
    )

    console, imported = _stdout(), ", imported" if document["imported"] else ""
    message = f" ({document['message']})" if document["message"] else ""
    console.print(
        f"run {document['run']}{imported}: {status_words(document)}{message}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"source {document['source']}, corpus {document['corpus']}", highlight=False)
    if document["result"] is not None:
        console.print(result_table(document["result"]["table"]))
        console.print(verdict(document["result"]["table"], session.config.asks_agents), highlight=False)
    trials = session.trials()
    console.print(trial_table(trials))
    if any(trial.rungs[1:] for trial in trials):
        console.print(rung_table(trials))
    for trial in document["trials"]:
        words = [f"trial {trial['number']}: {trial['design']}", *retrieved_lines(trial["retrieved"], session.run_id)]
        console.print("\n".join(words), highlight=False, soft_wrap=True)
    for line in rival_lines(document["not_told_apart"]):
        console.print(line, highlight=False, soft_wrap=True)
    for line in [*ledger_lines(document["ledger"]), *forecast_lines(document["forecasts"])]:
        console.print(line, highlight=False, soft_wrap=True)
    for line in [*cache_lines(document["cache"]), *pattern_lines(document["patterns"], session.run_id)]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(budget_table(document["budget"]))
    tokens = document["tokens"]
    console.print(f"chat model: {tokens['input']:,} tokens read, {tokens['output']:,} written", highlight=False)
    if document["status"] != "finished" and not document["imported"]:
        console.print(f"To go on: penjing resume {session.run_id}", highlight=False)


def _stdout() -> "Console":
    return terminal()


def _stderr() -> "Console":
    return terminal(stderr=True)
