"""What memory found, holds, loses and gains, as tables and lines for people."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memory.forgetting import Forgetting
from memory.importing import ImportReport
from memory.lookup import Found, FoundDesign


def found_tables(console: Console, found: Found, kinds: Sequence[str]) -> None:
    """What a search by words found, a table for each kind."""
    if "designs" in kinds and found.designs:
        console.print(designs_table(found.designs, "Designs, by the lessons that led to them"))
    if "lessons" in kinds and found.lessons:
        table = _table("Lessons", "trial", "distance", "outcome", "lesson")
        for lesson in found.lessons:
            _add(table, lesson.trial, f"{lesson.distance:.2f}", lesson.outcome, lesson.text)
        console.print(table)
    if "prompts" in kinds and found.prompts:
        table = _table("Prompts", "name", "distance", "runs", "beginning")
        for prompt in found.prompts:
            _add(table, prompt.name, f"{prompt.distance:.2f}", str(prompt.runs), prompt.text)
        console.print(table)
    if not any(getattr(found, kind) for kind in kinds):
        console.print("Nothing is remembered that fits.", highlight=False)


def designs_table(designs: Sequence[FoundDesign], title: str = "Designs near in shape") -> Table:
    """One line for each design."""
    table = _table(title, "trial", "distance", "size", "outcome", "design")
    for one in designs:
        size = f"{one.parameters / 1e6:.1f}M"
        _add(table, one.id, f"{one.distance:.2f}", size, one.outcome, one.design)
    return table


def stats_table(document: dict[str, Any]) -> Table:
    """How much there is, one line for each kind of thing."""
    table = _table(f"Memory in {document['home']}", "", "")
    runs = ", ".join(f"{count} {status}" for status, count in sorted(document["runs"].items()))
    imported = f"; {document['imported_runs']} imported" if document["imported_runs"] else ""
    table.add_row("runs", f"{sum(document['runs'].values()):,}{f' ({runs}{imported})' if runs else ''}")
    table.add_row("trials", f"{document['trials']:,} ({document['finished_trials']:,} finished)")
    for fidelity, counts in sorted(document["evaluations"].items()):
        words = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        _add(table, f"evaluations, {fidelity.replace('_', ' ')}", words)
    saved = f" ({document['seconds_saved']:,.0f} s saved)" if document["hits"] else ""
    table.add_row("taken from the cache", f"{document['hits']:,} trials{saved}")
    for name in ("lessons", "prompts", "proposals", "calls"):
        table.add_row(name, f"{document[name]:,}")
    states = ", ".join(f"{count} {state}" for state, count in sorted(document["patterns"].items()))
    table.add_row("patterns", states or "0")
    for name, size in document["bytes"].items():
        table.add_row(f"{name} on disk", f"{size / 1e6:,.1f} MB")
    vectors = document["vectors"]
    counts = vectors.get("counts")
    words = "" if counts is None else f" ({', '.join(f'{count:,} {name}' for name, count in counts.items())})"
    table.add_row("vectors and records", f"{vectors['state']}{words}")
    return table


def forgetting_lines(plan: Forgetting) -> list[str]:
    """What goes with a run, and what stays."""
    counts = [
        counted(plan.trials, "trial"),
        counted(plan.proposals, "proposal"),
        counted(plan.calls, "call"),
        counted(plan.events, "event"),
        counted(plan.evaluations, "evaluation"),
        counted(plan.prompts, "prompt that no other run uses", "prompts that no other run uses"),
        counted(plan.patterns, "pattern drawn from it", "patterns drawn from it"),
    ]
    lines = [f"With run {plan.run} go {', '.join(counts)}; its folder with models and logs; its vectors."]
    if plan.evaluations_kept:
        lines.append(f"Other runs use {counted(plan.evaluations_kept, 'evaluation')} that it paid for: these stay.")
    return lines


def import_lines(report: ImportReport) -> list[str]:
    """What an import brought."""
    runs = [counted(len(report.imported), "run"), counted(report.trials, "trial")]
    runs.append(counted(report.evaluations, "new evaluation"))
    lines = [f"Imported: {', '.join(runs)}." if report.imported else "Nothing new was imported."]
    if report.present:
        lines.append(f"Here before, left as they are: {', '.join(report.present)}.")
    lines += [
        f"Run {old} has the name {new} here, since another run has its own." for old, new in report.renamed.items()
    ]
    return lines


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _add(table: Table, *texts: str) -> None:
    """A row of texts of others: brackets are no markup, and what would steer a terminal is left out."""
    table.add_row(*(Text("".join(letter if letter.isprintable() else " " for letter in text)) for text in texts))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=SIMPLE, padding=(0, 1), show_edge=False, pad_edge=False)
    numbers = ("distance", "size", "runs")
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    table.show_header = any(columns)
    return table
