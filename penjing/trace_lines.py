"""Spans, calls and stories as text. What language models wrote is shown as it is, but for its control characters."""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from graph.story import Story
from graph.trace import TracedCall, TracedSpan
from tools.fidelity import fidelity_in_words

_LONGEST = 160


def label(span: TracedSpan, open_words: str = "not ended") -> Text:
    """One line for a span: what it is, what came of it, time, tokens, cost; `open_words` where it has no end."""
    said = Text(_what(span), style="bold" if span.kind in ("AGENT", "EVALUATOR") else "")
    # A design may be longer than the window is wide.
    design = span.attributes.get("penjing.design")
    words = [*_result(span), *_costs(span), *([design] if design else [])]
    said.append(f"  {', '.join(words)}" if words else "", style="dim")
    if span.status == "failed":
        said.append(f"  {visible(span.message) or 'failed'}", style="red")
    elif span.status == "running":
        said.append(f"  {open_words}", style="yellow")
    return said


def call_lines(call: TracedCall, before: TracedCall | None = None) -> Iterator[Text]:
    """A call with its messages, without those that `before`, an earlier call of the same conversation, has too."""
    cost = "" if call.cost_usd is None else f", ${call.cost_usd:.4f}"
    tokens = f"{call.input_tokens:,} + {call.output_tokens:,} tokens"
    head = f"call {call.id}, turn {call.turn}: {call.agent} asks {call.model} for {call.schema_name}"
    yield Text(f"{head}; {tokens}, {call.seconds:.1f} s{cost}", style="bold")
    known = 0 if before is None else _shared(before, call)
    if known:
        yield Text(f"  (after the {known} messages of the conversation so far)", style="dim")
    for message in call.messages[known:]:
        yield from _said(str(message["role"]), str(message["content"]))
    yield from _said("answer", call.answer)
    for fault in call.faults:
        yield Text(f"  fault: {visible(fault)}", style="yellow")
    if call.error:
        yield Text(f"  error: {visible(call.error)}", style="red")


def _remembered(row: Mapping[str, Any]) -> str:
    """An entry that memory gave: what came of it first, then the rest by its names."""
    words = [str(row["outcome"])] if row.get("outcome") else []
    for name, value in row.items():
        if name in ("kind", "id", "outcome") or value in (None, "") or (name == "loss" and words):
            continue
        words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "; ".join(words)


def story_lines(story: Story) -> Iterator[Text]:
    """The story from its beginning to what was learnt."""
    yield Text(f"Trial {story.trial} of {story.run}: {story.outcome}", style="bold")
    yield Text(f"{story.design}; {story.parameters:,} parameters")
    yield Text(f"by {story.proposer} in turn {story.turn} ({story.stage.replace('_', ' ')})")
    for parent in story.based_on:
        loss = "not measured" if parent.loss is None else f"loss {parent.loss:.4f} {parent.measured_after}".rstrip()
        yield Text(f"  from trial {parent.number}: {parent.design}; {loss}")
    for row in story.retrieved:
        yield Text(f"  memory gave {row['kind']} {row['id']}: {visible(_remembered(row))}")
    before = None
    for call in story.conversation:
        yield Text()
        yield from call_lines(call, before)
        before = call
    yield Text()
    for attempt in story.attempts:
        yield Text(f"answer {attempt.attempt + 1}: {attempt.outcome}", style="bold")
        yield from (Text(f"  because: {visible(line)}") for line in attempt.rationale)
        yield from (Text(f"  checker: {visible(line)}", style="yellow") for line in attempt.problems)
        yield from (Text(f"  changed: {visible(line)}", style="yellow") for line in attempt.notes)
    yield from (Text(f"  another design of the turn, {visible(line)}", style="dim") for line in story.others)
    yield from _measured(story)
    if story.children:
        yield Text(f"made from it: trials {', '.join(map(str, story.children))}")


def visible(text: str) -> str:
    """On one line, with control characters spelt out, so that no text can write over a terminal."""
    return " ".join(_spelt(text).split())


