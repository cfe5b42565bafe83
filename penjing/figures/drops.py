"""The auto-design curves: saliency per type and pruned share per type, against training tokens.

After the two plots of EfficientLLM's Fig. A0 (arXiv 2502.06663).
"""

from collections.abc import Sequence
from typing import Literal

from penjing.figures.picture import Colour, Marker, Panel, Picture, Series
from tools.pruning.drop_event import DropEvent
from tools.pruning.groups import PruningType

_STYLES: dict[PruningType, tuple[str, Colour, Marker]] = {
    "stem": ("stem channels", "blue", "square"),
    "attention": ("attention heads", "vermilion", "diamond"),
    "ffn": ("FFN channels", "green", "circle"),
}
_X, _GONE = "training tokens", "pruned, % of the source's groups"


def drops_picture(trial: int, events: Sequence[DropEvent]) -> Picture:
    """The cuts of one trial: what was on offer, what went, and what was left; of a single cut only what went."""
    name, title = "drops", f"Pruning of trial {trial}"
    if not events:
        return Picture(name, title, "No cut of this trial is recorded.")
    summary = _summary(events)
    if len(events) == 1:
        return Picture(name, title, summary, (_single(events[0]),))
    tokens = tuple(float(event.tokens) for event in events)
    texts = tuple(_in_words(event) for event in events)
    saliency, share = [], []
    for kind, (words, colour, marker) in _STYLES.items():
        least = tuple(event.least_saliency[kind] for event in events)
        if any(least):
            saliency.append(Series(words, "line", tokens, least, colour, marker, size=6, texts=texts))
        gone = tuple(100 * event.pruned_share[kind] for event in events)
        share.append(
            Series(words, "steps", tokens, gone, colour, marker, size=6, texts=texts, in_legend=not any(least))
        )
    left = tuple(event.parameters / 1e6 for event in events)
    size: tuple[Series, ...] = (
        Series("parameters", "steps", tokens, left, "ink", "circle", size=6, texts=texts, in_legend=False),
    )
    panels = (
        *([Panel(_X, "saliency per parameter, least group", tuple(saliency), log_y=True)] if saliency else []),
        Panel(_X, _GONE, tuple(share), from_zero=True),
        Panel(_X, "parameters, millions", size),
    )
    return Picture(name, title, summary, panels)


def _single(event: DropEvent) -> Panel:
    """A curve through one point says nothing: a bar for each type."""
    bars = tuple(
        Series(
            words,
            "bars",
            (float(place),),
            (100 * event.pruned_share[kind],),
            colour,
            texts=(_in_words(event),),
            in_legend=False,
        )
        for place, (kind, (words, colour, _)) in enumerate(_STYLES.items())
    )
    names = tuple(words for words, _, _ in _STYLES.values())
    return Panel("", _GONE, bars, from_zero=True, x_names=names)


def _summary(events: Sequence[DropEvent]) -> str:
    last = events[-1]
    gone = ", ".join(f"{100 * last.pruned_share[kind]:.1f} % of the {_STYLES[kind][0]}" for kind in _STYLES)
    cuts = "1 cut" if len(events) == 1 else f"{len(events)} cuts"
    return f"{cuts}; gone in the end: {gone}; {last.parameters:,} parameters left."


def _in_words(event: DropEvent) -> str:
    kinds: tuple[Literal["stem", "attention", "ffn"], ...] = ("stem", "attention", "ffn")
    removed = ", ".join(f"{event.removed[kind]:,} {_STYLES[kind][0]}" for kind in kinds if event.removed[kind])
    return f"cut {event.number} at step {event.step}, {event.tokens:,} tokens\nremoved: {removed or 'nothing'}"
