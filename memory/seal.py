"""Whether a folder of vectors is as its last owner closed it, so that nothing in it needs to be looked through again.

To load Chroma's indexes takes longer than all else in opening a large store, and while tables answer nothing asks them.
So an owner that closes the folder in order writes down the size and the time of each file and how many rows its tables
have. Where all of that is still so, the indexes are first loaded by whoever writes.
"""

import json
from collections.abc import Mapping
from pathlib import Path

_NAME = "sealed.json"


def seal(folder: Path, rows: Mapping[str, int]) -> None:
    """Write down how a closed folder is, with the rows of its tables by their names. Raises OSError."""
    (folder / _NAME).write_text(json.dumps({"files": _files(folder), "rows": dict(rows)}))


def sealed_rows(folder: Path) -> dict[str, int]:
    """The rows of the tables of a folder that has not changed since it was sealed; else none."""
    try:
        found = json.loads((folder / _NAME).read_text())
        if found["files"] == _files(folder):
            return {name: int(count) for name, count in found["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # What is not a whole seal vouches for nothing.
        pass
    return {}


def _files(folder: Path) -> dict[str, list[int]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _NAME:
            state = path.stat()
            found[str(path.relative_to(folder))] = [state.st_size, state.st_mtime_ns]
    return found
