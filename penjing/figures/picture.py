"""A picture as plain data: panels of series with their labels, which Plotly and matplotlib both draw.

Whoever draws adds nothing and leaves nothing out, so that the page, the report and the files show the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["points", "line", "steps", "stairs", "bars", "band"]
"""Steps keep a value until the next place; stairs have it around its place, as for layers. A band ends at `upper`."""
Colour = Literal["ink", "grey", "vermilion", "green", "blue", "purple", "orange"]
Marker = Literal["circle", "square", "diamond", "triangle-up", "triangle-down", "x", "star"]
Dash = Literal["solid", "dash", "dot"]

COLOURS: dict[Colour, tuple[str, str]] = {
    "ink": ("#1f2937", "#e5e7eb"),
    "grey": ("#8a919c", "#8a919c"),
    "vermilion": ("#d55e00", "#f0813a"),
    "green": ("#009e73", "#2cc79b"),
    "blue": ("#0072b2", "#56b4e9"),
    "purple": ("#a34f86", "#cc79a7"),
    "orange": ("#b87f00", "#e69f00"),
}
"""Each on a light and on a dark ground: Okabe and Ito's, which people tell apart whatever colours they see."""


@dataclass(frozen=True)
class Series:
    """Numbers that belong together. None in `y` is a gap.

    `texts` say what each point is, `labels` stand beside points; both are plain text, one for each point or none.
    `trials` are the numbers of the trials that the points are.
    """

    name: str
    kind: Kind
    x: tuple[float | None, ...]
    y: tuple[float | None, ...]
    colour: Colour = "ink"
    marker: Marker | None = None
    hollow: bool = False
    dash: Dash = "solid"
    width: float = 1.5
    size: float = 8.0
    upper: tuple[float | None, ...] = ()
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    trials: tuple[int, ...] = ()
    opacity: float = 1.0
    in_legend: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    `whole_x` and `whole_y`: between two whole numbers there is nothing. `bare_y`: heights mean nothing. `x_names` are
    the words at the places 0, 1, 2, ...
    """

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_y: bool = False
    from_zero: bool = False
    whole_x: bool = False
    whole_y: bool = False
    x_names: tuple[str, ...] = ()
    bare_y: bool = False


@dataclass(frozen=True)
class Picture:
    """Panels side by side.

    `summary` says in a sentence what is to be seen, for whoever does not see it; where there are no panels, why.
    """

    name: str
    title: str
    summary: str
    panels: tuple[Panel, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.panels


def x_range(panel: Panel) -> tuple[float, float] | None:
    """Where an axis of whole numbers begins and ends, also around a single one; None for any other axis."""
    if not panel.whole_x and not panel.x_names:
        return None
    values = [x for series in panel.series for x in series.x if x is not None]
    first, last = min(values, default=0.0), max(values, default=0.0)
    margin = 0.7 + 0.02 * (last - first)
    return first - margin, last + margin


def apart(x: Sequence[float], y: Sequence[float], labels: Sequence[str], share: float = 0.045) -> tuple[str, ...]:
    """The labels without those that would stand on an earlier one: nearer than `share` of the range both ways."""
    spans = [(max(values) - min(values)) or 1.0 for values in (x, y)] if labels else []
    kept: list[tuple[float, float]] = []
    found = []
    for across, upright, label in zip(x, y, labels, strict=True):
        place = (across / spans[0], upright / spans[1])
        free = all(abs(place[0] - one) > share or abs(place[1] - other) > share for one, other in kept)
        if free:
            kept.append(place)
        found.append(label if free else "")
    return tuple(found)
