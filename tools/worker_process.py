"""The far end of a subprocess worker: `python -m tools.worker_process`.

Reads one request as a JSON line from stdin, writes progress and one result as JSON lines to stdout, and dies with its
parent: stdin stays open as a lifeline, its end is the end of this process.
"""

import json
import sys
from typing import Any

from tools.errors import InputError
from tools.failures import FULL_DISK, failure_of, is_full_disk
from tools.lifeline import die_with_parent
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
        if is_full_disk(error):
            send("input_error", FULL_DISK)
            return
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


if __name__ == "__main__":
    main()
