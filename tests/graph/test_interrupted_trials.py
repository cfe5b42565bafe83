"""A search that ends in the middle of a trial's training goes on in the middle of it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import tools.checkpoint_pace
from graph.config import SearchConfig
from graph.events import AnyEvent
from graph.folder import Home
from graph.session import SearchSession
from penjing.home_memory import Memory
from tools.errors import InputError
from tools.requests import Survey
from tools.trial_folder import CHECKPOINT_FOLDER, begun_trial

STEPS = 120


@pytest.fixture
def config(config_of: Callable[..., SearchConfig], monkeypatch: pytest.MonkeyPatch) -> SearchConfig:
    """One trial of some seconds, written down after each step."""
    monkeypatch.setattr(tools.checkpoint_pace, "WRITING_SHARE", math.inf)
    recipe = {"warmup_steps": 2, "training_steps": STEPS, "batch_size": 2, "micro_batch_size": 1}
    return config_of(trials=1, llm_share=0.0, recipe=recipe, checkpoint_seconds=0.0)


def interrupted(config: SearchConfig, step: int) -> SearchSession:
    session = SearchSession.start(config)
    events = session.stream()
    for event in events:
        if event.kind == "progress" and event.phase == "growing" and event.done >= step:
            break
    events.close()
    return session


def checkpoints(session: SearchSession) -> list[Path]:
    return list((session.config.home / "evaluations").glob(f"*/{CHECKPOINT_FOLDER}"))


def steps_in(events: Sequence[AnyEvent]) -> list[int]:
    return [event.done for event in events if event.kind == "progress" and event.phase == "growing"]


def test_it_goes_on_in_the_middle(config: SearchConfig) -> None:
    session = interrupted(config, 90)
    (checkpoint,) = checkpoints(session)
    notes = begun_trial(checkpoint.parent)
    assert notes is not None and [path.name for path in session.folder.begun.iterdir()] == [checkpoint.parent.name]
    resumed = SearchSession.resume(session.run_id, config.home)
    steps = steps_in(list(resumed.stream()))
    assert steps[0] > 89 and steps[-1] == STEPS, "steps that were written down are not taken again"
    (trial,) = resumed.trials()
    assert trial.measurement is not None and trial.measurement.seconds > notes.seconds
    assert not checkpoints(session) and not list(session.folder.begun.iterdir())

    elsewhere = config.model_copy(update={"home": config.home.with_name("elsewhere"), "checkpoint_seconds": None})
    whole = SearchSession.start(elsewhere)
    whole.run()
    found = whole.trials()[0].measurement
    assert found is not None and found.training_losses == trial.measurement.training_losses
    assert found.loss == trial.measurement.loss


def test_what_the_budget_cut_off_is_gone_on_with_and_counted_once(config: SearchConfig) -> None:
    """It is written down where it is cut off, however seldom that is done else."""
    many = config.recipe.model_copy(update={"training_steps": 400})
    config = config.model_copy(update={"recipe": many, "checkpoint_seconds": 300.0})
    little = config.model_copy(update={"budget": config.budget.model_copy(update={"evaluation_seconds": 1e-6})})
    session = SearchSession.start(little)
    with pytest.raises(InputError, match="before a design was grown"):
        session.run()
    survey = Survey.model_validate_json(session.folder.survey.read_text())
    quick = survey.measurement.model_copy(update={"seconds": 1e-6})
    session.folder.survey.write_text(survey.model_copy(update={"measurement": quick}).model_dump_json())
    more = config.model_copy(update={"budget": config.budget.model_copy(update={"evaluation_seconds": 1.0})})
    cut_off, events = SearchSession.resume(session.run_id, config.home, more), list[AnyEvent]()
    with pytest.raises(InputError, match="before a design was grown"):
        for event in cut_off.stream():
            events.append(event)
    spent = cut_off.spent().evaluation_seconds
    assert spent >= 1.0 and len(checkpoints(session)) == 1
    resumed = SearchSession.resume(session.run_id, config.home, config)
    steps = steps_in(list(resumed.stream()))
    assert steps == list(range(steps_in(events)[-1] + 1, 401)), "no step is taken twice"
    (trial,) = resumed.trials()
    assert trial.measurement is not None
    assert resumed.spent().evaluation_seconds == pytest.approx(spent + trial.measurement.seconds)


def test_a_forgotten_run_leaves_no_checkpoint(config: SearchConfig) -> None:
    session = interrupted(config, 3)
    assert len(checkpoints(session)) == 1
    run, home = session.run_id, config.home
    session.close()
    with Memory(home) as memory:
        memory.forget(run)
    assert not list((home / "evaluations").glob(f"*/{CHECKPOINT_FOLDER}")) and not Home(home).run(run).path.exists()


def test_a_trial_that_fails_leaves_no_checkpoint(config: SearchConfig) -> None:
    wild = config.model_copy(update={"recipe": config.recipe.model_copy(update={"time_limit_seconds": 1.0})})
    session = SearchSession.start(wild)
    with pytest.raises(InputError, match="No design could be grown"):
        session.run()
    (trial,) = session.trials()
    assert trial.measurement is not None and trial.measurement.failure is not None
    assert trial.measurement.failure.kind == "time_limit"
    assert not checkpoints(session) and not list(session.folder.begun.iterdir())
