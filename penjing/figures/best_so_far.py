"""The best so far over the trials, against that of judges: searchers without a language model at equal settings."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from memory.retrieval import best as best_of
from memory.views import TrialView
from penjing.figures.picture import Colour, Dash, Panel, Picture, Series
from penjing.figures.stages import by_stage, point_size, value_label, value_of

_JUDGES: tuple[Colour, ...] = ("orange", "purple", "grey", "blue", "vermilion")
_DASHES: tuple[Dash, ...] = ("dash", "dot")


def best_so_far_picture(
    trials: Sequence[TrialView],
    judges: Mapping[str, Sequence[Sequence[float | None]]] | None = None,
    source: float | None = None,
) -> Picture:
    """Every trial's value, and the best until then.

    Args:
        judges: for each judge the values of its searches, trial by trial; the line is the mean over them.
        source: the value of the source model, untrained.
    """
    accuracy = any(trial.goal.objective == "accuracy" for trial in trials)
    name, title = "best_so_far", "Best so far"
    climbed = _climbed(trials)
    # What compares is what was measured on the first rung, where all trials are.
    trials = [trial.on_first_rung() for trial in trials]
    after = next((f", {trial.measured_after}" for trial in trials if trial.measured_after), "")
    shown = [trial for trial in trials if trial.succeeded and value_of(trial) is not None]
    if not shown:
        return Picture(name, title, "No trial was measured yet.")
    series: list[Series] = []
    if source is not None:
        ends = (0.0, float(max(trial.number for trial in trials) or 1))
        series.append(Series("source, untrained", "line", ends, (source, source), "grey", dash="dot"))
    for place, (judge, searches) in enumerate((judges or {}).items()):
        series += _judge(judge, searches, _JUDGES[place % len(_JUDGES)], _DASHES[place % len(_DASHES)], accuracy)
    best = best_values([value_of(trial) if trial.acceptable else None for trial in trials], accuracy)
    numbers = tuple(float(trial.number) for trial in trials)
    series += by_stage(shown, lambda trial: (float(trial.number), value_of(trial) or 0.0), size=point_size(len(shown)))
    series.append(Series("best so far", "steps", numbers, best, "ink", width=2.2))
    panel = Panel(
        "trial; trial 0 is the saliency-greedy design", value_label(accuracy) + after, tuple(series), whole_x=True
    )
    return Picture(name, title, _summary(best, judges or {}, accuracy) + climbed, (panel,))


def _climbed(trials: Sequence[TrialView]) -> str:
    """What the highest rung has, which is not drawn beside the others."""
    leaders = [one for one in best_of(trials, 1) if one.rung]
    if not leaders:
        return ""
    value, best = value_of(leaders[0]) or 0.0, leaders[0]
    return f" Promoted highest and best there: trial {best.number} with {value:.4f} {best.measured_after}."


def best_values(values: Sequence[float | None], rising: bool = False) -> tuple[float | None, ...]:
    """For each place the best value until then, None where there is none yet; `rising` where higher is better."""

    def better(one: float | None, other: float | None) -> float | None:
        known = [value for value in (one, other) if value is not None]
        return (max if rising else min)(known, default=None)

    return tuple(accumulate(values, better))


def _judge(
    name: str, searches: Sequence[Sequence[float | None]], colour: Colour, dash: Dash, rising: bool
) -> list[Series]:
    """The mean over a judge's searches while all of them go on, and from the worst to the best of them."""
    length = min(map(len, searches), default=0)
    curves = [best_values(values[:length], rising) for values in searches]
    columns = [None if None in column else column for column in zip(*curves, strict=True)]
    known = [(float(number), _numbers(column)) for number, column in enumerate(columns) if column is not None]
    if not known:
        return []
    x = tuple(number for number, _ in known)
    seeds = f"{len(searches)} {'seed' if len(searches) == 1 else 'seeds'}"
    line = Series(
        f"judge {name} ({seeds})", "steps", x, tuple(sum(c) / len(c) for _, c in known), colour, dash=dash, width=1.8
    )
    if len(searches) == 1:
        return [line]
    low, high = tuple(min(column) for _, column in known), tuple(max(column) for _, column in known)
    band = Series(f"judge {name}", "band", x, low, colour, upper=high, opacity=0.14, in_legend=False)
    return [band, line]


def _numbers(column: Sequence[float | None]) -> list[float]:
    return [value for value in column if value is not None]


def _summary(best: Sequence[float | None], judges: Mapping[str, object], accuracy: bool) -> str:
    digits = 3 if accuracy else 4
    last = best[-1]
    if last is None:
        return "No trial is within the limits yet."
    at = next(number for number, value in enumerate(best) if value == last)
    against = f" Beside it: {', '.join(f'judge {name}' for name in judges)}." if judges else ""
    return f"The best {'accuracy' if accuracy else 'loss'} is {last:.{digits}f}, since trial {at}.{against}"
