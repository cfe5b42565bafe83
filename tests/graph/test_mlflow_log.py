"""A search in a real store of MLflow, where the environment names one; or one sentence where MLflow is missing."""

import importlib.util
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import KEY, FakeOpenAI
from tools.errors import InputError

ConfigOf = Callable[..., SearchConfig]
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


@pytest.mark.skipif(not HAS_MLFLOW, reason="MLflow is not installed: pip install 'penjing[mlflow]'")
def test_a_search_is_a_run_of_mlflow(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "trees")
    monkeypatch.chdir(tmp_path)
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=2, cache=survey_cache, mlflow_models=True))
        session.run()
    client = MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("trees")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["penjing.run"] == session.run_id
    assert run.data.params["recipe.training_steps"] == "2" and run.data.params["trials"] == "2"
    losses = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == [(trial.number, pytest.approx(trial.loss)) for trial in session.trials()]
    files = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert files == {"best_shape.png", "result.json", "model"}
    traces = client.search_traces(locations=[experiment.experiment_id])
    spans = [span for trace in traces for span in trace.data.spans]
    assert sum(span.span_type == "CHAT_MODEL" for span in spans) == len(session.calls()) > 0
    assert not any(KEY in str(trace.to_dict()) for trace in traces)


@pytest.mark.skipif(not HAS_MLFLOW, reason="MLflow is not installed: pip install 'penjing[mlflow]'")
def test_a_resumed_search_goes_on_in_its_run(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(tracking_uri=place)

    def runs() -> list[Any]:
        return list(client.search_runs([client.get_experiment_by_name("penjing").experiment_id]))

    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=4, cache=survey_cache))
        for event in session.stream():
            if event.kind == "evaluation" and event.trial == 1:
                break
        assert session.record.status == "interrupted" and [run.info.status for run in runs()] == ["KILLED"]
        session.run()
    (run,) = runs()
    assert run.info.status == "FINISHED"
    steps = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")}
    assert steps == {trial.number: pytest.approx(trial.loss) for trial in session.trials()}


@pytest.mark.skipif(not HAS_MLFLOW, reason="MLflow is not installed: pip install 'penjing[mlflow]'")
def test_a_store_that_fails_later_is_told_of_once_and_the_search_goes_on(
    config_of: ConfigOf, survey_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    told = []
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(trials=3, cache=survey_cache))
        for event in session.stream():
            if event.kind == "evaluation" and event.trial == 0:
                with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
                    store.execute("DROP TABLE metrics")
                    store.commit()
            told += [str(event)] if "MLflow" in str(event) else []
    assert session.record.status == "finished" and len(session.trials()) == 3
    assert len(told) == 1 and "no longer logged to MLflow" in told[0]


@pytest.mark.skipif(HAS_MLFLOW, reason="MLflow is installed")
def test_without_mlflow_one_sentence_says_so(config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nowhere.db")
    with pytest.raises(InputError, match="install penjing's mlflow extra, or unset it"):
        SearchSession.start(config_of(trials=1)).run()
