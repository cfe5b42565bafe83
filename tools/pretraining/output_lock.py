"""One pretraining at a time in an output folder: two would write over each other's checkpoints and log."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tools.errors import InputError
from tools.pretrain import LOCK_FILE
from tools.ranks import rank, same_on_all


@contextmanager
def output_locked(output: Path) -> Iterator[None]:
    """This run, with all its ranks, has the folder `output`, which is made, until its first rank ends.

    Raises InputError, on all ranks, where another run has it.
    """
    lock = FileLock(output / LOCK_FILE, blocking=False)
    has_it = rank() > 0 or _taken(lock)
    try:
        if not same_on_all(has_it) or not has_it:
            raise InputError(
                f"Another process trains in {output}: wait for it, stop it first, or choose another output folder."
            )
        yield
    finally:
        lock.release()


def _taken(lock: FileLock) -> bool:
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        return False
    return True
