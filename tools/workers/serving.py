"""The far end of a worker, wherever it is: one request in, words about it out."""

from collections.abc import Callable
from typing import Any

from tools.errors import InputError
from tools.failures import FULL_DISK, failure_of, is_full_disk
from tools.imports import uncollected
from tools.requests import Progress, ReportProgress, SurveyRequest, TrialRequest
from tools.stopping import Stop

Say = Callable[[str, Any], None]
"""Takes the kind of a word and what it says, as plain JSON values."""


def serve(document: dict[str, Any], say: Say, stop: Stop) -> None:
    """Carry out the request in `document`: `progress` while it lasts, then `result`, `failure` or `input_error`.

    Raises what is a defect, and WorkStoppedError where `stop` was asked for.
    """

    def report(progress: Progress) -> None:
        stop.hear(progress)
        say("progress", progress.model_dump())

    try:
        result = _run(document, report, stop)
    except InputError as error:
        say("input_error", str(error))
    except Exception as error:
        if is_full_disk(error):
            say("input_error", FULL_DISK)
            return
        failure = failure_of(error)
        if failure is None:
            raise
        say("failure", failure.model_dump())
    else:
        say("result", result)


def _run(document: dict[str, Any], report: ReportProgress, stop: Stop) -> dict[str, Any]:
    if document["kind"] == "survey":
        with uncollected():
            from tools.survey import run_survey

        return run_survey(SurveyRequest.model_validate(document), report, stop).model_dump(mode="json")
    with uncollected():
        from tools.trial import run_trial

    return run_trial(TrialRequest.model_validate(document), report, stop).model_dump(mode="json")
