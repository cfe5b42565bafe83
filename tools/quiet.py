"""Loading through transformers: one thread at a time, and without its chatter on the terminal."""

import contextlib
import threading
from collections.abc import Iterator

# While transformers loads a model it changes process-wide state (initialisers, default type, its log level). Two
# threads that load at once leave that state behind, and the next model has weights without data.
_LOADING = threading.RLock()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off stderr, as errors are raised anyway."""
    with _LOADING:
        from transformers.utils import logging

        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
