"""The lines of a cassette, and the words for what a question has otherwise than the recorded ones."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from agents.chat_answers import Answer, read_answer
from agents.conversation import Question
from agents.json_schema import strict_json_schema
from agents.settings import ChatSettings

_SHOWN = 40


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TapedSearch(_Line):
    """The first line: which run was recorded, with which settings."""

    kind: Literal["search"] = "search"
    format: Literal[1] = 1
    run: str
    settings: dict[str, Any]


class TapedMemory(_Line):
    """What memory gave for the prompt of a turn: the entries of each kind, as `Recollection.document` has them."""

    kind: Literal["memory"] = "memory"
    turn: int
    notes: dict[str, list[dict[str, Any]]]

    @model_validator(mode="before")
    @classmethod
    def _kinds_of_before(cls, values: Any) -> Any:
        """The two kinds that there were at first stood in the line itself."""
        if not isinstance(values, dict) or "nearby" not in values:
            return values
        rest = {name: value for name, value in values.items() if name not in ("nearby", "lessons")}
        return {**rest, "notes": {name: values[name] for name in ("nearby", "lessons") if name in values}}


class TapedGuidance(_Line):
    """What the user wanted the agents to know in a turn; there is no line where that was nothing."""

    kind: Literal["guidance"] = "guidance"
    turn: int
    text: str


class TapedDecision(_Line):
    """What the user decided of a design before it was paid for; `design` is the one that they put in its place."""

    kind: Literal["decision"] = "decision"
    turn: int
    candidate: int = 0
    attempt: int
    decision: Literal["accept", "edit", "reject"]
    design: dict[str, Any] | None = None
    words: str = ""

    @property
    def place(self) -> tuple[int, int, int]:
        """Which design of the run it is."""
        return self.turn, self.candidate, self.attempt


class TapedEnded(_Line):
    """Which evaluations had ended before a turn was asked for, in their order; a line for each time that some had.

    There are none where one design is evaluated at a time. `rungs` are those on which each was measured, the first one
    where there are none.
    """

    kind: Literal["ended"] = "ended"
    turn: int
    trials: list[int]
    rungs: list[int] = []

    @property
    def places(self) -> set[tuple[int, int]]:
        """Trials with their rungs."""
        return {*zip(self.trials, self.rungs or [0] * len(self.trials), strict=True)}


class TapedEarlier(_Line):
    """What earlier runs had measured, where the search learns from it."""

    kind: Literal["earlier"] = "earlier"
    designs: list[dict[str, Any]]


class TapedCall(_Line):
    """One call of a chat model: all that was sent, all that came back."""

    kind: Literal["call"] = "call"
    turn: int
    candidate: int = 0
    agent: str
    model: str
    temperature: float
    seed: int
    max_tokens: int
    messages: list[tuple[str, str]]
    answer_schema: dict[str, Any]
    raw: str
    error: str | None
    finish_reason: str | None
    faults: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float

    @classmethod
    def of(cls, question: Question, answer: Answer, settings: ChatSettings, candidate: int) -> Self:
        """A call that was just made."""
        return cls(
            turn=question.turn,
            candidate=candidate,
            agent=question.agent,
            temperature=settings.temperature,
            seed=settings.seed,
            max_tokens=settings.max_tokens,
            messages=list(question.messages),
            answer_schema=strict_json_schema(question.schema),
            **answer.model_dump(exclude={"parsed"}),
        )

    def asks(self, question: Question, candidate: int) -> bool:
        """Whether this call is that question for that design of its turn."""
        return (self.turn, self.candidate, self.agent, self.answer_schema["title"], self.messages) == (
            question.turn,
            candidate,
            question.agent,
            question.schema.__name__,
            list(question.messages),
        )

    def answer(self, question: Question) -> Answer:
        """What was answered, read again."""
        parsed = None if self.error else read_answer(self.raw, question.schema).parsed
        shared = Answer.model_fields.keys() & type(self).model_fields.keys()
        return Answer(parsed=parsed, **{name: getattr(self, name) for name in shared})


TapedLine = TapedSearch | TapedCall | TapedMemory | TapedGuidance | TapedDecision | TapedEarlier | TapedEnded
_ANY_LINE: TypeAdapter[TapedLine] = TypeAdapter(Annotated[TapedLine, Field(discriminator="kind")])


def read_line(value: Any) -> TapedLine:
    """A line from its JSON value. Raises ValidationError where it is none."""
    return _ANY_LINE.validate_python(value)


def json_line(line: TapedLine) -> bytes:
    """A line as bytes, its end included."""
    values = line.model_dump()
    if not values.get("candidate", True):
        # The one design of its turn is not counted: what was recorded before there were several stays the same.
        del values["candidate"]
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def difference(question: Question, calls: Sequence[TapedCall]) -> str:
    """Where a question first leaves the recorded call that is nearest to it."""
    nearest = max(calls, key=lambda call: _in_common(question, call))
    count, place = _in_common(question, nearest)
    asked, taped = list(question.messages), nearest.messages
    if count == len(asked) == len(taped):
        return f"a {question.schema.__name__} is asked for, recorded is a {nearest.answer_schema['title']}"
    if count == min(len(asked), len(taped)):
        return f"it has {len(asked)} messages, the recorded call {len(taped)}"
    (role, now), (old_role, before) = asked[count], taped[count]
    if role != old_role:
        return f"message {count + 1} is the {role}'s, recorded is the {old_role}'s"
    return (
        f"message {count + 1} ({role}) differs at character {place + 1}, now {_around(now, place)}, "
        f"recorded {_around(before, place)}"
    )


def _in_common(question: Question, call: TapedCall) -> tuple[int, int]:
    """How many first messages are equal, and how many first characters of the next one."""
    pairs = list(zip(question.messages, call.messages, strict=False))
    count = next((index for index, (one, other) in enumerate(pairs) if one != other), len(pairs))
    if count == len(pairs):
        return count, 0
    one, other = pairs[count][0][1], pairs[count][1][1]
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return count, same


def _around(text: str, place: int) -> str:
    start = max(0, place - _SHOWN // 2)
    return json.dumps(text[start : place + _SHOWN // 2], ensure_ascii=False)
