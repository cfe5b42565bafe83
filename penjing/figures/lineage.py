"""The lineage of designs as a tree: from left to right, each design one step right of the one that it was made from."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from memory.retrieval import best
from memory.views import TrialView
from penjing.figures.picture import Dash, Panel, Picture, Series
from penjing.figures.stages import by_stage

_FEW = 40
"""Up to so many trials there is room for every number, and for what else an author had been shown."""

Place = tuple[int, int]


def lineage_picture(trials: Sequence[TrialView]) -> Picture:
    """Every trial, joined with the design that it was made from; the best one is ringed.

    Where there are few, thin dotted lines go to the other designs that an agent had been shown for it.
    """
    name, title = "lineage", "Lineage of designs"
    if not trials:
        return Picture(name, title, "There is no trial yet.")
    places = tree_places({trial.number: trial.parent_number for trial in trials})
    by_number = {trial.number: trial for trial in trials}
    leaders, few = best(trials, 1), len(trials) <= _FEW
    parents, others = list[tuple[int, int]](), list[tuple[int, int]]()
    for trial in trials:
        if trial.parent_number is not None and trial.parent_number in by_number:
            parents.append((trial.parent_number, trial.number))
        shown = [one for one in trial.based_on if one != trial.parent_number and one in by_number]
        others += [(one, trial.number) for one in shown] if few else []
    series = []
    if others:
        series.append(_links("also shown to its author", others, places, dotted=True))
    if parents:
        series.append(_links("made from", parents, places))
    if leaders:
        across, upright = places[leaders[0].number]
        at = ((float(across),), (float(upright),))
        series.append(Series("best", "points", *at, colour="ink", marker="circle", hollow=True, size=17))
    series += by_stage(
        trials,
        lambda trial: (float(places[trial.number][0]), float(places[trial.number][1])),
        [trial.number for trial in (trials if few else leaders)],
        size=9 if few else 6,
    )
    panel = Panel("generation: steps from trial 0", "", tuple(series), whole_x=True, bare_y=True)
    return Picture(name, title, _summary(by_number, leaders), (panel,))


def tree_places(parents: Mapping[int, int | None]) -> dict[int, Place]:
    """A generation and a row for each node of a forest, no two of them at one place.

    `parents` has the parent of each number, which is a lower one, or None. The child with most descendants stays in its
    parent's row, so that long lines of descent are straight; the others take the nearest rows that are free.
    """
    generations: dict[int, int] = {}
    sizes = dict.fromkeys(parents, 1)
    for number in sorted(parents):
        parent = parents[number]
        generations[number] = generations[parent] + 1 if parent in generations and parent is not None else 0
    for number in sorted(parents, reverse=True):
        parent = parents[number]
        if parent is not None and parent in sizes:
            sizes[parent] += sizes[number]
    rows: dict[int, int] = {}
    for generation in range(max(generations.values(), default=-1) + 1):
        members = [number for number in parents if generations[number] == generation]
        taken: set[int] = set()
        for number in sorted(members, key=lambda one: (-sizes[one], one)):
            parent = parents[number]
            home = 0 if parent is None else rows.get(parent, 0)
            rows[number] = next(row for row in _near(home) if row not in taken)
            taken.add(rows[number])
    return {number: (generations[number], rows[number]) for number in parents}


def _near(home: int) -> Iterator[int]:
    """Rows by their distance from `home`, below and above in turn."""
    yield home
    for distance in count(1):
        yield home - distance
        yield home + distance


def _links(name: str, pairs: Sequence[tuple[int, int]], places: Mapping[int, Place], dotted: bool = False) -> Series:
    """Lines between pairs of trials: a gap after each."""
    x: list[float | None] = []
    y: list[float | None] = []
    for pair in pairs:
        x += [*(float(places[one][0]) for one in pair), None]
        y += [*(float(places[one][1]) for one in pair), None]
    dash: Dash = "dot" if dotted else "solid"
    return Series(name, "line", tuple(x), tuple(y), "grey", dash=dash, width=1.0, opacity=0.5 if dotted else 0.9)


def _summary(trials: Mapping[int, TrialView], leaders: Sequence[TrialView]) -> str:
    designs = "1 design" if len(trials) == 1 else f"{len(trials)} designs"
    if not leaders:
        return f"{designs}, none of them within the limits so far."
    line = [leaders[0].number]
    while (parent := trials[line[-1]].parent_number) is not None and parent in trials and parent < line[-1]:
        line.append(parent)
    descent = f", made from {', then '.join(map(str, line[1:]))}" if len(line) > 1 else ""
    if len(line) > 12:
        descent = f", {len(line) - 1} steps from trial {line[-1]}"
    return f"{designs}; the best is trial {line[0]}{descent}."
