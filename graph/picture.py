"""A picture of a search: the best design's layers against the source's, and every trial's loss against its size."""

from collections.abc import Sequence
from pathlib import Path

from graph.front_picture import draw_front
from memory.objectives import Objective
from memory.views import TrialView
from tools.architecture import Architecture
from tools.measurement import Measurement

_COLOURS = {"greedy": "#c2410c", "self_evolution": "#15803d", "knowledge_distillation": "#1d4ed8", "judge": "#6b7280"}


def draw_search(
    source: Architecture,
    source_measurement: Measurement,
    trials: Sequence[TrialView],
    best: int,
    path: Path,
    objectives: Sequence[Objective] = (),
) -> None:
    """Write a PNG (or SVG, by the suffix of `path`): left the layers, then the trials in order.

    With `objectives` the Pareto front over them comes right of both.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 3 if objectives else 2
    figure = Figure(figsize=(5.5 * panels, 4.2), layout="constrained" if objectives else None)
    FigureCanvasAgg(figure)
    if not objectives:
        # Set margins take half the time of those that are worked out.
        figure.subplots_adjust(left=0.064, right=0.984, bottom=0.12, top=0.92, wspace=0.33)
    shapes, losses, *fronts = figure.subplots(1, panels)
    winner = next(trial for trial in trials if trial.number == best)
    layers = range(len(source.layers))
    shapes.bar(layers, [layer.intermediate_size for layer in source.layers], color="#e5e7eb", label="source, FFN width")
    design = winner.architecture
    widths = [layer.intermediate_size for layer in design.layers]
    shapes.bar(layers, widths, width=0.55, color=_COLOURS.get(winner.stage, "#15803d"), label="best design, FFN width")
    shapes.set_xlabel("layer")
    shapes.set_ylabel("FFN channels")
    heads = shapes.twinx()
    heads.step(
        layers, [layer.num_key_value_heads for layer in design.layers], where="mid", color="#111827", label="KV heads"
    )
    heads.set_ylim(0, max(layer.num_key_value_heads for layer in source.layers) * 1.35)
    heads.set_ylabel("KV heads")
    heads.yaxis.get_major_locator().set_params(integer=True)
    shapes.set_ylim(0, max(layer.intermediate_size for layer in source.layers) * 1.35)
    handles = [*shapes.get_legend_handles_labels()[0], *heads.get_legend_handles_labels()[0]]
    shapes.legend(handles=handles, loc="upper center", ncols=2, fontsize="small")
    title = (
        f"trial {best}: hidden {design.hidden_size}, {design.parameters / 1e6:.1f}M of {source.parameters / 1e6:.1f}M"
    )
    shapes.set_title(title)
    # Heights compare at one fidelity: where all trials were measured.
    trials, told = [trial.on_first_rung() for trial in trials], trials
    for stage, colour in _COLOURS.items():
        points = [(trial.number, _height(trial)) for trial in trials if trial.stage == stage and trial.acceptable]
        if points:
            losses.scatter(*zip(*points, strict=True), color=colour, label=stage.replace("_", " "), zorder=3)
    over = [(trial.number, _height(trial)) for trial in trials if trial.succeeded and trial.over_limit is not None]
    if over:
        losses.scatter(*zip(*over, strict=True), color="#b91c1c", marker="x", label="over the limit", zorder=3)
    accurate = winner.goal.objective == "accuracy"
    source_height = source_measurement.accuracy if accurate else source_measurement.loss
    if source_height is not None:
        losses.axhline(source_height, color="#6b7280", linestyle="--", label="source, untrained")
    losses.set_xlabel("trial")
    losses.xaxis.get_major_locator().set_params(integer=True)
    label = "mean zero-shot accuracy" if accurate else "validation loss, nats per token"
    losses.set_ylabel(f"{label}, {trials[0].measured_after}" if winner.ladder else label)
    losses.set_title("trials")
    losses.grid(alpha=0.3)
    losses.legend(fontsize="small")
    for panel in fronts:
        draw_front(panel, told, objectives)
    figure.savefig(path, dpi=150)


def _height(trial: TrialView) -> float:
    """What decides in the trial's run."""
    value = trial.accuracy if trial.goal.objective == "accuracy" else trial.loss
    if value is None:
        raise ValueError(f"trial {trial.number} has no {trial.goal.objective}")
    return value
