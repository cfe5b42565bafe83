"""How a training went: its loss, what of the model was left, and its speed, against training tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.pretrain import PretrainResult

_POINTS = 400


def draw_training(log: Path, result: PretrainResult, path: Path) -> None:
    """Write the figure of a run's `log` and `result` as PNG or SVG, by the name of `path`.

    Steps are drawn as means over as many of them as leave at most 400 points.
    """
    # Imported here, as matplotlib takes half a second, and a window is never opened.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "event" not in line]
    if not steps:
        return
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    loss, parameters, speed = figure.subplots(1, 3)
    tokens = _means(steps, "tokens")
    loss.plot(tokens, _means(steps, "loss"), color="#9ca3af", linewidth=1, label="training text")
    held_out = [(0 if line["event"] == "source" else line["tokens"], line["loss"]) for line in lines if _looks(line)]
    if result.loss is not None:
        held_out.append((result.tokens, result.loss))
    loss.plot(*zip(*held_out, strict=True), color="#059669", marker="o", markersize=4, label="held-out text")
    parameters.plot(tokens, [value / 1e6 for value in _means(steps, "parameters")], color="#374151")
    speed.plot(tokens, _means(steps, "tokens_per_second"), color="#374151", linewidth=1)
    loss.set_ylabel("loss, nats per token")
    loss.legend(fontsize="small")
    parameters.set_ylabel("parameters in memory, millions")
    speed.set_ylabel("tokens per second")
    for axes in (parameters, speed):
        axes.set_ylim(bottom=0)
    for axes in (loss, parameters, speed):
        axes.set_xlabel("training tokens")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def _looks(line: dict[str, Any]) -> bool:
    return line.get("event") in ("source", "validation") and line["loss"] is not None


def _means(steps: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Means of one figure over pieces of equal length."""
    pieces = np.array_split([float(step[name]) for step in steps], min(_POINTS, len(steps)))
    return [float(piece.mean()) for piece in pieces]
