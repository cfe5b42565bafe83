"""The trace of a run as a tree: its spans with their calls, what each took and cost, in plain documents."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from memory.tables import Call, Span

# Nodes of the state machine that say something by themselves; the others are shown for what happened in them.
_TELLING = ("search", "survey", "finish")


class TracedCall(BaseModel):
    """What was said in a call of a chat model."""

    model_config = ConfigDict(frozen=True)

    id: int
    turn: int
    candidate: int
    agent: str
    model: str
    schema_name: str
    temperature: float
    prompt_hash: str | None
    messages: list[dict[str, Any]]
    answer: str
    error: str | None
    faults: list[str]
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float

    @classmethod
    def of(cls, call: Call) -> "TracedCall":
        """The recorded call."""
        return cls(**call.model_dump(include=set(cls.model_fields)))


class TracedSpan(BaseModel):
    """A stretch of work with what happened inside it. `seconds` is None where it has no end.

    Tokens and USD are those of all calls inside; USD is None where the price of one of them is not known.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    kind: str
    turn: int | None
    trial: int | None
    status: str
    message: str
    started_at: datetime
    seconds: float | None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    attributes: dict[str, Any]
    call: TracedCall | None = None
    children: tuple["TracedSpan", ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "TracedSpan"]]:
        """This span and all below it, in order, each with its depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


def trace_of(spans: Sequence[Span], calls: Sequence[Call]) -> list[TracedSpan]:
    """The trees of all sessions of a run, the first one first."""
    said = {call.id: TracedCall.of(call) for call in calls}
    below: dict[str | None, list[Span]] = {}
    ids = {span.id for span in spans}
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in ids else None, []).append(span)

    def tree(span: Span) -> TracedSpan:
        children = tuple(tree(child) for child in below.get(span.id, []))
        call = None if span.call_id is None else said.get(span.call_id)
        costs = [child.cost_usd for child in children] + ([] if call is None else [call.cost_usd])
        known = [cost for cost in costs if cost is not None]
        return TracedSpan(
            id=span.id,
            name=span.name,
            kind=span.kind,
            turn=span.turn,
            trial=span.trial,
            status=span.status,
            message=span.message,
            started_at=span.started_at,
            seconds=None if span.ended_at is None else (span.ended_at - span.started_at).total_seconds(),
            input_tokens=sum(child.input_tokens for child in children) + (call.input_tokens if call else 0),
            output_tokens=sum(child.output_tokens for child in children) + (call.output_tokens if call else 0),
            cost_usd=sum(known) if len(known) == len(costs) else None,
            attributes=span.attributes,
            call=call,
            children=children,
        )

    return [tree(span) for span in below.get(None, [])]


def pruned(span: TracedSpan, keep: Callable[[TracedSpan], bool]) -> TracedSpan | None:
    """The tree of what `keep` wants, and of all above it; None where it wants nothing."""
    children = [kept for child in span.children if (kept := pruned(child, keep)) is not None]
    return span.model_copy(update={"children": tuple(children)}) if children or keep(span) else None


def telling(span: TracedSpan) -> bool:
    """Whether a span says something by itself: what failed or never ended does."""
    return span.kind != "CHAIN" or span.status != "done" or span.name in _TELLING


def matching(span: TracedSpan, text: str) -> str | None:
    """Where `text` stands in what a span says, whatever the case: the line that has it; None where it does not."""
    wanted = text.casefold()
    return next((line for line in _lines(span) if wanted in line.casefold()), None)


def _lines(span: TracedSpan) -> Iterator[str]:
    yield f"{span.name} {span.message}"
    yield from (f"{name}: {value}" for name, value in span.attributes.items())
    if span.call is not None:
        for message in span.call.messages:
            yield from str(message["content"]).splitlines()
        yield from span.call.answer.splitlines()
