"""The Pareto front: what a design loses against what it costs."""

from collections.abc import Sequence
from typing import Literal

from memory.objectives import figure, front
from memory.views import TrialView
from penjing.figures.picture import Panel, Picture, Series, apart
from penjing.figures.stages import by_stage, point_size, value_label

Cost = Literal["parameters", "latency_ms"]
_LABELS: dict[Cost, str] = {"parameters": "parameters, millions", "latency_ms": "decoding, ms per token"}
_TITLES: dict[Cost, str] = {"parameters": "size", "latency_ms": "speed"}


def pareto_picture(trials: Sequence[TrialView], cost: Cost = "parameters") -> Picture:
    """All trials that were measured, and the line of those that no other one beats in both figures."""
    accuracy = any(trial.goal.objective == "accuracy" for trial in trials)
    quality: Literal["loss", "accuracy"] = "accuracy" if accuracy else "loss"
    name, title = f"pareto_{cost.removesuffix('_ms')}", f"Pareto front: {quality} against {_TITLES[cost]}"

    def place(trial: TrialView) -> tuple[float, float]:
        across, upright = figure(trial, cost), figure(trial, quality)
        assert across is not None and upright is not None  # noqa: S101 - only such trials are placed
        return across / 1e6 if cost == "parameters" else across, upright

    shown = [trial for trial in trials if None not in (figure(trial, cost), figure(trial, quality))]
    # Losses compare at one fidelity: the highest that any trial has.
    highest = max((trial.rung for trial in shown), default=0)
    shown = [trial for trial in shown if trial.rung == highest]
    after = next((f", {trial.measured_after}" for trial in shown if trial.measured_after), "")
    if not shown:
        return Picture(name, title, "No trial was measured yet.")
    members = sorted(front(shown, (cost, quality)), key=place)
    x, y = tuple(place(trial)[0] for trial in members), tuple(place(trial)[1] for trial in members)
    labels = apart(x, y, [str(trial.number) for trial in members])
    # Steps: between two trials there is no design that anybody measured.
    line = Series("front", "steps", x, y, marker="circle", hollow=True, width=2.0, size=13, labels=labels)
    numbers = ", ".join(str(trial.number) for trial in members) or "none"
    summary = f"{_count(len(shown))} measured; on the front, the smallest first: {numbers}."
    series = (*by_stage(shown, place, size=point_size(len(shown))), *([line] if members else []))
    return Picture(name, title, summary, (Panel(_LABELS[cost], value_label(accuracy) + after, series),))


def _count(trials: int) -> str:
    return "1 trial" if trials == 1 else f"{trials} trials"
