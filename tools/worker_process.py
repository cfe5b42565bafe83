"""The far end of a subprocess worker: `python -m tools.worker_process`.

Reads one request as a JSON line from stdin, writes progress and one result as JSON lines to stdout, and dies with its
parent: stdin stays open as a lifeline, its end is the end of this process.
"""

import errno
import json
import sys
from typing import Any

from tools.errors import InputError
from tools.lifeline import die_with_parent
from tools.measurement import Failure
from tools.requests import Progress, SurveyRequest, TrialRequest


def main() -> None:
    """Serve one request."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr

    def send(kind: str, payload: Any) -> None:
        answers.write(json.dumps({kind: payload}) + "\n")
        answers.flush()

    def report(progress: Progress) -> None:
        send("progress", progress.model_dump())

    document = json.loads(sys.stdin.buffer.readline())
    die_with_parent(sys.stdin.buffer)
    try:
        result = _serve(document, report)
    except InputError as error:
        send("input_error", str(error))
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        send("failure", failure.model_dump())
    else:
        send("result", result)


def _serve(document: dict[str, Any], report: Any) -> dict[str, Any]:
    if document["kind"] == "survey":
        from tools.survey import run_survey

        return run_survey(SurveyRequest.model_validate(document), report).model_dump(mode="json")
    from tools.trial import run_trial

    return run_trial(TrialRequest.model_validate(document), report).model_dump(mode="json")


def failure_of(error: Exception) -> Failure | None:
    """The typed result that stands for `error`, or None where it is a defect that should be seen."""
    import torch

    from tools.memory_use import peak_memory_mb
    from tools.pretraining.trainer import NotFiniteError

    if isinstance(error, NotFiniteError):
        return Failure(kind="not_finite", message=f"{error}; try a lower learning_rate")
    # On the CPU torch reports a failed allocation as a plain RuntimeError.
    cpu_allocation = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or cpu_allocation:
        advice = "try a smaller micro_batch_size or block_length"
        return Failure(kind="out_of_memory", message=f"out of memory at {peak_memory_mb():,.0f} MB; {advice}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Failure(kind="disk_full", message="the disk is full; free some space and resume")
    return None


if __name__ == "__main__":
    main()
