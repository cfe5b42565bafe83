"""A cassette: a JSON-lines file with all that a search asked of chat models and of memory, to replay it without them.

The first line names the run and its settings. Then come, in the order in which they happened, a line for each call of a
chat model and one for each look into memory: memory is on it because other runs add to it too. So is what earlier runs
had measured, where the search learns from it, and, where several designs are evaluated at a time, which of them had
ended before a turn. No key, no header and no address is written. A line is on the disk before the search moves on; a
last line that a killed process left unfinished is passed over, and taken off when the recording goes on.
"""

import json
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from pydantic import ValidationError

from agents.chat_answers import Answer
from agents.conversation import Question
from agents.settings import ChatSettings
from agents.surrogate import Earlier
from agents.taped_lines import (
    TapedCall,
    TapedDecision,
    TapedEarlier,
    TapedEnded,
    TapedGuidance,
    TapedLine,
    TapedMemory,
    TapedSearch,
    difference,
    json_line,
    read_line,
)
from memory.recollection import Recollection
from tools.architecture import Architecture
from tools.errors import InputError

# A replay asks no endpoint, so that these cannot be why it asks something else.
_OF_THE_ENDPOINT = ChatSettings.model_fields.keys() - {"seed"} | {"agents"}


class Cassette:
    """What was recorded of one search; made by `record` or `replay`, closed by `close` or a `with` block.

    While recording, what is on it already is answered from it too: a resumed search asks nothing twice.
    """

    def __init__(self, path: Path, run: str, search: TapedSearch, lines: list[TapedLine]) -> None:
        self.path, self._run, self._search = path, run, search
        self._calls = [line for line in lines if isinstance(line, TapedCall)]
        self._memory = {line.turn: line for line in lines if isinstance(line, TapedMemory)}
        self._guidance = {line.turn: line.text for line in lines if isinstance(line, TapedGuidance)}
        self._decisions = {line.place: line for line in lines if isinstance(line, TapedDecision)}
        self._ended = [line for line in lines if isinstance(line, TapedEnded)]
        self._earlier = next((line for line in lines if isinstance(line, TapedEarlier)), None)
        self._stream: IO[bytes] | None = None
        self._settings: Mapping[str, Any] = search.settings

    @classmethod
    def record(cls, path: Path, run: str, settings: Mapping[str, Any]) -> Self:
        """A cassette of `run`, new or gone on with.

        Args:
            settings: those that decide results, as plain JSON values.

        Raises:
            InputError: the file cannot be written, or holds something else.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines, length = _read(path) if path.exists() else ([], 0)
            search = lines[0] if lines else TapedSearch(run=run, settings=dict(settings))
            if not isinstance(search, TapedSearch) or search.run != run:
                raise InputError(
                    f"{path} exists and is no recording of this run: choose another file for record, or remove it."
                )
            cassette = cls(path, run, search, [line for line in lines if not isinstance(line, TapedSearch)])
            cassette._stream = path.open("ab")
            cassette._stream.truncate(length)
        except OSError as error:
            raise InputError(f"Cannot record into {path} ({error.strerror}): choose another file.") from error
        if not lines:
            cassette._write(search)
        return cassette

    @classmethod
    def replay(cls, path: Path, run: str, settings: Mapping[str, Any]) -> Self:
        """What was recorded in `path`, for the run that replays it.

        Raises:
            InputError: the file cannot be read, or is no cassette.
        """
        try:
            lines, _ = _read(path)
        except OSError as error:
            raise InputError(f"Cannot replay {path} ({error.strerror}): give a file that record wrote.") from error
        if not lines or not isinstance(lines[0], TapedSearch):
            raise InputError(f"{path} holds no recorded search: give a file that record wrote.")
        cassette = cls(path, run, lines[0], [line for line in lines if not isinstance(line, TapedSearch)])
        cassette._settings = settings
        return cassette

    @property
    def recording(self) -> bool:
        """Whether new calls may be made and are added; a replay has only what is there."""
        return self._stream is not None

    async def ask(
        self, question: Question, settings: ChatSettings, ask: Callable[[], Awaitable[Answer]], candidate: int = 0
    ) -> tuple[Answer, float]:
        """The recorded answer to a question, else, while recording, that of `ask`; and the temperature of it.

        Args:
            settings: of the chat model that `ask` would ask, with the seed of this turn.
            candidate: which of the turn's designs is asked for.

        Raises:
            InputError: a replay lacks it; the sentence names agent, turn and the first difference.
        """
        for call in self._calls:
            if call.asks(question, candidate):
                return call.answer(question), call.temperature
        if not self.recording:
            raise InputError(self._lacks(question))
        answer = await ask()
        call = TapedCall.of(question, answer, settings, candidate)
        self._write(call)
        self._calls.append(call)
        return answer, settings.temperature

    def recall(self, turn: int, recall: Callable[[], Recollection]) -> Recollection:
        """What memory gave in this turn as it was recorded, else, while recording, what `recall` gives now.

        Raises:
            InputError: a replay lacks it.
        """
        taped = self._memory.get(turn)
        if taped is not None:
            return Recollection.from_document(taped.notes).of_run(self._search.run, self._run)
        if not self.recording:
            raise InputError(
                f"Cannot replay {self.path}: it has nothing of turn {turn}{self._end()}{self._other_settings()}."
            )
        found = recall()
        self._memory[turn] = TapedMemory(turn=turn, notes=found.document())
        self._write(self._memory[turn])
        return found

    def guidance(self, turn: int, read: Callable[[], str]) -> str:
        """What the user wanted the agents to know in this turn, as recorded, else, while recording, as `read` now."""
        if turn in self._guidance or not self.recording:
            return self._guidance.get(turn, "")
        self._guidance[turn] = text = read()
        if text:
            self._write(TapedGuidance(turn=turn, text=text))
        return text

    def decision(self, turn: int, candidate: int, attempt: int) -> TapedDecision | None:
        """What the user decided of this design as recorded; None where they were not asked."""
        return self._decisions.get((turn, candidate, attempt))

    def decided(self, taken: TapedDecision) -> None:
        """Record what the user decided, once, if this is a recording."""
        if self.recording and taken.place not in self._decisions:
            self._decisions[taken.place] = taken
            self._write(taken)

    def ended(self, turn: int, known: Collection[tuple[int, int]]) -> list[int]:
        """Which trials end next before `turn` is asked for, as recorded.

        Those that are `known` to have, each with the rung that it was measured on, are passed over.
        """
        for line in self._ended:
            if line.turn == turn and not line.places <= {*known}:
                return line.trials
        return []

    def have_ended(self, turn: int, trials: Sequence[tuple[int, int]]) -> None:
        """Record that these have ended, each on its rung, if this is a recording."""
        if self.recording:
            numbers, rungs = [number for number, _ in trials], [rung for _, rung in trials]
            self._ended.append(TapedEnded(turn=turn, trials=numbers, rungs=rungs if any(rungs) else []))
            self._write(self._ended[-1])

    def earlier(self, look: Callable[[], tuple[Earlier, ...]]) -> tuple[Earlier, ...]:
        """What earlier runs had measured as it was recorded, else, while recording, what `look` gives now.

        Raises:
            InputError: a replay lacks it.
        """
        if self._earlier is not None:
            return tuple(
                Earlier(Architecture.model_validate(one["architecture"]), one["score"], one["key"])
                for one in self._earlier.designs
            )
        if not self.recording:
            raise InputError(
                f"Cannot replay {self.path}: it does not say what earlier runs had measured{self._other_settings()}."
            )
        found = look()
        designs = [
            {"architecture": one.architecture.model_dump(mode="json"), "score": one.score, "key": one.key}
            for one in found
        ]
        self._earlier = TapedEarlier(designs=designs)
        self._write(self._earlier)
        return found

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: TapedLine) -> None:
        assert self._stream is not None  # noqa: S101 - only called while recording
        try:
            self._stream.write(json_line(line))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise InputError(
                f"Cannot go on recording into {self.path} ({error.strerror}): see that the disk has room."
            ) from error

    def _lacks(self, question: Question) -> str:
        where = f"{question.agent} in turn {question.turn}"
        near = [call for call in self._calls if (call.agent, call.turn) == (question.agent, question.turn)]
        if not near:
            what = f"it has no call of {where}{self._end()}"
        else:
            what = f"{where} asks what was not recorded: {difference(question, near)}"
        return f"Cannot replay {self.path}: {what}{self._other_settings()}."

    def _end(self) -> str:
        turns = [*(call.turn for call in self._calls), *self._memory]
        return f", it ends with turn {max(turns)}" if turns else ", it is empty"

    def _other_settings(self) -> str:
        missing = object()
        old, new = self._search.settings, self._settings
        names = [name for name in (*new, *(old.keys() - new)) if old.get(name, missing) != new.get(name, missing)]
        names = [name for name in names if name not in _OF_THE_ENDPOINT]
        return f" (settings that differ from the recorded ones: {', '.join(names)})" if names else ""


def _read(path: Path) -> tuple[list[TapedLine], int]:
    """The lines of a cassette, and the length in bytes of all that are complete."""
    lines: list[TapedLine] = []
    length = 0
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            if not raw.endswith(b"\n"):
                break
            try:
                lines.append(read_line(json.loads(raw)))
            except (ValueError, ValidationError) as error:
                raise InputError(f"{path} is no cassette, or damaged: line {number} cannot be read.") from error
            length += len(raw)
    return lines, length
