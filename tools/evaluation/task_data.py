"""Rows of a task from a folder of JSON-lines files, checked before any of them is scored."""

import io
import json
import lzma
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tools.errors import InputError
from tools.evaluation.tasks import TASKS, ZeroShotTask
from tools.fingerprint import file_digest
from tools.packed_files import open_packed

_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_TEXTS = ("query", "passage", "question", "context", "continuation", "target", "subject")


@dataclass(frozen=True)
class TaskRows:
    """The rows of one file, with the fields that the task needs; `digest` is the file's SHA-256."""

    file: Path
    digest: str
    rows: tuple[dict[str, Any], ...]

    def chance(self, task: ZeroShotTask, limit: int | None) -> float:
        """Mean accuracy of guessing on the first `limit` rows: rows may differ in how many choices they have."""
        if "choices" not in task.fields:
            return task.chance
        taken = self.rows[:limit]
        return sum(1 / len(row["choices"]) for row in taken) / len(taken)


def task_data_folder() -> Path | None:
    """The folder of local task files that PENJING_TASK_DATA names, or None."""
    named = os.environ.get("PENJING_TASK_DATA")
    return Path(named).expanduser().absolute() if named else None


def tasks_in(folder: Path) -> tuple[str, ...]:
    """The tasks that the folder has a file for. Raises InputError where it is no folder or has none."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} with task data; give one with files like piqa.jsonl.gz.")
    found = tuple(name for name in TASKS if _file(folder, name) is not None)
    if not found:
        raise InputError(f"{folder} holds no task data: no file like piqa.jsonl, also as .gz or .xz.")
    return found


def read_task(folder: Path, task: ZeroShotTask) -> TaskRows:
    """All rows of the task. Raises InputError where there is no file for it, or a row cannot be used."""
    names = tasks_in(folder)
    file = _file(folder, task.name)
    if file is None:
        raise InputError(
            f"{folder} has no file for the task {task.name}, only for {', '.join(names)}; add {task.name}.jsonl or "
            "leave out the folder of task data, and the task comes from the hub."
        )
    rows = tuple(_row(task, line, f"{file}, line {number}") for number, line in _lines(file))
    if not rows:
        raise InputError(f"{file} is empty; fetch it again.")
    return TaskRows(file, file_digest(file), rows)


def open_text(file: Path) -> IO[str]:
    """A UTF-8 text file, also packed with gzip or xz."""
    return io.TextIOWrapper(open_packed(file), encoding="utf-8")


def _file(folder: Path, name: str) -> Path | None:
    return next((folder / (name + ending) for ending in _ENDINGS if (folder / (name + ending)).is_file()), None)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_text(file) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}; check the file or fetch it again.") from error


def _row(task: ZeroShotTask, line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}, is no valid JSON; correct or remove the line.") from error
    missing = [name for name in task.fields if not isinstance(row, dict) or name not in row]
    if missing:
        raise InputError(f"{where}, lacks the field {missing[0]!r}; {task.name} needs {', '.join(task.fields)}.")
    for name in set(task.fields) & set(_TEXTS):
        if not isinstance(row[name], str):
            raise InputError(f"{where}, holds no text in {name!r}; correct the line.")
    if "choices" in task.fields:
        _require_choices(row["choices"], row["gold"], where)
    return {name: row[name] for name in task.fields}


def _require_choices(choices: Any, gold: Any, where: str) -> None:
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise InputError(f"{where}, needs a list of two or more texts in 'choices'; correct the line.")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise InputError(f"{where}, needs the index of the right choice in 'gold', 0 to {len(choices) - 1}.")
