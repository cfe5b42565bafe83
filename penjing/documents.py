"""What the commands print with --json: plain documents made from records and settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from graph.folder import Home
from graph.report import forecast_quality
from graph.standing import rivals_of_best
from memory.ledger import Ledger, ledger_of
from memory.objectives import DEFAULT_OBJECTIVES, read_objectives
from memory.retrieval import best
from memory.tables import Run
from memory.views import TrialView

if TYPE_CHECKING:
    from graph.session import SearchSession


def status_of(run: Run, home: Path) -> str:
    """How a run stands: one that a killed process left as running is interrupted."""
    killed = run.status == "running" and not Home(home).run(run.id).in_use
    return "interrupted" if killed else run.status


def run_document(run: Run, trials: Sequence[TrialView], home: Path, waiting: Sequence[int] = ()) -> dict[str, Any]:
    """One run in a list of runs; `waiting` are its trials that wait for a decision of the user."""
    leaders = best(trials, 1)
    return {
        "run": run.id,
        "name": run.name,
        "status": status_of(run, home),
        "message": run.message,
        "branch_of": run.branch_of,
        "branch_at": run.branch_at,
        "waiting": list(waiting),
        "imported": run.imported_at is not None,
        "source": run.source,
        "corpus": run.corpus,
        "trials": len(trials),
        "trials_wanted": run.config.get("trials"),
        "max_parameters": run.config.get("max_parameters"),
        "best_parameters": leaders[0].architecture.parameters if leaders else None,
        "best_loss": leaders[0].loss if leaders else None,
        "best_accuracy": leaders[0].accuracy if leaders else None,
        "created_at": run.created_at.isoformat(),
    }


def show_document(session: "SearchSession", objectives: Sequence[str] = ()) -> dict[str, Any]:
    """Everything about one run; its Pareto front is over `objectives`, by default parameters and loss."""
    chosen = read_objectives(objectives or DEFAULT_OBJECTIVES)
    trials, run, calls, proposals = session.trials(), session.record, session.calls(), session.proposals()
    retrieved = {proposal.id: proposal.retrieved for proposal in proposals}
    return {
        **run_document(run, trials, session.config.home, session.waiting_numbers()),
        "config": run.config,
        "result": run.result,
        "trials": [{**trial_document(trial), "retrieved": retrieved[trial.proposal_id]} for trial in trials],
        "pareto": [trial.number for trial in session.pareto(*chosen)],
        "pareto_objectives": list(chosen),
        "ledger": ledger_document(ledger_of(proposals, calls)),
        "patterns": [pattern.document() for pattern in session.patterns()],
        "forecasts": {name: found.model_dump() for name, found in forecast_quality(trials).items()},
        "not_told_apart": [rival.model_dump() for rival in rivals_of_best(trials)],
        "budget": budget_document(session),
        "cache": cache_document(trials),
        "tokens": {
            "input": sum(call.input_tokens for call in calls),
            "output": sum(call.output_tokens for call in calls),
        },
    }


def ledger_document(ledger: Ledger) -> dict[str, Any]:
    """What became of the agents' answers: counts, and rates as shares."""
    return {**ledger.model_dump(), "rates": ledger.rates}


def budget_document(session: "SearchSession") -> dict[str, Any]:
    """What is spent of each part of the budget, and its cap; USD are null where the price of a call is not known.

    `shared` is what a branch was copied from; of its trials these count too, of the rest only what it spent itself.
    """
    spent, shared, caps = session.spent(), session.shared(), session.config.budget
    done = sum(trial.measurement is not None for trial in session.trials())
    copied = sum(trial.measurement is not None for trial in session.shared_trials())
    rows = {
        name: {"spent": getattr(spent, name), "cap": getattr(caps, name), "shared": getattr(shared, name)}
        for name in type(caps).model_fields
    }
    trials = {"spent": done, "cap": session.config.trials, "shared": copied}
    return {"trials": trials, **rows, "unpriced_calls": spent.unpriced_calls}


def cache_document(trials: Sequence[TrialView]) -> dict[str, Any]:
    """How many evaluations had been paid for before, and the seconds that this saved."""
    rungs = [rung for trial in trials for rung in trial.rungs or (trial,) if rung.cached]
    hits = [rung.measurement.seconds for rung in rungs if rung.measurement is not None]
    return {"hits": len(hits), "seconds_saved": sum(hits)}


def event_documents(session: "SearchSession") -> list[dict[str, Any]]:
    """What happened in a run, in order: when, in words, and the event's own fields."""
    from graph.events import recorded_in_words

    return [
        {**event.payload, "at": event.created_at.isoformat(), "text": recorded_in_words(event.payload)}
        for event in session.events()
    ]


def trial_document(trial: TrialView) -> dict[str, Any]:
    """One trial with its lineage and measurement."""
    document = trial.model_dump(mode="json", exclude={"architecture", "trial_id", "proposal_id", "goal"})
    return {
        **document,
        "design": trial.architecture.describe(),
        "parameters": trial.architecture.parameters,
        "file_mb": trial.file_mb,
        "memory_mb": trial.memory_mb,
        "over_limit": None if trial.over_limit is None else trial.over_limit.model_dump(mode="json"),
        "architecture": trial.architecture.model_dump(mode="json"),
    }


def settings_document() -> list[dict[str, Any]]:
    """Every setting: dotted key, default, description."""
    from graph.config import SearchConfig

    return _settings(SearchConfig, "")


def _settings(model: type[BaseModel], prefix: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _settings(field.annotation, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = default if default is None or isinstance(default, (int, float, str, bool)) else str(default)
        rows.append({"key": prefix + name, "default": shown, "description": field.description or ""})
    return rows
