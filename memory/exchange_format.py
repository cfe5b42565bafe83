"""Records as JSON lines: a header, one typed record a line, and an end that says how many there were.

A line is an object with one key, the kind: `{"trial": {...}}`. Each kind is a table of the records with references in
place of what only holds in one database: trials name their evaluation by its key; ids of proposals, trials and patterns
hold within the file. A line comes after those that it refers to, which the order of `KINDS` gives.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, create_model

from memory.tables import (
    Call,
    Evaluation,
    Pattern,
    PatternTest,
    Promotion,
    Prompt,
    Proposal,
    Run,
    RunEvent,
    Table,
    Trial,
)

FORMAT = "penjing memory"
VERSION = 1

# Names of runs and keys of evaluations become names of folders, and must stay inside of those.
_NAME = "[A-Za-z0-9_][A-Za-z0-9_. -]*"
_KEY = re.compile(f"{_NAME}(/{_NAME})*")
RunId = Annotated[str, StringConstraints(pattern=f"^{_NAME}$", max_length=100)]
EvaluationKey = Annotated[str, StringConstraints(pattern=f"^{_KEY.pattern}$", max_length=300)]
TrialName = Annotated[str, StringConstraints(pattern=f"^{_NAME}/[0-9]+$", max_length=120)]
_Integer = Annotated[int, Field(ge=-(2**31), lt=2**31)]
_Large = Annotated[int, Field(ge=0, lt=2**63)]
_TYPES: Mapping[Any, Any] = {
    int: _Integer,
    int | None: _Integer | None,
    datetime: AwareDatetime,
    datetime | None: AwareDatetime | None,
    list[int]: list[_Integer],
}


class Line(BaseModel):
    """Base of all lines; what a record has beyond its kind's fields is refused, and so are values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Header(Line):
    """The first line."""

    format: Literal["penjing memory"]
    version: int
    runs: list[RunId]
    written_at: AwareDatetime


class End(Line):
    """The last line; `lines` counts those between it and the header."""

    lines: int


class Message(BaseModel):
    """One message of a call."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str


class Retrieved(BaseModel):
    """One entry of what memory gave for a prompt."""

    model_config = ConfigDict(extra="allow", strict=True)

    kind: str
    id: str


def _line(table: type[Table], without: tuple[str, ...] = (), **other: Any) -> type[Line]:
    """A kind of line with the columns of a table; those in `other` have another type, or are not in the table."""
    fields: dict[str, Any] = {}
    for name, column in table.model_fields.items():
        if name in without:
            continue
        kind = other.pop(name, _TYPES.get(column.annotation, column.annotation))
        if name == "id":
            fields[name] = (kind, ...)
        elif column.default_factory is not None:
            fields[name] = (kind, Field(default_factory=column.default_factory))
        else:
            fields[name] = (kind, ... if column.is_required() else column.default)
    fields |= {name: (kind, ...) for name, kind in other.items()}
    return create_model(f"{table.__name__}Line", __base__=Line, **fields)


KINDS: Mapping[str, type[Line]] = {
    "prompt": _line(Prompt),
    "run": _line(
        Run,
        without=("imported_at", "position", "evaluations_before"),
        id=RunId,
        status=Literal["running", "interrupted", "finished", "failed"],
    ),
    "evaluation": _line(
        Evaluation,
        without=("id", "accuracy"),
        key=EvaluationKey,
        run_id=RunId | None,
        parameters=_Large,
        status=Literal["done", "failed"],
    ),
    "proposal": _line(Proposal, run_id=RunId, retrieved=list[Retrieved]),
    "trial": _line(Trial, without=("evaluation_id",), run_id=RunId, number=_Large, evaluation_key=EvaluationKey | None),
    "promotion": _line(
        Promotion,
        without=("id", "evaluation_id"),
        run_id=RunId,
        rung=Annotated[int, Field(ge=1, lt=2**31)],
        evaluation_key=EvaluationKey | None,
    ),
    "pattern": _line(Pattern, run_id=RunId, drawn_from=list[TrialName]),
    "pattern_test": _line(PatternTest, without=("id",), verdict=Literal["support", "contradiction"]),
    "call": _line(Call, without=("id",), run_id=RunId, messages=list[Message]),
    "event": _line(RunEvent, without=("id",), run_id=RunId),
}
"""The kinds of lines in the order in which they stand."""
TABLES: Mapping[str, type[Table]] = {
    "prompt": Prompt,
    "run": Run,
    "evaluation": Evaluation,
    "proposal": Proposal,
    "trial": Trial,
    "promotion": Promotion,
    "pattern": Pattern,
    "pattern_test": PatternTest,
    "call": Call,
    "event": RunEvent,
}


_KINDS: dict[str, Any] = {"header": Header, **KINDS, "end": End}
_FIELDS: dict[str, Any] = {kind: (line | None, None) for kind, line in _KINDS.items()}
AnyLine = create_model("AnyLine", __config__=ConfigDict(extra="forbid"), **_FIELDS)
"""A line of any kind: one of the fields is set."""


def folder_of_key(key: str) -> str | None:
    """The name of the folder that an evaluation's files are in; None for a key that cannot be one of a folder."""
    return key.partition("/")[0] if _KEY.fullmatch(key) else None


def renamed(name: str, names: Mapping[str, str]) -> str:
    """A name `RUN`, `RUN/NUMBER` or `RUN/NUMBER/LINE`, where the run has another name here."""
    run, slash, rest = name.partition("/")
    return f"{names.get(run, run)}{slash}{rest}"
