"""The Pareto front of a search as one panel: two objectives as axes, a third as colour."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory.objectives import Objective, figure, front
from memory.views import TrialView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS: dict[Objective, str] = {
    "parameters": "parameters, millions",
    "loss": "validation loss, nats per token",
    "accuracy": "mean zero-shot accuracy",
    "latency_ms": "decoding, ms per token",
    "memory_mb": "memory, MB",
    "file_mb": "weights file, MB",
}
_QUALITIES: tuple[Objective, ...] = ("loss", "accuracy")
_FRONT, _OTHERS, _OVER = "#15803d", "#9ca3af", "#b91c1c"


def draw_front(panel: "Axes", trials: Sequence[TrialView], objectives: Sequence[Objective]) -> None:
    """All trials that have the figures; those on the front are numbered, those over a limit crossed out."""
    upright = next((name for name in _QUALITIES if name in objectives), objectives[-1])
    across, *coloured = [name for name in objectives if name != upright]
    # Losses compare at one fidelity: the highest that any trial has.
    highest = max((trial.rung for trial in trials if trial.acceptable), default=0)
    trials = [trial for trial in trials if trial.rung == highest]
    members = front(trials, objectives)
    shown = [trial for trial in trials if all(figure(trial, name) is not None for name in objectives)]
    over = [trial for trial in shown if not trial.acceptable]
    inside = [trial for trial in shown if trial.acceptable and trial not in members]
    if coloured:
        values = [_value(trial, coloured[0]) for trial in [*members, *inside]]
        if values:
            sizes = [70.0] * len(members) + [20.0] * len(inside)
            x, y = _places([*members, *inside], across, upright)
            points = panel.scatter(x, y, s=sizes, c=values, cmap="viridis", zorder=3)
            panel.figure.colorbar(points, ax=panel, label=_LABELS[coloured[0]])
        x, y = _places(members, across, upright)
        panel.scatter(x, y, s=130, facecolors="none", edgecolors=_FRONT, zorder=3, label="front")
    else:
        line = sorted(members, key=lambda trial: _value(trial, across))
        # Steps: between two trials there is no design that anybody measured.
        x, y = _places(line, across, upright)
        panel.plot(x, y, color=_FRONT, marker="o", drawstyle="steps-post", label="front", zorder=3)
        if inside:
            panel.scatter(*_places(inside, across, upright), color=_OTHERS, s=20, label="other trials")
    if over:
        panel.scatter(*_places(over, across, upright), color=_OVER, marker="x", label="over the limit")
    for trial in members:
        where = (_value(trial, across), _value(trial, upright))
        panel.annotate(str(trial.number), where, textcoords="offset points", xytext=(7, 7), fontsize="small")
    panel.set_xlabel(_LABELS[across])
    panel.set_ylabel(_LABELS[upright])
    panel.margins(0.12)
    panel.set_title(f"Pareto front over {', '.join(objectives)}")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")


def _places(trials: Sequence[TrialView], across: Objective, upright: Objective) -> tuple[list[float], list[float]]:
    return [_value(trial, across) for trial in trials], [_value(trial, upright) for trial in trials]


def _value(trial: TrialView, name: Objective) -> float:
    value = figure(trial, name)
    if value is None:
        raise ValueError(f"trial {trial.number} has no {name}")
    return value / 1e6 if name == "parameters" else value
