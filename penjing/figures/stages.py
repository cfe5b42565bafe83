"""How trials look in all pictures: a colour and a shape for each stage, so that neither is needed alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memory.views import TrialView
from penjing.figures.picture import Colour, Marker, Series


@dataclass(frozen=True)
class StageStyle:
    """A stage's words, colour and shape."""

    words: str
    colour: Colour
    marker: Marker


_STYLES: dict[str, StageStyle] = {
    "greedy": StageStyle("saliency-greedy", "vermilion", "diamond"),
    "self_evolution": StageStyle("self-evolution", "green", "circle"),
    "knowledge_distillation": StageStyle("knowledge distillation", "blue", "square"),
    "judge": StageStyle("judge", "grey", "triangle-up"),
    "tool": StageStyle("tried by an agent", "purple", "triangle-down"),
}


def stage_style(stage: str) -> StageStyle:
    """The look of a stage; of one that is not known, its own name in orange."""
    return _STYLES.get(stage) or StageStyle(stage.replace("_", " "), "orange", "triangle-down")


def value_of(trial: TrialView) -> float | None:
    """What decides in the trial's run, as people read it: its loss, or its accuracy."""
    return trial.accuracy if trial.goal.objective == "accuracy" else trial.loss


def value_label(accuracy: bool) -> str:
    """The words of that on an axis."""
    return "mean zero-shot accuracy" if accuracy else "validation loss, nats per token"


def in_words(trial: TrialView) -> str:
    """What a trial is, in a few lines."""
    style = stage_style(trial.stage)
    origin = "" if trial.parent_number is None else f", from trial {trial.parent_number}"
    lines = [f"trial {trial.number}: {style.words}{origin}"]
    found = trial.measurement
    if found is None:
        return "\n".join([*lines, unmeasured(trial)])
    if found.failure is not None:
        lines.append(f"failed: {found.failure.kind.replace('_', ' ')}")
    figures = [f"{trial.architecture.parameters / 1e6:,.2f}M parameters"]
    figures += [] if trial.loss is None else [f"loss {trial.loss:.4f} {trial.measured_after}".rstrip()]
    figures += [] if trial.accuracy is None else [f"accuracy {trial.accuracy:.3f}"]
    figures += [] if found.latency_ms is None else [f"{found.latency_ms:.1f} ms a token"]
    lines.append(", ".join(figures))
    lines += [rung.promotion for rung in trial.rungs[1:]]
    if trial.over_limit is not None:
        lines.append(f"over the limit: {trial.over_limit}")
    return "\n".join(lines)


def unmeasured(trial: TrialView) -> str:
    """Why a trial without a measurement has none."""
    return "rejected" if trial.is_rejected else "not measured yet"


def point_size(points: int) -> float:
    """Of the marks, so that many of them leave each other room."""
    return 9.0 if points <= 100 else 6.0


def by_stage(
    trials: Iterable[TrialView],
    place: Callable[[TrialView], tuple[float, float]],
    names: Sequence[int] = (),
    size: float = 8.0,
) -> list[Series]:
    """The trials as points, a series for each stage; hollow where they failed or are over a limit.

    `names` are the trials whose numbers stand beside them.
    """
    groups: dict[tuple[str, bool], list[TrialView]] = {}
    for trial in trials:
        groups.setdefault((trial.stage, trial.acceptable), []).append(trial)
    found = []
    for (stage, acceptable), members in sorted(groups.items(), key=lambda item: (_order(item[0][0]), not item[0][1])):
        style = stage_style(stage)
        places = [place(trial) for trial in members]
        found.append(
            Series(
                name=style.words if acceptable else f"{style.words}, {_lacking(members)}",
                kind="points",
                x=tuple(across for across, _ in places),
                y=tuple(upright for _, upright in places),
                colour=style.colour,
                marker=style.marker,
                hollow=not acceptable,
                size=size,
                texts=tuple(in_words(trial) for trial in members),
                labels=tuple(str(trial.number) if trial.number in names else "" for trial in members) if names else (),
                trials=tuple(trial.number for trial in members),
            )
        )
    return found


def _order(stage: str) -> int:
    return list(_STYLES).index(stage) if stage in _STYLES else len(_STYLES)


def _lacking(members: Sequence[TrialView]) -> str:
    words = {
        "over the limit" if trial.succeeded else "failed" if trial.measurement is not None else unmeasured(trial)
        for trial in members
    }
    return " or ".join(sorted(words))