def _measured(story: Story) -> Iterator[Text]:
    if story.forecast is not None:
        yield Text(f"forecast: saliency cut {story.forecast:.3g}")
    if story.expected_score is not None and story.expected_deviation is not None:
        yield Text(f"expected: {abs(story.expected_score):.4f} +- {story.expected_deviation:.4f}")
    for rung in story.rungs:
        if rung.promotion:
            yield Text(rung.promotion, style="bold")
        if (rung.loss is None and not rung.failure) or len(story.rungs) == 1:
            continue
        words = f"loss {rung.loss:.4f}" if rung.loss is not None else f"failed: {visible(rung.failure)}"
        yield Text(f"after {fidelity_in_words(rung.fidelity)}: {words}")
    found = story.measurement
    if found is None:
        yield Text("measured: not yet", style="yellow")
        return
    if found["failure"]:
        yield Text(f"failed: {visible(found['failure']['message'])}", style="red")
        return
    losses = found["training_losses"]
    if losses:
        yield Text(f"training: {_curve(losses)} {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps")
    if drops := found["drops"]:
        source = "" if story.source_parameters is None else f"from {story.source_parameters:,} "
        steps = f"steps {drops[0]['step']} to {drops[-1]['step']}"
        size = f"{source}to {drops[-1]['parameters']:,} parameters"
        yield Text(f"pruning: {len(drops)} drop event{'s' if len(drops) > 1 else ''}, {steps}, {size}")
    before = "" if found["loss_before_training"] is None else f" (cut, untrained: {found['loss_before_training']:.4f})"
    rest = [f"{found['latency_ms']:.1f} ms a token"] if found["latency_ms"] is not None else []
    rest += [f"accuracy {found['accuracy']:.3f}"] if found["accuracy"] is not None else []
    figures = ", ".join([*rest, f"{found['seconds']:.1f} s", f"{found['tokens']:,} training tokens"])
    yield Text(f"measured: loss {found['loss']:.4f}{before}, {figures}", style="bold")


def _curve(values: list[float]) -> str:
    """A curve in one line of blocks, at most 40 of them."""
    step = -(-len(values) // 40)
    means = [sum(part) / len(part) for start in range(0, len(values), step) if (part := values[start : start + step])]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (value - low) / span)] for value in means)


def _said(role: str, content: str) -> Iterator[Text]:
    yield Text(f"  {role}:", style="cyan")
    yield from (Text(f"    {_spelt(line)}") for line in content.splitlines() or [""])


def _shared(before: TracedCall, call: TracedCall) -> int:
    """How many messages the call repeats: those of the call before it, and its answer."""
    count = len(before.messages)
    if call.messages[:count] != before.messages:
        return 0
    answered = len(call.messages) > count and call.messages[count]["role"] == "assistant"
    return count + answered


def _what(span: TracedSpan) -> str:
    facts = span.attributes
    if span.kind == "AGENT":
        attempt, candidate = facts.get("penjing.attempt", 0), facts.get("penjing.candidate", 0)
        again = f", repair {attempt}" if attempt else ""
        which = f", design {candidate + 1}" if candidate else ""
        return f"turn {span.turn}: {facts.get('gen_ai.agent.name', span.name)}{which}{again}"
    if span.kind == "EVALUATOR":
        return f"trial {span.trial}:"
    if span.kind == "LLM":
        return f"{span.name}: {facts.get('penjing.prompt.name', '')}"
    return span.name


def _result(span: TracedSpan) -> list[str]:
    facts, found = span.attributes, []
    if climbed := facts.get("penjing.promotion"):
        found.append(str(climbed))
    if (loss := facts.get("penjing.loss")) is not None:
        found.append(f"loss {loss:.4f}{' from the records' if facts.get('penjing.cached') else ''}")
    if span.kind == "RETRIEVER" and "penjing.retrieved" in facts:
        rows = json.loads(facts["penjing.retrieved"])
        found.append(f"{len(rows)} {'entry' if len(rows) == 1 else 'entries'}")
    if span.kind == "TOOL":
        found.append(_shortened(f"{facts.get('input.value', '')} -> {facts.get('output.value', '')}"))
    if span.call is not None:
        found.append(_shortened(span.call.answer))
        found += [f"fault: {visible(fault)}" for fault in span.call.faults]
    return found


def _costs(span: TracedSpan) -> list[str]:
    found = [] if span.seconds is None else [duration(span.seconds)]
    if span.input_tokens or span.output_tokens:
        found.append(f"{span.input_tokens:,} + {span.output_tokens:,} tokens")
    if span.cost_usd:
        found.append(f"${span.cost_usd:.4f}")
    return found


def duration(seconds: float) -> str:
    """In words, to three digits or whole seconds."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _shortened(text: str) -> str:
    line = visible(text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _spelt(text: str) -> str:
    return "".join(
        mark
        if mark == "\t" or unicodedata.category(mark) not in ("Cc", "Cf")
        else mark.encode("unicode_escape").decode()
        for mark in text
    )
