"""Checks of records that come from elsewhere: each line by itself, and whether what it refers to is there."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from pydantic import ValidationError

from memory.claims import Claim
from memory.exchange_format import FORMAT, KINDS, VERSION, AnyLine
from tools.architecture import Architecture
from tools.errors import InputError
from tools.measurement import Measurement

CheckRun = Callable[[Any], None]
"""Raises ValueError where the settings or the result of a run are none that this version can read."""
_ORDER = list(KINDS)


class LineError(ValueError):
    """What is wrong with a line, in words."""


def read_lines(file: BinaryIO) -> Iterator[tuple[int, str, Any]]:
    """Number from 1, kind and record of each line between header and end.

    Raises InputError, which names the line: for what is no such file, no valid record, or ends early.
    """
    lines, ended, number = 0, False, 0
    for number, text in enumerate(file, 1):
        kind, record = _parsed(number, text)
        if number == 1:
            if kind != "header" or record.format != FORMAT:
                raise at_line(1, "it is no header of exported memory")
            if record.version != VERSION:
                raise at_line(1, f"it is of version {record.version}, and this one reads version {VERSION}")
        elif ended or kind == "header":
            raise at_line(number, "it comes after the end" if ended else "there is a second header")
        elif kind == "end":
            ended = True
            if record.lines != lines:
                raise at_line(number, f"it speaks of {record.lines} lines, and {lines} came before it")
        else:
            lines += 1
            yield number, kind, record
    if not ended:
        what = "it is empty" if number == 0 else f"it ends after line {number}, before its last line"
        raise InputError(f"This file cannot be imported: {what}. Nothing was imported.")


def at_line(number: int, words: str) -> InputError:
    """The sentence for a line that cannot be imported."""
    return InputError(f"Line {number} cannot be imported: {words}. Nothing was imported.")


def _parsed(number: int, text: bytes) -> tuple[str, Any]:
    try:
        line = AnyLine.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise at_line(number, f"{f'{place}: ' if place else ''}{_lower(first['msg'])}{more}") from error
    given = [kind for kind in line.model_fields_set if getattr(line, kind) is not None]
    if len(given) != 1:
        raise at_line(number, f"it has {len(given)} records in place of one")
    return given[0], getattr(line, given[0])


class LineChecks:
    """Checks lines one after the other; `evaluations` has the design of each key, to compare with what is known."""

    def __init__(self, check_run: CheckRun) -> None:
        self._check_run, self._place = check_run, 0
        self.runs: dict[str, Any] = {}
        self.evaluations: dict[str, tuple[int, str]] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._proposals: dict[int, str] = {}
        self._trials: dict[int, tuple[str, str]] = {}
        """The run and the design of each."""
        self._patterns: set[int] = set()

    def check(self, number: int, kind: str, record: Any) -> None:
        """Raises InputError, which names the line."""
        try:
            if _ORDER.index(kind) < self._place:
                raise LineError(f"a {kind} comes after a {_ORDER[self._place]}")
            self._place = _ORDER.index(kind)
            getattr(self, f"_{kind}")(number, record)
            if kind not in ("prompt", "run", "evaluation", "pattern_test"):
                self._require(record.run_id in self.runs, f"there is no run {record.run_id!r} before it")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise at_line(number, f"{kind}.{place}: {_lower(first['msg'])}") from error
        except ValueError as error:
            raise at_line(number, str(error).rstrip(".")) from error

    def _prompt(self, number: int, record: Any) -> None:
        self._once("prompt", record.hash)

    def _run(self, number: int, record: Any) -> None:
        self._once("run", record.id)
        if record.source_architecture is not None:
            Architecture.model_validate(record.source_architecture)
        self._check_run(record)
        self.runs[record.id] = record

    def _evaluation(self, number: int, record: Any) -> None:
        self._once("evaluation", record.key)
        design, found = self._design(record), Measurement.model_validate(record.measurement)
        told = (record.loss, record.fidelity, record.parameters, record.status)
        succeeded = "done" if found.succeeded else "failed"
        self._require(
            told == (found.loss, found.fidelity, design.parameters, succeeded),
            "its loss, fidelity, parameters or status are not those of its measurement and design",
        )
        self.evaluations[record.key] = (number, record.architecture_hash)

    def _proposal(self, number: int, record: Any) -> None:
        self._once("proposal", record.id)
        self._once("place", record.run_id, record.turn, record.attempt, record.proposer, record.candidate)
        if record.architecture is not None:
            Architecture.model_validate(record.architecture)
        self._proposals[record.id] = record.run_id

    def _trial(self, number: int, record: Any) -> None:
        self._once("trial", record.id)
        self._once("number", record.run_id, record.number)
        self._once("trial of proposal", record.proposal_id)
        design = self._design(record)
        self._require(
            self._proposals.get(record.proposal_id) == record.run_id,
            f"there is no proposal {record.proposal_id} of its run before it",
        )
        self._require_evaluation(record.evaluation_key, design.hash)
        self._trials[record.id] = record.run_id, design.hash

    def _promotion(self, number: int, record: Any) -> None:
        self._once("rung", record.trial_id, record.rung)
        run_id, design = self._trials.get(record.trial_id, (None, ""))
        self._require(run_id == record.run_id, f"there is no trial {record.trial_id} of its run before it")
        self._require_evaluation(record.evaluation_key, design)

    def _require_evaluation(self, key: str | None, design: str) -> None:
        if key is not None:
            _, known = self.evaluations.get(key, (0, None))
            self._require(known == design, "there is no evaluation of its design with its key before it")

    def _pattern(self, number: int, record: Any) -> None:
        self._once("pattern", record.id)
        self._once("pattern of line", record.proposal_id, record.line)
        self._require(
            self._proposals.get(record.proposal_id) == record.run_id,
            f"there is no proposal {record.proposal_id} of its run before it",
        )
        if record.claim is not None:
            Claim.model_validate(record.claim)
        self._patterns.add(record.id)

    def _pattern_test(self, number: int, record: Any) -> None:
        self._once("test", record.pattern_id, record.trial_id)
        self._require(record.pattern_id in self._patterns, f"there is no pattern {record.pattern_id} before it")
        self._require(record.trial_id in self._trials, f"there is no trial {record.trial_id} before it")

    def _call(self, number: int, record: Any) -> None:
        pass

    def _event(self, number: int, record: Any) -> None:
        pass

    def _design(self, record: Any) -> Architecture:
        design = Architecture.model_validate(record.architecture)
        self._require(design.hash == record.architecture_hash, "its architecture_hash is not that of its design")
        return design

    def _once(self, what: str, *place: Any) -> None:
        self._require((what, *place) not in self._seen, f"the {what} {', '.join(map(str, place))} is there twice")
        self._seen.add((what, *place))

    def _require(self, holds: bool, words: str) -> None:
        if not holds:
            raise LineError(words)


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:].rstrip(".")
