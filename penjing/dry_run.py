"""`penjing search --dry-run`: what the search would cost and whether it can be done, for people."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from graph.config import SearchConfig


def run_dry(config: "SearchConfig") -> dict[str, Any]:
    """The estimate as a document. Raises the InputError that the search would end with before its first trial."""
    import asyncio

    from graph.dry_run import dry_run

    return asyncio.run(dry_run(config))


def print_dry_run(console: "Console", document: dict[str, Any]) -> None:
    """The same in lines."""
    for head, text in _lines(document):
        console.print(f"[bold]{head:10}[/bold]{text}", highlight=False, soft_wrap=True)
    for note in document["notes"]:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    console.print("Nothing was trained, asked or recorded.", highlight=False)


def _lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    turns, agents, training = document["turns"], document["agents"], document["training_tokens"]
    source = document["source"]
    lines = [
        ("source", f"{source['name']}, {source['parameters']:,} parameters; corpus {document['corpus']}"),
        (
            "trials",
            f"{document['trials']}: {turns['greedy']} saliency-greedy, {turns['self_evolution']} turns of "
            f"self-evolution, {turns['knowledge_distillation']} of knowledge distillation"
            + (f", {turns['judge']} of the judge {document['judge']}" if turns["judge"] else ""),
        ),
        ("agents", _agents(agents)),
        (
            "training",
            f"{training['all']:,} tokens: {training['trial']:,} for each trial, {training['survey']:,} for the survey"
            + (" (cached)" if document["survey_cached"] else ""),
        ),
        ("time", _time(document["time"])),
        ("memory", _memory(document["memory"])),
    ]
    return [*lines, *_designs(document["designs"])]


def _agents(agents: dict[str, Any]) -> str:
    if not agents["calls"]["most"]:
        return "none are asked"
    tokens, usd = agents["tokens"], agents["usd"]
    money = f"about ${usd['likely']:.4f}, at most ${usd['most']:.4f}" if usd["most"] else "no money"
    money = "cost not known" if usd["most"] is None else money
    return (
        f"about {_rounded(tokens['likely'])} tokens, at most {_rounded(tokens['most'])} in {agents['calls']['most']} "
        f"calls (every repair used, a token for each byte of a prompt, answers of max_tokens); {money}; turns that end "
        "without a design come on top"
    )


def _time(time: dict[str, float] | None) -> str:
    if time is None:
        return "not known before the survey"
    return (
        f"about {_duration(time['wall_clock'])}, {_duration(time['trial'])} for each trial, as long as the survey took "
        "for each training step; the chat model's time comes on top"
    )


def _memory(memory: dict[str, Any]) -> str:
    parts = memory["parts_mb"]
    summands = " + ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in parts.items() if value)
    verdict = "fits" if memory["fits"] else "does NOT fit: try a smaller micro_batch_size or block_length"
    return (
        f"about {memory['needed_mb']:,.0f} MB ({summands}), {memory['free_mb']:,.0f} of {memory['machine_mb']:,.0f} MB "
        f"are free: {verdict}"
    )


def _designs(designs: dict[str, Any]) -> list[tuple[str, str]]:
    band = f"{designs['min_parameters']:,} to {designs['max_parameters']:,} parameters are legal"
    steps = (
        f"hidden_size {_steps(designs['hidden_sizes'])}; intermediate_size {_steps(designs['intermediate_sizes'])}; "
        f"key/value heads {_steps(designs['key_value_heads'])}"
    )
    lines = [("designs", band), ("", steps)]
    for name in ("smallest", "largest", "saliency_greedy"):
        if (design := designs[name]) is not None:
            lines.append(("", f"{name.replace('_', '-')}: {design['parameters']:,} parameters ({design['design']})"))
        elif name != "saliency_greedy":
            lines.append(("", f"{name}: the steps of the widths reach none"))
    lines.append(("", f"narrowest that the steps allow: {designs['narrowest']['parameters']:,} parameters"))
    return lines


def _steps(values: list[int]) -> str:
    """A list of widths in short: `64 to 1472 in steps of 64, 1500`. The last one need not be a multiple."""
    regular, rest = (values[:-1], values[-1:]) if len(values) > 3 else (values, [])
    gaps = {after - before for before, after in pairwise(regular)}
    if rest and gaps == {rest[0] - regular[-1]}:
        regular, rest = values, []
    if len(regular) < 3 or len(gaps) > 1:
        return ", ".join(str(value) for value in values)
    steps = f"{regular[0]} to {regular[-1]}" + (f" in steps of {gaps.pop()}" if gaps != {1} else "")
    return ", ".join([steps, *map(str, rest)])


def _rounded(value: int) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
