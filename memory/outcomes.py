"""What came of a design, in words: figures where they compare, else only whether it was better than its parent."""

from memory.views import Judged
from tools.evaluation.paired import PairedDifference, paired_difference

_WITHIN_ERROR = "within the error"


def compared(trial: Judged, other: Judged) -> PairedDifference | None:
    """The loss of `trial` less that of `other`; None where they were not measured on the same blocks."""
    if trial.measurement is None or other.measurement is None or trial.fidelity != other.fidelity:
        return None
    return paired_difference(trial.measurement.block_losses, other.measurement.block_losses)


def within_error(trial: Judged, other: Judged) -> bool:
    """Whether the loss decides and the validation text does not tell the two apart; False where that is not known."""
    difference = compared(trial, other) if trial.goal.objective == "loss" else None
    return difference is not None and difference.is_within_error


def describe_outcome(trial: Judged, parent: Judged | None) -> str:
    """What came of a design, in words: `loss 3.120, 0.045 below its parent`, or why it failed.

    A difference that the validation text does not tell from none is `within the error`. Where its run measures at
    several fidelities, `loss 3.120 after short training`. Where its parent was measured at another one, the two are
    compared on the first rung, and that is said.
    """
    if trial.measurement is None:
        return "not evaluated"
    if trial.loss is None or not trial.succeeded:
        failure = trial.measurement.failure
        return f"failed: {failure.kind.replace('_', ' ')}" if failure else "failed: no loss"
    measured = f" {trial.measured_after}" if trial.ladder else ""
    scored = trial.goal.objective == "accuracy" and trial.accuracy is not None
    words = f"accuracy {trial.accuracy:.3f}, loss {trial.loss:.3f}" if scored else f"loss {trial.loss:.3f}"
    pair = _of_one_fidelity(trial, parent)
    if pair is None:
        return words + measured
    below, where = pair[0], "" if pair[0].fidelity == trial.fidelity else f" {pair[0].measured_after}"
    if scored:
        if below.accuracy is None or pair[1].accuracy is None:
            return words + measured
        change = below.accuracy - pair[1].accuracy
        return f"{words}{measured}, accuracy {abs(change):.3f} {_side(change)} its parent's{where}"
    if below.loss is None or pair[1].loss is None:
        return words + measured
    change = below.loss - pair[1].loss
    unclear = f", {_WITHIN_ERROR}" if within_error(*pair) else ""
    return f"{words}{measured}, {abs(change):.3f} {_side(change)} its parent{where}{unclear}"


def relative_outcome(trial: Judged, parent: Judged | None) -> str:
    """The same without any figure, for a design that was measured otherwise than those it is shown beside."""
    if not trial.succeeded:
        return describe_outcome(trial, parent)
    change = change_of_score(trial, parent)
    if change is None:
        return "it could be grown"
    if change == 0:
        return "as good as its parent"
    pair = _of_one_fidelity(trial, parent)
    unclear = f", {_WITHIN_ERROR}" if pair and within_error(*pair) else ""
    return f"{'better' if change < 0 else 'worse'} than its parent{unclear}"


def change_of_score(trial: Judged, parent: Judged | None) -> float | None:
    """The trial's score minus its parent's, negative where it is better; None where the two do not compare."""
    pair = _of_one_fidelity(trial, parent)
    if pair is None or pair[0].score is None or pair[1].score is None:
        return None
    return pair[0].score - pair[1].score


def reason_of_failure(trial: Judged) -> str:
    """The words of the failure itself, where they say more than its kind; those of a crash name places of a machine."""
    failure = None if trial.measurement is None else trial.measurement.failure
    return "" if failure is None or failure.kind == "crashed" else failure.message


def _of_one_fidelity(trial: Judged, parent: Judged | None) -> tuple[Judged, Judged] | None:
    """Both as they were measured at one fidelity: the one that they are told with, else that of the first rung."""
    if parent is None:
        return None
    for one, other in ((trial, parent), (trial.on_first_rung(), parent.on_first_rung())):
        if one.fidelity is not None and one.fidelity == other.fidelity:
            return one, other
    return None


def _side(change: float) -> str:
    return "below" if change < 0 else "above"
