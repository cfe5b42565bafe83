"""The shapes of a design layer by layer, against those of its parent and of the source model."""

from collections.abc import Callable

from memory.views import TrialView
from penjing.figures.picture import Panel, Picture, Series
from penjing.figures.stages import stage_style
from tools.architecture import Architecture, LayerShape


def shapes_picture(trial: TrialView, parent: TrialView | None = None, source: Architecture | None = None) -> Picture:
    """FFN channels and key/value heads of each layer: bars for the design, stairs for the other two."""
    design = trial.architecture
    panels = (
        _panel("FFN channels", lambda layer: layer.intermediate_size, trial, parent, source),
        _panel("key/value heads", lambda layer: layer.num_key_value_heads, trial, parent, source),
    )
    size = f"hidden size {design.hidden_size}"
    if source is not None:
        size += (
            f" of {source.hidden_size}, {design.parameters / 1e6:,.2f}M parameters of {source.parameters / 1e6:,.2f}M"
        )
    return Picture("shapes", f"Layers of trial {trial.number}", f"{size}; {design.describe()}.", panels)


def _panel(
    label: str,
    width: Callable[[LayerShape], int],
    trial: TrialView,
    parent: TrialView | None,
    source: Architecture | None,
) -> Panel:
    style = stage_style(trial.stage)
    own = _widths(trial.architecture, width)
    layers = tuple(float(layer) for layer in range(len(own)))
    texts = tuple(f"layer {layer}: {int(value)} {label}" for layer, value in enumerate(own))
    series = [Series(f"trial {trial.number}", "bars", layers, own, style.colour, texts=texts, opacity=0.75)]
    if source is not None:
        series.append(Series("source", "stairs", layers, _widths(source, width), "grey", width=2.0))
    if parent is not None:
        of_parent = _widths(parent.architecture, width)
        series.append(Series(f"parent, trial {parent.number}", "stairs", layers, of_parent, "ink", dash="dash"))
    return Panel("layer", label, tuple(series), from_zero=True, whole_x=True, whole_y=True)


def _widths(design: Architecture, width: Callable[[LayerShape], int]) -> tuple[float, ...]:
    return tuple(float(width(layer)) for layer in design.layers)
