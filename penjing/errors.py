"""What a failure looks like on the command line: one sentence, the right exit code, a traceback only if asked for."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from penjing.termination import TERMINATED, termination_came

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class WorkInterruptedError(Exception):
    """Ctrl-C or SIGTERM in long work; the message says how to go on."""


class SearchInterruptedError(WorkInterruptedError):
    """The same in a search."""

    def __init__(self, command: str) -> None:
        super().__init__(f"Interrupted; nothing finished is lost. Go on with: {command}")


@contextmanager
def reported_errors(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn errors into a sentence on stderr (and a JSON document on stdout) and an exit code."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _end("Interrupted.", TERMINATED if termination_came() else INTERRUPTED, as_json)
    except WorkInterruptedError as error:
        _end(str(error), TERMINATED if termination_came() else INTERRUPTED, as_json)
    except Exception as error:
        if debug:
            raise
        message, code = _told(error)
        _end(message, code, as_json)


def _told(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code for an error; imports wait until there is one."""
    from pydantic import ValidationError

    from penjing.configuration import in_words
    from prompts.library import PromptError
    from tools.errors import InputError
    from tools.failures import FULL_DISK, is_full_disk
    from tools.workers import WorkerError

    if isinstance(error, ValidationError):
        return in_words(error), BAD_INPUT
    if isinstance(error, (InputError, PromptError)):
        return str(error), BAD_INPUT
    if is_full_disk(error):
        return FULL_DISK, BAD_INPUT
    if isinstance(error, WorkerError):
        return str(error), FAILED
    return f"Unexpected {type(error).__name__}: {error}. Run again with --debug to see where.", FAILED


def _end(message: str, code: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}))
    print(f"penjing: {message}", file=sys.stderr)
    raise typer.Exit(code)
