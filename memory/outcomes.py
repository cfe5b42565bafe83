"""What came of a design, in words: figures where they compare, else only whether it was better than its parent."""

from memory.views import Judged


def describe_outcome(trial: Judged, parent: Judged | None) -> str:
    """What came of a design, in words: `loss 3.120, 0.045 below its parent`, or why it failed."""
    if trial.measurement is None:
        return "not evaluated"
    if trial.loss is None or not trial.succeeded:
        failure = trial.measurement.failure
        return f"failed: {failure.kind.replace('_', ' ')}" if failure else "failed: no loss"
    if trial.goal.objective == "accuracy" and trial.accuracy is not None:
        words = f"accuracy {trial.accuracy:.3f}, loss {trial.loss:.3f}"
        if parent is None or parent.accuracy is None:
            return words
        change = trial.accuracy - parent.accuracy
        return f"{words}, accuracy {abs(change):.3f} {'below' if change < 0 else 'above'} its parent's"
    words = f"loss {trial.loss:.3f}"
    if parent is None or parent.loss is None or parent.measurement is None:
        return words
    if parent.measurement.fidelity != trial.measurement.fidelity:
        return words
    change = trial.loss - parent.loss
    return f"{words}, {abs(change):.3f} {'below' if change < 0 else 'above'} its parent"


def relative_outcome(trial: Judged, parent: Judged | None) -> str:
    """The same without any figure, for a design that was measured otherwise than those it is shown beside."""
    if not trial.succeeded:
        return describe_outcome(trial, parent)
    change = change_of_score(trial, parent)
    if change is None:
        return "it could be grown"
    if change == 0:
        return "as good as its parent"
    return f"{'better' if change < 0 else 'worse'} than its parent"


def change_of_score(trial: Judged, parent: Judged | None) -> float | None:
    """The trial's score minus its parent's, negative where it is better; None where the two do not compare."""
    if parent is None or trial.score is None or parent.score is None:
        return None
    assert trial.measurement is not None and parent.measurement is not None  # noqa: S101 - they have scores
    return trial.score - parent.score if trial.measurement.fidelity == parent.measurement.fidelity else None


def reason_of_failure(trial: Judged) -> str:
    """The words of the failure itself, where they say more than its kind; those of a crash name places of a machine."""
    failure = None if trial.measurement is None else trial.measurement.failure
    return "" if failure is None or failure.kind == "crashed" else failure.message
