"""Agents that are shown the surrogate's picture of a search, and what was forecast of past designs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agents.surrogate import FEWEST_RECORDS
from graph.config import SearchConfig
from graph.session import SearchSession
from tests.fake_openai import FakeOpenAI
from tests.graph.test_replay import story

ConfigOf = Callable[..., SearchConfig]


@pytest.fixture
def config_of(config_of: ConfigOf, survey_cache: Path) -> ConfigOf:
    return partial(config_of, cache=survey_cache)


def test_agents_see_the_outlook_once_there_is_one_and_forecast_beside_truth(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"trials": 7, "self_evolution": 2, "show_picture": True, "sample_size": 10}
    with FakeOpenAI(seed=3, models=("fake",)) as server:
        server.set_environment(monkeypatch)
        session = SearchSession.start(config_of(**settings, record=tmp_path / "tape"))
        session.run()
    asked = [call for call in session.calls() if len(call.messages) == 2]
    shown = {call.turn: "# Forecast\n" in call.messages[1]["content"] for call in asked}
    assert shown == {turn: turn >= FEWEST_RECORDS for turn in range(1, 7)}
    assert "- hidden: " in asked[-1].messages[1]["content"] and "expected loss " in asked[-1].messages[1]["content"]

    text = "\n".join(call.messages[1]["content"] for call in asked)
    trials = {trial.number: trial for trial in session.trials()}
    assert f"loss {trials[0].loss:.4f}, forecast before training: saliency cut {trials[0].forecast:.3g}" in text
    late = next(trial for trial in trials.values() if trial.expected_score is not None)
    assert f"saliency cut {late.forecast:.3g}, loss {late.expected_score:.4f}" in text

    again = SearchSession.start(config_of(**settings, replay=tmp_path / "tape"))
    again.run()
    assert story(again) == story(session)
