"""Whole tiny searches after zero-shot accuracy: what is scored is what `evaluate` scores, and it decides."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.tools.evaluation_data import write_tasks
from tools.errors import InputError
from tools.evaluate import EvaluateRequest, evaluate
from tools.requests import Survey

ConfigOf = Callable[..., SearchConfig]
TASKS = ("arc_easy", "boolq")


@pytest.fixture
def accurate(config_of: ConfigOf, tmp_path: Path) -> ConfigOf:
    """Settings of a search after the accuracy on two tasks in a local folder, in float32."""
    folder = write_tasks(tmp_path / "tasks")
    recipe = {"warmup_steps": 2, "training_steps": 2, "batch_size": 2, "micro_batch_size": 1, "precision": "float32"}

    def make(**overrides: object) -> SearchConfig:
        values = {"objective": "accuracy", "objective_tasks": TASKS, "task_data": folder, "recipe": recipe}
        return config_of(**{**values, **overrides})

    return make


def test_the_accuracy_decides(accurate: ConfigOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twice the same search; in between the last trial is given the highest accuracy and the highest loss."""

    def search() -> tuple[SearchSession, FakeOpenAI, list[str]]:
        with FakeOpenAI(seed=3, models=["fake"]) as server:
            server.set_environment(monkeypatch)
            session = SearchSession.start(accurate(trials=3, self_evolution=1))
            events = [str(event) for event in session.stream()]
        return session, server, events

    first, server, events = search()
    assert any("accuracy 0." in event for event in events if event.startswith("source"))
    assert "highest zero-shot accuracy (mean of arc_easy, boolq)" in server.requests[0].body["messages"][0]["content"]
    assert "raise the accuracy" in server.requests[0].body["messages"][1]["content"]
    survey = Survey.model_validate_json(first.folder.survey.read_text())
    for trial in first.trials():
        assert trial.measurement is not None and set(trial.measurement.accuracies) == set(TASKS)
        assert trial.accuracy == pytest.approx(sum(trial.measurement.accuracies.values()) / 2)
        assert trial.measurement.accuracy_stderr is not None and trial.measurement.accuracy_stderr > 0
    assert first.best().accuracy == max(trial.accuracy or 0.0 for trial in first.trials())

    # The exported model and the source, scored by `evaluate`.
    report = first.export(first.best(), tmp_path / "out")
    for path, measured in ((report.path, first.best().measurement), (survey.source_path, survey.measurement)):
        request = EvaluateRequest(
            model=str(path),
            tasks=TASKS,
            task_data=tmp_path / "tasks",
            limit=200,
            precision="float32",
            cache=tmp_path / "other",
        )
        found = {task.task: task.acc if task.acc_norm is None else task.acc_norm for task in evaluate(request).tasks}
        assert measured is not None and found == measured.accuracies

    engine = create_engine(f"sqlite:///{first.config.home / 'records.sqlite'}")
    last = first.trial(2)
    assert last.measurement is not None
    changed = last.measurement.model_copy(update={"accuracy": 1.0, "loss": 99.0}).model_dump_json()
    with engine.begin() as connection:
        statement = text("UPDATE evaluation SET measurement = :measurement WHERE key = :key")
        connection.execute(statement, {"measurement": changed, "key": last.evaluation_key})
    engine.dispose()
    second, _, _ = search()
    assert second.trial(2).cached and second.best().number == 2
    result = second.record.result
    assert result is not None and result["best"] == 2 and result["table"][-1]["accuracy"] == 1.0
    assert next(trial.number for trial in second.pareto("accuracy", "parameters")) == 2
    assert 2 in [trial.number for trial in second.pareto("accuracy", "loss")]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"objective_tasks": ["mmlu", "siqa_2way"]}, "has no file for the task siqa_2way"),
        ({"task_data": Path("/nowhere/tasks")}, "no folder /nowhere/tasks"),
        ({"task_data": None, "objective_tasks": ["copa"]}, "not on the hub"),
    ],
)
def test_tasks_that_cannot_be_scored_end_before_the_survey(
    accurate: ConfigOf, overrides: dict[str, object], words: str
) -> None:
    session = SearchSession.start(accurate(trials=1, **overrides))
    with pytest.raises(InputError, match=words):
        session.run()
    assert not session.folder.survey.exists()


def test_unknown_tasks_are_refused_with_the_nearest_name(accurate: ConfigOf) -> None:
    with pytest.raises(ValueError, match="did you mean arc_easy"):
        accurate(objective_tasks=["arc_esy"])
    with pytest.raises(ValueError, match="at least 1"):
        accurate(objective_tasks=[])
    assert accurate(objective_tasks=["piqa", "social_iqa", "piqa"]).objective_tasks == ("piqa", "siqa")


def test_a_search_after_loss_has_no_accuracy(config_of: ConfigOf) -> None:
    session = SearchSession.start(config_of(trials=1))
    best = session.run()
    assert best.accuracy is None and best.measurement is not None and best.measurement.accuracies == {}
    with pytest.raises(InputError, match="measured no accuracy"):
        session.pareto("accuracy", "loss")
