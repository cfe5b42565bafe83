"""A picture of a design for its model card: the widths of its layers, against those of the model it was cut from."""

from pathlib import Path
from typing import Any

from tools.architecture import Architecture

_GREEN, _GREY, _DARK = "#15803d", "#d1d5db", "#111827"


def draw_architecture(design: Architecture, origin: Architecture | None, path: Path) -> None:
    """Write a PNG: FFN channels of each layer above, heads below; `origin` stands behind in grey where it is known.

    Raises OSError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Set margins take half the time of those that are worked out.
    figure = Figure(figsize=(8, 4.4))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.1, right=0.85, bottom=0.11, top=0.91, hspace=0.12)
    channels, heads = figure.subplots(2, 1, sharex=True)
    before = origin if origin is not None and origin != design and len(origin.layers) == len(design.layers) else None
    _bars(channels, design, before, "intermediate_size", "FFN channels")
    _bars(heads, design, before, "num_attention_heads", "query heads")
    places = range(len(design.layers))
    key_value_heads = [layer.num_key_value_heads for layer in design.layers]
    heads.step(places, key_value_heads, where="mid", color=_DARK, label="KV heads")
    heads.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
    heads.set_xlabel("layer")
    title = f"hidden {design.hidden_size}, {design.parameters / 1e6:.1f}M parameters"
    if before is not None:
        title += f" (from {before.hidden_size} and {before.parameters / 1e6:.1f}M)"
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=110, format="png", metadata={"Software": "penjing"})


def _bars(axis: Any, design: Architecture, before: Architecture | None, name: str, label: str) -> None:
    places = range(len(design.layers))
    if before is not None:
        axis.bar(places, [getattr(layer, name) for layer in before.layers], color=_GREY, label="before")
    axis.bar(places, [getattr(layer, name) for layer in design.layers], width=0.6, color=_GREEN, label="this model")
    axis.set_ylabel(label)
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
