"""Runs side by side for people: which of the names given to `penjing compare` are runs, and the table of these."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penjing.terminal import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from graph.run_comparison import BestTrial, RunComparison, RunFigures


def are_runs(names: Sequence[str]) -> bool:
    """Whether all of these are recorded runs, none of them a model. Raises InputError for a mix."""
    # The id of a run begins with its date; what is on the disk under that name is a model.
    meant = [name for name in names if (name == "latest" or name[:1].isdigit()) and not Path(name).exists()]
    if not meant:
        return False
    from penjing.sessions import open_records
    from tools.errors import InputError

    with open_records() as records:
        ids = [run.id for run in records.runs()]
    runs = [name for name in meant if name == "latest" or any(one.startswith(name) for one in ids)]
    if runs and len(runs) < len(names):
        others = ", ".join(name for name in names if name not in runs)
        raise InputError(
            f"{', '.join(runs)} {'is a run' if len(runs) == 1 else 'are runs'}, but {others} not: compare runs with "
            "runs, or models with models."
        )
    return bool(runs)


def print_run_comparison(names: Sequence[str], as_json: bool) -> None:
    """Compare recorded runs. Raises InputError as `compare_runs` does."""
    from graph.run_comparison import compare_runs
    from penjing.sessions import open_records

    with open_records() as records:
        found = compare_runs(records, names)
    if as_json:
        print(json.dumps(found.model_dump(mode="json")))
        return
    console = terminal()
    console.print(_table(found))
    for one in found.differences:
        told = [
            f"{_signed(value)} after {count:,} {what} each"
            for value, count, what in (
                (one.at_equal_trials, found.equal_trials, "trials"),
                (one.at_equal_tokens, found.equal_tokens, "tokens"),
            )
            if value is not None
        ]
        words = "; ".join(told) or "one of them has no design of its own yet"
        console.print(f"{one.run} against {found.runs[0].run}, {found.objective}: {words}", highlight=False)
    for note in found.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _table(found: "RunComparison") -> "Table":
    """A column for each run."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    table.add_column("")
    for one in found.runs:
        table.add_column(one.run, justify="right")
    rows: dict[str, list[str]] = {
        "goes on from": [_origin(one) for one in found.runs],
        "own trials": [str(one.trials) for one in found.runs],
        f"best {found.objective}": [_value(one.best) for one in found.runs],
        f"after {found.equal_trials} trials": [_value(one.best_at_equal_trials) for one in found.runs],
        f"after {found.equal_tokens:,} tokens": [_value(one.best_at_equal_tokens) for one in found.runs],
        "better than parent": [_share(one.better, one.designs) for one in found.runs],
        "legal at once": [_share(one.legal, one.answers) for one in found.runs],
        "tokens": [f"{one.tokens:,}" for one in found.runs],
        "USD": ["-" if one.usd is None else f"{one.usd:.4f}" for one in found.runs],
        "evaluation seconds": [f"{one.evaluation_seconds:,.1f}" for one in found.runs],
    }
    for name in sorted({name for one in found.runs for name in one.prompts}):
        rows[f"prompt {name}"] = [", ".join(hash[:8] for hash in one.prompts.get(name, ["-"])) for one in found.runs]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _origin(one: "RunFigures") -> str:
    return "-" if one.branch_of is None else f"{one.branch_of} at {one.branch_at}"


def _value(best: "BestTrial | None") -> str:
    return "-" if best is None else f"{best.value:.4f} (trial {best.trial})"


def _share(count: int, of: int) -> str:
    return f"{count} of {of}" if of else "-"


def _signed(value: float) -> str:
    return f"{value:+.4f}"
