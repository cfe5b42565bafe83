"""Heavy modules, imported in less time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Python looks for no cyclic garbage meanwhile: imports make millions of objects, nearly all to stay.

    A quarter of the time that transformers and torch take to import is spent on looking.
    """
    if not gc.isenabled():
        # Whoever had it stopped says when it goes on.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
