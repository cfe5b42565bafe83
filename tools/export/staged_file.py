"""Single files that appear whole or not at all: written beside their place, then renamed into it."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from tools.errors import InputError


@contextlib.contextmanager
def staged_file(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside `target` to write to; when the block ends well, it is renamed to `target`.

    When the block raises, neither the file nor a folder made for it is left behind. Raises InputError where `target`
    exists (unless `overwrite`), is a directory, or cannot be written (no permission, disk full, name too long).
    """
    made: list[Path] = []
    staged = target.parent / f".{target.name[:100]}.{uuid.uuid4().hex[:8]}.partial"
    try:
        require_target(target, overwrite)
        for folder in (*reversed(target.parent.parents), target.parent):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                made.append(folder)
        yield staged
        staged.replace(target)
        made.clear()
    except OSError as error:
        # Several libraries raise OSError of their own for other causes; those carry no errno and are not about disks.
        if error.errno is None:
            raise
        raise InputError(
            f"Cannot write {target}: {error.strerror}; choose a place that is writable and has enough space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
            for folder in reversed(made):
                folder.rmdir()


def require_target(target: Path, overwrite: bool = False) -> None:
    """Raises InputError where `staged_file` would refuse the place, so that it is known before long work."""
    if target.is_dir():
        raise InputError(f"{target} is a directory; choose another name for the file.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; choose another place or allow overwriting (--overwrite).")
