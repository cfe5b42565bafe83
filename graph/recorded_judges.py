"""Searches of judges that were recorded with the settings of a run: what its best so far is looked at beside."""

from typing import Any

from pydantic import ValidationError

from graph.config import SearchConfig
from memory.records import Records
from memory.tables import Run

_MAY_DIFFER = ("llm_share", "judge", "seed", "search_seed", "past_runs")
"""What a tournament gives each of its searches."""


def recorded_judges(records: Records, run: Run) -> dict[str, list[list[float | None]]]:
    """For each judge the values of its searches, trial by trial; None where a design failed or is over a limit.

    Values are losses, or accuracies in a run that is after them. A run of a judge itself has none beside it.
    """
    if run.config.get("llm_share") == 0:
        return {}
    own, found = _settings(run), dict[str, list[list[float | None]]]()
    for other in reversed(records.runs()):
        alike = (other.source, other.corpus) == (run.source, run.corpus) and other.config.get("llm_share") == 0
        if not alike or _settings_or_none(other) != own:
            continue
        # Where all trials are; what is drawn beside them too.
        trials = [trial.on_first_rung() for trial in records.trials(other.id) if trial.measurement is not None]
        sign = -1 if run.config.get("objective") == "accuracy" else 1
        values = [sign * trial.score if trial.acceptable and trial.score is not None else None for trial in trials]
        if values:
            found.setdefault(str(other.config.get("judge", "random")), []).append(values)
    return found


def _settings(run: Run) -> dict[str, Any]:
    """The settings that have to be the same."""
    deciding = SearchConfig.model_validate(run.config).deciding()
    return {name: value for name, value in deciding.items() if name not in _MAY_DIFFER}


def _settings_or_none(run: Run) -> dict[str, Any] | None:
    """None where a version wrote the run whose settings this one does not know."""
    try:
        return _settings(run)
    except ValidationError:
        return None
