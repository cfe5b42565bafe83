"""Results that were paid for: one JSON file each, in a folder of the model that they are of."""

import contextlib
import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tools.errors import InputError

Result = TypeVar("Result", bound=BaseModel)

_FORMAT = 1  # raised when the same key would stand for other figures


class ResultCache:
    """The results of one model; `folder` is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, kind: type[Result], name: str, key: list[object]) -> Result | None:
        """What was kept under `name` and `key`, or None; a file that cannot be read counts as none."""
        file = self._file(name, key)
        if not file.is_file():
            return None
        try:
            return kind.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            return None

    def keep(self, name: str, key: list[object], result: BaseModel) -> None:
        """Write one result. Raises InputError where the cache cannot be written."""
        write_json(self._file(name, key), result)

    def _file(self, name: str, key: list[object]) -> Path:
        digest = hashlib.sha256(json.dumps([_FORMAT, *key], sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{digest}.json"


def write_json(file: Path, document: BaseModel) -> None:
    """Write beside and rename, so that nobody reads half a file. Raises InputError where it cannot be written."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise InputError(f"Cannot write {file}: {error.strerror}; choose a place that is writable.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
