"""The auto-design figure of a run: saliency per type and pruned share per type, against training tokens.

After the two plots of EfficientLLM's Fig. A0 (arXiv 2502.06663). The type whose curve is lowest at an event is the one
that is dropped.
"""

from collections.abc import Sequence
from pathlib import Path

from tools.pruning.drop_event import DropEvent
from tools.pruning.groups import PruningType

_STYLES: dict[PruningType, tuple[str, str]] = {
    "stem": ("stem channels (hidden size)", "#2563eb"),
    "attention": ("attention heads", "#d97706"),
    "ffn": ("FFN channels", "#059669"),
}


def draw_design(events: Sequence[DropEvent], path: Path) -> None:
    """Write the figure of `events` (at least one) as PNG or SVG, by the name of `path`."""
    # Imported here, as matplotlib takes half a second, and a window is never opened.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    saliency, share, parameters = figure.subplots(1, 3)
    tokens = [event.tokens for event in events]
    for kind, (label, color) in _STYLES.items():
        least = [(event.tokens, value) for event in events if (value := event.least_saliency[kind]) is not None]
        if least:
            saliency.plot(*zip(*least, strict=True), color=color, label=label, marker=".", linewidth=1)
        share.step(tokens, [100 * event.pruned_share[kind] for event in events], where="post", color=color, label=label)
    parameters.step(tokens, [event.parameters / 1e6 for event in events], where="post", color="#374151")
    saliency.set_ylabel("saliency per parameter, least group")
    saliency.set_yscale("log")
    share.set_ylabel("pruned, % of the source's groups")
    parameters.set_ylabel("parameters, millions")
    for axes in (saliency, share, parameters):
        axes.set_xlabel("training tokens")
        axes.grid(alpha=0.3)
    saliency.legend(fontsize="small")
    figure.savefig(path, dpi=130)
