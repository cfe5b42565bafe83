"""What trials are compared by: their figures by name, and the trials that no other one beats in some of them."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from memory.pareto import pareto_front
from memory.views import TrialView
from tools.errors import InputError

Objective = Literal["parameters", "loss", "accuracy", "latency_ms", "memory_mb", "file_mb"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
DEFAULT_OBJECTIVES: tuple[Objective, ...] = ("parameters", "loss")


def read_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Two or three different objectives. Raises InputError for anything else, with the nearest name."""
    for name in names:
        if name not in OBJECTIVES:
            near = difflib.get_close_matches(name, OBJECTIVES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? The" if near else "the"
            raise InputError(f"There is no objective {name!r}; {hint} objectives are: {', '.join(OBJECTIVES)}.")
    found = tuple(name for name in OBJECTIVES if name in names)
    if len(found) != len(names) or len(found) not in (2, 3):
        raise InputError(
            f"A Pareto front is over two or three different objectives, like loss,latency_ms; not over "
            f"{','.join(names) or 'none'}."
        )
    return tuple(name for name in names if name in found)


def figure(trial: TrialView, objective: Objective) -> float | None:
    """The trial's figure of that name; None where it was not measured."""
    measured = trial.measurement
    match objective:
        case "parameters":
            return float(trial.architecture.parameters)
        case "loss":
            return trial.loss
        case "accuracy":
            return trial.accuracy
        case "latency_ms":
            return None if measured is None else measured.latency_ms
        case "memory_mb":
            return trial.memory_mb
        case "file_mb":
            return trial.file_mb


def front(trials: Iterable[TrialView], objectives: Sequence[Objective]) -> list[TrialView]:
    """The trials within their run's limits that no other such one beats, the best in the first objective first.

    Accuracy is better where it is higher, all else where it is lower.
    Trials that lack one of the figures, and those that are over a limit, take no part. Equal ones stand together.
    Where the run measures at several fidelities, it is the front of those on the highest rung that any has reached.
    """
    candidates, seen = [], [trial for trial in trials if trial.acceptable]
    highest = max((trial.rung for trial in seen), default=0)
    for trial in (one for one in seen if one.rung == highest):
        figures = [figure(trial, objective) for objective in objectives]
        if None not in figures:
            signed = zip(objectives, figures, strict=True)
            vector = [-value if name == "accuracy" else value for name, value in signed if value is not None]
            candidates.append((trial, vector))
    kept = [candidates[index] for index in pareto_front([vector for _, vector in candidates])]
    return [trial for trial, _ in sorted(kept, key=lambda entry: (entry[1], entry[0].number))]
