"""Runs, trials and results as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from memory.tables import Proposal, Run
from memory.views import TrialView


def result_table(rows: list[dict[str, Any]]) -> Table:
    """The final table of a search."""
    table = Table(title="Result", title_justify="left")
    table.add_column("model")
    for name in ("parameters", "loss", "perplexity", "ms per token"):
        table.add_column(name, justify="right")
    for row in rows:
        name = row["name"] if row["trial"] is None else f"{row['name']} (trial {row['trial']})"
        figures = (_number(row["loss"], 4), _number(row["perplexity"], 2), _number(row["latency_ms"], 1))
        table.add_row(name, f"{row['parameters']:,}", *figures)
    return table


def trial_table(trials: list[TrialView]) -> Table:
    """One line for each trial."""
    table = Table(title="Trials", title_justify="left")
    for name in ("trial", "stage", "proposal", "parent"):
        table.add_column(name)
    for name in ("parameters", "forecast", "untrained", "loss", "ms per token"):
        table.add_column(name, justify="right")
    table.add_column("design")
    for trial in trials:
        found = trial.measurement
        loss = _number(trial.loss, 4) if found is None or found.failure is None else found.failure.kind
        table.add_row(
            str(trial.number),
            trial.stage.replace("_", " "),
            trial.outcome + (" (cached)" if trial.cached else ""),
            "-" if trial.parent_number is None else str(trial.parent_number),
            f"{trial.architecture.parameters:,}",
            _number(trial.forecast, 4),
            _number(found.loss_before_training if found else None, 4),
            loss,
            _number(found.latency_ms if found else None, 1),
            trial.architecture.describe(),
        )
    return table


def run_table(runs: list[Run], trials: dict[str, list[TrialView]]) -> Table:
    """One line for each run."""
    table = Table()
    for name in ("run", "name", "status", "source", "corpus"):
        table.add_column(name)
    table.add_column("trials", justify="right")
    table.add_column("best loss", justify="right")
    for run in runs:
        losses = [trial.loss for trial in trials[run.id] if trial.loss is not None]
        best = _number(min(losses), 4) if losses else "-"
        table.add_row(run.id, run.name, run.status, run.source, run.corpus, str(len(trials[run.id])), best)
    return table


def ledger(proposals: list[Proposal]) -> dict[str, int]:
    """How many turns ended how: valid at once, repaired by their author, projected by code, rejected."""
    last = {proposal.turn: proposal for proposal in proposals if proposal.stage != "greedy"}
    outcomes = [proposal.outcome for proposal in last.values()]
    return {name: outcomes.count(name) for name in ("valid", "repaired", "projected", "rejected")}


def print_next(console: Console, run: str, export: str) -> None:
    """The commands to type next."""
    console.print(f"\nExported model: {export}", highlight=False, soft_wrap=True)
    console.print("Type next:", highlight=False)
    console.print(f"  penjing show {run}", highlight=False)
    console.print(f"  penjing export {run} my-model", highlight=False)
    load = f"from transformers import pipeline; print(pipeline('text-generation', '{export}')('Once upon'))"
    console.print(f'  python -c "{load}"', highlight=False, soft_wrap=True, markup=False)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
