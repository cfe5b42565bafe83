"""Directories that appear whole or not at all: written beside their place, then renamed into it.

A process that is killed on the way leaves what it has written beside the place. Where only one process at a time may
write there, `settle` puts that right.
"""

import contextlib
import errno
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from tools.errors import InputError
from tools.failures import is_full_disk

_STAGED, _ASIDE = ".partial", ".old"


@contextlib.contextmanager
def staged_directory(
    destination: Path, overwrite: bool = False, may_replace: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Yield an empty directory beside `destination`; when the block ends well, rename it to `destination`.

    When the block raises, nothing is left behind, no folder made for it either. An existing `destination` must be empty
    or `overwrite` be set; a full one is only replaced where `may_replace` says that it holds what may be lost. Raises
    InputError where the place is taken or cannot be written (no permission, disk full, name too long).
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would follow a link that is to be kept
    staged = destination.parent / f"{_stem(destination)}{uuid.uuid4().hex[:8]}{_STAGED}"
    made: list[Path] = []
    try:
        require_place(destination, overwrite, may_replace)
        for folder in (*reversed(destination.parent.parents), destination.parent):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                made.append(folder)
        staged.mkdir()
        yield staged
        _move_in(staged, destination)
        made.clear()
    except OSError as error:
        # Several libraries raise OSError of their own for other causes; those carry no errno and are not about disks.
        if error.errno is None:
            raise
        raise InputError(
            f"Cannot write {destination}: {error.strerror}; choose a directory that is writable and has enough space."
        ) from error
    except SafetensorError as error:
        if not is_full_disk(error):
            raise
        raise InputError(
            f"Cannot write {destination}: {os.strerror(errno.ENOSPC)}; choose a directory that has enough space."
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        with contextlib.suppress(OSError):
            for folder in reversed(made):
                folder.rmdir()


def require_place(
    destination: Path, overwrite: bool = False, may_replace: Callable[[Path], bool] | None = None
) -> None:
    """Raises InputError where `staged_directory` would refuse the place, so that it is known before long work."""
    if not destination.exists():
        return
    if not destination.is_dir():
        raise InputError(f"{destination} is a file; choose another directory.")
    if not any(destination.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{destination} exists already; choose another directory or allow overwriting (--overwrite).")
    if may_replace is not None and not may_replace(destination):
        raise InputError(f"{destination} holds other files, which are not overwritten; choose another directory.")


def settle(destination: Path) -> None:
    """Put right what killed processes left beside `destination`; no other one may be writing there now.

    A directory that was written whole, and had set the old one aside to take its place, takes it. Others are removed.
    """
    beside = glob.escape(_stem(destination)) + "????????"
    for aside in destination.parent.glob(beside + _ASIDE):
        staged = aside.with_suffix(_STAGED)
        if not destination.exists():
            (staged if staged.exists() else aside).replace(destination)
    for suffix in (_STAGED, _ASIDE):
        for left in destination.parent.glob(beside + suffix):
            shutil.rmtree(left, ignore_errors=True)


def _stem(destination: Path) -> str:
    return f".{destination.name[:100]}."


def _move_in(staged: Path, destination: Path) -> None:
    """Rename, setting an old directory aside first: a full directory cannot be replaced in one step."""
    if not destination.exists():
        staged.replace(destination)
        return
    aside = staged.with_suffix(_ASIDE)
    destination.replace(aside)
    try:
        staged.replace(destination)
    except OSError:
        aside.replace(destination)
        raise
    shutil.rmtree(aside, ignore_errors=True)
