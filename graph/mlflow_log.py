"""A search as a run of MLflow, where the environment names a store for it (MLFLOW_TRACKING_URI).

Its settings become parameters, each trial a step of the metrics, the pictures and the table artifacts, and the calls of
chat models traces. The experiment is MLFLOW_EXPERIMENT_NAME, by default `penjing`. MLflow's own telemetry stays off.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from graph.config import SearchConfig
from graph.events import AnyEvent, BudgetEvent, EvaluationEvent, FinishedEvent, StageEvent
from graph.folder import Home, RunFolder
from graph.setting_changes import by_full_name
from tools.errors import InputError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Emit = Callable[[AnyEvent], None]

PLACE, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
_TAG = "penjing.run"
_LONGEST = 500
"""Characters of a parameter, which old stores have room for."""


@contextmanager
def logged(run_id: str, config: SearchConfig, emit: Emit) -> Iterator[Emit]:
    """What takes events from then on: logs them besides, where the environment asks for it, until the search ends.

    A store that fails later on is told of once, and the search goes on without it.

    Raises InputError where MLflow is missing, or its store cannot be used.
    """
    place = os.environ.get(PLACE)
    if not place:
        yield emit
        return
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Else it looks prices of models up on the web.
    os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise InputError(
            f"{PLACE} is set, and {error.name}, which logs there, is missing: install penjing's mlflow extra, or unset "
            "it."
        ) from error
    name = os.environ.get(EXPERIMENT) or "penjing"
    client = MlflowClient(tracking_uri=place)
    try:
        log = _Log(client, _begin(client, name, run_id, config), Home(config.home).run(run_id), config.mlflow_models)
        mlflow.set_experiment(name)
    except MlflowException as error:
        raise InputError(f"The store of {PLACE} cannot be used: {_first_line(error)}.") from error
    traced = _trace_calls()

    def tell(event: AnyEvent) -> None:
        emit(event)
        if log.failed:
            return
        try:
            log.take(event)
        except MlflowException as error:
            log.failed = True
            emit(StageEvent(run=run_id, stage="mlflow", message=f"no longer logged to MLflow: {_first_line(error)}"))

    ended = "FAILED"
    try:
        yield tell
        ended = "FINISHED"
    except (InputError, asyncio.CancelledError):
        # It can be resumed.
        ended = "KILLED"
        raise
    finally:
        if traced:
            mlflow.flush_trace_async_logging()
            _trace_calls(disable=True)
        if not log.failed:
            with suppress(MlflowException):
                client.set_terminated(log.id, ended)


class _Log:
    """One run in the store."""

    def __init__(self, client: "MlflowClient", id: str, folder: RunFolder, models: bool) -> None:
        self._client, self.id, self._folder, self._models = client, id, folder, models
        self.failed = False

    def take(self, event: AnyEvent) -> None:
        """Log what an event has to say."""
        match event:
            case EvaluationEvent():
                self._metrics(event, ("latency_ms", "parameters", "seconds"), event.trial)
                # Those of each fidelity are a curve of their own, where there are several.
                self._metrics(event, ("loss", "accuracy"), event.trial, event.fidelity)
                self._metrics(event, ("best_loss", "best_accuracy"), event.trial, event.best_fidelity)
            case BudgetEvent():
                self._metrics(event, ("input_tokens", "output_tokens", "usd"), event.trials_done - 1)
            case FinishedEvent():
                self._finish(event)
            case _:
                pass

    def _metrics(self, event: AnyEvent, names: tuple[str, ...], step: int, fidelity: str = "") -> None:
        for name in names:
            value = getattr(event, name)
            if value is not None:
                key = f"{name}_{fidelity}" if fidelity else name
                self._client.log_metric(self.id, key, float(value), step=step)

    def _finish(self, event: FinishedEvent) -> None:
        self._client.set_tag(self.id, "penjing.best", str(event.best))
        self._client.log_dict(self.id, event.model_dump(mode="json"), "result.json")
        if self._folder.picture.is_file():
            self._client.log_artifact(self.id, str(self._folder.picture))
        if self._models:
            self._client.log_artifacts(self.id, event.export, "model")


def _begin(client: "MlflowClient", name: str, run_id: str, config: SearchConfig) -> str:
    """The run of that search in the store: the one that a resumed search had, or a new one with its parameters."""
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    found = client.search_runs([experiment], f"tags.`{_TAG}` = '{run_id}'", max_results=1)
    if found:
        client.set_terminated(found[0].info.run_id, "RUNNING")
        return str(found[0].info.run_id)
    run = client.create_run(experiment, run_name=config.name or run_id, tags={_TAG: run_id})
    for key, value in by_full_name(config.deciding()).items():
        client.log_param(run.info.run_id, key, str(value)[:_LONGEST])
    return str(run.info.run_id)


def _trace_calls(disable: bool = False) -> bool:
    """Have MLflow trace the calls of chat models, or no longer; whether its flavour for LangChain can be used."""
    try:
        from mlflow.langchain import autolog
    except ModuleNotFoundError:
        # The small package mlflow-skinny has none.
        return False
    autolog(disable=disable, silent=True)
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
